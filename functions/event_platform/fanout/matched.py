"""Matching and fan-out: pure, so that the embedded store can run it inside its own transaction."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from ..domain.deliveries import Delivery
from ..domain.events.benchmarks import is_benchmarked
from ..domain.events.event import Envelope, Event, envelope
from ..domain.filters import Predicate
from ..domain.pace.lanes import lane_of
from ..domain.subscriptions import Recipient, Status
from ..domain.values import value_object


@value_object
class Matched:
    """One delivery to be: a subscription that gets the event, in which lane, and which body."""

    subscription: Recipient
    lane: int
    envelope: Envelope
    with_identifier: bool

    def delivery(self, event: Event, accepted_at: datetime) -> Delivery:
        """Returns the delivery of the event, as it goes into its lane.

        Its lanes and epoch are the subscription's at this moment: what is changed later does not move it.
        """
        return Delivery(
            subscription_id=self.subscription.id,
            event_id=event.id,
            event_type=event.type,
            accepted_at=accepted_at,
            lane=self.lane,
            lanes=self.subscription.lanes,
            epoch=self.subscription.epoch,
            body=self.envelope.addressed_to(self.subscription.id),
        )


def matches(event: Event, subscription: Recipient, predicates: Mapping[str, Predicate]) -> bool:
    """True if an active subscription of the event's tenant gets the event.

    A test event goes by whose it is. `predicates` has the subscription's filter compiled.
    """
    if event.benchmark_client is not None:
        return subscription.status is Status.ACTIVE and is_benchmarked(event, subscription)
    return (
        subscription.status is Status.ACTIVE
        and subscription.source == "pim"
        and event.type in subscription.events
        and (subscription.filter is None or predicates[subscription.filter](event.facts))
    )


def fan_out(
    event: Event,
    subscriptions: Iterable[Recipient],
    predicates: Mapping[str, Predicate],
    schema_base: str,
    variants: dict[bool, Envelope] | None = None,
) -> list[Matched]:
    """The deliveries of one event. Each variant of the body is rendered at most once and shared.

    `variants` keeps them from one group of the event's subscriptions to the next.
    """
    optional_identifier = event.facts.has_identifier
    variants = {} if variants is None else variants
    matched: list[Matched] = []
    for subscription in subscriptions:
        if not matches(event, subscription, predicates):
            continue
        with_identifier = subscription.send_product_identifier or not optional_identifier
        if with_identifier not in variants:
            variants[with_identifier] = envelope(event, schema_base, with_identifier=with_identifier)
        lane = lane_of(event.identity, event.id, subscription.lanes)
        matched.append(Matched(subscription, lane, variants[with_identifier], with_identifier))
    return matched
