"""From intake to the topic of deliveries, pushed by Google's Pub/Sub emulator."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import uvicorn
from google.pubsub_v1.types import PubsubMessage

from event_platform.adapters.clock import SystemClock
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.pubsub.publisher import PubSubPublisher
from event_platform.adapters.reading import ReadingProcess
from event_platform.domain.events import catalog
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, delivery_of
from event_platform.domain.subscriptions import Subscription
from event_platform.domain.tenants import Tenant
from event_platform.fanout import Fanout, routes
from event_platform.http import App
from event_platform.push import REASON, SOURCE_PROJECT, SOURCE_SUBSCRIPTION
from support.clock import ManualClock
from support.pubsub_project import Project
from support.records import PIM, UPDATED, a_subscriber, a_subscription, an_event

DELIVERIES = "deliveries-0"
PIM_TOPIC = "pim-events-pim"
SUBSCRIBER = a_subscriber()
SUBSCRIPTIONS = [a_subscription(SUBSCRIBER), a_subscription(SUBSCRIBER)]


class Records:
    """The ports `TenantRegistry` and `ActiveSubscriptions`."""

    async def tenants(self) -> Sequence[Tenant]:
        return [Tenant(url=PIM, key="pim")]

    async def active(self, tenant: str) -> Sequence[Subscription]:
        return SUBSCRIPTIONS if tenant == PIM else []

    async def suspended(self, tenant: str) -> Sequence[Subscription]:
        return []


@pytest.fixture
async def pubsub(pubsub_host: str, project: str) -> AsyncIterator[Project]:
    """A project whose topics of events are pushed to the function fanout."""
    opened = Project(pubsub_host, project)
    publisher = PubSubPublisher(project, opened.client)
    nobody: Any = None
    known = catalog.load()
    reader = ReadingProcess(known)
    fanout = Fanout(
        registry=Records(),
        subscriptions=Records(),
        records=nobody,
        publisher=publisher,
        catalog=known,
        clock=SystemClock(),
        schema_base="https://x/spec",
        reader=reader,
        replays=nobody,
        missed=nobody,
        replay_counts=nobody,
    )
    app = App(list(routes(fanout)))
    config = uvicorn.Config(app, port=0, log_level="warning")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    serving = asyncio.create_task(server.serve([socket]))
    url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    await opened.create_topic(DELIVERIES)
    await opened.create_topic(DEAD_LETTERS_TOPIC)
    await opened.create_topic(EVENTS_TOPIC, push_to=f"{url}/events")
    await opened.create_topic(PIM_TOPIC, push_to=f"{url}/pim-events/pim")
    yield opened
    server.should_exit = True
    await serving
    await opened.close()


def of(pulled: PubsubMessage) -> Message:
    return Message(pulled.data, dict(pulled.attributes), pulled.ordering_key)


async def test_accepted_events_reach_the_topic_of_deliveries(pubsub: Project) -> None:
    clock = ManualClock()
    intake = PubSubIntake(PubSubPublisher(pubsub.name, pubsub.client), clock)
    await intake.accept(PIM, [an_event(1), an_event(2, event_type=f"{UPDATED}.delta")])
    pulled = [of(message) for message in await pubsub.pull(DELIVERIES, 2)]
    deliveries = [delivery_of(message) for message in pulled]
    assert {delivery.subscription_id for delivery in deliveries} == {each.id for each in SUBSCRIPTIONS}
    assert {(delivery.event_id, delivery.accepted_at) for delivery in deliveries} == {
        ("event-1", clock.now())
    }
    assert [message.ordering_key for message in pulled] == [
        f"{delivery.subscription_id}/{delivery.epoch}/{delivery.lane}" for delivery in deliveries
    ]


async def test_what_a_pim_publishes_reaches_the_topic_of_deliveries(pubsub: Project) -> None:
    attributes = {"ce-specversion": "1.0", "ce-id": "é 100%", "ce-type": UPDATED}
    data = an_event().data_json
    await PubSubPublisher(pubsub.name, pubsub.client).publish(PIM_TOPIC, [Message(data, attributes)])
    deliveries = [delivery_of(of(message)) for message in await pubsub.pull(DELIVERIES, 2)]
    assert {delivery.event_id for delivery in deliveries} == {"é 100%"}


async def test_what_nobody_can_read_reaches_the_topic_of_dead_letters(pubsub: Project) -> None:
    publisher = PubSubPublisher(pubsub.name, pubsub.client)
    await publisher.publish(EVENTS_TOPIC, [Message(b"\xff", {"tenant": PIM})])
    (letter,) = map(of, await pubsub.pull(DEAD_LETTERS_TOPIC, 1))
    assert letter.data == b"\xff"
    assert letter.attributes["tenant"] == PIM
    assert letter.attributes[REASON] == "the attribute accepted_at is missing"
    assert letter.attributes[SOURCE_PROJECT] == pubsub.name
    assert letter.attributes[SOURCE_SUBSCRIPTION] == "events-push"
