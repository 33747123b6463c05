"""The rate of a subscription, its lanes, and `Retry-After` (contract/wire.md 10 and 11)."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.pace.rates import (
    Limits,
    Observation,
    Rate,
    after,
    after_throttling,
    lanes_after,
    lanes_needed,
    retry_after,
)
from event_platform.domain.paced import paced
from support.clock import START
from support.records import a_subscriber, a_subscription

LIMITS = Limits(1, 100)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def a_429(began: float, rate: Rate, **more: object) -> Observation:
    return Observation(at(began), rate, 0.1, throttled=True, **more)  # pyright: ignore[reportArgumentType]


def test_a_rate_that_was_never_too_much_begins_at_ten_and_grows_by_one_a_second() -> None:
    rate = Rate(START)
    assert [rate.at(at(seconds), LIMITS) for seconds in (0, 1, 45, 90, 500)] == [10, 11, 55, 100, 100]


def test_a_clock_that_was_set_back_does_not_lower_the_base() -> None:
    assert Rate(START).at(at(-3600), LIMITS) == 10


def test_after_a_429_the_rate_follows_a_cubic_through_its_ceiling() -> None:
    rate = after_throttling(Rate(START), at(30), at(31), LIMITS)
    assert (rate.since, rate.base, rate.ceiling) == (at(31), 20, 36)
    seen = [rate.at(at(31 + seconds), LIMITS) for seconds in (0, 7.5, 15, 22.5, 30, 45)]
    assert seen == pytest.approx([20, 34, 36, 38, 52, 100])


def test_the_ceiling_is_never_below_two_a_second() -> None:
    rate = after_throttling(Rate(START, base=1, ceiling=1.5), at(15), at(16), LIMITS)
    assert (rate.base, rate.ceiling) == (1, 2)


@pytest.mark.parametrize("began", [-1, 0, 1])
def test_what_was_sent_before_the_last_change_was_felt_lowers_nothing(began: float) -> None:
    rate = Rate(START, base=5, ceiling=9)
    assert after_throttling(rate, at(began), at(2), LIMITS) is rate
    assert after_throttling(rate, at(1.1), at(2), LIMITS) is not rate


def test_the_429s_of_all_lanes_at_once_lower_the_rate_once() -> None:
    first = rate = Rate(START)
    for number in range(16):
        rate = after(rate, a_429(10 + number / 100, first), at(11), LIMITS)
    assert (rate.base, rate.ceiling) == (10, 18)


def test_success_writes_nothing() -> None:
    rate = Rate(START)
    assert after(rate, Observation(at(5), rate, 0.1), at(6), LIMITS) is rate


def test_an_attempt_that_was_sent_under_another_rate_lowers_nothing() -> None:
    rate = Rate(START, base=5, ceiling=9)
    assert after(rate, a_429(60, Rate(START)), at(61), LIMITS) is rate


def test_retry_after_holds_back_and_growth_begins_when_it_is_over() -> None:
    rate = after(Rate(START), a_429(10, Rate(START), retry_after=at(71)), at(11), LIMITS)
    assert (rate.held_for(at(11)), rate.held_for(at(70)), rate.held_for(at(72))) == (60, 1, 0)
    assert rate.at(at(71), LIMITS) == 10
    assert rate.at(at(86), LIMITS) == rate.ceiling == 18


def test_a_hold_farther_away_than_an_hour_is_a_clock_that_was_set_back() -> None:
    assert Rate(START, held_until=at(3601)).held_for(START) == 0


def test_a_minimum_above_the_maximum_counts_for_nothing() -> None:
    assert Rate(START).at(START, Limits(5, 0.5)) == 0.5


MOMENTS = st.lists(st.tuples(st.floats(-10, 200), st.floats(0, 10)), max_size=30)


@given(minimum=st.floats(0.01, 1000), maximum=st.floats(0.01, 1000), history=MOMENTS, hold=st.booleans())
def test_the_rate_is_within_its_limits_whatever_happens(
    minimum: float, maximum: float, history: list[tuple[float, float]], hold: bool
) -> None:
    limits = Limits(minimum, maximum)
    rate, now = Rate(START), START
    for rest, took in history:
        began = now + timedelta(seconds=rest)
        now = began + timedelta(seconds=took)
        wanted = now + timedelta(seconds=30) if hold else None
        rate = after_throttling(rate, began, now, limits, hold=wanted)
        for seconds in (-50, 0, 1, 15, 47, 1e6):
            value = rate.at(now + timedelta(seconds=seconds), limits)
            assert min(minimum, maximum) <= value <= maximum


@given(
    base=st.floats(1, 50),
    above=st.floats(0, 50) | st.none(),
    began=st.floats(0, 200),
    lanes=st.sampled_from([1, 4, 16, 64]),
)
def test_the_turns_of_all_lanes_are_as_far_apart_as_the_rate_demands(
    base: float, above: float | None, began: float, lanes: int
) -> None:
    rate = Rate(START, base, None if above is None else base + above)
    turns = sorted(rate.slot(lane, lanes, at(began), LIMITS) for lane in range(lanes))
    counted = [rate.sent(began + turn, LIMITS) - rate.sent(began, LIMITS) for turn in turns]
    assert counted[0] <= 1 + 0.11
    for one, next_one in pairwise(counted):
        assert next_one - one == pytest.approx(1, abs=0.25)


# --- lanes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "latency", "lanes"),
    [(1, 0.02, 1), (100, 0.02, 4), (10, 0.5, 8), (10, 3, 64), (100, 0.4, 64), (100, 5, 64), (2, 0, 1)],
)
def test_lanes_are_a_power_of_two_above_what_is_on_its_way(rate: float, latency: float, lanes: int) -> None:
    assert lanes_needed(rate, latency) == lanes


@given(st.floats(0, 1e9), st.floats(0, 1e4))
def test_there_are_one_to_64_lanes(rate: float, latency: float) -> None:
    assert lanes_needed(rate, latency) in (1, 2, 4, 8, 16, 32, 64)


def test_lanes_are_raised_straight_to_what_is_needed_after_thirty_seconds() -> None:
    assert lanes_after(16, START, 40, 0.8, at(29)) == 16
    assert lanes_after(16, START, 40, 0.8, at(30)) == 64


def test_lanes_are_halved_after_ten_minutes_and_only_with_room_to_spare() -> None:
    assert lanes_after(16, START, 50, 0.02, at(599)) == 16
    assert lanes_after(16, START, 50, 0.02, at(600)) == 8
    assert lanes_after(16, START, 53, 0.1, at(600)) == 16  # 8 would do, with nothing to spare


def test_a_change_of_pace_leaves_updated_at() -> None:
    before = a_subscription(a_subscriber())
    changed = paced(before, a_429(40, before.current_rate), 0.8, at(41), LIMITS)
    assert changed.rate is not None
    assert (changed.lanes, changed.lanes_changed_at) == (32, at(41))
    assert (changed.updated_at, changed.epoch) == (before.updated_at, before.epoch)
    assert paced(changed, Observation(at(42), changed.rate, 0.8), 0.8, at(43), LIMITS) is changed


# --- Retry-After -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("86400", 3600),
        ("9" * 5000, 3600),
        (format_datetime(at(90), usegmt=True), 90),
        (format_datetime(at(1e6), usegmt=True), 3600),
        ("Saturday, 31-Jan-26 12:00:30 GMT", 30),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(value: str, seconds: float) -> None:
    assert retry_after(value, START) == at(seconds)


@pytest.mark.parametrize(
    "value",
    [None, "", "0", "-5", "1.5", "soon", "120, 120", "\u0663", format_datetime(at(-5), usegmt=True), "\x00",
     "Fri, 99 Foo 99999 99:99:99 GMT"],
)  # fmt: skip
def test_another_retry_after_means_nothing(value: str | None) -> None:
    assert retry_after(value, START) is None


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    moment = retry_after(value, datetime(2026, 1, 1, tzinfo=UTC))
    assert moment is None or moment.tzinfo is not None
