"""Replays where topics keep the events: what is pushed once more, matched for one subscription alone."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import structlog

from ..domain.deliveries import Delivery
from ..domain.filters import Predicate
from ..domain.messages.message import Message
from ..domain.messages.queue_messages import Accepted, deliveries_topic, delivery_message
from ..domain.pace.lanes import lane_of, lanes_of_replay
from ..domain.replays import PushedReplay
from ..domain.subscriptions import Subscription
from ..ports import ActiveSubscriptions, Clock, Publisher, ReplayCounts
from .accepted import CompiledFilters, publish_deliveries
from .matched import fan_out
from .recent_lanes import RecentLanes

log = structlog.get_logger()


async def fan_out_replayed(
    accepted: Accepted,
    pushed: PushedReplay,
    *,
    subscriptions: ActiveSubscriptions,
    publisher: Publisher,
    clock: Clock,
    recent: RecentLanes,
    shards: int,
    schema_base: str,
    compiled: CompiledFilters,
    counts: ReplayCounts,
) -> int:
    """Publishes the deliveries to the replay's subscription, marked with it. Returns their number.

    Nothing is published if it is not sent to the subscription any more; `maintain` ends it. Raises
    StoreUnavailable, and PublishFailed when a delivery was not taken twice.
    """
    active = await subscriptions.active(accepted.tenant)
    subscription = next((each for each in active if pushed.is_of(each)), None)
    if subscription is None:
        return 0
    predicates = await compiled.of(accepted.tenant, active)
    published = await publish_deliveries(
        _deliveries(accepted, pushed, subscription, predicates, schema_base, clock.now()),
        publisher=publisher,
        topic=deliveries_topic(accepted.tenant, shards),
        recent=recent,
    )
    log.info(
        "events.replayed",
        replay_id=pushed.replay.id,
        subscription_id=subscription.id,
        events=len(accepted.events),
        deliveries=published,
    )
    if published:
        await counts.add(pushed.replay.id, events=published)
    return published


def _deliveries(
    accepted: Accepted,
    pushed: PushedReplay,
    subscription: Subscription,
    predicates: Mapping[str, Predicate],
    schema_base: str,
    now: datetime,
) -> Iterator[Message]:
    asked = pushed.replay.asked
    lanes = lanes_of_replay(subscription.lanes)
    for event in accepted.events:
        if (asked.events and event.type not in asked.events) or (
            asked.event_ids and event.id not in asked.event_ids
        ):
            continue
        for match in fan_out(event, [subscription], predicates, schema_base):
            yield delivery_message(
                Delivery(
                    subscription_id=subscription.id,
                    event_id=event.id,
                    event_type=event.type,
                    accepted_at=accepted.accepted_at,
                    lane=lane_of(event.identity, event.id, lanes),
                    lanes=subscription.lanes,
                    epoch=subscription.epoch,
                    body=match.envelope.addressed_to(subscription.id),
                    replay_id=pushed.replay.id,
                    entered_at=now,
                )
            )
