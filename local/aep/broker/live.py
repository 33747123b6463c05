"""The live side of the broker on one machine and its senders: in the owner of the file, or in a worker."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.adapters.kafka import KafkaOnFirstUse
from event_platform.adapters.pubsub.topics import PubSubTopics, rules_on_one_machine
from event_platform.deliver import Judge, Observer, Senders, deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.ports import Clock, Paces, Sender, SubscriptionChanges, SubscriptionLookup, SuccessCounts
from event_platform.settings import Settings

from ..runtime.stopping import CONNECTIONS_SECONDS
from .dispatcher import Dispatcher, LaneQueue
from .pacer import Pacer


class Records(SubscriptionLookup, SubscriptionChanges, Paces, Protocol):
    """The records that delivery needs: the subscriptions and their paces."""


class Outgoing:
    """The senders of a process, behind one guard. `watched` wraps the one that sends https deliveries."""

    def __init__(
        self, settings: Settings, watched: Callable[[Sender], Sender] = lambda sender: sender
    ) -> None:
        self.guard = GuardedNetwork(
            allow_loopback=settings.dev,
            allow_networks=settings.allow_networks,
            refuse_networks=settings.refuse_networks,
        )
        self.https = HttpsSender(self.guard)
        self.topic_rules = rules_on_one_machine(settings.destination_account)
        self.topics = PubSubTopics(self.topic_rules)
        self._kafka = KafkaOnFirstUse(self.guard)
        self.senders = Senders(watched(self.https), self.topics, self._kafka.sender, settings.event_types)

    async def close(self) -> None:
        """Closes all connections. Those that take longer than they may end with the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECTIONS_SECONDS):
                await asyncio.gather(self.https.close(), self.topics.close(), self._kafka.close())


def dispatcher(
    settings: Settings,
    queue: LaneQueue,
    subscriptions: Records,
    counts: SuccessCounts,
    senders: Senders,
    clock: Clock,
    *,
    on_fault: Callable[[BaseException], None],
) -> Dispatcher:
    """Builds the dispatcher with paces, observer and judge, for the deliveries that the queue holds."""
    egress, limits = Egress(), settings.rate_limits()
    return Dispatcher(
        queue,
        partial(
            deliver,
            subscriptions=subscriptions,
            senders=senders,
            clock=clock,
            policy=settings.deliver_policy(),
            egress=egress,
        ),
        Pacer(subscriptions, clock, limits),
        Observer(subscriptions, subscriptions, clock, limits),
        Judge(counts, subscriptions, egress, clock),
        clock,
        on_fault=on_fault,
    )
