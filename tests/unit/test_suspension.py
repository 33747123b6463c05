"""When the success rate suspends a subscription (contract/wire.md 11)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.attempts.outcomes import Answer, Outcome, Reason, TransportFailure, classify
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import Subscription, delete_subscription, resume, suspend
from event_platform.domain.suspension import (
    Count,
    Suspension,
    first_minute,
    minute_of,
    reason_to_suspend,
    series_of,
)
from support.clock import START
from support.records import UPDATED, a_subscriber, a_subscription

SUBSCRIPTION = a_subscription(a_subscriber())
DELIVERY = Delivery(
    SUBSCRIPTION.id, "event-1", UPDATED, START, lane=0, lanes=16, epoch=0, body=b"{}", attempts=1
)
END = DeliveryEnd(Operation.FAILED, "given up", START)
SECOND = timedelta(seconds=1)
Attempts = Sequence[tuple[datetime, bool]]


def counts_of(attempts: Attempts) -> dict[int, Count]:
    """As instances count them: each attempt in its minute."""
    counts: dict[int, Count] = {}
    for at, succeeded in attempts:
        one = Count(succeeded=1) if succeeded else Count(failed=1, first_failed_at=at.timestamp())
        counts.setdefault(minute_of(at), Count()).add(one)
    return counts


def attempts(succeeded: int, failed: int, at: datetime = START) -> Attempts:
    return [(at, True)] * succeeded + [(at, False)] * failed


# --- what counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "end", "counts_as"),
    [
        (classify(Answer(200)), None, True),
        (classify(Answer(500)), None, False),
        (classify(Answer(400)), None, False),
        (classify(Answer(404)), END, False),
        (classify(Answer(301)), END, False),
        (classify(TransportFailure(Reason.DESTINATION_TIMEOUT)), None, False),
        (classify(TransportFailure(Reason.CONNECTION_REFUSED)), END, False),
        (classify(TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION)), END, False),
        (classify(Answer(429)), None, None),
        (classify(Answer(429)), END, False),
        (None, END, None),
    ],
)
def test_what_counts_for_and_against_the_rate(
    outcome: Outcome | None, end: DeliveryEnd | None, counts_as: bool | None
) -> None:
    assert Settlement(DELIVERY, outcome, end=end).succeeded is counts_as


def test_our_own_fault_does_not_count() -> None:
    outcome = classify(TransportFailure(Reason.CONNECTION_REFUSED))
    assert Settlement(DELIVERY, outcome, is_our_fault=True).succeeded is None


# --- the decision ------------------------------------------------------------------------------------

MINUTE_LATER = START + timedelta(seconds=60)


def test_below_90_percent_of_20_attempts_it_is_suspended_and_told_why() -> None:
    reason = reason_to_suspend(counts_of(attempts(17, 3)), MINUTE_LATER)
    assert reason == "17 of 20 attempts of the last hour succeeded, fewer than 90 %"


@pytest.mark.parametrize(
    ("succeeded", "failed", "why"),
    [
        (18, 2, "exactly 90 % is enough"),
        (0, 19, "fewer than 20 attempts say too little"),
        (100, 0, "nothing failed"),
        (899_999, 99_999, "just above"),
    ],
)
def test_it_goes_on(succeeded: int, failed: int, why: str) -> None:
    assert reason_to_suspend(counts_of(attempts(succeeded, failed)), MINUTE_LATER) is None, why


def test_nobody_is_judged_in_the_minute_after_the_first_failure() -> None:
    counts = counts_of([*attempts(0, 1), *attempts(0, 50, START + 30 * SECOND)])
    assert reason_to_suspend(counts, MINUTE_LATER - SECOND) is None
    assert reason_to_suspend(counts, MINUTE_LATER) is not None


def test_what_is_older_than_an_hour_does_not_count() -> None:
    counts = counts_of([*attempts(0, 100), *attempts(19, 1, START + timedelta(minutes=30))])
    assert reason_to_suspend(counts, START + timedelta(minutes=59, seconds=59)) is not None
    assert reason_to_suspend(counts, START + timedelta(minutes=60)) is None


def test_failures_that_were_taken_back_do_not_count() -> None:
    counts = counts_of(attempts(0, 30))
    counts[minute_of(START)].add(Count(failed=-30))
    assert reason_to_suspend(counts, MINUTE_LATER) is None


def test_a_failure_that_was_taken_back_does_not_begin_the_time_before_a_judgement() -> None:
    counts = counts_of([*attempts(0, 1), *attempts(0, 20, START + 90 * SECOND)])
    counts[minute_of(START)].add(Count(failed=-1))
    assert reason_to_suspend(counts, START + 149 * SECOND) is None
    assert reason_to_suspend(counts, START + 150 * SECOND) is not None


def test_the_minute_of_now_counts_and_those_ahead_do_not() -> None:
    """A clock that went back leaves minutes ahead."""
    early, now = attempts(0, 1), START + 150 * SECOND
    this_minute = attempts(0, 19, START + 120 * SECOND)
    next_minute = attempts(0, 19, START + 180 * SECOND)
    assert reason_to_suspend(counts_of([*early, *this_minute]), now) is not None
    assert reason_to_suspend(counts_of([*early, *next_minute]), now) is None
    assert reason_to_suspend(counts_of([*early, *next_minute]), now + 30 * SECOND) is not None


@pytest.mark.parametrize("minutes", [0, 1])
def test_the_hour_begins_with_the_59th_minute_before_that_of_now(minutes: int) -> None:
    now = START + timedelta(hours=2, minutes=minutes, seconds=30)
    assert first_minute(now) == minute_of(now) - 59
    oldest, too_old = (attempts(0, 20, now - timedelta(minutes=each)) for each in (59, 60))
    assert reason_to_suspend(counts_of(oldest), now) is not None
    assert reason_to_suspend(counts_of(too_old), now) is None


@given(
    seconds=st.lists(st.tuples(st.integers(-7200, 7200), st.booleans()), max_size=120),
    now=st.integers(-3600, 7200),
)
def test_the_buckets_say_what_a_naive_count_says(seconds: list[tuple[int, bool]], now: int) -> None:
    moment = START + timedelta(seconds=now)
    made = [(START + timedelta(seconds=at), succeeded) for at, succeeded in seconds]
    hour = [
        (at, succeeded)
        for at, succeeded in made
        if moment.replace(second=0) - timedelta(minutes=59) <= at < moment.replace(second=0) + 60 * SECOND
    ]
    failed_at = [at for at, succeeded in hour if not succeeded]
    is_low = len(hour) >= 20 and (len(hour) - len(failed_at)) / len(hour) < 0.9
    old_enough = bool(failed_at) and moment - min(failed_at) >= 60 * SECOND
    assert (reason_to_suspend(counts_of(made), moment) is not None) == (is_low and old_enough)


# --- whom an old attempt may suspend -----------------------------------------------------------------


def test_an_attempt_suspends_the_record_that_it_was_made_under() -> None:
    tried = replace(SUBSCRIPTION, updated_at=START - SECOND)
    assert Suspension(tried, "gone", START).of(SUBSCRIPTION) == suspend(SUBSCRIPTION, START)


@pytest.mark.parametrize(
    "since",
    [
        suspend(SUBSCRIPTION, START),
        resume(suspend(SUBSCRIPTION, START), START),
        delete_subscription(SUBSCRIPTION, START),
        replace(SUBSCRIPTION, config=replace(SUBSCRIPTION.config, url="https://new.example.com/")),
        replace(SUBSCRIPTION, config=replace(SUBSCRIPTION.config, headers={})),
    ],
    ids=["suspended", "resumed", "deleted", "another URL", "other headers"],
)
def test_an_old_attempt_suspends_nobody(since: Subscription) -> None:
    assert Suspension(SUBSCRIPTION, "gone", START).of(since) is since


@pytest.mark.parametrize(
    "other",
    [
        resume(suspend(SUBSCRIPTION, START), START),
        replace(SUBSCRIPTION, config=replace(SUBSCRIPTION.config, url="https://new.example.com/")),
        a_subscription(a_subscriber()),
    ],
    ids=["resumed", "another URL", "another subscription"],
)
def test_counts_start_afresh(other: Subscription) -> None:
    assert series_of(other).key != series_of(SUBSCRIPTION).key


def test_what_has_no_influence_on_the_endpoint_goes_on_in_the_same_series() -> None:
    changed = replace(SUBSCRIPTION, updated_at=START + SECOND, lanes=1, events=("other",))
    assert series_of(changed) == series_of(SUBSCRIPTION)
