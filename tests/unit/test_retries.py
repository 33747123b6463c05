"""When a delivery is tried again."""

from datetime import timedelta

import pytest

from event_platform.domain.attempts.retries import (
    AFTER_OUR_FAULT,
    again_at,
    longest,
    retry_at,
    throttling_is_over,
)
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


def test_after_a_fault_of_ours_the_first_delay_counts_however_many_there_are() -> None:
    assert again_at(START, DELAYS) == START + timedelta(minutes=5)
    assert again_at(START, DELAYS[2:]) == START + timedelta(minutes=20)
    assert again_at(START, []) == START + AFTER_OUR_FAULT == START + timedelta(minutes=5)


def test_the_longest_delay_may_be_an_operators_or_one_of_kafka() -> None:
    assert longest([timedelta(hours=2), timedelta(minutes=1)]) == timedelta(hours=2)
    assert longest([]) == timedelta(minutes=10)


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
