"""When a delivery is tried again."""

from datetime import timedelta

import pytest

from event_platform.domain.attempts.retries import retry_at, throttling_is_over
from support.clock import START

DELAYS = [timedelta(minutes=minutes) for minutes in (5, 10, 20)]


@pytest.mark.parametrize(("failures", "minutes"), [(1, 5), (2, 10), (3, 20)])
def test_each_retry_has_its_delay_from_the_attempt_before(failures: int, minutes: int) -> None:
    assert retry_at(failures, START, DELAYS) == START + timedelta(minutes=minutes)


@pytest.mark.parametrize("failures", [4, 5, 100])
def test_after_the_last_retry_comes_none(failures: int) -> None:
    assert retry_at(failures, START, DELAYS) is None


def test_without_delays_nothing_is_retried() -> None:
    assert retry_at(1, START, []) is None


@pytest.mark.parametrize(
    ("attempts", "after", "over"),
    [
        (5, timedelta(hours=1), True),
        (100, timedelta(days=1), True),
        (4, timedelta(hours=1), False),
        (1, timedelta(days=1), False),
        (5, timedelta(minutes=59, seconds=59), False),
        (1000, timedelta(0), False),
    ],
)
def test_throttling_ends_after_an_hour_and_five_attempts(attempts: int, after: timedelta, over: bool) -> None:
    assert throttling_is_over(attempts, START, START + after) is over
