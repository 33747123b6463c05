"""What deliver makes of a pushed message."""

import asyncio
from datetime import timedelta
from typing import Any

from event_platform.deliver import routes
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_message
from event_platform.domain.suspension import Count, minute_of, series_of
from event_platform.http import App
from event_platform.push import REASON
from support.clock import START, ManualClock
from support.delivering import DELIVERY, SUBSCRIPTION, Delivering
from support.pushing import push

FAILED = Count(failed=1, first_failed_at=(START + timedelta(seconds=1)).timestamp())


def answering(status: int, **more: Any) -> Delivering:
    """Deliver a second after the event was accepted, with a receiver that answers the status."""
    return Delivering([Answer(status)], clock=ManualClock(START + timedelta(seconds=1)), **more)


async def pushed(world: Delivering, message: Message) -> int:
    """The status that a push of the message is answered."""
    app = App(list(routes(world.function)))
    pushing = asyncio.create_task(push(app, "/deliveries-0", message, subscription="deliveries-0"))
    await world.clock.advance(10)
    return await pushing


async def test_what_follows_from_an_attempt_is_settled_before_the_answer() -> None:
    world = answering(500)
    assert await pushed(world, delivery_message(DELIVERY)) == 204
    (settlement,) = world.settled
    assert settlement.retry_at == START + timedelta(seconds=1, minutes=5)
    assert settlement.delivery.receipt == "deliveries-0"


async def test_what_an_attempt_came_to_is_counted_before_the_answer() -> None:
    world = answering(500)
    await pushed(world, delivery_message(DELIVERY))
    assert world.counted == [{series_of(SUBSCRIPTION): {minute_of(world.clock.now()): FAILED}}]


async def test_a_store_that_is_away_has_the_message_pushed_again() -> None:
    world = answering(500, settles=False)
    assert await pushed(world, delivery_message(DELIVERY)) == 503


async def test_a_message_that_is_no_delivery_becomes_a_dead_letter() -> None:
    world = answering(200)
    attributes = {**delivery_message(DELIVERY).attributes, "lane": "16"}
    assert await pushed(world, Message(b"{}", attributes)) == 204
    ((topic, letter),) = world.published
    assert topic == DEAD_LETTERS_TOPIC
    assert letter.attributes[REASON] == "the attribute lane must be below lanes, 16"
    assert world.settled == []
