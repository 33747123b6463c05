"""What every clock must do: the port `Clock`."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from event_platform.ports import Clock

Pass = Callable[[float], Awaitable[None]]
"""Returns when at least that many seconds have gone by on the clock."""

SHORT = 0.02
"""Seconds. What sleeps that long must not be a burden to a clock that can't be moved."""
EARLY = 0.002
"""An event loop may wake a sleeper by the granularity of its own clock too early."""


class ClockContract:
    """Subclasses provide `clock` and `pass_time`."""

    @pytest.fixture
    def clock(self) -> Clock:
        raise AssertionError("a subclass gives the clock")

    @pytest.fixture
    def pass_time(self, clock: Clock) -> Pass:
        raise AssertionError("a subclass lets time pass")

    async def test_now_is_aware_and_utc(self, clock: Clock) -> None:
        assert clock.now().utcoffset() == timedelta(0)

    async def test_without_a_jump_the_wall_clock_has_the_same_time(self, clock: Clock) -> None:
        assert clock.wall().utcoffset() == timedelta(0)
        assert abs((clock.wall() - clock.now()).total_seconds()) < 60

    async def test_both_times_go_on_alike(self, clock: Clock, pass_time: Pass) -> None:
        now, monotonic = clock.now(), clock.monotonic()
        await pass_time(SHORT)
        gone_by = clock.monotonic() - monotonic
        assert gone_by >= SHORT - EARLY
        assert (clock.now() - now).total_seconds() == pytest.approx(gone_by, abs=0.5)

    async def test_monotonic_time_never_goes_back(self, clock: Clock, pass_time: Pass) -> None:
        read = [clock.monotonic() for _ in range(1000)]
        await pass_time(SHORT)
        read += [clock.monotonic() for _ in range(1000)]
        assert read == sorted(read)
        assert read[-1] > read[0]

    async def test_a_sleeper_wakes_when_its_time_has_come_and_not_before(
        self, clock: Clock, pass_time: Pass
    ) -> None:
        async def sleep() -> float:
            await clock.sleep(SHORT)
            return clock.monotonic()

        started = clock.monotonic()
        sleeper = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        assert not sleeper.done()
        await pass_time(2 * SHORT)
        assert await asyncio.wait_for(sleeper, 5) - started >= SHORT - EARLY

    async def test_sleepers_wake_in_the_order_of_their_times(self, clock: Clock, pass_time: Pass) -> None:
        woken: list[float] = []

        async def sleep(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        sleepers = [asyncio.create_task(sleep(factor * SHORT)) for factor in (3, 1, 0, 2)]
        await asyncio.sleep(0)
        await pass_time(4 * SHORT)
        await asyncio.wait_for(asyncio.gather(*sleepers), 5)
        assert woken == [0, SHORT, 2 * SHORT, 3 * SHORT]

    @pytest.mark.parametrize("seconds", [0, -1.0])
    async def test_who_has_nothing_to_wait_for_wakes_at_once(
        self, clock: Clock, pass_time: Pass, seconds: float
    ) -> None:
        started = clock.monotonic()
        sleeper = asyncio.create_task(clock.sleep(seconds))
        await asyncio.sleep(0)
        await pass_time(0)
        await asyncio.wait_for(sleeper, 5)
        assert clock.monotonic() - started < 1

    async def test_a_sleeper_that_is_cancelled_wakes_nobody_else(self, clock: Clock, pass_time: Pass) -> None:
        gone, stays = asyncio.create_task(clock.sleep(SHORT)), asyncio.create_task(clock.sleep(2 * SHORT))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert gone.cancelled()
        assert not stays.done()
        await pass_time(3 * SHORT)
        await asyncio.wait_for(stays, 5)
