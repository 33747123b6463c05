"""The pace on one machine: what is written, and when the next delivery may leave."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest

from aep.broker.pacer import Pacer
from event_platform.adapters.seal import AesGcmSeal
from event_platform.deliver import Observer
from event_platform.documents import subscription_document, subscription_of
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.subscriptions import Subscription, suspend
from support.clock import START
from support.embedded import Embedded
from support.observing import observe
from support.records import KAFKA_CONFIG, OWNER, PIM, UPDATED, a_subscriber, a_subscription

SEAL = AesGcmSeal(b"\x01" * 32)


class Paced(Embedded):
    """A pacer on a store with one subscription."""

    subscription: Subscription

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store = self.subscriptions
        self.pacer = Pacer(self.store, self.clock, Limits())
        self.observer = Observer(self.store, self.store, self.clock, Limits())

    async def current(self) -> Subscription:
        found = await self.store.current(self.subscription.id)
        assert found is not None
        return found

    async def documents(self) -> list[tuple[float, str]]:
        return await self.rows("SELECT updated_at, document FROM subscriptions")

    async def observe(self, *seen: Observation) -> None:
        """Told at once, as by so many lanes."""
        await asyncio.gather(*(observe(self.observer, self.settled(each)) for each in seen))

    def settled(self, seen: Observation) -> Settlement:
        delivery = Delivery(self.subscription.id, "event-1", UPDATED, START, 0, 16, 0, b"{}")
        return Settlement(delivery, None, pace=seen)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Paced]:
    async with Paced(tmp_path) as world:
        (world.subscription,) = await world.subscribe()
        yield world


def at(seconds: float) -> Observation:
    """A 429 of an attempt under the first rate that began so many seconds after the start."""
    return Observation(START + timedelta(seconds=seconds), Rate(START), 0.1, throttled=True)


async def test_sixteen_lanes_that_see_429s_at_once_lower_the_rate_once(world: Paced) -> None:
    await world.clock.advance(10)
    await world.observe(*(at(9 + number / 100) for number in range(16)))
    rate = (await world.current()).current_rate
    assert (rate.base, rate.ceiling) == (9.5, pytest.approx(17.1))


async def test_the_pace_is_stored_and_the_record_counts_as_unchanged(world: Paced) -> None:
    ((updated_at, _),) = await world.documents()
    await world.clock.advance(10)
    await world.observe(at(9))
    ((still, document),) = await world.documents()
    assert subscription_of(orjson.loads(document), SEAL) == await world.current()
    assert (await world.current()).rate is not None
    assert (still, (await world.current()).updated_at) == (updated_at, world.subscription.updated_at)


async def test_more_lanes_are_in_force_for_the_next_event(world: Paced) -> None:
    async def lanes() -> int:
        return await world.database.write(
            lambda connection: world.store.active.of(connection, PIM, UPDATED).all[0].lanes
        )

    assert await lanes() == 16
    await world.clock.advance(40)
    await world.observe(Observation(START + timedelta(seconds=39), Rate(START), 1.0))
    assert await lanes() == 64
    assert (await world.current()).rate is None


async def test_a_change_of_the_pace_of_no_record_is_none(world: Paced) -> None:
    await world.store.change_pace("unknown", lambda before: replace(before, lanes=1))


def test_a_document_from_before_the_rate_has_the_rate_at_the_start() -> None:
    subscription = a_subscription(a_subscriber())
    document = subscription_document(subscription, SEAL)
    del document["rate"], document["lanes_changed_at"]
    assert subscription_of(document, SEAL) == subscription
    assert subscription.current_rate == Rate(subscription.created_at)


async def test_deliveries_leave_at_the_rate(world: Paced) -> None:
    left: list[float] = []

    async def lane() -> None:
        while True:
            await world.pacer.wait(world.subscription.id, 0)
            left.append(world.clock.monotonic())

    lanes = [asyncio.create_task(lane()) for _ in range(4)]
    await world.clock.advance(3)
    for task in lanes:
        task.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    assert len(left) == pytest.approx(10 * 3 + 3**2 / 2, abs=2)


async def test_a_pause_ends_for_what_is_suspended_meanwhile(world: Paced) -> None:
    await world.clock.advance(10)
    await world.observe(replace(at(9), retry_after=START + timedelta(seconds=1000)))
    waiting = asyncio.create_task(world.pacer.wait(world.subscription.id, 0))
    await world.clock.advance(5)
    assert not waiting.done()
    await world.store.change_subscription(
        OWNER,
        world.subscription.subscriber_id,
        world.subscription.id,
        partial(suspend, now=world.clock.now()),
    )
    await world.clock.advance(1)
    assert waiting.done()


async def test_brokers_have_no_pace(world: Paced) -> None:
    subscription = a_subscription(a_subscriber(), config=KAFKA_CONFIG)
    lookup = Lookup(subscription)
    pacer = Pacer(lookup, world.clock, Limits(1, 1))
    async with asyncio.timeout(5):
        for _ in range(100):
            await pacer.wait(subscription.id, 0)


class Lookup:
    """The port `SubscriptionLookup`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def current(self, subscription_id: str) -> Subscription | None:
        return self._subscription


async def left_within(
    world: Paced, seconds: float, *, new_ones: bool, lanes_of_new: int = 16
) -> tuple[int, int]:
    """Returns how many new deliveries and how many of a replay left in that time, these from 16 lanes."""
    subscription = replace(await world.current(), replay_id="r-1")
    world.store.remember([subscription])
    counts = {"new": 0, "replayed": 0}

    async def lane(kind: str) -> None:
        while True:
            if kind == "new":
                await world.pacer.wait(subscription.id, 0)
            else:
                await world.pacer.wait_beside(subscription.id, 0, "r-1", lambda: new_ones)
            counts[kind] += 1
            await asyncio.sleep(0)

    kinds = ["replayed"] * 16 + ["new"] * lanes_of_new * new_ones
    lanes = [asyncio.ensure_future(lane(kind)) for kind in kinds]
    await world.clock.advance(seconds)
    for each in lanes:
        each.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    return counts["new"], counts["replayed"]


@pytest.mark.parametrize(("lanes", "share"), [(1, 1 / 2), (2, 1 / 3), (5, 1 / 6), (16, 1 / 6), (64, 1 / 6)])
async def test_a_replay_has_its_share_of_the_rate_while_new_ones_wait(
    world: Paced, lanes: int, share: float
) -> None:
    """From a half to a sixth, so that new ones get on at 5/6 of their pace where many lanes of them wait."""
    new, replayed = await left_within(world, 20, new_ones=True, lanes_of_new=lanes)
    assert replayed / (new + replayed) == pytest.approx(share, abs=0.03)
    assert replayed <= new + 1


async def test_who_gives_up_in_line_holds_up_nobody(world: Paced) -> None:
    waiting = [asyncio.ensure_future(world.pacer.wait(world.subscription.id, 0)) for _ in range(9)]
    await world.clock.advance(0)
    for each in waiting[1::2]:
        each.cancel()
    await world.clock.advance(10)
    assert [each.cancelled() for each in waiting] == [bool(place % 2) for place in range(9)]
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_replay_alone_has_the_whole_rate(world: Paced) -> None:
    _, alone = await left_within(world, 20, new_ones=False)
    await world.clock.advance(1)
    new, replayed = await left_within(world, 20, new_ones=True)
    assert alone > 300
    assert new > replayed > 10  # nothing is owed for the time alone


async def test_a_delivery_of_a_cancelled_replay_waits_for_nothing(world: Paced) -> None:
    await asyncio.gather(
        *(world.pacer.wait_beside(world.subscription.id, 0, "cancelled", lambda: True) for _ in range(100))
    )
