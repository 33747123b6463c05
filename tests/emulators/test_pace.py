"""Two instances of deliver on one Firestore against receivers over sockets: the pace they keep together.

The test pushes as Pub/Sub does, one message of a lane at a time and to whichever instance. The emulator
pushes two at a time, which is no load.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving.server import running
from event_platform.adapters.clock import SystemClock
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.missed import FirestoreMissedEvents
from event_platform.adapters.firestore.paces import FirestorePaces
from event_platform.adapters.firestore.replay_counts import FirestoreReplayCounts
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.adapters.seal import AesGcmSeal
from event_platform.adapters.settlements import QueueSettlements
from event_platform.deliver import Deliver, Judge, routes
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.deliveries import DeliverPolicy, Delivery
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import delivery_message
from event_platform.domain.pace.rates import Limits
from event_platform.domain.pace.turns import SPREAD_OF_COPIES
from event_platform.domain.subscriptions import Subscription
from event_platform.http import App
from support.pushing import push
from support.records import UPDATED, subscribed
from support.senders import https_by

CLOCK = SystemClock()
SEAL = AesGcmSeal(b"\x01" * 32)
LANES = 16


@dataclass
class Lanes:
    """Queues with one message of a lane outstanding; the port `Publisher` for what goes back to them."""

    waiting: dict[str, deque[Message]] = field(default_factory=dict[str, deque[Message]])

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        for message in messages:
            self.waiting.setdefault(message.ordering_key, deque()).append(message)

    async def run(self, instances: Sequence[App]) -> None:
        """Returns when all of them have been acknowledged."""
        turns = cycle(instances)

        async def lane(waiting: deque[Message]) -> None:
            while waiting:
                message = waiting.popleft()
                assert await push(next(turns), "/deliveries-0", message) == 204

        await asyncio.gather(*(lane(waiting) for waiting in self.waiting.values()))


@dataclass
class Receiver:
    """Counts the events that it took and what it refused; `takes` says whether it takes one now."""

    takes: Callable[[], bool]
    taken: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        if not self.takes():
            self.refused += 1
            return Response(status_code=429)
        self.taken[body.decode()] += 1
        return Response()


@dataclass
class OnFirestore:
    firestore: Firestore
    lanes: Lanes = field(default_factory=Lanes)
    senders: list[HttpsSender] = field(default_factory=list[HttpsSender])

    async def subscribe(self, url: str, *, age: float) -> Subscription:
        """A subscription that was made so many seconds ago: its rate is 10/s and 1/s more for each."""
        records = FirestoreSubscriptions(self.firestore, SEAL, CLOCK)
        (subscription,) = await subscribed(records, url=url, now=CLOCK.now() - timedelta(seconds=age))
        return subscription

    async def send(self, subscription: Subscription, number: int) -> set[str]:
        """Puts so many events into the lanes, evenly; what they are."""
        for event in range(number):
            delivery = Delivery(
                subscription_id=subscription.id,
                event_id=str(event),
                event_type=UPDATED,
                accepted_at=CLOCK.now(),
                lane=event % LANES,
                lanes=LANES,
                epoch=0,
                body=str(event).encode(),
            )
            await self.lanes.publish("deliveries-0", [delivery_message(delivery)])
        return {str(event) for event in range(number)}

    def instance(self) -> App:
        """An instance of deliver, as `wiring` makes it."""
        subscriptions = FirestoreSubscriptions(self.firestore, SEAL, CLOCK)
        paces = FirestorePaces(self.firestore, subscriptions, CLOCK)
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        self.senders.append(sender)
        schedule, egress = FirestoreRetrySchedule(self.firestore, CLOCK), Egress()
        ends = FirestoreEndLog(self.firestore, subscriptions, CLOCK)
        missed = FirestoreMissedEvents(self.firestore, subscriptions, CLOCK)
        counts = FirestoreReplayCounts(self.firestore, CLOCK)
        function = Deliver(
            subscriptions=paces,
            paces=paces,
            senders=https_by(sender),
            settlements=QueueSettlements(schedule, ends, self.lanes, subscriptions, missed, counts),
            publisher=self.lanes,
            clock=CLOCK,
            policy=DeliverPolicy([timedelta(minutes=5)], timedelta(days=3), 5),
            limits=Limits(spread=SPREAD_OF_COPIES),
            egress=egress,
            judge=Judge(FirestoreSuccessCounts(self.firestore), subscriptions, egress, CLOCK),
        )
        return App(list(routes(function)))

    async def stored(self, subscription: Subscription) -> Subscription:
        found = await FirestorePaces(
            self.firestore, FirestoreSubscriptions(self.firestore, SEAL, CLOCK), CLOCK
        ).current(subscription.id)
        assert found is not None
        return found


@pytest.fixture
async def world(firestore: Firestore) -> AsyncIterator[OnFirestore]:
    world = OnFirestore(firestore)
    yield world
    for sender in world.senders:
        await sender.close()


def served(receiver: Receiver) -> Starlette:
    return Starlette(routes=[Route("/hook", receiver.answer, methods=["POST"])])


async def test_two_instances_that_see_429s_at_once_lower_the_rate_once(world: OnFirestore) -> None:
    requests = 0

    def takes() -> bool:
        nonlocal requests
        requests += 1
        return requests > LANES

    receiver = Receiver(takes)
    async with running(served(receiver)) as url:
        subscription = await world.subscribe(f"{url}/hook", age=50)
        events = await world.send(subscription, LANES)
        await world.lanes.run([world.instance(), world.instance()])
    assert receiver.taken == Counter(events)
    rate = (await world.stored(subscription)).current_rate
    assert rate.base == pytest.approx(30, abs=2)  # half of 10 + 50 and some; once more would be a quarter
    assert rate.ceiling == pytest.approx(54, abs=4)


@pytest.mark.full
async def test_a_token_bucket_gets_everything_and_is_not_overrun(world: OnFirestore) -> None:
    allowed, burst = 20.0, 10.0
    tokens, at = burst, time.monotonic()

    def takes() -> bool:
        nonlocal tokens, at
        now = time.monotonic()
        tokens, at = min(burst, tokens + (now - at) * allowed), now
        took = tokens >= 1
        tokens -= took
        return took

    receiver = Receiver(takes)
    async with running(served(receiver)) as url:
        subscription = await world.subscribe(f"{url}/hook", age=20)
        events = await world.send(subscription, 120)
        await world.lanes.run([world.instance(), world.instance()])
    assert receiver.taken == Counter(events)
    assert 1 <= receiver.refused <= len(events) / 2  # without a pace there are hundreds
    rate = (await world.stored(subscription)).current_rate
    assert rate.ceiling is not None
