"""The function deliver on ports that a test answers for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

from event_platform.deliver import Deliver, Judge, Senders
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Answer, Published
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.errors import OutOfSockets, StoreUnavailable
from event_platform.domain.events import catalog
from event_platform.domain.messages.message import Message
from event_platform.domain.pace.rates import Limits
from event_platform.domain.subscriptions import Owner, Subscription
from support.clock import START, ManualClock
from support.records import UPDATED, a_subscriber, a_subscription

TIMEOUT = 5.0
LANES = 16
SUBSCRIPTION = a_subscription(a_subscriber())
DELIVERY = Delivery(SUBSCRIPTION.id, "event-1", UPDATED, START, lane=0, lanes=LANES, epoch=0, body=b"{}")


@dataclass
class Delivering:
    """A store that may be away, and a receiver that gives the next of `answers`, the last one for ever."""

    answers: list[Answer] = field(default_factory=lambda: [Answer(200)])
    limits: Limits = field(default_factory=Limits)
    clock: ManualClock = field(default_factory=ManualClock)
    subscription: Subscription | None = SUBSCRIPTION
    readable: bool = True
    writable: bool = True
    settles: bool = True
    out_of_sockets_until: float = 0.0
    sent: list[float] = field(default_factory=list[float])
    asked: int = 0
    written: int = 0
    settled: list[Settlement] = field(default_factory=list[Settlement])
    published: list[tuple[str, Message]] = field(default_factory=list[tuple[str, Message]])
    counted: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        world: Any = self
        egress = Egress()
        self.function = Deliver(
            subscriptions=world,
            paces=world,
            senders=Senders(world, world, world.kafka, catalog.load()),
            settlements=world,
            publisher=world,
            clock=self.clock,
            policy=DeliverPolicy([timedelta(minutes=5)], timedelta(days=3), TIMEOUT),
            limits=self.limits,
            egress=egress,
            judge=Judge(world, world, egress, self.clock),
        )

    async def kafka(self) -> Self:
        return self

    async def current(self, subscription_id: str) -> Subscription | None:
        self.asked += 1
        if not self.readable:
            raise StoreUnavailable("away")
        return self.subscription

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        if not self.writable:
            raise StoreUnavailable("away")
        assert self.subscription is not None
        self.written += 1
        self.subscription = change(self.subscription)

    async def post(self, *request: Any, owner: Owner, timeout: float) -> Answer:
        self.sent.append(self.clock.monotonic())
        if self.out_of_sockets_until > self.clock.monotonic():
            raise OutOfSockets("too many open files")
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def append(self, *record: Any, owner: Owner, timeout: float) -> Published:
        return Published()

    async def settle(self, settlement: Settlement) -> None:
        if not self.settles:
            raise StoreUnavailable("away")
        self.settled.append(settlement)

    async def add(self, counts: Any) -> None:
        self.counted.append(counts)

    async def since(self, series: Any, minute: int) -> Any:
        return {}

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.published += [(topic, message) for message in messages]
