"""The way of an event over Google's services passes the suite of the embedded one, on the emulators.

Where the services or their emulators differ a test is replaced by one of what holds there; the reasons are in
docs/decisions/0009-differences-on-google.md.
"""

import asyncio
import contextlib
import importlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from unittest import mock

import pytest
import uvicorn
from google.cloud.firestore_v1 import AsyncCollectionReference, AsyncQuery
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import PushConfig
from grpc import aio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from aep.google import dead_letters
from contract.suites import broker
from contract.suites.broker import BrokerContract, BrokerSide, Consumer, Handler, delivered, failing
from event_platform import data_model, deliver, fanout, maintain
from event_platform.adapters.firestore.client import connect
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.logs import FirestoreLogs
from event_platform.adapters.firestore.missed import FirestoreMissedEvents
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.pubsub.publisher import PubSubPublisher, publisher_client
from event_platform.adapters.seal import AesGcmSeal
from event_platform.adapters.settlements import QueueSettlements
from event_platform.deliver.edge import Push
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.events import catalog
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, EVENTS_TOPIC
from event_platform.domain.record.logs import LogQuery, LogType
from event_platform.domain.subscriptions import Subscription, suspend
from event_platform.domain.tenants import Way
from event_platform.http import App
from support.clock import ManualClock
from support.eventually import eventually
from support.records import OWNER, PIM, an_event
from support.senders import https_by

SEAL = AesGcmSeal(b"\x01" * 32)
DELIVERIES = "deliveries-0"
PUSHED = {EVENTS_TOPIC: "/fanout/events", DELIVERIES: f"/deliver/{DELIVERIES}"}
DELIVER_ROUTES = importlib.import_module("event_platform.deliver.routes")
TICK_SECONDS = 60
PATIENCE_SECONDS = 30.0
"""A redelivery by the emulator can take seconds."""
PUSHED_AT_ONCE = 2
SECOND = timedelta(seconds=1)
FEWEST_ATTEMPTS = 5
"""The least that a dead-letter policy of Pub/Sub can have."""


class GoogleBroker:
    """A project on the emulators; `restart` breaks the functions' connections off and serves anew."""

    def __init__(self, pubsub: str, firestore: str, project: str) -> None:
        self.clock = ManualClock()
        self._host = pubsub
        self._project = project
        self._firestore = connect(project, emulator=firestore)
        self._publisher_client = publisher_client({"PUBSUB_EMULATOR_HOST": pubsub})
        channel = aio.insecure_channel(pubsub)
        self._subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        self._publisher = CountingPublisher(PubSubPublisher(project, self._publisher_client))
        self._acknowledged: set[tuple[str, str]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._functions = contextlib.AsyncExitStack()
        self._open()

    def _open(self) -> None:
        """What lives in the memory of the functions."""
        self.intake = PubSubIntake(self._publisher, self.clock)
        self.subscriptions = self._records()
        self._schedule = FirestoreRetrySchedule(self._firestore, self.clock, shards=2)
        self._ends = FirestoreEndLog(self._firestore, self.subscriptions, self.clock, seconds=0)

    def _records(self) -> FirestoreSubscriptions:
        return FirestoreSubscriptions(self._firestore, SEAL, self.clock)

    async def create(self) -> None:
        """The topics, and subscriptions that keep what comes until `start`."""
        prefix = f"projects/{self._project}"
        letters = f"{prefix}/topics/{DEAD_LETTERS_TOPIC}"
        for topic in (DEAD_LETTERS_TOPIC, *PUSHED):
            await self._publisher_client.create_topic(name=f"{prefix}/topics/{topic}")
            policy = {"dead_letter_topic": letters, "max_delivery_attempts": FEWEST_ATTEMPTS}
            await self._subscriber.create_subscription(
                request={
                    "name": f"{prefix}/subscriptions/{topic}",
                    "topic": f"{prefix}/topics/{topic}",
                    "enable_message_ordering": True,
                    "ack_deadline_seconds": 60,
                    "retry_policy": {"minimum_backoff": SECOND, "maximum_backoff": SECOND},
                    **({"dead_letter_policy": policy} if topic in PUSHED else {}),
                }
            )

    async def start(self, handler: Handler) -> None:
        await self._serve(handler)
        port = self._listener.getsockname()[1]
        for topic, path in PUSHED.items():
            await self._subscriber.modify_push_config(
                subscription=f"projects/{self._project}/subscriptions/{topic}",
                push_config=PushConfig(push_endpoint=f"http://127.0.0.1:{port}{path}"),
            )

    async def restart(self, handler: Handler) -> None:
        await self._end()
        self._open()
        await self._serve(handler)

    async def close(self) -> None:
        await self._end()
        for topic in PUSHED:  # what is left must not slow the next test's pushes
            await self._subscriber.delete_subscription(
                subscription=f"projects/{self._project}/subscriptions/{topic}"
            )
        self._listener.close()
        await self._subscriber.transport.close()
        await self._publisher_client.transport.close()
        await self._firestore.close()

    async def log_entries(self) -> list[tuple[str, str, int]]:
        query = LogQuery(log_type=LogType.ERROR, limit=1000)
        found = await FirestoreLogs(self._firestore, self.clock).entries(OWNER, query)
        return [(entry.subscription_id or "", entry.operation, entry.occurrences) for entry in found]

    async def dead_letters(self) -> int:
        environ = {"PUBSUB_EMULATOR_HOST": self._host}
        async with dead_letters.opened(self._project, environ=environ) as opened:
            return len(opened.letters)

    async def left_over(self) -> int:
        """What was published and not acknowledged: the emulator has no figure of its own."""
        retries = await self._firestore.query(AsyncQuery(self._collection(data_model.RETRIES)))
        return self._publisher.published - len(self._acknowledged) + len(retries)

    def _collection(self, name: str) -> AsyncCollectionReference:
        return self._firestore.client.collection(name)

    async def _serve(self, handler: Handler) -> None:
        stack = self._functions
        stack.enter_context(mock.patch.object(DELIVER_ROUTES, "pipeline", unpaced(handler)))
        records, egress = self._records(), Egress()
        missed = FirestoreMissedEvents(self._firestore, records, self.clock, seconds=0)
        fanning = fanout.Fanout(
            registry=UNUSED,
            subscriptions=records,
            records=records,
            publisher=self._publisher,
            catalog=catalog.load(),
            clock=self.clock,
            schema_base="https://x/spec",
            reader=UNUSED,
            replays=UNUSED,
            missed=UNUSED,
            replay_counts=UNUSED,
        )
        delivering = deliver.Deliver(
            subscriptions=UNUSED,
            paces=UNUSED,
            senders=https_by(UNUSED),
            settlements=QueueSettlements(
                self._schedule, self._ends, self._publisher, records, missed, UNUSED
            ),
            publisher=self._publisher,
            clock=self.clock,
            policy=UNUSED,
            limits=UNUSED,
            egress=egress,
            judge=deliver.Judge(FirestoreSuccessCounts(self._firestore), records, egress, self.clock),
        )
        functions = {"/fanout": fanout.routes(fanning), "/deliver": deliver.routes(delivering)}
        mounts = [Mount(path, App(list(routes))) for path, routes in functions.items()]
        await stack.enter_async_context(self._serving(Starlette(routes=mounts)))
        await stack.enter_async_context(running(self._tick()))

    async def _end(self) -> None:
        await self._functions.aclose()

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(TICK_SECONDS)
            await maintain.requeue_due(
                self._schedule, publisher=self._publisher, clock=self.clock, project="a-project"
            )

    @asynccontextmanager
    async def _serving(self, app: ASGIApp) -> AsyncIterator[None]:
        """Serves `app`; at the end what is being answered is broken off."""
        requests: set[asyncio.Task[Any]] = set()

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            task = asyncio.current_task()
            assert task is not None
            requests.add(task)
            try:
                await self._noting_acknowledged(app, scope, receive, send)
            finally:
                requests.discard(task)

        server = uvicorn.Server(uvicorn.Config(noting, lifespan="off", log_level=logging.CRITICAL + 1))
        async with running(server.serve([self._listener.dup()])) as serving:
            yield
            server.should_exit = server.force_exit = True
            await serving
            broken_off = list(requests)  # not before: the emulator would push them to this server again
            for request in broken_off:
                request.cancel()
            await asyncio.gather(*broken_off, return_exceptions=True)

    async def _noting_acknowledged(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""

        async def receiving() -> AsgiMessage:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        async def sending(message: AsgiMessage) -> None:
            await send(message)
            if message.get("status") == 204:
                self._acknowledged.add((scope["path"], json.loads(body)["message"]["messageId"]))

        await app(scope, receiving, sending)


class CountingPublisher:
    """The port `Publisher`, and how many messages it has put on topics that are pushed."""

    def __init__(self, publisher: PubSubPublisher) -> None:
        self._publisher = publisher
        self.published = 0

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.published += len(messages) if topic in PUSHED else 0
        await self._publisher.publish(topic, messages)


class _Unused:
    """Stands for what the suite does not reach."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was not to be used")


UNUSED: Any = _Unused()


def unpaced(handler: Handler) -> Callable[[deliver.Deliver], deliver.Pipeline[Push]]:
    """The pipeline with the suite's handler and without a pace: the suite is of the queue."""

    class Unpaced:
        async def before(self, push: Push) -> Delivery:
            return push.delivery

        async def again(self, push: Push, settlement: Settlement) -> bool:
            return False

        def after(self, push: Push, settlement: Settlement) -> None:
            pass

    def pipeline(function: deliver.Deliver) -> deliver.Pipeline[Push]:
        async def settle(push: Push, settlement: Settlement) -> None:
            await function.settlements.settle(settlement)

        observer = deliver.Observer(UNUSED, UNUSED, UNUSED, UNUSED)
        return deliver.Pipeline(Unpaced(), handler, observer, settle, function.judge)

    return pipeline


@asynccontextmanager
async def running(job: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """The job as a task that ends with the block."""
    task = asyncio.create_task(job)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class TestGoogleBroker(BrokerContract):
    @pytest.fixture
    async def world(
        self, pubsub_host: str, firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[BrokerSide]:
        monkeypatch.setattr(dead_letters, "PULL_SECONDS", 0.5)
        monkeypatch.setattr(broker, "eventually", partial(eventually, within=PATIENCE_SECONDS))
        world = GoogleBroker(pubsub_host, firestore_host, project)
        await world.create()
        yield world
        await world.close()

    async def test_a_delivery_that_our_code_never_gets_through_becomes_a_dead_letter(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """Its attempts are as many as the policy says and nobody overtakes it: the emulator ends there."""

        def never(delivery: Delivery) -> Settlement:
            return failing(delivery) if delivery.event_id == "event-1" else delivered(delivery)

        consumer = Consumer(*[never] * 100)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1, entity="one"), an_event(2, entity="one")])
        await broker.eventually(lambda: len(consumer.got) == FEWEST_ATTEMPTS)
        await asyncio.sleep(1.5)  # longer than the retry policy
        assert consumer.events == ["event-1"] * FEWEST_ATTEMPTS
        assert await world.left_over() == 2

    async def test_a_repeated_id_fans_out_once_for_ten_minutes(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """Ids are remembered by an instance, so without a restart."""
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1), an_event(1)])
        await world.clock.advance(599)
        await world.intake.accept(PIM, [an_event(1), an_event(2)])
        await self.assert_empty(world)
        assert sorted(consumer.events) == ["event-1", "event-2"]
        await world.clock.advance(2)
        await world.intake.accept(PIM, [an_event(1)])
        await broker.eventually(lambda: len(consumer.got) == 3)

    async def test_a_relayed_id_fans_out_once_in_a_day_of_relayed_events(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """Ids are remembered by an instance, so without a restart."""
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await world.clock.jump(86399)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await world.intake.accept(PIM, [an_event(2)], way=Way.RELAY)
        await self.assert_empty(world)
        assert sorted(consumer.events) == ["event-1", "event-2"]
        await world.clock.jump(2)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await broker.eventually(lambda: len(consumer.got) == 3)

    async def test_one_delivery_of_a_lane_is_outstanding_and_the_lane_keeps_its_order(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """The events of one request: those of several are fanned out side by side."""
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number, entity="the same product") for number in range(60)])
        await broker.eventually(lambda: len(consumer.got) == 60)
        assert consumer.events == [f"event-{number}" for number in range(60)]
        assert consumer.most_outstanding == 1

    async def test_lanes_do_not_wait_for_each_other(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """As many lanes at once as the emulator pushes to."""
        consumer = Consumer()
        consumer.released.clear()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number) for number in range(200)])
        await broker.eventually(lambda: len(consumer.got) == PUSHED_AT_ONCE)
        assert len({delivery.lane for delivery in consumer.got}) == PUSHED_AT_ONCE
        consumer.released.set()
        await broker.eventually(lambda: len(consumer.got) == 200)

    async def test_events_carry_the_epoch_of_their_acceptance(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        """The epoch of their fan-out: each change is given the 5 s until all instances see it."""
        consumer = Consumer()
        await world.start(consumer)
        changes = [
            partial(suspend, now=world.clock.now()),
            lambda before: replace(before, status=subscription.status, epoch=before.epoch + 1),
        ]
        for number in range(1, 4):
            await world.intake.accept(PIM, [an_event(number)])
            await self.assert_empty(world)
            for change in changes[number - 1 : number]:
                await world.subscriptions.change_subscription(
                    OWNER, subscription.subscriber_id, subscription.id, change
                )
                await world.clock.advance(5)
        assert [(delivery.event_id, delivery.epoch) for delivery in consumer.got] == [
            ("event-1", 0),
            ("event-3", 2),
        ]
