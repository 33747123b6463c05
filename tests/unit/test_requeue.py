"""Due retries back to their lanes, one tick at a time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
import structlog

from event_platform.domain.deliveries import Delivery
from event_platform.domain.errors import PublishFailed, TopicMissing
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC
from event_platform.maintain import requeue_due
from event_platform.maintain.requeue import BEGINNING_SECONDS, FIRST_PAGE, MOST_OF_A_PAGE, PAGE_BYTES
from event_platform.ports import Due
from event_platform.push import REASON, SOURCE_PROJECT, SOURCE_SUBSCRIPTION
from support.clock import START, ManualClock
from support.records import UPDATED

TOPIC = "deliveries-0"


class Schedule:
    """The port `RetrySchedule`, in memory; every entry in it is due."""

    def __init__(self, *shards: list[Due], held: Sequence[int] = ()) -> None:
        self.shards = len(shards)
        self.entries = list(shards)
        self.held = set(held)
        self.leased: list[int] = []
        self.limits: list[int] = []

    async def schedule(self, delivery: Delivery, due_at: datetime) -> None:
        raise AssertionError("nothing is scheduled by a tick")

    async def lease(self, shard: int, seconds: float) -> bool:
        self.leased.append(shard)
        return shard not in self.held and not self.held.add(shard)

    async def release(self, shard: int) -> None:
        self.held.discard(shard)

    async def due(self, shard: int, limit: int, after: str = "") -> Sequence[Due]:
        self.limits.append(limit)
        return [due for due in self.entries[shard] if due.place > after][:limit]

    async def remove(self, entries: Sequence[str]) -> None:
        self.entries = [[due for due in shard if due.entry not in entries] for shard in self.entries]


class Topics:
    """The port `Publisher`; takes nothing of the topics in `broken`, moves the clock by `seconds`.

    There are no topics in `missing`.
    """

    def __init__(
        self,
        clock: ManualClock,
        *,
        seconds: float = 0,
        broken: Sequence[str] = (),
        missing: Sequence[str] = (),
    ) -> None:
        self._missing = missing
        self.published: list[tuple[str, Message]] = []
        self._clock = clock
        self._seconds = seconds
        self._broken = broken

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self._seconds:
            await self._clock.advance(self._seconds)
        if topic in self._missing:
            raise TopicMissing(f"there is no topic {topic}", tuple(range(len(messages))))
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
    return Due(f"entry-{number}", f"{number:06d}", a_delivery(number, topic))


async def tick(schedule: Schedule, topics: Topics, clock: ManualClock) -> int:
    return await requeue_due(schedule, publisher=topics, clock=clock, project="a-project")


@pytest.mark.provokes("retries.put_back")
async def test_what_is_due_goes_back_to_its_topic_and_off_the_schedule() -> None:
    schedule, clock = Schedule([due(1)], [due(2, "deliveries-1")]), ManualClock()
    topics = Topics(clock)
    assert await tick(schedule, topics, clock) == 2
    assert {topic for topic, _ in topics.published} == {"deliveries-0", "deliveries-1"}
    assert schedule.entries == [[], []]
    assert schedule.held == set()


async def test_a_shard_that_somebody_works_on_is_left_alone() -> None:
    schedule, clock = Schedule([due(1)], held=[0]), ManualClock()
    assert await tick(schedule, Topics(clock), clock) == 0
    assert len(schedule.entries[0]) == 1
    assert schedule.held == {0}


async def test_nothing_due_takes_no_lease() -> None:
    schedule, clock = Schedule([], []), ManualClock()
    assert await tick(schedule, Topics(clock), clock) == 0
    assert schedule.leased == []


async def test_what_a_topic_did_not_take_stays_and_the_other_shards_go_on() -> None:
    schedule, clock = Schedule([due(1, "broken"), due(2)], [due(3)]), ManualClock()
    topics = Topics(clock, broken=["broken"])
    with pytest.raises(PublishFailed):
        await tick(schedule, topics, clock)
    assert len(topics.published) == 2
    assert [[each.entry for each in shard] for shard in schedule.entries] == [["entry-1"], []]
    assert schedule.held == set()


async def test_no_page_is_begun_when_the_time_is_over() -> None:
    schedule, clock = Schedule([due(number) for number in range(3 * FIRST_PAGE)]), ManualClock()
    topics = Topics(clock, seconds=BEGINNING_SECONDS)
    assert await tick(schedule, topics, clock) == FIRST_PAGE
    assert len(schedule.entries[0]) == 2 * FIRST_PAGE


async def test_what_cannot_go_back_now_holds_up_nothing_behind_it() -> None:
    stuck = [due(number, "broken") for number in range(500)]
    schedule, clock = Schedule([*stuck, due(900)]), ManualClock()
    topics = Topics(clock, broken=["broken"])
    with pytest.raises(PublishFailed):
        await tick(schedule, topics, clock)
    assert [topic for topic, _ in topics.published] == [TOPIC]
    assert schedule.entries == [stuck]


async def test_what_has_no_topic_any_more_becomes_a_dead_letter_that_can_be_replayed() -> None:
    gone = [due(number, "deliveries-7") for number in range(220)]
    schedule, clock = Schedule([*gone, due(900)]), ManualClock()
    topics = Topics(clock, missing=["deliveries-7"])
    assert await tick(schedule, topics, clock) == 1
    letters = [message for topic, message in topics.published if topic == DEAD_LETTERS_TOPIC]
    assert len(letters) == 220
    assert letters[0].data == b"{}"
    assert letters[0].attributes["event_id"] == "event-0"
    assert letters[0].attributes[REASON] == "there is no topic deliveries-7"
    assert letters[0].attributes[SOURCE_PROJECT] == "a-project"
    assert letters[0].attributes[SOURCE_SUBSCRIPTION] == "deliveries-7"
    assert schedule.entries == [[]]


async def test_an_entry_that_cannot_be_read_becomes_a_dead_letter_with_what_is_left_of_it() -> None:
    remnant = Message(b"{}", {"event_id": "event-1", "lane": "three"})
    schedule, clock = Schedule([Due("entry-1", "000001", None, remnant), due(2)]), ManualClock()
    topics = Topics(clock)
    with structlog.testing.capture_logs() as logs:
        assert await tick(schedule, topics, clock) == 1
    (letter,) = [message for topic, message in topics.published if topic == DEAD_LETTERS_TOPIC]
    assert letter.data == b"{}"
    assert letter.attributes["lane"] == "three"
    assert letter.attributes[REASON] == "the entry of the retry schedule cannot be read"
    assert schedule.entries == [[]]
    assert [line["message_id"] for line in logs if line["event"] == "message.dead_lettered"] == ["entry-1"]


async def test_what_becomes_no_dead_letter_stays_on_the_schedule() -> None:
    schedule, clock = Schedule([due(1, "gone"), due(2)]), ManualClock()
    topics = Topics(clock, missing=["gone"], broken=[DEAD_LETTERS_TOPIC])
    with pytest.raises(PublishFailed):
        await tick(schedule, topics, clock)
    assert schedule.entries == [[due(1, "gone")]]


async def test_a_page_is_bounded_by_the_bytes_of_its_bodies() -> None:
    large = [
        Due(f"entry-{number}", f"{number:06d}", replace(a_delivery(number, TOPIC), body=b"x" * 900_000))
        for number in range(FIRST_PAGE)
    ]
    small = [due(number) for number in range(FIRST_PAGE, 3 * MOST_OF_A_PAGE)]
    schedule, clock = Schedule([*large, *small]), ManualClock()
    await tick(schedule, Topics(clock), clock)
    assert schedule.entries == [[]]
    assert schedule.limits[1] * 900_000 <= PAGE_BYTES
    assert schedule.limits[2] * 900_000 <= PAGE_BYTES
    assert max(schedule.limits) == MOST_OF_A_PAGE
