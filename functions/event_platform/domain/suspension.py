"""Suspension by the platform, for the last hour's success rate (contract/wire.md 11).

Attempts are counted by minute, in a series that begins anew with each epoch and each URL: what failed before
a resume, or at another endpoint, says nothing about this one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from .record.actions import Action, Actor
from .subscriptions import Status, Subscription, suspend

HOUR_MINUTES = 60
SETTLED_AT_LEAST = 20
"""Fewer attempts in the hour say too little."""
RATE_AT_LEAST = 90  # percent
EPOCHS_LOOKED_BACK = 8
JUDGED_EVERY_SECONDS = 10.0
JUDGED_AFTER_SECONDS = 60.0
"""The time after the hour's first failure before a judgement: a restart of the endpoint takes that long."""


@dataclass(frozen=True, slots=True)
class Suspension:
    """A suspension by the platform: the reason, the time, and the record that the attempts were made
    under.
    """

    tried_under: Subscription
    reason: str
    at: datetime

    @property
    def action(self) -> Action:
        """The action for the log."""
        return Action(Actor.PLATFORM, reason=self.reason)

    def of(self, before: Subscription) -> Subscription:
        """The change: suspended.

        The same object when it was suspended, resumed, deleted or pointed elsewhere since: the attempts say
        nothing about what it is now.
        """
        tried = self.tried_under
        is_the_same = (
            before.status is Status.ACTIVE and before.epoch == tried.epoch and before.config == tried.config
        )
        return suspend(before, self.at) if is_the_same else before


class Series(NamedTuple):
    """The attempts that are counted together."""

    subscription_id: str
    epoch: int
    destination: str

    @property
    def key(self) -> str:
        """The name of the series, 32 hex digits; the same for all who count in it."""
        return _key(self)


@dataclass(slots=True)
class Count:
    """Attempts of one minute. `first_failed_at` (unix seconds) is None when none failed."""

    succeeded: int = 0
    failed: int = 0
    first_failed_at: float | None = None

    def add(self, other: "Count") -> None:
        """Counts the other one's attempts too."""
        self.succeeded += other.succeeded
        self.failed += other.failed
        moments = [at for at in (self.first_failed_at, other.first_failed_at) if at is not None]
        self.first_failed_at = min(moments, default=None)


def series_of(subscription: Subscription) -> Series:
    """The series that attempts made under this record are counted in."""
    return Series(subscription.id, subscription.epoch, subscription.config.destination)


def series_before(series: Series) -> list[Series]:
    """The series of the epochs before at the same destination, the last ones, for who looks back an hour."""
    first = max(0, series.epoch - EPOCHS_LOOKED_BACK)
    return [series._replace(epoch=epoch) for epoch in range(first, series.epoch)]


def minute_of(moment: datetime) -> int:
    """The minutes since 1970."""
    return int(moment.timestamp() // 60)


def first_minute(now: datetime) -> int:
    """Returns the first minute of the hour that ends with the minute of `now`."""
    return minute_of(now) - HOUR_MINUTES + 1


def reason_to_suspend(counts: Mapping[int, Count], now: datetime) -> str | None:
    """Returns the reason why the rate of these minutes suspends the subscription; None when it does not."""
    last = minute_of(now)
    hour = [count for minute, count in counts.items() if first_minute(now) <= minute <= last]
    failed_at = [
        each.first_failed_at for each in hour if each.failed > 0 and each.first_failed_at is not None
    ]
    if not failed_at or now.timestamp() - min(failed_at) < JUDGED_AFTER_SECONDS:
        return None
    succeeded = sum(each.succeeded for each in hour)
    settled = succeeded + sum(each.failed for each in hour)
    if settled < SETTLED_AT_LEAST or succeeded * 100 >= settled * RATE_AT_LEAST:
        return None
    return f"{succeeded} of {settled} attempts of the last hour succeeded, fewer than {RATE_AT_LEAST} %"


@lru_cache(maxsize=10_000)
def _key(series: Series) -> str:
    return sha256("\n".join(map(str, series)).encode()).hexdigest()[:32]
