"""The push route of deliver: a message, an attempt, and what follows from it, before the answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from ..domain.attempts.egress import Egress
from ..domain.deliveries import DeliverPolicy
from ..domain.errors import StoreUnavailable
from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_of, is_alone
from ..domain.pace.rates import Limits
from ..ports import Clock, Paces, Publisher, Settlements, SubscriptionLookup
from ..push import Pushed, bury_on, push_route
from .edge import Edge
from .judge import Judge
from .sending import Senders

PATH = "/{topic}"
ENDED_WITHIN = 55.0
"""Seconds: the ack deadline is 60 s, and a push that is late comes again."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """What deliver works with."""

    subscriptions: SubscriptionLookup
    paces: Paces
    senders: Senders
    settlements: Settlements
    publisher: Publisher
    clock: Clock
    policy: DeliverPolicy
    limits: Limits
    egress: Egress
    judge: Judge


def routes(function: Deliver) -> Sequence[Route]:
    """The route of deliver: the push subscription of a topic of deliveries points to the topic's name.

    The name is the delivery's receipt: where it goes when it goes back to its lane.
    """

    edge = Edge(
        function.subscriptions,
        function.paces,
        function.senders,
        function.clock,
        function.policy,
        function.limits,
        function.egress,
    )

    async def attempt(pushed: Pushed) -> None:
        began = function.clock.monotonic()
        delivery = delivery_of(pushed.message, pushed.parameters["topic"])
        deadline = asyncio.timeout(ENDED_WITHIN)
        try:
            async with deadline:
                settlement = await edge.attempt(delivery, began)
                await function.settlements.settle(settlement)
                await function.judge.settled(settlement)
                await edge.hold(settlement, began, alone=is_alone(pushed.message))
        except TimeoutError as error:
            if deadline.expired():
                raise StoreUnavailable(f"not settled within {ENDED_WITHIN:g} s") from error
            raise

    bury = bury_on(function.publisher, DEAD_LETTERS_TOPIC)
    return [push_route(PATH, attempt, bury=bury, room_for_reading_only=True)]
