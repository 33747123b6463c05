"""What every keeper of paces must do: the port `Paces`, and `SubscriptionLookup` as deliver sees it.

A subclass gives the fixture `world`, empty at the start of each test.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import pytest

from event_platform.deliver import Observer
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.paced import paced
from event_platform.domain.subscriptions import Status, Subscription, suspend
from event_platform.ports import Paces, SubscriptionLookup, Subscriptions
from support.clock import START, ManualClock
from support.observing import observe
from support.records import OWNER, UPDATED, subscribed

LIMITS = Limits(spread=3)
SEEN_WITHIN = 5.0
"""Seconds: Google's instances keep copies."""


class Keeper(Paces, SubscriptionLookup, Protocol):
    """Both ports in one object, as an instance of deliver has them."""


class PacesSide(Protocol):
    """`instances` are keepers of the same paces; `records` is where management changes subscriptions."""

    clock: ManualClock

    @property
    def records(self) -> Subscriptions: ...

    @property
    def instances(self) -> Sequence[Keeper]: ...


def a_429(began: float, sent_under: Rate) -> Observation:
    """Of an attempt that began so many seconds after the start."""
    return Observation(START + timedelta(seconds=began), sent_under, 0.1, throttled=True)


def told(subscription: Subscription, seen: Observation) -> Settlement:
    return Settlement(Delivery(subscription.id, "event-1", UPDATED, START, 0, 16, 0, b"{}"), None, pace=seen)


# Changes travel between processes, so they are no functions within another one.

SEEN: list[Rate | None] = []


def lowered(before: Subscription, *, now: datetime) -> Subscription:
    """A rate for a record without one, which is noted."""
    SEEN.append(before.rate)
    return before if before.rate else replace(before, rate=Rate(now, 1, 2))


def unchanged(before: Subscription) -> Subscription:
    return before


class PacesContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> PacesSide:
        raise AssertionError("a subclass gives the world")

    @pytest.fixture
    async def subscription(self, world: PacesSide) -> Subscription:
        (subscription,) = await subscribed(world.records)
        return subscription

    async def known(self, keeper: Keeper, subscription: Subscription) -> Subscription:
        found = await keeper.current(subscription.id)
        assert found is not None
        return found

    async def throttle(self, world: PacesSide, keeper: Keeper, subscription: Subscription) -> Rate:
        """A 429 of an attempt a second ago; the rate that is known after it."""
        sent_under = (await self.known(keeper, subscription)).current_rate
        now = world.clock.now()
        seen = Observation(now - timedelta(seconds=1), sent_under, 0.1, throttled=True)
        await keeper.change_pace(
            subscription.id, partial(paced, seen=seen, latency=0.1, now=now, limits=LIMITS)
        )
        return (await self.known(keeper, subscription)).current_rate

    async def test_a_subscription_begins_at_the_rate_that_all_begin_with(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        found = await self.known(world.instances[0], subscription)
        assert (found.rate, found.current_rate) == (None, Rate(subscription.created_at))

    async def test_what_was_written_is_known_at_once_and_to_others_within_5_seconds(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        for keeper in world.instances:
            await self.known(keeper, subscription)
        for seconds in (10, 20, 20):
            await world.clock.advance(seconds)
            rate = await self.throttle(world, world.instances[0], subscription)
            assert rate.since == world.clock.now()
            await world.clock.advance(SEEN_WITHIN)
            for keeper in world.instances:
                assert (await self.known(keeper, subscription)).rate == rate

    async def test_a_hold_comes_back_as_it_was_written(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        until = START + timedelta(seconds=70, microseconds=123_456)
        rate = Rate(START + timedelta(microseconds=1), 1 / 3, 2 / 3, held_until=until)
        for keeper in world.instances:
            await keeper.change_pace(subscription.id, partial(replace, rate=rate))
            assert (await self.known(keeper, subscription)).rate == rate

    async def test_instances_that_see_429s_at_once_lower_the_rate_once(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        await world.clock.advance(10)
        observers = [Observer(keeper, keeper, world.clock, LIMITS) for keeper in world.instances]
        for began in (9.0, 29.0):
            sent_under = (await self.known(world.instances[0], subscription)).current_rate
            seen = [
                (observer, a_429(began + lane / 100, sent_under))
                for observer in observers
                for lane in range(8)
            ]
            await asyncio.gather(*(observe(observer, told(subscription, each)) for observer, each in seen))
            rate = (await self.known(world.instances[0], subscription)).current_rate
            assert rate.since == world.clock.now()
            lowest = sent_under.at(START + timedelta(seconds=began), LIMITS) / 2
            assert lowest <= rate.base <= lowest + 0.1
            await world.clock.advance(20)

    async def test_the_loser_of_a_race_sees_what_the_winner_wrote(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        await world.clock.advance(10)
        SEEN.clear()
        lower = partial(lowered, now=world.clock.now())
        await asyncio.gather(*(keeper.change_pace(subscription.id, lower) for keeper in world.instances))
        assert SEEN.count(None) < len(SEEN) or len(world.instances) == 1
        for keeper in world.instances:
            assert (await self.known(keeper, subscription)).rate == Rate(world.clock.now(), 1, 2)

    async def test_lanes_are_in_the_record_and_it_counts_as_unchanged(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        now = START + timedelta(seconds=40)
        await world.instances[0].change_pace(
            subscription.id, partial(replace, lanes=64, lanes_changed_at=now)
        )
        stored = await world.records.subscription(OWNER, subscription.subscriber_id, subscription.id)
        assert stored == replace(subscription, lanes=64, lanes_changed_at=now)

    async def test_nothing_else_of_what_a_change_returns_is_written(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        change = partial(replace, lanes=8, rate=Rate(START, 1, 2), status=Status.REVOKED, epoch=7)
        await world.instances[0].change_pace(subscription.id, change)
        found = await self.known(world.instances[0], subscription)
        assert (found.lanes, found.status, found.epoch) == (8, Status.ACTIVE, 0)

    async def test_a_change_of_the_subscription_leaves_its_pace(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        await world.clock.advance(10)
        rates = [await self.throttle(world, world.instances[0], subscription)]
        await world.clock.advance(20)
        rates.append(await self.throttle(world, world.instances[0], subscription))
        assert rates[0] != rates[1]
        await world.records.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, partial(suspend, now=world.clock.now())
        )
        await world.clock.advance(SEEN_WITHIN)
        found = await self.known(world.instances[0], subscription)
        assert (found.status, found.rate) == (Status.SUSPENDED, rates[1])

    async def test_what_returns_the_same_writes_nothing(
        self, world: PacesSide, subscription: Subscription
    ) -> None:
        await world.instances[0].change_pace(subscription.id, unchanged)
        assert await self.known(world.instances[0], subscription) == subscription

    async def test_a_change_of_the_pace_of_no_record_is_none(self, world: PacesSide) -> None:
        await world.instances[0].change_pace("unknown", partial(replace, lanes=1))
        assert await world.instances[0].current("unknown") is None
