"""The pace where the queue pushes: when a delivery is sent, and when its push is answered."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import pytest

from event_platform.deliver.edge import HELD_AT_MOST, TRIED_WITHIN
from event_platform.deliver.edge import Push as Pushed
from event_platform.deliver.routes import pipeline
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.deliveries import Delivery
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.pace.lanes import lanes_of_replay
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.paced import SHARED_FOR, shares_turns
from event_platform.domain.subscriptions import Subscription, suspend
from support.clock import START, ManualClock
from support.delivering import DELIVERY, LANES, SUBSCRIPTION, TIMEOUT, Delivering
from support.records import KAFKA_CONFIG

AT_TEN = Limits(10, 10)


@dataclass
class Push:
    """A push on its way, and when it was answered."""

    task: "asyncio.Task[None]"
    answered: list[float]


@dataclass
class AtTheEdge(Delivering):
    """Deliver at ten a second unless a test says otherwise, and when each push is answered."""

    limits: Limits = AT_TEN

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pipeline = pipeline(self.function)

    def push(self, delivery: Delivery = DELIVERY, *, alone: bool = False) -> Push:
        answered: list[float] = []

        async def one() -> None:
            await self.pipeline.carry_out(Pushed(delivery, self.clock.monotonic(), alone))
            answered.append(self.clock.monotonic())

        return Push(asyncio.create_task(one()), answered)

    async def pushed(self, replay_id: str | None = None) -> None:
        """A delivery that is alone in its lane, carried out."""
        push = self.push(replace(DELIVERY, replay_id=replay_id), alone=True)
        await self.clock.advance(0)
        await push.task


def a_429(**headers: str) -> Answer:
    return Answer(429, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


# --- holding -------------------------------------------------------------------------------------------


async def test_a_push_is_answered_at_the_lanes_next_turn() -> None:
    world = AtTheEdge()
    pushes = [world.push(replace(DELIVERY, lane=lane)) for lane in range(LANES)]
    await world.clock.advance(5)
    answered = sorted(push.answered[0] for push in pushes)
    gaps = [later - sooner for sooner, later in pairwise(answered)]
    assert gaps == pytest.approx([0.1] * (LANES - 1), abs=0.01)
    assert world.sent == [0.0] * LANES  # what comes is sent at once: the wait is before the next of the lane


async def test_the_store_is_asked_before_an_attempt_and_at_its_turn_again() -> None:
    world = AtTheEdge()
    push = world.push(replace(DELIVERY, lane=8))
    await world.clock.advance(0)
    asked = world.asked
    await world.clock.advance(5)
    assert push.answered
    assert (asked, world.asked) == (2, 3)


async def test_a_push_to_a_broker_is_answered_at_once() -> None:
    world = AtTheEdge(subscription=replace(SUBSCRIPTION, config=KAFKA_CONFIG))
    delivery = replace(DELIVERY, body=b'{"data":{}}')
    pushes = [world.push(replace(delivery, lane=lane)) for lane in range(LANES)]
    async with asyncio.timeout(5):
        await asyncio.gather(*(push.task for push in pushes))
    assert [push.answered for push in pushes] == [[0.0]] * LANES


async def test_the_lanes_of_a_busy_subscription_send_at_its_rate_together() -> None:
    world = AtTheEdge()

    async def lane(number: int) -> None:
        while True:
            await world.push(replace(DELIVERY, lane=number)).task

    lanes = [asyncio.create_task(lane(number)) for number in range(LANES)]
    await world.clock.advance(10)
    for task in lanes:
        task.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    assert len([moment for moment in world.sent if moment > 0]) == pytest.approx(100, abs=2)


@pytest.mark.parametrize(("is_replaying", "sent"), [(True, 100), (False, 125)])
async def test_the_lanes_of_a_replay_share_the_rate_with_the_others(is_replaying: bool, sent: int) -> None:
    """Without the note in the record, which the first delivery of a replay makes, they would exceed it."""
    world = AtTheEdge()
    assert world.subscription is not None
    world.subscription = replace(world.subscription, replay_id="r")
    world.writable = is_replaying

    async def lane(number: int, replay_id: str | None) -> None:
        while True:
            await world.push(replace(DELIVERY, lane=number, replay_id=replay_id)).task

    lanes = [asyncio.create_task(lane(number, None)) for number in range(LANES)]
    lanes += [asyncio.create_task(lane(number, "r")) for number in range(lanes_of_replay(LANES))]
    await world.clock.advance(20)
    for task in lanes:
        task.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    assert len([moment for moment in world.sent if moment > 10]) == pytest.approx(sent, abs=3)
    assert world.written == (1 if is_replaying else 0)


async def test_turns_are_shared_while_a_replay_is_at_work_and_noted_once_a_minute() -> None:
    world = AtTheEdge()
    assert world.subscription is not None
    world.subscription = replace(world.subscription, replay_id="r")
    for _ in range(3):
        await world.pushed(replay_id="r")
    assert (world.written, world.subscription.shared_until) == (1, START + SHARED_FOR)
    await world.clock.advance(70)
    await world.pushed()
    assert world.written == 1, "what is no replay's extends nothing"
    await world.pushed(replay_id="r")
    assert world.written == 2
    assert shares_turns(world.subscription, world.clock.now() + SHARED_FOR / 2)
    assert not shares_turns(world.subscription, world.clock.now() + SHARED_FOR)


async def test_a_message_that_is_alone_in_its_lane_holds_nothing() -> None:
    world = AtTheEdge()
    push = world.push(alone=True)
    await world.clock.advance(0)
    assert push.answered == [0.0]


async def test_what_ends_unsent_is_not_held() -> None:
    world = AtTheEdge(subscription=suspend(SUBSCRIPTION, START))
    push = world.push()
    await world.clock.advance(0)
    assert (world.sent, push.answered) == ([], [0.0])
    assert world.settled[0].end is not None


async def test_a_push_is_answered_after_45_seconds_however_far_the_turn() -> None:
    world = AtTheEdge(limits=Limits(0.1, 0.1))
    push = world.push(replace(DELIVERY, lane=15))
    await world.clock.advance(HELD_AT_MOST - 0.1)
    assert push.answered == []
    await world.clock.advance(0.2)
    assert push.answered == [HELD_AT_MOST]


async def test_a_push_on_hold_follows_a_rate_that_falls() -> None:
    world = AtTheEdge(limits=Limits(2, 2))
    push = world.push(replace(DELIVERY, lane=12))  # its turn would be after 6 s
    await world.clock.advance(4)
    pause = START + timedelta(seconds=20)
    world.subscription = replace(SUBSCRIPTION, rate=Rate(world.clock.now(), 2, 2, held_until=pause))
    await world.clock.advance(20)
    assert push.answered == []
    await world.clock.advance(4)
    assert push.answered == pytest.approx([26.0], abs=0.01)


async def test_a_push_on_hold_is_let_go_when_the_subscription_is_suspended() -> None:
    world = AtTheEdge(limits=Limits(1, 1))
    push = world.push(replace(DELIVERY, lane=15))
    await world.clock.advance(4)
    world.subscription = suspend(SUBSCRIPTION, world.clock.now())
    await world.clock.advance(2)
    assert push.answered == pytest.approx([6.0], abs=2.0)


# --- 429 -----------------------------------------------------------------------------------------------


async def test_a_429_is_tried_again_at_the_lanes_pace_inside_the_push() -> None:
    world = AtTheEdge([a_429(), a_429(), Answer(200, {}, b"")])
    world.push()
    await world.clock.advance(10)
    assert world.sent == pytest.approx([0.0, 1.6, 3.2], abs=0.01)
    assert world.settled[0].outcome is not None
    assert (world.settled[0].back_to_lane, world.settled[0].delivery.attempts) == (False, 3)
    assert world.settled[0].delivery.failures == 0


async def test_a_429_goes_to_the_lanes_end_with_its_counts_after_30_seconds() -> None:
    world = AtTheEdge([a_429()])
    push = world.push(alone=True)
    await world.clock.advance(HELD_AT_MOST)
    settlement = world.settled[0]
    assert settlement.back_to_lane
    assert world.sent[-1] + TIMEOUT <= TRIED_WITHIN
    assert settlement.delivery.attempts == len(world.sent) == 16
    assert (settlement.delivery.failures, settlement.delivery.first_attempt_at) == (0, START)
    assert world.sent[-1] < push.answered[0] <= HELD_AT_MOST  # it is the lane's next, so it waits its turn


async def test_a_429_lowers_the_rate_before_the_next_attempt() -> None:
    clock = ManualClock(START + timedelta(seconds=10))
    world = AtTheEdge([a_429(), Answer(200, {}, b"")], limits=Limits(1, 100, spread=3), clock=clock)
    world.push()
    await world.clock.advance(5)
    assert world.written == 1
    assert world.subscription is not None
    assert world.subscription.current_rate.base == 10


async def test_an_event_that_is_throttled_for_an_hour_ends() -> None:
    world = AtTheEdge([a_429()])
    tried = replace(DELIVERY, attempts=5, first_attempt_at=START - timedelta(hours=1))
    world.push(tried)
    await world.clock.advance(0)
    assert world.settled[0].end is not None


# --- a pause that the receiver asked for ---------------------------------------------------------------


def paused(seconds: float) -> Subscription:
    until = START + timedelta(seconds=seconds)
    return replace(SUBSCRIPTION, rate=Rate(START, 10, 10, held_until=until))


async def test_a_short_pause_is_waited_for_inside_the_push() -> None:
    world = AtTheEdge(subscription=paused(12))
    push = world.push()
    await world.clock.advance(20)
    assert world.sent == pytest.approx([12.0], abs=1.7)
    assert push.answered


async def test_in_a_long_pause_the_delivery_goes_to_the_lanes_end_untried() -> None:
    world = AtTheEdge(subscription=paused(600))
    push = world.push(alone=True)
    await world.clock.advance(HELD_AT_MOST + 1)
    settlement = world.settled[0]
    assert (world.sent, settlement.back_to_lane, settlement.delivery.attempts) == ([], True, 0)
    assert push.answered == [HELD_AT_MOST]


async def test_retry_after_is_obeyed() -> None:
    clock = ManualClock(START + timedelta(seconds=60))
    world = AtTheEdge([a_429(retry_after="10"), Answer(200, {}, b"")], clock=clock)
    began = clock.monotonic()
    world.push()
    await clock.advance(20)
    assert [moment - began for moment in world.sent] == pytest.approx([0.0, 10.0], abs=1.7)
    assert world.sent[1] - began >= 10


# --- without the store ---------------------------------------------------------------------------------


async def test_a_pace_that_cannot_be_written_fails_no_delivery() -> None:
    world = AtTheEdge(
        [a_429(), Answer(200, {}, b"")], writable=False, clock=ManualClock(START + timedelta(1))
    )
    push = world.push()
    await world.clock.advance(5)
    assert len(world.sent) == 2
    assert world.settled[0].outcome is not None
    assert push.answered


async def test_a_pace_that_cannot_be_read_holds_the_push_at_the_last_one_known() -> None:
    world = AtTheEdge(limits=Limits(2, 2))
    push = world.push(replace(DELIVERY, lane=12))
    await world.clock.advance(1)
    world.readable = False
    await world.clock.advance(6)
    assert push.answered == pytest.approx([6.0], abs=0.01)


async def test_without_the_subscription_the_message_is_pushed_again() -> None:
    world = AtTheEdge(readable=False)
    push = world.push()
    await world.clock.advance(0)
    with pytest.raises(StoreUnavailable):
        await push.task


# --- out of sockets ------------------------------------------------------------------------------------


async def test_a_push_is_tried_again_when_there_are_sockets_again_and_no_retry_is_used_up() -> None:
    world = AtTheEdge(out_of_sockets_until=3.0)
    world.push()
    await world.clock.advance(10)
    (settlement,) = world.settled
    assert settlement.is_delivered
    assert (settlement.delivery.attempts, settlement.delivery.failures) == (1, 0)
    assert len(world.sent) <= 4


async def test_it_goes_back_to_its_lane_when_there_are_none_for_long() -> None:
    world = AtTheEdge(out_of_sockets_until=600.0)
    world.push()
    await world.clock.advance(60)
    (settlement,) = world.settled
    assert (settlement.outcome, settlement.back_to_lane, settlement.end) == (None, True, None)
    assert (settlement.delivery.attempts, settlement.delivery.failures) == (0, 0)
