"""The fan-out, in pieces, of events that are too much work for one commit (docs/decisions/0027)."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.faults import FAULTS_AT_MOST, backoff_seconds
from event_platform.ports import Clock

from ..runtime.tasks import WatchedTasks
from .queue import DurableQueue

log = structlog.get_logger()

STORE_RETRY_SECONDS = 1.0
REST_AT_MOST = 0.05
"""The longest rest, in seconds. The fan-out rests after a piece for as long as it took, so that the next
events of its tenant find writer and event loop free half of the time. Lanes are emptied far more slowly than
pieces fill them."""
REST_FOR_OTHERS, REST_FOR_OTHERS_AT_MOST = 9, 0.5
"""The factor and the limit in seconds while other tenants send events, so that they find both free."""


class FanOut:
    """Runs between `start` and `stop`; tenants take turns, and one piece is on its way at a time.

    `on_fault` is called when it has ended by an error.
    """

    def __init__(
        self, queue: DurableQueue, clock: Clock, *, on_fault: Callable[[BaseException], None]
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._turns: dict[str, None] = {}  # tenants, in their order
        self._has_turns = asyncio.Event()
        self._failures: dict[str, int] = {}  # in a row, by tenant
        self._alone: set[str] = set()
        """The tenants whose events are fanned out one by one until none is left, after a fan-out has failed.

        So the failure of one event does not repeat the work for the others; that event becomes a dead letter.
        """
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Continues with what the file holds. Raises StoreUnavailable."""
        for tenant in await self._queue.tenants_behind():
            self.behind(tenant)
        self._start(self._run())

    async def stop(self) -> None:
        """Begins no further piece. The writer finishes the one that it has."""
        await self._tasks.stop(*self._running)

    def behind(self, tenant: str) -> None:
        """Notes that events of the tenant wait for their fan-out."""
        self._turns[tenant] = None
        self._has_turns.set()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.start(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self) -> None:
        while True:
            await self._has_turns.wait()
            while self._turns:
                tenant = next(iter(self._turns))
                del self._turns[tenant]  # so that it is known when `behind` is called meanwhile
                await self._piece(tenant)
            self._has_turns.clear()

    async def _piece(self, tenant: str) -> None:
        began = time.monotonic()
        try:
            if tenant in self._alone:
                more = await self._queue.fan_out_alone(tenant)
            else:
                more = await self._queue.fan_out_piece(tenant)
        except StoreUnavailable as error:
            log.warning("fan_out.store_unavailable", error=str(error))
            await self._clock.sleep(STORE_RETRY_SECONDS)
            more = True
        except Exception:  # a fault of ours, which must not hold up other tenants
            failures = self._failures[tenant] = self._failures.get(tenant, 0) + 1
            self._queue.faulted()
            log.exception("fan_out.failed", tenant=tenant, failures=failures)
            if failures >= FAULTS_AT_MOST:
                self._alone.add(tenant)
            self._start(self._again(tenant, backoff_seconds(failures)))
            return
        self._failures.pop(tenant, None)
        if not more:
            self._alone.discard(tenant)
        else:
            self.behind(tenant)
            took = time.monotonic() - began
            await asyncio.sleep(rest_after(took, for_others=self._queue.others_came(tenant)))

    async def _again(self, tenant: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.behind(tenant)


def rest_after(took: float, *, for_others: bool) -> float:
    """Returns the seconds to rest after a piece that `took` seconds, by whether other tenants send events."""
    if for_others:
        return min(REST_FOR_OTHERS_AT_MOST, REST_FOR_OTHERS * took)
    return min(REST_AT_MOST, took)
