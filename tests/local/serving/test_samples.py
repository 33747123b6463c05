"""The last hour of the platform's numbers."""

import pytest

from aep.runtime.meters import Meters
from aep.serving.samples import EVERY_SECONDS, KEPT_SECONDS, Samples, percentile
from support.clock import ManualClock


def samples_on(clock: ManualClock, meters: Meters) -> Samples:
    faults: list[BaseException] = []
    return Samples(meters, clock, on_fault=faults.append)


def count(meters: Meters, events: int, *, delivered: int = 0, failed: int = 0, seconds: float = 0.02) -> None:
    meters.accepted(events, events)
    for _ in range(delivered):
        meters.put_into_lanes(["s"])
        meters.taken("s", seconds)
    meters.attempts["retryable", "destination_failure"] += failed


async def test_rates_are_those_of_the_last_seconds_and_of_the_hour() -> None:
    clock, meters = ManualClock(), Meters()
    samples = samples_on(clock, meters)
    samples.start()
    for _ in range(120):
        count(meters, 50, delivered=20, failed=5)
        await clock.advance(EVERY_SECONDS)
    count(meters, 100)
    now, hour = samples.now(), samples.hour()
    await samples.stop()

    assert now.accepted == pytest.approx((100 + 2 * 50) / 10)
    assert hour.accepted == pytest.approx((120 * 50 + 100) / 600)
    assert hour.success_rate == pytest.approx(0.8)
    assert hour.p50 is not None
    assert 0.01 <= hour.p50 <= 0.025


async def test_minutes_are_of_one_hour_at_most() -> None:
    clock, meters = ManualClock(), Meters()
    samples = samples_on(clock, meters)
    samples.start()
    await clock.advance(EVERY_SECONDS * 6)
    few = samples.minutes()
    for _ in range(round(1.5 * KEPT_SECONDS / EVERY_SECONDS)):
        count(meters, 10)
        await clock.jump(EVERY_SECONDS)
    minutes = samples.minutes()
    await samples.stop()

    assert len(few) == 2
    assert len(minutes) == 60
    assert {round(each.accepted, 1) for each in minutes} == {2.0}
    assert [each.at for each in minutes] == sorted(each.at for each in minutes)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([10, 10, 0], 0.5, 1.0),
        ([10, 10, 0], 0.75, 1.5),
        ([0, 0, 5], 0.5, 2.0),
        ([1, 0, 0], 0.99, 0.99),
    ],
)
def test_a_percentile_lies_within_its_bucket(counts: list[int], share: float, expected: float | None) -> None:
    assert percentile(counts, share, bounds=[1.0, 2.0]) == expected
