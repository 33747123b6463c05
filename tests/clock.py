"""A clock that tests move."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count

START = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


class ManualClock:
    """The port `Clock`: stands still until `advance` moves it, and wakes who sleeps until then in order."""

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._order = count()

    def now(self) -> datetime:
        return self._now

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
