"""Due retries back to their lanes, one tick at a time."""

from collections.abc import Sequence
from datetime import datetime

import pytest

from clock import START, ManualClock
from event_platform.domain.deliveries import Delivery
from event_platform.domain.errors import PublishFailed
from event_platform.domain.messages import Message
from event_platform.maintain import put_back
from event_platform.maintain.put_back import BEGINNING_SECONDS, PAGE
from event_platform.ports import Due
from records import UPDATED

TOPIC = "deliveries-0"


class Schedule:
    """The port `RetrySchedule`, in memory; every entry in it is due."""

    def __init__(self, *shards: list[Due], held: Sequence[int] = ()) -> None:
        self.shards = len(shards)
        self.entries = list(shards)
        self.held = set(held)
        self.leased: list[int] = []

    async def schedule(self, delivery: Delivery, due_at: datetime) -> None:
        raise AssertionError("nothing is scheduled by a tick")

    async def lease(self, shard: int, seconds: float) -> bool:
        self.leased.append(shard)
        return shard not in self.held and not self.held.add(shard)

    async def release(self, shard: int) -> None:
        self.held.discard(shard)

    async def due(self, shard: int, limit: int) -> Sequence[Due]:
        return self.entries[shard][:limit]

    async def remove(self, entries: Sequence[str]) -> None:
        self.entries = [[due for due in shard if due.entry not in entries] for shard in self.entries]


class Topics:
    """The port `Publisher`; takes nothing of the topics in `broken`, moves the clock by `seconds`."""

    def __init__(self, clock: ManualClock, *, seconds: float = 0, broken: Sequence[str] = ()) -> None:
        self.published: list[tuple[str, Message]] = []
        self._clock = clock
        self._seconds = seconds
        self._broken = broken

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self._seconds:
            await self._clock.advance(self._seconds)
        if topic in self._broken:
            raise PublishFailed("no", tuple(range(len(messages))))
        self.published += [(topic, message) for message in messages]


def a_delivery(number: int, topic: str) -> Delivery:
    return Delivery(
        subscription_id="5c0ffee0-0000-7000-8000-000000000001",
        event_id=f"event-{number}",
        event_type=UPDATED,
        accepted_at=START,
        lane=0,
        lanes=16,
        epoch=0,
        body=b"{}",
        receipt=topic,
    )


def due(number: int, topic: str = TOPIC) -> Due:
    return Due(f"entry-{number}", a_delivery(number, topic))


async def test_what_is_due_goes_back_to_its_topic_and_off_the_schedule() -> None:
    schedule, clock = Schedule([due(1)], [due(2, "deliveries-1")]), ManualClock()
    topics = Topics(clock)
    assert await put_back(schedule, publisher=topics, clock=clock) == 2
    assert {topic for topic, _ in topics.published} == {"deliveries-0", "deliveries-1"}
    assert schedule.entries == [[], []]
    assert schedule.held == set()


async def test_a_shard_that_somebody_works_on_is_left_alone() -> None:
    schedule, clock = Schedule([due(1)], held=[0]), ManualClock()
    assert await put_back(schedule, publisher=Topics(clock), clock=clock) == 0
    assert len(schedule.entries[0]) == 1
    assert schedule.held == {0}


async def test_nothing_due_takes_no_lease() -> None:
    schedule, clock = Schedule([], []), ManualClock()
    assert await put_back(schedule, publisher=Topics(clock), clock=clock) == 0
    assert schedule.leased == []


async def test_what_a_topic_did_not_take_stays_and_the_other_shards_go_on() -> None:
    schedule, clock = Schedule([due(1, "broken"), due(2)], [due(3)]), ManualClock()
    topics = Topics(clock, broken=["broken"])
    with pytest.raises(PublishFailed):
        await put_back(schedule, publisher=topics, clock=clock)
    assert len(topics.published) == 2
    assert [[each.entry for each in shard] for shard in schedule.entries] == [["entry-1"], []]
    assert schedule.held == set()


async def test_no_page_is_begun_when_the_time_is_over() -> None:
    schedule, clock = Schedule([due(number) for number in range(3 * PAGE)]), ManualClock()
    topics = Topics(clock, seconds=BEGINNING_SECONDS)
    assert await put_back(schedule, publisher=topics, clock=clock) == PAGE
    assert len(schedule.entries[0]) == 2 * PAGE
