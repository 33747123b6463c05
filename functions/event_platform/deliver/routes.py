"""The push route of deliver: a message, an attempt, and what follows from it, before the answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.routing import Route

from ..domain.attempts.egress import Egress
from ..domain.deliveries import DeliverPolicy, Settlement
from ..domain.errors import StoreUnavailable
from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_of, is_alone
from ..domain.pace.rates import Limits
from ..ports import Clock, Paces, Publisher, Settlements, SubscriptionLookup
from ..push import Pushed, dead_letters_to, push_route
from .deliver import deliver
from .edge import Edge, Push, TimelyObserver, until_connected
from .judge import Judge
from .pipeline import Pipeline
from .sending import Senders

PATH = "/{topic}"
ENDED_WITHIN = 55.0
"""Seconds: the ack deadline is 60 s, and a push that is late comes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """The services of deliver."""

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


def pipeline(function: Deliver) -> Pipeline[Push]:
    """The steps of a push."""

    async def settle(push: Push, settlement: Settlement) -> None:
        await function.settlements.settle(settlement)

    subscriptions, clock = function.subscriptions, function.clock
    attempt = partial(
        deliver,
        subscriptions=subscriptions,
        senders=function.senders,
        clock=clock,
        policy=function.policy,
        egress=function.egress,
    )
    return Pipeline(
        pace=Edge(subscriptions, clock, function.limits, timeout=function.policy.timeout),
        attempt=until_connected(attempt, clock),
        observer=TimelyObserver(subscriptions, function.paces, clock, function.limits),
        settle=settle,
        judge=function.judge,
    )


def routes(function: Deliver) -> Sequence[Route]:
    """The route of deliver: the push subscription of a topic of deliveries points to the topic's name.

    The name is the delivery's receipt: where it goes when it goes back to its lane.
    """
    carried = pipeline(function)

    async def carry_out(pushed: Pushed) -> None:
        began = function.clock.monotonic()
        delivery = delivery_of(pushed.message, pushed.parameters["topic"])
        deadline = asyncio.timeout(ENDED_WITHIN)
        try:
            async with deadline:
                await carried.carry_out(Push(delivery, began, is_alone(pushed.message)))
        except TimeoutError as error:
            if deadline.expired():
                raise StoreUnavailable(f"not settled within {ENDED_WITHIN:g} s") from error
            raise

    publish_dead_letter = dead_letters_to(function.publisher, DEAD_LETTERS_TOPIC)
    return [push_route(PATH, carry_out, publish_dead_letter=publish_dead_letter, room_for_reading_only=True)]
