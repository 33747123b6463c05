"""The embedded store and broker pass the suites of the ports."""

import asyncio
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest

from aep.broker import pieces
from aep.broker import queue as broker_queue
from aep.broker.dispatcher import LaneQueue
from aep.broker.live import Records
from aep.broker.queue import DurableQueue
from aep.broker.queued import LaneKey, Queued
from aep.runtime.meters import Meters
from aep.runtime.tasks import TaskCancelled
from aep.store import outbox
from aep.store.logs import SqliteLogs
from aep.store.outbox import DUE_OF_SUBSCRIBER, SqliteOutbox
from aep.store.subscriptions import SqliteSubscriptions
from aep.workers.owner import Workers
from aep.workers.remote import Live, RemoteStore
from contract.suites.broker import BrokerContract, BrokerSide, Consumer, a_removal, failing
from contract.suites.judgement import Instance, JudgementContract, JudgementSide
from contract.suites.logs import LogsContract, LogsSide
from contract.suites.outbox import OutboxContract, OutboxSide
from contract.suites.paces import PacesContract, PacesSide
from contract.suites.subscriptions import Store, SubscriptionsContract
from contract.suites.success_counts import SuccessCountsContract
from contract.suites.topic_claims import TopicClaimsContract
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.subscriptions import Owner, Subscription, resume, suspend
from event_platform.ports import Logs, Settlements, SuccessCounts
from event_platform.settings import Settings
from support.clock import START, ManualClock
from support.embedded import Broker, Embedded, Handler
from support.eventually import eventually
from support.records import OWNER, PIM, an_event

KEPT = ("accepted", "snapshots", "fan_outs", "events", "event_uses", "deliveries", "retries")


@dataclass(frozen=True)
class _Process:
    end: socket.socket
    pid: int = 0

    def kill(self) -> None:
        raise AssertionError("it does not hang")


@dataclass(frozen=True)
class _Processes:
    started: Sequence[_Process]

    def start_another(self) -> _Process:
        raise AssertionError("none was killed")


class InThisProcess:
    """So many workers in this process, but behind the sockets that they have."""

    def __init__(
        self,
        number: int,
        queue: DurableQueue,
        subscriptions: SqliteSubscriptions,
        counts: SuccessCounts,
        faults: list[BaseException],
    ) -> None:
        ends = [socket.socketpair() for _ in range(number)]
        self.owner = Workers(
            _Processes([_Process(owners) for owners, _ in ends]),
            queue,
            subscriptions,
            counts,
            settings=Settings(),
            meters=Meters(),
            clock=ManualClock(),
            write_log=lambda lines: None,
            on_fault=faults.append,
        )
        subscriptions.copies = self.owner
        self.stores = [RemoteStore(on_end=lambda: None, on_fault=faults.append) for _ in ends]
        self._ends = [end for _, end in ends]

    async def open(self, lives: Sequence[Live]) -> None:
        """What runs in each worker."""
        for store, live, end in zip(self.stores, lives, self._ends, strict=True):
            store.serve(live, live.stop)
            await store.channel.open(end)


class Listening:
    """In place of a dispatcher: keeps what comes into lanes, which tests hand out themselves."""

    def __init__(self) -> None:
        self.queued: list[Queued] = []
        self.is_idle = False
        self._came = asyncio.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def put(self, queued: Sequence[Queued]) -> None:
        self.queued += queued
        self._came.set()

    def read_more(self, keys: Sequence[LaneKey]) -> None:
        raise AssertionError("there was room")

    async def next_of(self, subscription: Subscription, number: int) -> list[Queued]:
        """So many of a subscription, waited for; what came for others is not kept."""
        async with asyncio.timeout(5):
            while (
                len(found := [each for each in self.queued if each.subscription_id == subscription.id])
                < number
            ):
                self._came.clear()
                await self._came.wait()
        self.queued.clear()
        return found


class TestSqliteSubscriptions(SubscriptionsContract):
    @pytest.fixture
    def store(self, embedded: Embedded) -> Store:
        return embedded.subscriptions


class TestSqliteTopicClaims(TopicClaimsContract):
    @pytest.fixture
    def world(self, embedded: Embedded) -> OutboxSide:
        return outbox_of(embedded)

    @pytest.fixture
    def logs(self, embedded: Embedded) -> Logs:
        return SqliteLogs(embedded.database)


def outbox_of(embedded: Embedded) -> OutboxSide:
    outbox = SqliteOutbox(embedded.database, embedded.clock)
    return OutboxSide(embedded.subscriptions, outbox, embedded.clock)


class PacesHere(Embedded):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.records, self.instances = self.subscriptions, [self.subscriptions]


class TestSqlitePaces(PacesContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[PacesSide]:
        async with PacesHere(tmp_path) as world:
            yield world


class NotStopping(Listening):
    async def stop(self) -> None:
        raise ValueError("it does not stop")


async def test_a_worker_that_fails_to_stop_is_told_of(embedded: Embedded) -> None:
    faults: list[BaseException] = []
    workers = InThisProcess(2, embedded.queue, embedded.subscriptions, embedded.counts, faults)
    await workers.open([Listening(), NotStopping()])
    await workers.owner.start()
    await workers.owner.stop()
    assert [str(fault) for fault in faults] == ["it does not stop"]


class PacesInWorkers(Embedded):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.records = self.subscriptions
        self.workers = InThisProcess(2, self.queue, self.records, self.counts, self.faults)
        self.instances = self.workers.stores


class TestWorkersPaces(PacesContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[PacesSide]:
        async with PacesInWorkers(tmp_path) as world:
            await world.workers.open([Listening() for _ in world.instances])
            await world.workers.owner.start()
            yield world
            await world.workers.owner.stop()


class TestSqliteLogs(LogsContract):
    @pytest.fixture
    def world(self, embedded: Embedded) -> LogsSide:
        return LogsSide(SqliteLogs(embedded.database), embedded.subscriptions)


class TestSqliteSuccessCounts(SuccessCountsContract):
    @pytest.fixture
    def counts(self, embedded: Embedded) -> SuccessCounts:
        return embedded.counts


class EmbeddedJudgement(Embedded):
    """The stores of one machine; its queue is read and settled by the tests themselves."""

    settlements: Settlements
    records: Records

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.records, self.settlements = self.subscriptions, self.queue
        self._lanes = Listening()
        self._numbers = count(1)

    async def open(self) -> Self:
        await self.queue.open(self._lanes.put, lambda due_at: None)
        return self

    async def deliveries(self, subscription: Subscription, number: int) -> Sequence[Delivery]:
        await self.queue.accept(PIM, [an_event(next(self._numbers)) for _ in range(number)])
        return [queued.delivery() for queued in await self._lanes.next_of(subscription, number)]

    async def ends(self) -> list[tuple[str, str, int]]:
        return await self.rows(
            "SELECT operation, message, occurrences FROM log_entries WHERE error_type = 'failed_delivery'"
        )

    async def actions(self) -> list[tuple[str, str | None]]:
        return await self.rows(
            "SELECT operation, message FROM log_entries WHERE log_type = 'action'"
            " AND operation LIKE '%by_the_platform' AND operation NOT LIKE '%created%'"
            " AND operation NOT LIKE '%resumed%' ORDER BY at, id"
        )


class WorkersJudgement(EmbeddedJudgement):
    """The same, where an instance of deliver is a worker."""

    async def open(self) -> Self:
        self._workers = InThisProcess(1, self.queue, self.subscriptions, self.counts, self.faults)
        (store,) = self._workers.stores
        self.records = self.counts = self.settlements = store
        await self._workers.open([self._lanes])
        await self.queue.open(self._workers.owner.put, lambda due_at: None)
        await self._workers.owner.start()
        return self

    async def close(self) -> None:
        await self._workers.owner.stop()
        await super().close()


class TestEmbeddedJudgement(JudgementContract):
    @pytest.fixture(params=[EmbeddedJudgement, WorkersJudgement], ids=["in-one-process", "with-workers"])
    async def world(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[JudgementSide]:
        async with await request.param(tmp_path).open() as world:
            yield world

    async def test_what_waits_for_a_client_that_is_gone_from_the_pim_is_dropped(
        self, world: EmbeddedJudgement, instance: Instance, subscription: Subscription
    ) -> None:
        first, *waiting = await world.deliveries(subscription, 3)
        await instance.attempt(first)
        await world.queue.accept(PIM, [a_removal("app", OWNER.client_id)])
        for delivery in waiting:
            await instance.attempt(delivery)
        assert await world.ends() == [("deliveries_dropped", "revoked", 2)]
        assert await world.actions() == [
            (f"{noun}_revoked_by_the_platform", "the app was removed from the PIM")
            for noun in ("subscriber", "subscription")
        ]


class TestSqliteOutbox(OutboxContract):
    @pytest.fixture
    def world(self, embedded: Embedded) -> OutboxSide:
        return outbox_of(embedded)

    async def test_a_subscriber_with_many_leaves_room_for_others(self, world: OutboxSide) -> None:
        (first, second) = [*await world.subscribed(), *await world.subscribed()]
        for number in range(2 * DUE_OF_SUBSCRIBER):
            change = suspend if number % 2 == 0 else resume
            await world.change(first, partial(change, now=START))
        await world.change(second, partial(suspend, now=START))
        await world.clock.advance(1)
        found = [each.notification.subscription_id for each in await world.outbox.due(100)]
        assert Counter(found) == {first.id: DUE_OF_SUBSCRIBER, second.id: 1}
        found = [each.notification.subscription_id for each in await world.outbox.due(10)]
        assert Counter(found) == {first.id: 5, second.id: 1}

    async def test_the_work_of_a_reading_is_bounded_and_the_next_one_goes_on(
        self, world: OutboxSide, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where most that waits is not due: of 10 owners, and not of 2."""
        monkeypatch.setattr(outbox, "SUBSCRIBERS_AT_ONCE", 3)
        for number in range(10):
            (subscription,) = await world.subscribed(owner=Owner(PIM, f"client {number}"))
            await world.change(subscription, partial(suspend, now=START + timedelta(minutes=10)))
        due = [(await world.subscribed(owner=Owner(PIM, name)))[0] for name in ("client 5½", "z")]
        for subscription in due:
            for number in range(30):
                await world.change(subscription, partial(resume if number % 2 else suspend, now=START))
        await world.clock.advance(1)
        steps: list[int] = []
        read = outbox._due

        def counted(connection: sqlite3.Connection, **more: Any) -> Any:
            statements: list[str] = []
            connection.set_trace_callback(statements.append)
            try:
                return read(connection, **more)
            finally:
                connection.set_trace_callback(None)
                steps.append(len(statements))

        monkeypatch.setattr(outbox, "_due", counted)
        found = [
            {each.notification.subscription_id for each in await world.outbox.due(100)} for _ in range(3)
        ]
        assert found == [{due[0].id}, {due[1].id}, {due[0].id}]
        assert max(steps) <= 2 * 3

    async def test_no_reading_scans_the_table(self, world: OutboxSide) -> None:
        def plans(connection: sqlite3.Connection) -> list[str]:
            queries = {outbox.NEXT_SUBSCRIBER: ("", "", ""), outbox.DUE: ("", "", "", 0, 0, 1)}
            return [
                row[3]
                for query, values in queries.items()
                for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values)
            ]

        found = await world.outbox._database.read(plans)  # type: ignore[attr-defined]
        assert len(found) == 2
        assert all("SEARCH" in plan and "notifications_by_owner" in plan for plan in found)

    async def test_owners_take_turns(self, world: OutboxSide) -> None:
        first = [*await world.subscribed(5), *await world.subscribed(5)]
        (other,) = await world.subscribed(owner=Owner(PIM, "shop"))
        for subscription in (*first, other):
            await world.change(subscription, partial(suspend, now=START))
        await world.clock.advance(1)
        found = [each.notification.subscription_id for each in await world.outbox.due(3)]
        assert sorted(found[:2], key=str) == sorted([first[0].id, other.id])
        assert found[2] == first[5].id  # of another subscriber of the same owner


class EmbeddedBroker(Broker):
    """The embedded broker as the suite wants it."""

    queues: Sequence[LaneQueue] = ()

    async def start(self, handler: Handler) -> None:
        self.queues = [self.queue]
        await super().start(handler)

    async def log_entries(self) -> list[tuple[str, str, int]]:
        return await self.rows(
            "SELECT subscription_id, operation, occurrences FROM log_entries WHERE log_type = 'error'"
        )

    async def dead_letters(self) -> int:
        return await self.count("dead_letters")

    async def left_over(self) -> int:
        return sum([await self.count(table) for table in KEPT])


class BrokerWithWorkers(EmbeddedBroker):
    """The same with two workers, in this process but behind the sockets that they have."""

    workers: Workers

    async def start(self, handler: Handler) -> None:
        here = InThisProcess(2, self.queue, self.subscriptions, self.counts, self.faults)
        self.workers, self.queues, self.stores = here.owner, here.stores, here.stores
        self._dispatchers = [self._dispatcher(handler, store, store, store) for store in self.stores]
        await here.open(self._dispatchers)
        await self._start(self.workers)

    async def _stop_live(self) -> None:
        if self._dispatchers:
            await self.workers.stop()


class BrokerInPieces(EmbeddedBroker):
    """The same where even the smallest request is fanned out later, one recipient at a time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
        monkeypatch.setattr(pieces, "WORK_OF_PIECE", 1)
        monkeypatch.setattr(pieces, "EVENTS_OF_WINDOW", 2)
        super().__init__(folder)


class TestEmbeddedBroker(BrokerContract):
    @pytest.fixture(params=["in-one-process", "with-workers", "in-pieces"])
    async def world(
        self, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[BrokerSide]:
        worlds: dict[str, Callable[[], EmbeddedBroker]] = {
            "in-one-process": lambda: EmbeddedBroker(tmp_path),
            "with-workers": lambda: BrokerWithWorkers(tmp_path),
            "in-pieces": lambda: BrokerInPieces(tmp_path, monkeypatch),
        }
        async with worlds[request.param]() as world:
            yield world

    async def test_what_comes_right_after_a_start_does_not_overtake_what_waited(
        self, world: EmbeddedBroker, subscription: Subscription
    ) -> None:
        await world.intake.accept(PIM, [an_event(number, entity="one") for number in range(5)])
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(5, entity="one")])
        await eventually(lambda: len(consumer.got) == 6)
        assert consumer.events == [f"event-{number}" for number in range(6)]

    @pytest.mark.provokes("delivery.nacked")
    async def test_a_delivery_that_our_code_failed_on_is_handed_out_again_with_backoff(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        await super().test_a_delivery_that_our_code_failed_on_is_handed_out_again_with_backoff(
            world, subscription
        )

    async def test_a_lane_that_is_cancelled_outside_of_a_stop_is_a_fault(
        self, world: EmbeddedBroker, subscription: Subscription
    ) -> None:
        async def cancelled(delivery: Delivery) -> Settlement:
            raise asyncio.CancelledError

        await world.start(cancelled)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: world.faults)
        assert isinstance(world.faults.pop(), TaskCancelled)

    async def test_a_settlement_that_is_cancelled_outside_of_a_stop_is_a_fault(
        self, world: EmbeddedBroker, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def cancelled(settlement: Settlement) -> asyncio.Future[None]:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            return future

        await world.start(Consumer())
        for queue in world.queues:
            monkeypatch.setattr(queue, "settle_soon", cancelled)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: world.faults)
        assert isinstance(world.faults.pop(), TaskCancelled)

    async def test_what_fails_during_a_stop_is_not_handed_out_again(
        self, world: EmbeddedBroker, subscription: Subscription
    ) -> None:
        consumer = Consumer(failing)
        consumer.released.clear()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(0)])
        await eventually(lambda: consumer.got)
        stopping = asyncio.create_task(world.stop())
        await world.clock.advance(1)  # by now it is told to stop
        consumer.released.set()
        await world.clock.advance(60)
        assert len(consumer.got) == 1
        assert stopping.done()

    async def test_a_stop_cancels_what_waits_and_that_is_no_fault(
        self, world: EmbeddedBroker, subscription: Subscription
    ) -> None:
        consumer = Consumer(*[failing] * 5)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number) for number in range(5)])
        await eventually(lambda: len(consumer.got) == 5 and not world.busy_lanes())  # they back off now
        await world.stop()
