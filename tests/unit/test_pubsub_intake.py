"""What the intake of Google's side remembers, and what those share who bring the same id."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.domain.errors import PublishFailed
from event_platform.domain.events import catalog
from event_platform.domain.events.event import Event
from event_platform.domain.messages.message import Message
from support.clock import START, ManualClock
from support.records import PIM, accepted_of, an_event

CATALOG = catalog.load()


class Topic:
    """A publisher that waits for `open`, and fails at the positions that `failing` says."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.open = asyncio.Event()
        self.open.set()
        self.failing: Callable[[Sequence[Message]], Sequence[int]] = lambda messages: ()

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        assert topic == "events"
        await self.open.wait()
        failed = tuple(self.failing(messages))
        self.published += [message for at, message in enumerate(messages) if at not in failed]
        if failed:
            raise PublishFailed("the topic is away", failed)

    def ids(self) -> list[str]:
        return [event.id for message in self.published for event in accepted_of(message, CATALOG).events]


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def intake(topic: Topic, clock: ManualClock) -> PubSubIntake:
    return PubSubIntake(topic, clock)


def events(*numbers: int) -> list[Event]:
    return [an_event(number) for number in numbers]


async def test_a_request_is_one_message(intake: PubSubIntake, topic: Topic) -> None:
    await intake.accept(PIM, events(1, 2, 3))
    (message,) = topic.published
    accepted = accepted_of(message, CATALOG)
    assert (accepted.tenant, accepted.accepted_at) == (PIM, START)
    assert accepted.events == events(1, 2, 3)


async def test_no_events_are_no_message(intake: PubSubIntake, topic: Topic) -> None:
    await intake.accept(PIM, [])
    assert topic.published == []


async def test_an_id_twice_in_a_request_folds(intake: PubSubIntake, topic: Topic) -> None:
    await intake.accept(PIM, events(1, 2, 1))
    assert topic.ids() == ["event-1", "event-2"]


async def test_an_id_is_remembered_for_ten_minutes(
    intake: PubSubIntake, topic: Topic, clock: ManualClock
) -> None:
    await intake.accept(PIM, events(1))
    await clock.advance(599)
    await intake.accept(PIM, events(1, 2))
    assert topic.ids() == ["event-1", "event-2"]
    await clock.advance(2)
    await intake.accept(PIM, events(1, 2))
    assert topic.ids() == ["event-1", "event-2", "event-1"]


async def test_another_tenants_id_is_another(intake: PubSubIntake, topic: Topic) -> None:
    await intake.accept(PIM, events(1))
    await intake.accept("https://other.example.com", events(1))
    assert topic.ids() == ["event-1", "event-1"]


async def test_an_id_that_failed_is_not_remembered(intake: PubSubIntake, topic: Topic) -> None:
    topic.failing = lambda messages: range(len(messages))
    with pytest.raises(PublishFailed):
        await intake.accept(PIM, events(1))
    topic.failing = lambda messages: ()
    await intake.accept(PIM, events(1))
    assert topic.ids() == ["event-1"]


async def test_a_repetition_publishes_only_what_did_not_get_there(intake: PubSubIntake, topic: Topic) -> None:
    large = [_large(number) for number in range(1, 16)]
    topic.failing = lambda messages: [1]
    with pytest.raises(PublishFailed):
        await intake.accept(PIM, large)
    got_there = topic.ids()
    assert 0 < len(got_there) < 15
    topic.failing = lambda messages: ()
    await intake.accept(PIM, large)
    assert sorted(topic.ids()) == sorted(event.id for event in large)


async def test_who_brings_an_id_on_its_way_waits_for_it(intake: PubSubIntake, topic: Topic) -> None:
    topic.open.clear()
    first = asyncio.create_task(intake.accept(PIM, events(1, 2)))
    await asyncio.sleep(0)
    second = asyncio.create_task(intake.accept(PIM, events(2)))
    await asyncio.sleep(0.01)
    assert not second.done()
    topic.open.set()
    await asyncio.gather(first, second)
    assert topic.ids() == ["event-1", "event-2"]


async def test_who_brings_an_id_on_its_way_shares_its_failure(intake: PubSubIntake, topic: Topic) -> None:
    topic.open.clear()
    topic.failing = lambda messages: [0]
    both = [asyncio.create_task(intake.accept(PIM, events(1))) for _ in range(2)]
    await asyncio.sleep(0.01)
    topic.open.set()
    results = await asyncio.gather(*both, return_exceptions=True)
    assert [type(result) for result in results] == [PublishFailed, PublishFailed]
    assert topic.ids() == []


async def test_who_waits_for_a_request_that_is_broken_off_may_repeat(
    intake: PubSubIntake, topic: Topic
) -> None:
    topic.open.clear()
    first = asyncio.create_task(intake.accept(PIM, events(1)))
    await asyncio.sleep(0)
    second = asyncio.create_task(intake.accept(PIM, events(1)))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(PublishFailed, match="broken off"):
        await second
    topic.open.set()
    await intake.accept(PIM, events(1))
    assert topic.ids() == ["event-1"]


async def test_who_gives_up_waiting_harms_nobody(intake: PubSubIntake, topic: Topic) -> None:
    topic.open.clear()
    first, second, third = [asyncio.create_task(intake.accept(PIM, events(1))) for _ in range(3)]
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.sleep(0.01)
    topic.open.set()
    await asyncio.gather(first, third)
    assert second.cancelled()
    assert topic.ids() == ["event-1"]


async def test_the_memory_is_bounded(topic: Topic, clock: ManualClock) -> None:
    intake = PubSubIntake(topic, clock, ids_remembered=2)
    await intake.accept(PIM, events(1, 2, 3))
    await intake.accept(PIM, events(1, 2, 3))
    assert topic.ids() == ["event-1", "event-2", "event-3", "event-1"]


def _large(number: int) -> Event:
    event = an_event(number)
    return replace(event, data_json=event.data_json[:-1] + b',"more":"' + b"x" * 900_000 + b'"}')
