"""The time at which the next delivery may leave: a token bucket in one process, turns among several."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..timestamps import is_ahead
from .rates import Limits, Rate

COPY_SECONDS = 2.0
"""The age of a copy of a rate, at most, in instances that keep copies."""
SPREAD_OF_COPIES = COPY_SECONDS + 1.0
"""`Limits.spread` there."""
_NEXT = timedelta(milliseconds=1)  # the turn that is now has just been taken


@dataclass(slots=True)
class TokenBucket:
    """A token bucket kept as the moment at which the next token is due (the generic cell rate algorithm).

    `rate` is in tokens per second; up to `burst` tokens may be taken at once after a rest. Both may be
    set anew between two takes.
    """

    rate: float
    burst: float = 1.0
    _due: float = -math.inf

    def wait(self, now: float) -> float:
        """The seconds from `now` until a token is there; takes none."""
        return max(0.0, self._due - now)

    def take(self, now: float) -> float:
        """Takes a token; returns the seconds to wait from `now` (any monotonic seconds) before using it."""
        earliest = now - (self.burst - 1) / self.rate
        slot = max(self._due, earliest)
        self._due = slot + 1 / self.rate
        return max(0.0, slot - now)


@dataclass(slots=True)
class Turn:
    """A lane's next turn, for instances that share no counter; it stays while the rate does."""

    lane: int
    lanes: int
    limits: Limits
    _found: tuple[Rate, datetime, datetime] | None = None  # for a rate, when it was looked for, the turn

    def wait(self, rate: Rate, now: datetime) -> float:
        """Returns the seconds from `now` until the turn, by the rate as it is known now; 0 if it has come."""
        if self._found is None or self._found[0] != rate or is_ahead(self._found[1], now):
            after = now + _NEXT
            ahead = rate.slot(self.lane, self.lanes, after, self.limits)
            self._found = rate, now, after + timedelta(seconds=ahead)
        return max(rate.held_for(now), (self._found[2] - now).total_seconds(), 0.0)
