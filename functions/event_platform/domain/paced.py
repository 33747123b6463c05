"""The pace of a subscription: how answers change it, and what needs none."""

from dataclasses import replace
from datetime import datetime, timedelta

from .pace import rates
from .pace.rates import Limits, Observation
from .replays import is_sent
from .subscriptions import Status, Subscription

SHARED_FOR, SHARED_AGAIN_BEFORE = timedelta(seconds=90), timedelta(seconds=30)
"""The time for which turns are shared after a delivery of a replay, and how long before its end that is
written again."""


def to_be_sent(
    subscription: Subscription | None, epoch: int, replay_id: str | None = None
) -> Subscription | None:
    """The subscription when deliveries of the epoch, and of the replay if there is one, are sent to it.

    What ends unsent needs no pace.
    """
    if subscription is None or subscription.status is not Status.ACTIVE or subscription.epoch != epoch:
        return None
    return subscription if is_sent(replay_id, subscription) else None


def paced(
    subscription: Subscription, seen: Observation, latency: float, now: datetime, limits: Limits
) -> Subscription:
    """Returns it with the rate and the lanes that follow from an attempt; the same object if nothing changes.

    `latency` is the moving average. `updated_at` stays: it is the time of changes by the subscriber.
    """
    rate = rates.after(subscription.current_rate, seen, now, limits)
    lanes = rates.lanes_after(
        subscription.lanes,
        subscription.lanes_changed_at or subscription.created_at,
        rate.at(now, limits),
        latency,
        now,
    )
    if rate != subscription.current_rate:
        subscription = replace(subscription, rate=rate)
    if lanes != subscription.lanes:
        subscription = replace(subscription, lanes=lanes, lanes_changed_at=now)
    return subscription


def with_pace_of(subscription: Subscription, other: Subscription) -> Subscription:
    """The subscription with the rate and the lanes of `other`."""
    return replace(
        subscription,
        rate=other.rate,
        lanes=other.lanes,
        lanes_changed_at=other.lanes_changed_at,
        shared_until=other.shared_until,
    )


def shares_turns(subscription: Subscription, now: datetime) -> bool:
    """True if the lanes of a replay take turns with the others of the subscription."""
    return subscription.shared_until is not None and now < subscription.shared_until


def sharing_turns(subscription: Subscription, now: datetime) -> Subscription:
    """Returns it with turns that are shared for a while; the same object if they are for long enough."""
    until = subscription.shared_until
    if until is not None and now + SHARED_AGAIN_BEFORE < until:
        return subscription
    return replace(subscription, shared_until=now + SHARED_FOR)
