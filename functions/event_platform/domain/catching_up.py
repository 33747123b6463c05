"""Catching up where topics keep the events: what a suspension holds back, and who delivers it after a resume.

Pure functions of a subscription. The stores of Google Cloud keep their result in its record.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from .deliveries import Delivery
from .replays import is_catch_up
from .subscriptions import Missed, Status, Subscription

SWITCHED_AFTER = timedelta(seconds=10)
"""The time from a resume until fan-out takes over: longer than instances go by what they have read."""


def with_missed(
    before: Subscription, after: Subscription, *, keep: timedelta, catch_up: bool | None = None
) -> Subscription:
    """Returns the record after a change, with what it has missed; the same object if its status is as before.

    `keep` is how long events are kept. `catch_up` goes before what the subscription says.
    """
    if before.status is after.status:
        return after
    if keep and after.source != "benchmark":  # test events are not kept
        if after.status is Status.SUSPENDED:
            return replace(after, missed=_suspended(before, after.updated_at))
        if after.status is Status.ACTIVE and wants_to_catch_up(after, catch_up):
            return replace(after, missed=_resumed(before, after.updated_at, keep))
    return after if after.missed is None else replace(after, missed=None)


def wants_to_catch_up(subscription: Subscription, catch_up: bool | None) -> bool:
    """True if its resume has it catch up; `catch_up` goes before what the subscription says."""
    return subscription.catch_up if catch_up is None else catch_up


def begins_too_late(subscription: Subscription | None, accepted_at: datetime) -> bool:
    """True if an event that was accepted then is held back, and catching up would begin after it."""
    return (
        subscription is not None
        and subscription.status is Status.SUSPENDED
        and subscription.missed is not None
        and accepted_at < subscription.missed.since
    )


def from_earlier(subscription: Subscription, accepted_at: datetime) -> Subscription:
    """Returns it with catching up from then on; the same object if that begins early enough."""
    if subscription.missed is None or not begins_too_late(subscription, accepted_at):
        return subscription
    return replace(subscription, missed=replace(subscription.missed, since=accepted_at))


def caught_up(subscription: Subscription) -> Subscription:
    """Returns it once all that it missed is in the lanes; the same object if nothing is to note."""
    if subscription.missed is None or subscription.missed.is_done:
        return subscription
    return replace(subscription, missed=replace(subscription.missed, is_done=True))


def left_to_fan_out(active: Sequence[Subscription], accepted_at: datetime) -> Sequence[Subscription]:
    """Returns those that do not get an event that was accepted then by catching up."""
    if all(each.missed is None for each in active):
        return active
    return [each for each in active if each.missed is None or not each.missed.has(accepted_at)]


def of_this_epoch(delivery: Delivery, subscription: Subscription | None, now: datetime) -> Delivery | None:
    """Returns a delivery that waited since before a suspension as one of now, if it is still sent.

    None for any other, and for one whose event comes by catching up.
    """
    if subscription is None or subscription.status is not Status.ACTIVE or subscription.missed is None:
        return None
    missed = subscription.missed
    if not missed.epoch <= delivery.epoch < subscription.epoch or missed.has(delivery.accepted_at):
        return None
    if delivery.replay_id is not None and not is_catch_up(delivery.replay_id):
        return None  # the suspension has ended the replay
    return replace(delivery, epoch=subscription.epoch, entered_at=now)


def _suspended(before: Subscription, at: datetime) -> Missed:
    """Begins again where catching up that was not done began."""
    missed = before.missed
    if missed is None:
        return Missed(before.epoch, at)
    return Missed(missed.epoch, at if missed.is_done else missed.since)


def _resumed(before: Subscription, at: datetime, keep: timedelta) -> Missed:
    missed = before.missed or Missed(before.epoch - 1, before.updated_at)  # suspended without a note
    return replace(missed, since=max(missed.since, at - keep), until=at + SWITCHED_AFTER)
