"""Catching up on Google Cloud: what a suspension holds back, and who delivers it after a resume."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from event_platform.deliver.edge import Push
from event_platform.deliver.routes import pipeline
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.catching_up import (
    SWITCHED_AFTER,
    begins_too_late,
    caught_up,
    from_earlier,
    left_to_fan_out,
    of_this_epoch,
    with_missed,
)
from event_platform.domain.deliveries import Delivery
from event_platform.domain.subscriptions import Missed, Status, Subscription, resume, suspend
from support.clock import START
from support.delivering import DELIVERY, SUBSCRIPTION, Delivering

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
ACTIVE = replace(SUBSCRIPTION, catch_up=True)


def suspended(before: Subscription = ACTIVE, minutes: int = 0) -> Subscription:
    return with_missed(before, suspend(before, START + minutes * MINUTE), keep=DAY)


def resumed(before: Subscription, minutes: int = 60, *, catch_up: bool | None = None) -> Subscription:
    return with_missed(before, resume(before, START + minutes * MINUTE), keep=DAY, catch_up=catch_up)


def test_what_was_accepted_since_the_suspension_is_missed() -> None:
    assert suspended().missed == Missed(0, START)
    after = resumed(suspended()).missed
    assert after == Missed(0, START, START + 60 * MINUTE + SWITCHED_AFTER)
    assert after is not None
    assert after.has(START)
    assert after.has(START + 60 * MINUTE)
    assert not after.has(START - MINUTE)
    assert not after.has(START + 61 * MINUTE)


def test_a_resume_may_say_otherwise_than_the_subscription() -> None:
    assert resumed(suspended(), catch_up=False).missed is None
    assert resumed(suspended(SUBSCRIPTION)).missed is None
    assert resumed(suspended(SUBSCRIPTION), catch_up=True).missed is not None


def test_what_was_dropped_earlier_moves_the_beginning_back() -> None:
    held_back = suspended()
    earlier = START - 5 * MINUTE
    assert not begins_too_late(held_back, START)
    assert from_earlier(held_back, START) is held_back
    assert begins_too_late(held_back, earlier)
    after = resumed(from_earlier(held_back, earlier))
    assert after.missed is not None
    assert after.missed.since == earlier
    assert not begins_too_late(after, earlier - MINUTE), "it is resumed"


def test_suspended_again_it_begins_where_it_began_until_it_is_done() -> None:
    again = suspended(resumed(suspended()), minutes=61)
    assert again.missed == Missed(0, START)
    anew = suspended(caught_up(resumed(suspended())), minutes=90)
    assert anew.missed == Missed(0, START + 90 * MINUTE)


def test_it_begins_with_what_is_kept_also_without_a_note_of_the_suspension() -> None:
    late = resumed(suspended(), minutes=2 * 24 * 60).missed
    assert late is not None
    assert late.since == START + timedelta(days=1)
    before = replace(suspend(ACTIVE, START), missed=None)
    assert resumed(before).missed == Missed(0, START, START + 60 * MINUTE + SWITCHED_AFTER)


def test_nothing_is_noted_where_nothing_is_kept_and_of_test_events() -> None:
    assert with_missed(ACTIVE, suspend(ACTIVE, START), keep=timedelta(0)).missed is None
    tested = replace(ACTIVE, source="benchmark")
    assert suspended(tested).missed is None
    assert resumed(replace(suspended(), source="benchmark")).missed is None


def test_an_end_forgets_what_was_missed() -> None:
    held_back = suspended()
    revoked = replace(held_back, status=Status.REVOKED, epoch=2)
    assert with_missed(held_back, revoked, keep=DAY).missed is None


def test_fan_out_leaves_out_who_gets_the_event_by_catching_up() -> None:
    both = [SUBSCRIPTION, resumed(suspended())]
    assert left_to_fan_out(both, START + MINUTE) == [SUBSCRIPTION]
    assert left_to_fan_out(both, START - MINUTE) == both
    assert left_to_fan_out(both, START + 61 * MINUTE) == both
    alone = [SUBSCRIPTION]
    assert left_to_fan_out(alone, START) is alone


@pytest.mark.parametrize(
    ("delivery", "is_sent"),
    [
        (replace(DELIVERY, accepted_at=START - MINUTE), True),
        (DELIVERY, False),  # comes by catching up
        (replace(DELIVERY, accepted_at=START - MINUTE, epoch=2), False),  # is of now
        (replace(DELIVERY, accepted_at=START - MINUTE, replay_id="a-replay"), False),
        (replace(DELIVERY, accepted_at=START - MINUTE, replay_id="catch-up-1"), True),
    ],
)
def test_what_waited_since_before_the_suspension_is_one_of_now(delivery: Delivery, is_sent: bool) -> None:
    now = START + 61 * MINUTE
    current = of_this_epoch(delivery, resumed(suspended()), now)
    assert current == (replace(delivery, epoch=2, entered_at=now) if is_sent else None)


def test_without_catching_up_what_waited_is_dropped() -> None:
    waited = replace(DELIVERY, accepted_at=START - MINUTE)
    for subscription in (None, suspended(), resumed(suspended(), catch_up=False)):
        assert of_this_epoch(waited, subscription, START) is None
    anew = resumed(suspended(resumed(suspended(), catch_up=False), minutes=70), minutes=80)
    assert anew.epoch == 4
    assert of_this_epoch(waited, anew, START) is None, "dropped by the suspension before"


async def test_deliver_puts_it_at_the_end_of_its_lane_and_sends_nothing() -> None:
    world = Delivering(answers=[Answer(200)], subscription=resumed(suspended()))
    waited = replace(DELIVERY, accepted_at=START - MINUTE)
    task = asyncio.create_task(pipeline(world.function).carry_out(Push(waited, 0.0, alone=False)))
    await world.clock.advance(45)
    await task
    (settlement,) = world.settled
    assert (settlement.back_to_lane, settlement.delivery.epoch, world.sent) == (True, 2, [])
