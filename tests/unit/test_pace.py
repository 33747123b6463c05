"""The pace of deliveries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.pace.turns import TokenBucket

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
