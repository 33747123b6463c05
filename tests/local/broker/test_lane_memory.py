"""How many bytes of what waits on disk are in memory at once, and whose."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aep.broker import dispatcher
from aep.broker.queued import SMALL_BODY
from contract.suites.broker import BrokerContract, Consumer, delivered, failing
from contract.test_embedded import BrokerWithWorkers, EmbeddedBroker
from event_platform.budget import Budget
from event_platform.domain.attempts.outcomes import Kind, Outcome
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.events.event import Event
from event_platform.domain.pace.lanes import LANES_AT_START
from event_platform.domain.subscriptions import Owner, Subscription
from support.eventually import eventually
from support.records import CATEGORY, PIM, UPDATED, an_event

LARGE = 2 * SMALL_BODY
HOG, OTHER = Owner(PIM, "hog"), Owner(PIM, "other")


@pytest.fixture(params=[EmbeddedBroker, BrokerWithWorkers], ids=["in-one-process", "with-workers"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedBroker]:
    async with request.param(tmp_path / "data") as world:
        yield world


async def subscribe(world: EmbeddedBroker, owner: Owner, event_type: str) -> Subscription:
    (subscription,) = await world.subscribe(owner=owner, events=[event_type])
    return subscription


def large(number: int, *, entity: str | None = None) -> Event:
    event = an_event(number, entity=entity)
    return replace(event, data_json=event.data_json[:-1] + b',"filler":"%b"}' % (b"x" * LARGE))


def bytes_in_flight(consumer: Consumer) -> int:
    return sum(len(delivery.body) for delivery in consumer.got)


@pytest.mark.parametrize("is_waiting", [True, False], ids=["waiting-on-disk", "coming-in"])
async def test_large_events_of_one_owner_are_bounded_and_small_ones_of_another_do_not_wait(
    world: EmbeddedBroker, *, is_waiting: bool
) -> None:
    for _ in range(4):
        await subscribe(world, HOG, UPDATED)
    await subscribe(world, OTHER, CATEGORY)
    world.budget = Budget(shared=20 * LARGE, reserve=4 * LARGE, minimum=SMALL_BODY)
    events = [large(number) for number in range(20)]
    consumer = Consumer()
    consumer.released.clear()
    if is_waiting:
        await world.intake.accept(PIM, events)
        await world.start(consumer)
    else:
        await world.start(consumer)
        await world.intake.accept(PIM, events)
    await eventually(lambda: bytes_in_flight(consumer) >= 5 * LARGE)
    await world.clock.advance(1)
    assert bytes_in_flight(consumer) < 7.5 * LARGE  # a quarter, one beyond it, and what is around the filler
    await world.intake.accept(PIM, [an_event(99, event_type=CATEGORY)])
    await eventually(lambda: "event-99" in consumer.events)
    consumer.released.set()
    await eventually(lambda: len(consumer.got) == 4 * 20 + 1)
    assert sorted(consumer.events) == sorted([f"event-{number}" for number in range(20)] * 4 + ["event-99"])
    await eventually(lambda: world.budget.in_use == 0)
    await BrokerContract().assert_empty(world)


async def test_lanes_that_read_at_the_same_time_share_the_memory(
    world: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "BYTES_AT_ONCE", 10_000)
    await subscribe(world, HOG, UPDATED)
    await world.intake.accept(PIM, [an_event(number) for number in range(400)])
    world.budget = Budget(shared=200_000, reserve=0, minimum=0)
    consumer = Consumer()
    consumer.released.clear()
    await world.start(consumer)
    await eventually(lambda: len(consumer.got) == LANES_AT_START)
    assert world.budget.in_use <= 200_000 / 4 + 1000
    consumer.released.set()
    await eventually(lambda: len(consumer.got) == 400)
    await eventually(lambda: world.budget.in_use == 0)


async def test_the_order_of_a_lane_stays_when_bodies_are_read_late(world: EmbeddedBroker) -> None:
    await subscribe(world, HOG, UPDATED)
    world.budget = Budget(0, 0, 0)
    consumer = Consumer()
    await world.start(consumer)
    for start in range(0, 12, 3):
        events = [large(number, entity="one") for number in range(start, start + 3)]
        await world.intake.accept(PIM, events)
    await eventually(lambda: len(consumer.got) == 12)
    assert consumer.events == [f"event-{number}" for number in range(12)]
    assert all(len(delivery.body) > LARGE for delivery in consumer.got)


async def test_a_large_delivery_is_whole_again_after_a_fault_of_ours_and_after_a_429(
    world: EmbeddedBroker,
) -> None:
    def back(delivery: Delivery) -> Settlement:
        return Settlement(delivery, Outcome(Kind.THROTTLED, None, 429), back_to_lane=True)

    await subscribe(world, HOG, UPDATED)
    consumer = Consumer(failing, back, delivered)
    await world.start(consumer)
    await world.intake.accept(PIM, [large(1)])
    await eventually(lambda: consumer.got)
    await eventually(lambda: not world.busy_lanes())
    await world.clock.advance(1)
    await eventually(lambda: len(consumer.got) == 3)
    assert len({delivery.body for delivery in consumer.got}) == 1
    await eventually(lambda: world.budget.in_use == 0)
    await BrokerContract().assert_empty(world)


async def test_what_waits_for_the_file_keeps_no_large_body(
    world: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribe(world, HOG, UPDATED)
    await world.start(Consumer())
    settled: list[Settlement] = []

    def noted(
        settle_soon: Callable[[Settlement], asyncio.Future[Any]], settlement: Settlement
    ) -> asyncio.Future[Any]:
        settled.append(settlement)
        return settle_soon(settlement)

    for queue in world.queues:
        monkeypatch.setattr(queue, "settle_soon", partial(noted, queue.settle_soon))
    await world.intake.accept(PIM, [large(1)])
    await eventually(lambda: settled)
    assert settled[0].delivery.body == b""


async def test_what_waits_for_a_store_that_is_away_keeps_no_body(
    world: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of many lanes may have several such deliveries, whose bodies no budget counts any more."""
    await subscribe(world, HOG, UPDATED)
    await world.start(Consumer())
    settled: list[Settlement] = []

    def is_away(settlement: Settlement) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreUnavailable("for the test"))
        return future

    async def noted(settlement: Settlement) -> None:
        settled.append(settlement)

    for queue in world.queues:
        monkeypatch.setattr(queue, "settle_soon", is_away)
        monkeypatch.setattr(queue, "settle", noted)
    await world.intake.accept(PIM, [an_event(1)])
    await eventually(lambda: settled)
    assert settled[0].delivery.body == b""
