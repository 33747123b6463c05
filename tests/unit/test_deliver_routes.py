"""What deliver makes of a pushed message."""

import base64
import json
from datetime import datetime, timedelta
from typing import Any

from event_platform.deliver import Deliver, Judge, routes
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_message
from event_platform.domain.pace.rates import Limits
from event_platform.domain.subscriptions import Owner
from event_platform.domain.suspension import Count, minute_of, series_of
from event_platform.http import App
from event_platform.push import REASON
from support.asgi import post
from support.clock import START
from support.records import UPDATED, a_subscriber, a_subscription
from support.senders import https_by

SUBSCRIPTION = a_subscription(a_subscriber())
DELIVERY = Delivery(
    subscription_id=SUBSCRIPTION.id,
    event_id="event-1",
    event_type=UPDATED,
    accepted_at=START,
    lane=0,
    lanes=16,
    epoch=0,
    body=b"{}",
)


FAILED = Count(failed=1, first_failed_at=(START + timedelta(seconds=1)).timestamp())


class World:
    """Every port that deliver works with: a receiver that answers `status`, and what was written and when."""

    def __init__(self, status: int = 200, *, store_is_away: bool = False) -> None:
        self.status = status
        self.store_is_away = store_is_away
        self.settled: list[Settlement] = []
        self.published: list[tuple[str, Message]] = []
        self.counted: list[Any] = []
        self.slept = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=1 + self.slept)

    def monotonic(self) -> float:
        return self.slept

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds

    async def current(self, subscription_id: str) -> Any:
        return SUBSCRIPTION

    async def post(self, *request: Any, owner: Owner, timeout: float) -> Answer:
        return Answer(self.status, {}, b"")

    async def settle(self, settlement: Settlement) -> None:
        if self.store_is_away:
            raise StoreUnavailable("away")
        self.settled.append(settlement)

    async def add(self, counts: Any) -> None:
        self.counted.append(counts)

    async def since(self, series: Any, minute: int) -> Any:
        return {}

    async def change_pace(self, subscription_id: str, change: Any) -> None:
        raise AssertionError("nothing here is throttled")

    async def publish(self, topic: str, messages: Any) -> None:
        self.published += [(topic, message) for message in messages]

    async def push(self, message: Message) -> int:
        """The status that a push of the message is answered."""
        world: Any = self
        policy = DeliverPolicy([timedelta(minutes=5)], timedelta(days=3), 5)
        egress = Egress()
        judge = Judge(world, world, egress, world)
        function = Deliver(
            subscriptions=world,
            paces=world,
            senders=https_by(world),
            settlements=world,
            publisher=world,
            clock=world,
            policy=policy,
            limits=Limits(),
            egress=egress,
            judge=judge,
        )
        app = App(list(routes(function)))
        body = {
            "message": {
                "data": base64.b64encode(message.data).decode(),
                "attributes": dict(message.attributes),
                "messageId": "1",
            },
            "subscription": "projects/p/subscriptions/deliveries-0",
        }
        return await post(app, "/deliveries-0", json.dumps(body).encode())


async def test_what_follows_from_an_attempt_is_settled_before_the_answer() -> None:
    world = World(500)
    assert await world.push(delivery_message(DELIVERY)) == 204
    (settlement,) = world.settled
    assert settlement.retry_at == START + timedelta(seconds=1, minutes=5)
    assert settlement.delivery.receipt == "deliveries-0"


async def test_what_an_attempt_came_to_is_counted_before_the_answer() -> None:
    world = World(500)
    await world.push(delivery_message(DELIVERY))
    assert world.counted == [{series_of(SUBSCRIPTION): {minute_of(world.now()): FAILED}}]


async def test_a_store_that_is_away_has_the_message_pushed_again() -> None:
    world = World(500, store_is_away=True)
    assert await world.push(delivery_message(DELIVERY)) == 503


async def test_a_message_that_is_no_delivery_becomes_a_dead_letter() -> None:
    world = World()
    attributes = {**delivery_message(DELIVERY).attributes, "lane": "16"}
    assert await world.push(Message(b"{}", attributes)) == 204
    ((topic, letter),) = world.published
    assert topic == DEAD_LETTERS_TOPIC
    assert letter.attributes[REASON] == "the attribute lane must be below lanes, 16"
    assert world.settled == []
