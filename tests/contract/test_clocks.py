"""The system's clock, that of one machine, and the one that tests move pass the suite of `Clock`."""

import asyncio
import time
from datetime import UTC, datetime

import pytest

from aep.store.steady_clock import SteadyClock
from contract.suites.clocks import ClockContract, Pass
from event_platform.adapters.clock import SystemClock
from support.clock import START, ManualClock
from support.eventually import eventually


async def wait(seconds: float) -> None:
    """Lets so much time go by for real."""
    end = time.monotonic() + seconds
    await eventually(lambda: time.monotonic() >= end)


class TestSystemClock(ClockContract):
    @pytest.fixture
    def clock(self) -> SystemClock:
        return SystemClock()

    @pytest.fixture
    def pass_time(self) -> Pass:
        return wait

    async def test_it_tells_the_systems_time(self, clock: SystemClock) -> None:
        before = datetime.now(UTC), time.monotonic()
        told = clock.now(), clock.monotonic()
        assert before[0] <= told[0] <= datetime.now(UTC)
        assert before[1] <= told[1] <= time.monotonic()


class TestSteadyClock(ClockContract):
    @pytest.fixture
    def clock(self) -> SteadyClock:
        return SteadyClock()

    @pytest.fixture
    def pass_time(self) -> Pass:
        return wait


class TestManualClock(ClockContract):
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def pass_time(self, clock: ManualClock) -> Pass:
        return clock.advance

    async def test_it_stands_still_until_it_is_moved(self, clock: ManualClock) -> None:
        told = clock.now(), clock.monotonic()
        await clock.advance(0)
        assert (clock.now(), clock.monotonic()) == told
        assert told[0] == START
        await clock.advance(1.5)
        assert clock.monotonic() == told[1] + 1.5

    async def test_after_a_jump_whoever_slept_until_then_wakes_in_order_and_once(
        self, clock: ManualClock
    ) -> None:
        woken: list[tuple[float, float]] = []

        async def sleep_again_and_again(seconds: float) -> None:
            while True:
                await clock.sleep(seconds)
                woken.append((seconds, clock.monotonic()))

        sleepers = [asyncio.create_task(sleep_again_and_again(seconds)) for seconds in (7, 3, 11)]
        await asyncio.sleep(0)
        await clock.jump(10)
        assert woken == [(3, 10), (7, 10)]
        for sleeper in sleepers:
            sleeper.cancel()
