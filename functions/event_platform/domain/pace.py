"""The pace at which deliveries leave for one subscription: a fixed rate until receivers steer it."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """A token bucket kept as the moment at which the next token is due (the generic cell rate algorithm).

    `rate` is in tokens per second; up to `burst` tokens may be taken at once after a rest.
    """

    rate: float
    burst: float = 1.0
    _due: float = -math.inf

    def take(self, now: float) -> float:
        """Takes a token; returns the seconds to wait from `now` (any monotonic seconds) before using it."""
        earliest = now - (self.burst - 1) / self.rate
        slot = max(self._due, earliest)
        self._due = slot + 1 / self.rate
        return max(0.0, slot - now)
