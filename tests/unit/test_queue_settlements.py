"""What a settlement writes where the queue is a topic."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from event_platform.adapters.settlements import QueueSettlements
from event_platform.domain.attempts.outcomes import Kind, Outcome
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import delivery_of
from event_platform.domain.record.logs import DeliveryEnd, Operation
from support.clock import ManualClock
from support.records import UPDATED

NOW = ManualClock().now()
DELIVERY = Delivery(
    subscription_id="5c0ffee0-0000-7000-8000-000000000001",
    event_id="event-1",
    event_type=UPDATED,
    accepted_at=NOW,
    lane=0,
    lanes=16,
    epoch=0,
    body=b"{}",
    receipt="deliveries-3",
)
END = DeliveryEnd(Operation.FAILED, "the endpoint answered 404", NOW)


class Written:
    """The ports `RetrySchedule`, `EndLog` and `Publisher`, as a list of what they were told."""

    shards = 1

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def schedule(self, delivery: Delivery, due_at: datetime) -> None:
        self.calls.append(("schedule", delivery, due_at))

    async def record(self, delivery: Delivery, end: DeliveryEnd) -> None:
        self.calls.append(("record", delivery, end))

    async def note(self, subscription_id: str, accepted_at: datetime) -> None:
        self.calls.append(("note", subscription_id, accepted_at))

    async def add(self, replay_id: str, **counts: int) -> None:
        self.calls.append(("add", replay_id, counts))

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.calls.append(("publish", topic, [delivery_of(message) for message in messages]))


async def settled(settlement: Settlement) -> list[tuple[Any, ...]]:
    written: Any = Written()
    await QueueSettlements(written, written, written, written, written, written).settle(settlement)
    return written.calls


async def test_a_delivery_that_arrived_writes_nothing() -> None:
    assert await settled(Settlement(DELIVERY, None)) == []


async def test_a_retry_goes_on_the_schedule() -> None:
    due_at = NOW + timedelta(minutes=5)
    assert await settled(Settlement(DELIVERY, None, retry_at=due_at)) == [("schedule", DELIVERY, due_at)]


async def test_an_end_goes_into_the_log() -> None:
    assert await settled(Settlement(DELIVERY, None, end=END)) == [("record", DELIVERY, END)]


@pytest.mark.parametrize("replay_id", [None, "catch-up-1"])
async def test_what_a_suspension_dropped_is_noted_before_the_log_counts_it(replay_id: str | None) -> None:
    dropped, end = replace(DELIVERY, replay_id=replay_id), replace(END, operation=Operation.DROPPED)
    noted = ("note", DELIVERY.subscription_id, NOW)
    counted = [] if replay_id is None else [("add", replay_id, {"ended": 1})]
    assert await settled(Settlement(dropped, None, end=end)) == [noted, ("record", dropped, end), *counted]


async def test_what_a_suspension_dropped_of_a_replay_is_not_missed() -> None:
    dropped, end = replace(DELIVERY, replay_id="0199a000"), replace(END, operation=Operation.DROPPED)
    assert await settled(Settlement(dropped, None, end=end)) == [
        ("record", dropped, end),
        ("add", "0199a000", {"ended": 1}),
    ]


async def test_a_delivery_of_a_replay_that_arrived_is_counted() -> None:
    replayed = replace(DELIVERY, replay_id="0199a000")
    arrived = Settlement(replayed, Outcome(Kind.DELIVERED))
    assert await settled(arrived) == [("add", "0199a000", {"delivered": 1})]
    assert await settled(Settlement(replayed, None, retry_at=NOW)) == [("schedule", replayed, NOW)]


async def test_back_to_the_lane_is_the_end_of_the_topic_that_it_came_from() -> None:
    assert await settled(Settlement(DELIVERY, None, back_to_lane=True)) == [
        ("publish", "deliveries-3", [DELIVERY])
    ]


async def test_a_delivery_of_another_queue_is_a_fault() -> None:
    with pytest.raises(TypeError, match="topic"):
        await settled(Settlement(replace(DELIVERY, receipt=7), None, back_to_lane=True))
