"""Ticks of maintain: retries put back by several at once, notifications that a crash left in the outbox."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial

import pytest

from contract.suites.subscriptions import anything
from event_platform import data_model
from event_platform.adapters.clock import SystemClock
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.outbox import PUBLISHED_BY_OTHERS_AFTER, FirestoreOutbox
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.pubsub.publisher import PubSubPublisher
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.deliveries import Delivery
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    NOTIFICATIONS_TOPIC,
    delivery_of,
    notification_id_of,
)
from event_platform.domain.subscriptions import suspend
from event_platform.maintain import publish_notifications, requeue_due
from support.clock import START, ManualClock
from support.pubsub_project import Project
from support.records import OWNER, UPDATED, a_subscriber, a_subscription

ENTRIES = 60
TOPIC = "deliveries-3"
CLOCK = SystemClock()


class Topic:
    """The port `Publisher`, which `dies` after it has published, as a process that is killed."""

    def __init__(self, *, dies: bool = False) -> None:
        self.topics: set[str] = set()
        self.events: list[str] = []
        self._dies = dies

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        await asyncio.sleep(0.02)  # as long as a publish takes, so that ticks do overlap
        self.topics.add(topic)
        self.events += [delivery_of(message).event_id for message in messages]
        if self._dies:
            raise asyncio.CancelledError


async def fill(
    schedule: FirestoreRetrySchedule, number: int = ENTRIES, *, topic: str = TOPIC, ago: float = 1
) -> set[str]:
    """Schedules deliveries that came from the topic and were due so many seconds ago; their events' ids."""
    deliveries = [
        Delivery(
            subscription_id="5c0ffee0-0000-7000-8000-000000000001",
            event_id=f"{topic}-{ago:g}-{place}",
            event_type=UPDATED,
            accepted_at=START,
            lane=0,
            lanes=16,
            epoch=0,
            body=b"{}",
            attempts=1,
            receipt=topic,
        )
        for place in range(number)
    ]
    due_at = CLOCK.now() - timedelta(seconds=ago)
    await asyncio.gather(*(schedule.schedule(delivery, due_at) for delivery in deliveries))
    return {delivery.event_id for delivery in deliveries}


async def test_ticks_of_several_instances_put_each_entry_back_once(firestore: Firestore) -> None:
    instances = [FirestoreRetrySchedule(firestore, CLOCK) for _ in range(3)]
    scheduled, topic = await fill(instances[0]), Topic()
    ticks = [
        requeue_due(instance, publisher=topic, clock=CLOCK, project="a-project") for instance in instances * 2
    ]
    assert sum(await asyncio.gather(*ticks)) == ENTRIES
    assert sorted(topic.events) == sorted(scheduled)
    assert topic.topics == {TOPIC}


async def test_a_crash_after_publishing_repeats_and_loses_nothing(firestore: Firestore) -> None:
    schedule, topic = FirestoreRetrySchedule(firestore, CLOCK, shards=1), Topic(dies=True)
    scheduled = await fill(schedule)
    with pytest.raises(asyncio.CancelledError):
        await requeue_due(schedule, publisher=topic, clock=CLOCK, project="a-project")
    after = Topic()
    assert await requeue_due(schedule, publisher=after, clock=CLOCK, project="a-project") == ENTRIES
    assert set(after.events) == scheduled
    assert set(topic.events) < scheduled  # a page of them, which went out twice


async def test_what_can_never_go_back_holds_up_nothing_and_becomes_dead_letters(
    firestore: Firestore, topics: Project
) -> None:
    for topic in (TOPIC, DEAD_LETTERS_TOPIC):
        await topics.create_topic(topic)
    schedule = FirestoreRetrySchedule(firestore, CLOCK, shards=1)
    await fill(schedule, 220, topic="deliveries-9", ago=3600)  # of which there is no topic any more
    await fill(schedule, 3, ago=1800)
    entries = [entry async for entry in firestore.client.collection(data_model.RETRIES).stream()]
    first, second, third = [entry for entry in entries if entry.get("receipt") == TOPIC]
    await first.reference.update({"body": None})
    await second.reference.update({"event_id": "x" * 2000})  # Pub/Sub takes 1,024 bytes
    await third.reference.update({"accepted_at": "yesterday"})
    wanted = await fill(schedule, 5)
    publisher = PubSubPublisher(topics.name, topics.client)
    assert await requeue_due(schedule, publisher=publisher, clock=CLOCK, project=topics.name) == 5
    came = await topics.pull(TOPIC, 5)
    assert {message.attributes["event_id"] for message in came} == wanted
    assert len(await topics.pull(DEAD_LETTERS_TOPIC, 223)) == 223
    assert await schedule.due(0, 1) == []


@pytest.fixture
async def topics(pubsub_host: str, project: str) -> AsyncIterator[Project]:
    opened = Project(pubsub_host, project)
    await opened.create_topic(NOTIFICATIONS_TOPIC)
    yield opened
    await opened.close()


async def suspend_and_crash(firestore: Firestore, clock: ManualClock) -> None:
    """As an instance of manage that is lost between the commit of the change and the publication."""
    records = FirestoreSubscriptions(firestore, AesGcmSeal(b"k" * 32), clock)
    subscriber = a_subscriber()
    await records.add_subscriber(subscriber, limit=20)
    subscription = a_subscription(subscriber)
    await records.add_subscription(subscription, anything, limit=20)
    suspended = partial(suspend, now=clock.now())
    await records.change_subscription(OWNER, subscriber.id, subscription.id, suspended)


async def test_a_notification_that_a_crash_left_in_the_outbox_is_published_once(
    firestore: Firestore, topics: Project
) -> None:
    clock = ManualClock()
    outbox, publisher = FirestoreOutbox(firestore, clock), PubSubPublisher(topics.name, topics.client)
    await suspend_and_crash(firestore, clock)
    assert (
        await publish_notifications(outbox, publisher=publisher, clock=clock) == 0
    )  # its changer may be about to
    await clock.advance(PUBLISHED_BY_OTHERS_AFTER.total_seconds())
    assert await publish_notifications(outbox, publisher=publisher, clock=clock) == 1
    (pulled,) = await topics.pull(NOTIFICATIONS_TOPIC, 1)
    left = await outbox.pending(notification_id_of(Message(pulled.data, dict(pulled.attributes))))
    assert left is not None  # until it is told
    assert await publish_notifications(outbox, publisher=publisher, clock=clock) == 0


async def test_a_tick_that_crashes_after_publishing_leaves_the_notification_due(firestore: Firestore) -> None:
    clock = ManualClock()
    outbox = FirestoreOutbox(firestore, clock)
    await suspend_and_crash(firestore, clock)
    await clock.advance(PUBLISHED_BY_OTHERS_AFTER.total_seconds())
    with pytest.raises(asyncio.CancelledError):
        await publish_notifications(outbox, publisher=Dying(), clock=clock)
    (due,) = await outbox.due(10)
    await outbox.settle(due, None)  # told by the first message all the same
    assert await publish_notifications(outbox, publisher=Dying(), clock=clock) == 0


class Dying:
    """The port `Publisher` in a process that is killed when it has published."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        raise asyncio.CancelledError
