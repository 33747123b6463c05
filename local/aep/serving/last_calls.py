"""Notes the last calls of each PIM by each ingest format: for `/metrics` at once, and for commands in the
file.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.tenants import Way
from event_platform.ports import Clock, TenantRegistry

from ..runtime.meters import CallKey, LastCalls, Meters
from ..runtime.tasks import WatchedTasks
from ..store import calls
from ..store.database import Database

log = structlog.get_logger()

WRITE_EVERY = 5.0


class CallObserver:
    """The port `IngestObserver`. It writes new calls every 5 s, between `start` and `stop`."""

    def __init__(
        self,
        database: Database,
        registry: TenantRegistry,
        meters: Meters,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._database = database
        self._registry = registry
        self._meters = meters
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._writing: asyncio.Task[None] | None = None
        self._changed: set[CallKey] = set()
        self._is_behind = False

    def taken(self, tenant: str, way: Way, events: int) -> None:
        last = self._last(tenant, way)
        last.answered_at = self._clock.now().timestamp()
        if events:
            last.taken_at = last.answered_at
            self._meters.came(tenant, last.answered_at)

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None:
        last = self._last(tenant, way)
        last.refused_at, last.status, last.reason = self._clock.now().timestamp(), status, reason
        self._meters.refused(tenant, way, status)

    async def start(self) -> None:
        """Reads the earlier calls of the PIMs in the registry. Raises StoreUnavailable."""
        names = [tenant.name for tenant in await self._registry.tenants()]
        known = await self._database.write(partial(calls.read_those_of, tenants=names), needs_room=False)
        self._meters.last_calls.update(known)
        self._writing = self._tasks.start(self._write_periodically())

    async def stop(self) -> None:
        """Writes new calls for the last time."""
        await self._tasks.stop(self._writing)
        if self._writing is not None:
            await self._write()

    def _last(self, tenant: str, way: Way) -> LastCalls:
        key = (tenant, way)
        self._changed.add(key)
        last = self._meters.last_calls.get(key)
        if last is None:
            last = self._meters.last_calls[key] = LastCalls()
        return last

    async def _write_periodically(self) -> None:
        while True:
            await self._clock.sleep(WRITE_EVERY)
            await self._write()

    async def _write(self) -> None:
        changed, self._changed = self._changed, set()
        if not changed:
            return
        rows = [(key, replace(self._meters.last_calls[key])) for key in changed]
        try:
            await self._database.write(lambda connection: calls.put(connection, rows))
        except StoreUnavailable as error:
            self._changed |= changed
            if not self._is_behind:
                log.warning("last_calls.not_written", error=str(error))
            self._is_behind = True
        else:
            if self._is_behind:
                log.info("last_calls.written_again")
            self._is_behind = False
