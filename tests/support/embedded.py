"""The store and the broker of one machine on a folder, in this process."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from aep.broker.budget import bytes_in_flight
from aep.broker.dispatcher import Dispatcher, LaneQueue
from aep.broker.fan_out import FanOut
from aep.broker.live import Records
from aep.broker.pacer import Pacer
from aep.broker.queue import LONGEST_DELAY, DurableQueue
from aep.broker.queued import LaneKey, Queued
from aep.broker.upkeep import Upkeep
from aep.runtime.meters import Meters
from aep.store import kept_index
from aep.store.database import Database
from aep.store.kept_index import Bounds
from aep.store.subscriptions import SqliteSubscriptions
from aep.store.success_counts import SqliteSuccessCounts
from event_platform.adapters.seal import AesGcmSeal
from event_platform.deliver import Judge, Observer
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.pace.rates import Limits
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.ports import Clock, SuccessCounts
from support.clock import ManualClock
from support.records import OWNER, subscribed

SEAL = AesGcmSeal(b"\x01" * 32)
EVENT_OF_DELIVERY = (
    "coalesce((SELECT id FROM events WHERE no = d.event_no),"
    " (SELECT id FROM kept WHERE no = (d.event_no & ~1)))"
)
"""The id of the event of a delivery `d`, whose body is kept with it or in `events`."""
UNPACED = Limits(100_000, 100_000)
Handler = Callable[[Delivery], Awaitable[Settlement]]


class Embedded:
    """The store and its queue, opened; the queue continues once a test calls `open` or starts a `Broker`.

    After `open`, `put`, `behind` and `read_more` are what the queue handed on. `async with` closes the store,
    and fails the test for `faults`. `time` is the queue's clock, in place of `clock`, which the test moves.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: ManualClock | None = None,
        time: Clock | None = None,
        longest_delay: timedelta = LONGEST_DELAY,
        keeps: bool = True,
    ) -> None:
        self.folder = folder
        self.clock = clock or ManualClock()
        self.meters = Meters()
        self.faults: list[BaseException] = []
        self._time = time or self.clock
        self._longest_delay, self._keeps = longest_delay, keeps
        self.put: list[Queued] = []
        self.behind: list[str] = []
        self.read_more: list[Sequence[LaneKey]] = []
        self._open()

    def _open(self) -> None:
        self.database = Database(self.folder, self.meters)
        self.database.open()
        self.subscriptions = SqliteSubscriptions(self.database, SEAL)
        self.counts = SqliteSuccessCounts(self.database)
        self.queue = self.intake = DurableQueue(
            self.database,
            self.subscriptions,
            self._time,
            schema_base="https://events.example.com/spec",
            longest_delay=self._longest_delay,
            meters=self.meters,
            keeps=self._keeps,
        )

    async def open(self) -> Self:
        """Opens the queue; nothing is delivered and no piece is fanned out unless the test does it."""
        await self.queue.open(self.put.extend, lambda due_at: None, self.behind.append, self.read_more.append)
        return self

    async def forget_kept(self) -> None:
        """Removes all kept events but those that wait for their fan-out, as when their time is over."""

        def job(connection: sqlite3.Connection) -> None:
            while kept_index.remove_some(connection, 0.0, Bounds(0, 1), schema_base=self.queue.schema_base):
                pass

        await self.database.write(job)

    async def subscribe(self, number: int = 1, owner: Owner = OWNER, **more: Any) -> list[Subscription]:
        """Adds as many subscriptions of a new subscriber, made by `a_subscription`."""
        return await subscribed(self.subscriptions, number, owner, **more)

    async def rows(self, statement: str) -> list[Any]:
        return await self.database.read(lambda connection: connection.execute(statement).fetchall())

    async def count(self, table: str) -> int:
        """Returns the number of rows of a table."""
        ((number,),) = await self.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name in the test
        return number

    async def close(self) -> None:
        await self.database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
        if error is None:
            assert self.faults == []


class Broker(Embedded):
    """The store, its queue and, after `start`, everything that works on the queue."""

    def __init__(self, folder: Path) -> None:
        self.budget = bytes_in_flight()
        """The budget that all dispatchers share."""
        self._dispatchers: list[Dispatcher] = []
        self._upkeep: Upkeep | None = None
        self._fan_out: FanOut | None = None
        super().__init__(folder)

    async def start(self, handler: Handler) -> None:
        """Has `handler` make the attempts, and settles what it returns."""
        self._dispatchers = [self._dispatcher(handler, self.queue, self.subscriptions, self.counts)]
        await self._start(self._dispatchers[0])

    async def _start(self, live: Any) -> None:
        self._upkeep = Upkeep(self.queue, self.clock, on_fault=self.faults.append)
        self._fan_out = FanOut(self.queue, self.clock, on_fault=self.faults.append)
        await self.queue.open(live.put, self._upkeep.scheduled, self._fan_out.behind, live.read_more)
        await live.start()
        self._upkeep.start()
        await self._fan_out.start()

    def _dispatcher(
        self, handler: Handler, queue: LaneQueue, records: Records, counts: SuccessCounts
    ) -> Dispatcher:
        return Dispatcher(
            queue,
            handler,
            Pacer(records, self.clock, UNPACED),
            Observer(records, records, self.clock, UNPACED),
            Judge(counts, records, Egress(), self.clock),
            self.clock,
            on_fault=self.faults.append,
            budget=self.budget,
        )

    async def restart(self, handler: Handler) -> None:
        """Ends as a crash does, and starts on the same folder."""
        await self.close()
        self._open()
        await self.start(handler)

    async def stop(self) -> None:
        for part in (self._upkeep, self._fan_out):
            if part is not None:
                await part.stop()
        await self._stop_live()

    async def _stop_live(self) -> None:
        for dispatcher in self._dispatchers:
            await dispatcher.stop()

    async def close(self) -> None:
        """Ends as a crash does: deliveries that were handed out are not waited for."""
        for lane in self.busy_lanes():
            lane.busy = False
        await self.stop()
        await super().close()

    def busy_lanes(self) -> list[Any]:
        lanes = [lane for dispatcher in self._dispatchers for lane in dispatcher._lanes.values()]
        return [lane for lane in lanes if lane.busy]


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[Embedded]:
    """The store and the queue of one machine on an empty folder."""
    async with Embedded(tmp_path) as opened:
        yield opened
