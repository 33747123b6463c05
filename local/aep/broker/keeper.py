"""The upkeep of kept events: indexes them behind acceptance, and removes those that are beyond the bounds."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.timestamps import to_rfc3339
from event_platform.ports import Clock

from ..runtime.meters import Kept, Meters
from ..runtime.tasks import WatchedTasks
from ..store import kept, kept_index
from ..store.backlog import WEIGHT_AT_ONCE
from ..store.database import Database
from ..store.kept_index import Bounds, Removed
from ..store.times import moment_of

log = structlog.get_logger()

LOOK_EVERY = 1.0
FAULT_SECONDS = 60.0
REST_FACTOR, REST_AT_MOST = 2, 0.05
"""The rest after a job, as a multiple of what it took, and its limit in seconds."""


class Keeper:
    """Runs between `start` and `stop`; `on_fault` is called when it has ended by an error.

    What has the number that `held_from` returns, or a higher one, is not removed for its age.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        bounds: Bounds,
        meters: Meters,
        *,
        schema_base: str,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._bounds = bounds
        self._meters = meters
        self._schema_base = schema_base
        self._tasks = WatchedTasks(on_fault)
        self._running: list[asyncio.Task[None]] = []
        self.held_from: Callable[[sqlite3.Connection], int | None] = lambda connection: None
        """Called in the writer thread."""

    def start(self) -> None:
        self._running = [self._tasks.start(self._run())]

    async def stop(self) -> None:
        await self._tasks.stop(*self._running)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY)
            try:
                await self.work()
            except StoreUnavailable as error:
                log.warning("broker.store_unavailable", error=str(error))
            except Exception:  # a fault of ours, which must not hold up deliveries
                log.exception("kept.failed")
                await self._clock.sleep(FAULT_SECONDS)

    async def work(self) -> None:
        """Removes and indexes what is to be removed and indexed now, with a rest after each job."""
        is_due, self._meters.kept = await self._database.read(self._look)
        if not is_due:
            return
        unread, first_at, last_at = 0, 0.0, 0.0
        while (removed := await self._removed()) is not None:
            if removed.was_held:
                first_at = min(first_at, removed.first_at) if unread else removed.first_at
                unread, last_at = unread + removed.events, removed.last_at
        if unread:
            times = {"first": to_rfc3339(moment_of(first_at)), "last": to_rfc3339(moment_of(last_at))}
            log.warning("kept.removed_unread", events=unread, **times)
        while self._bounds.seconds > 0 and await self._indexed():
            pass

    async def _removed(self) -> Removed | None:
        began = time.monotonic()
        removed = await self._database.write_jointly(
            self._remove, None, weight=WEIGHT_AT_ONCE, gives_way=True, needs_room=False
        )
        await _rest(began)
        return removed

    async def _indexed(self) -> bool:
        began = time.monotonic()
        is_more = await self._database.write_jointly(self._index, None, weight=WEIGHT_AT_ONCE, gives_way=True)
        await _rest(began)
        return is_more

    def _look(self, connection: sqlite3.Connection) -> tuple[bool, Kept | None]:
        found, oldest_at = kept_index.look(connection, self._now(), self._bounds), kept.oldest_at(connection)
        is_any = self._bounds.seconds > 0 or oldest_at is not None
        return found.is_due, Kept(found.bytes, found.not_indexed, oldest_at) if is_any else None

    def _remove(self, connection: sqlite3.Connection, jobs: Sequence[None]) -> list[Removed | None]:
        held_from = self.held_from(connection)
        remove = partial(kept_index.remove_some, schema_base=self._schema_base, held_from=held_from)
        return [remove(connection, self._now(), self._bounds) for _ in jobs]

    def _index(self, connection: sqlite3.Connection, jobs: Sequence[None]) -> list[bool]:
        return [kept_index.write_segment(connection, self._now(), self._bounds) for _ in jobs]

    def _now(self) -> float:
        return self._clock.now().timestamp()


async def _rest(began: float) -> None:
    await asyncio.sleep(min(REST_AT_MOST, REST_FACTOR * (time.monotonic() - began)))
