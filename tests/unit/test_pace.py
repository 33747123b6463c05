"""The pace of deliveries."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.pace.rates import Limits, Rate, after_throttling
from event_platform.domain.pace.turns import COPY_SECONDS, SPREAD_OF_COPIES, TokenBucket, Turn
from support.clock import START

A_LITTLE = 1e-6  # what floats lose


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    rests=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.001, 0.01, 0.5, 10.0]) | st.floats(0, 100), max_size=60),
)
def test_no_window_has_more_tokens_than_burst_and_rate_allow(
    rate: float, burst: int, rests: list[float]
) -> None:
    bucket = TokenBucket(rate, burst)
    now, used = 1000.0, list[float]()
    for rest in rests:
        now += rest
        used.append(now + bucket.take(now))
    assert used == sorted(used)
    for first, start in enumerate(used):
        for last, end in enumerate(used[first:], first):
            assert last - first + 1 <= burst + rate * (end - start) + A_LITTLE * rate


@given(rate=st.floats(0.1, 1000), burst=st.integers(1, 50), rest=st.floats(0, 100))
def test_after_a_rest_the_whole_burst_is_there_at_once(rate: float, burst: int, rest: float) -> None:
    bucket = TokenBucket(rate, burst)
    for _ in range(100):
        bucket.take(1000.0)
    now = 1000.0 + 101 / rate + burst / rate + rest
    assert [bucket.take(now) for _ in range(burst)] == pytest.approx([0.0] * burst, abs=A_LITTLE)
    assert bucket.take(now) == pytest.approx(1 / rate, rel=1e-3)


def test_a_caller_that_does_not_rest_gets_the_rate() -> None:
    bucket = TokenBucket(rate=10)
    now = 5.0
    for _ in range(100):
        now += bucket.take(now)
    assert now == pytest.approx(5.0 + 99 / 10)


def test_waits_grow_for_those_who_ask_at_the_same_moment() -> None:
    bucket = TokenBucket(rate=4, burst=2)
    assert [bucket.take(100.0) for _ in range(5)] == pytest.approx([0, 0, 0.25, 0.5, 0.75])


def test_who_asks_how_long_to_wait_takes_no_token() -> None:
    bucket = TokenBucket(rate=4)
    assert [bucket.wait(100.0), bucket.wait(100.0), bucket.take(100.0)] == [0.0, 0.0, 0.0]
    assert [bucket.wait(now) for now in (100.0, 100.1, 101.0)] == pytest.approx([0.25, 0.15, 0.0])


TEN_A_SECOND = Limits(minimum=10, maximum=10)


def turn_of(lane: int, rate: Rate, *seconds: float, turn: Turn | None = None) -> list[float]:
    """The waits of a lane of two that asks so many seconds after the start."""
    turn = turn or Turn(lane, 2, TEN_A_SECOND)
    return [turn.wait(rate, START + timedelta(seconds=each)) for each in seconds]


def test_lanes_take_turns_that_are_as_far_apart_as_the_rate_demands() -> None:
    assert turn_of(0, Rate(START), 0, 0.15, 0.2, 0.5) == pytest.approx([0.2, 0.05, 0.0, 0.0])
    assert turn_of(1, Rate(START), 0, 0.05, 0.1, 0.5) == pytest.approx([0.1, 0.05, 0.0, 0.0])


@pytest.mark.parametrize("base", [1.0, 40.0])
def test_a_rate_that_changed_has_turns_of_its_own(base: float) -> None:
    turn, before = Turn(0, 2, TEN_A_SECOND), Rate(START, base=10.0)
    assert turn_of(0, before, 0, 0.3, turn=turn) == pytest.approx([0.2, 0.0])
    assert turn_of(0, Rate(START, base=base), 0.3, turn=turn) == pytest.approx([0.1])


def test_an_equal_rate_that_was_read_again_changes_no_turn() -> None:
    turn = Turn(0, 2, TEN_A_SECOND)
    assert [*turn_of(0, Rate(START), 0, turn=turn), *turn_of(0, Rate(START), 0.3, turn=turn)] == [0.2, 0.0]


def test_a_clock_that_went_back_holds_nobody_for_as_long_as_it_went() -> None:
    assert turn_of(0, Rate(START), 600, 0) == pytest.approx([0.2, 0.2])


def test_nobody_has_a_turn_while_the_receiver_wants_a_pause() -> None:
    assert turn_of(0, Rate(START, held_until=START + timedelta(seconds=30)), 0, 10) == pytest.approx([30, 20])


def test_what_was_sent_by_an_old_copy_of_a_rate_does_not_lower_the_rate_again() -> None:
    """The last of it is as late as a copy is old, and the usual spread later than that."""
    limits, lowered = Limits(spread=SPREAD_OF_COPIES), Rate(START, base=5.0, ceiling=9.0)
    last = START + timedelta(seconds=COPY_SECONDS + Limits().spread)
    later = last + timedelta(milliseconds=1)
    assert after_throttling(lowered, last, later, limits) is lowered
    assert after_throttling(lowered, later, later, limits) is not lowered
