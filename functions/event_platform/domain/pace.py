"""The pace at which deliveries leave for one subscription, and how what came back changes it."""

import math
from dataclasses import dataclass, replace
from datetime import datetime

from . import rates
from .rates import Limits, Observation
from .subscriptions import Subscription


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


def paced(
    subscription: Subscription, seen: Observation, latency: float, now: datetime, limits: Limits
) -> Subscription:
    """With the rate and the lanes that follow from an attempt; the same object when nothing changes.

    `latency` is the moving average. `updated_at` stays: it tells of changes by the subscriber.
    """
    rate = rates.after(subscription.current_rate, seen, now, limits)
    lanes = rates.lanes_after(
        subscription.lanes,
        subscription.lanes_changed_at or subscription.created_at,
        rate.at(now, limits),
        latency,
        now,
    )
    if rate != subscription.current_rate:
        subscription = replace(subscription, rate=rate)
    if lanes != subscription.lanes:
        subscription = replace(subscription, lanes=lanes, lanes_changed_at=now)
    return subscription
