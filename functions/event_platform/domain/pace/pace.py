"""The pace at which deliveries leave for one subscription, and how what came back changes it."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..subscriptions import Status, Subscription
from ..timestamps import is_ahead
from . import rates
from .rates import Limits, Observation, Rate

COPY_SECONDS = 2.0
"""How old the rate may be that is known of a subscription on its way, where instances keep copies."""
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
    """A lane's next turn where no counter is shared; stays as long as the rate does that it was found by."""

    lane: int
    lanes: int
    limits: Limits
    _found: tuple[Rate, datetime, datetime] | None = None  # for a rate, when it was looked for, the turn

    def wait(self, rate: Rate, now: datetime) -> float:
        """Seconds from `now` until the turn, by the rate as it is known now; 0 when it has come."""
        if self._found is None or self._found[0] != rate or is_ahead(self._found[1], now):
            after = now + _NEXT
            ahead = rate.slot(self.lane, self.lanes, after, self.limits)
            self._found = rate, now, after + timedelta(seconds=ahead)
        return max(rate.held_for(now), (self._found[2] - now).total_seconds(), 0.0)


def to_be_sent(subscription: Subscription | None, epoch: int) -> Subscription | None:
    """The subscription when deliveries of the epoch are sent to it: what ends unsent needs no pace."""
    if subscription is None or subscription.status is not Status.ACTIVE or subscription.epoch != epoch:
        return None
    return subscription


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


def with_pace_of(subscription: Subscription, other: Subscription) -> Subscription:
    """The subscription with the rate and the lanes of `other`."""
    return replace(subscription, rate=other.rate, lanes=other.lanes, lanes_changed_at=other.lanes_changed_at)
