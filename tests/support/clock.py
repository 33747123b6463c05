"""A clock that tests move."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

from aep.store.steady_clock import SteadyClock

START = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class ManualClock:
    """The port `Clock`: stands still until `advance` moves it, and wakes who sleeps until then in order.

    `stepped` is how far its time was set, as that of a system's clock is, while the monotonic time stayed;
    `wall_is_off` is how far its wall clock is from its time.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self.stepped = timedelta()
        self.wall_is_off = timedelta()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        return self._now + self.stepped

    def wall(self) -> datetime:
        return self.now() + self.wall_is_off

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + timedelta(seconds=seconds), next(self._order), wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Moves on, stopping at each moment at which somebody wakes, so that what they do happens then."""
        end = self._now + timedelta(seconds=seconds)
        await self._settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, wake = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not wake.done():
                wake.set_result(None)
            await self._settle()
        self._now = end
        await self._settle()

    async def jump(self, seconds: float) -> None:
        """Moves on at once, as when a machine slept: who would have woken meanwhile wakes now, in order."""
        self._now += timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
        await self._settle()

    async def _settle(self) -> None:
        """Lets everything run that can run now, including what waits for the store's threads."""
        for _ in range(20):
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        for _ in range(20):
            await asyncio.sleep(0)


class MovedClock(SteadyClock):
    """The clock of one machine, over a clock that tests move and whose wall clock jumps by `move`."""

    def __init__(self, manual: ManualClock | None = None) -> None:
        self.manual = manual or ManualClock()
        super().__init__(lambda: self.manual.wall().timestamp(), self.manual.monotonic)

    async def sleep(self, seconds: float) -> None:
        await self.manual.sleep(seconds)

    def move(self, days: float) -> None:
        """Moves the wall clock alone."""
        self.manual.wall_is_off += timedelta(days=days)

    async def advance(self, seconds: float) -> None:
        """Moves on, with a look at the wall clock each second."""
        while seconds > 0:
            await self.manual.advance(min(1.0, seconds))
            self.look()
            seconds -= 1.0
