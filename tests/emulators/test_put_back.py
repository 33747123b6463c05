"""Ticks of maintain that overlap, on the retry schedule in Firestore."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from clock import START
from event_platform.adapters.clock import SystemClock
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.domain.deliveries import Delivery
from event_platform.domain.messages import Message
from event_platform.domain.queue_messages import delivery_of
from event_platform.maintain import put_back
from records import UPDATED

ENTRIES = 60
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


@pytest.fixture
async def firestore(firestore_host: str, project: str) -> AsyncIterator[Firestore]:
    opened = connect(project, emulator=firestore_host)
    yield opened
    await opened.close()


async def fill(schedule: FirestoreRetrySchedule) -> set[str]:
    deliveries = [
        Delivery(
            subscription_id="5c0ffee0-0000-7000-8000-000000000001",
            event_id=f"event-{number}",
            event_type=UPDATED,
            accepted_at=START,
            lane=0,
            lanes=16,
            epoch=0,
            body=b"{}",
            attempts=1,
            receipt="deliveries-3",
        )
        for number in range(ENTRIES)
    ]
    due_at = CLOCK.now() - timedelta(seconds=1)
    await asyncio.gather(*(schedule.schedule(delivery, due_at) for delivery in deliveries))
    return {delivery.event_id for delivery in deliveries}


async def test_ticks_of_several_instances_put_each_entry_back_once(firestore: Firestore) -> None:
    instances = [FirestoreRetrySchedule(firestore, CLOCK) for _ in range(3)]
    scheduled, topic = await fill(instances[0]), Topic()
    ticks = [put_back(instance, publisher=topic, clock=CLOCK) for instance in instances * 2]
    assert sum(await asyncio.gather(*ticks)) == ENTRIES
    assert sorted(topic.events) == sorted(scheduled)
    assert topic.topics == {"deliveries-3"}


async def test_a_crash_after_publishing_repeats_and_loses_nothing(firestore: Firestore) -> None:
    schedule, topic = FirestoreRetrySchedule(firestore, CLOCK, shards=1), Topic(dies=True)
    scheduled = await fill(schedule)
    with pytest.raises(asyncio.CancelledError):
        await put_back(schedule, publisher=topic, clock=CLOCK)
    after = Topic()
    assert await put_back(schedule, publisher=after, clock=CLOCK) == ENTRIES
    assert set(topic.events) == set(after.events) == scheduled
