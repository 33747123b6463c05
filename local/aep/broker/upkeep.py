"""The upkeep of the queue's file: requeues retries that are due, and drops what has expired."""

import asyncio
from collections.abc import Callable

import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.ports import Clock

from ..runtime.tasks import WatchedTasks, wait_at_most
from .queue import DurableQueue

log = structlog.get_logger()

RETRIES_AT_ONCE = 200
LOOK_AFTER = 4.0
"""Seconds after which we look for retries and events that `aep dead replay` in another process made due."""
CLEAN_UP_EVERY = 10.0
CLEAN_UP_AT_ONCE = 5000
PAGES_AT_ONCE = 1024
STORE_RETRY_SECONDS = 1.0


class Upkeep:
    """Runs between `start` and `stop`; `on_fault` is called when a part of it has ended by an error."""

    def __init__(
        self, queue: DurableQueue, clock: Clock, *, on_fault: Callable[[BaseException], None]
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._due_sooner = asyncio.Event()
        self._next_due: float | None = None
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._running = [self._tasks.start(self._requeue_retries()), self._tasks.start(self._clean_up())]

    async def stop(self) -> None:
        await self._tasks.stop(*self._running)

    def scheduled(self, due_at: float) -> None:
        """Notes that a retry is on the schedule, due at that time (unix seconds)."""
        if self._next_due is None or due_at < self._next_due:
            self._due_sooner.set()

    async def _requeue_retries(self) -> None:
        """Requeues retries when they are due: sleeps until the first is due, or until one is due sooner."""
        while True:
            self._due_sooner.clear()
            self._next_due = None  # whatever is scheduled while we read is sooner than what we know
            try:
                next_due = await self._queue.next_due()
                if next_due is not None and next_due <= self._now():
                    await self._queue.requeue_due(RETRIES_AT_ONCE)
                    continue
                await self._queue.take_up_events(RETRIES_AT_ONCE)
            except StoreUnavailable as error:
                await self._store_is_away(error)
                continue
            self._next_due = next_due
            await self._until_due(next_due)

    async def _until_due(self, due_at: float | None) -> None:
        seconds = LOOK_AFTER if due_at is None else min(LOOK_AFTER, due_at - self._now())
        await wait_at_most(self._due_sooner, self._clock, seconds)

    async def _clean_up(self) -> None:
        while True:
            await self._clock.sleep(CLEAN_UP_EVERY)
            try:
                while await self._queue.clean_up(CLEAN_UP_AT_ONCE) == CLEAN_UP_AT_ONCE:
                    pass
                while await self._queue.release_pages(PAGES_AT_ONCE):
                    pass
            except StoreUnavailable as error:
                await self._store_is_away(error)

    async def _store_is_away(self, error: StoreUnavailable) -> None:
        log.warning("broker.store_unavailable", error=str(error))
        await self._clock.sleep(STORE_RETRY_SECONDS)

    def _now(self) -> float:
        return self._clock.now().timestamp()
