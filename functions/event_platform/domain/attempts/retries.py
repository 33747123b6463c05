"""The times of retries, and when a delivery is given up (contract/wire.md 11)."""

from collections.abc import Sequence
from datetime import datetime, timedelta

THROTTLED_FOR_AT_LEAST = timedelta(hours=1)
THROTTLED_ATTEMPTS_AT_LEAST = 5
AFTER_OUR_FAULT = timedelta(minutes=5)
"""The delay where none are set."""

HTTPS_SECONDS = (300, 600, 1200)
"""The seconds to each retry at an endpoint or a topic, unless AEP_RETRY_DELAYS says otherwise."""
KAFKA_DELAYS = tuple(timedelta(seconds=each) for each in (5, 10, 20, 40, 80, 160, 320, 600, 600, 265))
"""Doubling from 5 s to 10 min; the last one comes 35 min after the first attempt (contract/wire.md 11)."""


def longest(delays: Sequence[timedelta]) -> timedelta:
    """Returns the longest time for which a retry waits."""
    return max(*delays, *KAFKA_DELAYS, AFTER_OUR_FAULT)


def retry_at(failures: int, now: datetime, delays: Sequence[timedelta]) -> datetime | None:
    """Returns the time of the retry after the `failures`-th failure (from 1); None if no retry is left."""
    return now + delays[failures - 1] if failures <= len(delays) else None


def again_at(now: datetime, delays: Sequence[timedelta]) -> datetime:
    """Returns the time of the retry after a fault of our own, which uses up no retry."""
    return now + (delays[0] if delays else AFTER_OUR_FAULT)


def throttling_is_over(attempts: int, first_attempt_at: datetime, now: datetime) -> bool:
    """True if an event that is answered 429 is given up: an hour after its first attempt, tried 5 times."""
    return attempts >= THROTTLED_ATTEMPTS_AT_LEAST and now - first_attempt_at >= THROTTLED_FOR_AT_LEAST
