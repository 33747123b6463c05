"""The push route of deliver: a message, an attempt, and what follows from it, before the answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.routing import Route

from ..domain.deliveries import DeliverPolicy
from ..domain.egress import Egress
from ..domain.queue_messages import DEAD_LETTERS_TOPIC, delivery_of
from ..ports import Clock, Publisher, Sender, Settlements, SubscriptionLookup
from ..push import Pushed, bury_on, push_route
from .deliver import deliver
from .judge import Judge

PATH = "/{topic}"
START_RATE = 10.0
"""Requests a second that the lanes of a throttling destination come to together."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """What deliver works with."""

    subscriptions: SubscriptionLookup
    sender: Sender
    settlements: Settlements
    publisher: Publisher
    clock: Clock
    policy: DeliverPolicy
    egress: Egress
    judge: Judge


def routes(function: Deliver) -> Sequence[Route]:
    """The route of deliver: the push subscription of a topic of deliveries points to the topic's name.

    The name is the delivery's receipt: where it goes when it goes back to its lane.
    """

    async def attempt(pushed: Pushed) -> None:
        delivery = replace(delivery_of(pushed.message), receipt=pushed.parameters["topic"])
        settlement = await deliver(
            delivery,
            subscriptions=function.subscriptions,
            sender=function.sender,
            clock=function.clock,
            policy=function.policy,
            egress=function.egress,
        )
        if settlement.back_to_lane:  # its lane would come again at once, and so would the 429
            await function.clock.sleep(delivery.lanes / START_RATE)
        await function.settlements.settle(settlement)
        await function.judge.settled(settlement)

    return [push_route(PATH, attempt, bury=bury_on(function.publisher, DEAD_LETTERS_TOPIC))]
