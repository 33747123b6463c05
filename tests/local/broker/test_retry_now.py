"""Retries that are made due before their time."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from aep.store import retries
from contract.suites.broker import Consumer
from contract.test_embedded import EmbeddedBroker
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.subscriptions import Subscription
from support.eventually import eventually
from support.records import PIM, an_event


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker(tmp_path / "data") as world:
        yield world


async def subscribe(world: EmbeddedBroker) -> Subscription:
    (subscription,) = await world.subscribe()
    return subscription


async def test_all_of_one_subscription_come_now_and_no_others(
    world: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LOOKED_AT", 2)  # several steps
    wanted, other = await subscribe(world), await subscribe(world)

    def fails(delivery: Delivery) -> Settlement:
        due = world.clock.now() + timedelta(minutes=20 - len(consumer.got))
        return Settlement(delivery, Outcome(Kind.RETRYABLE, Reason.CONNECTION_REFUSED), retry_at=due)

    consumer = Consumer(*[fails] * 8)
    await world.start(consumer)
    await world.intake.accept(PIM, [an_event(number, entity="one") for number in range(4)])
    await eventually(lambda: len(consumer.got) == 8)
    await world.clock.advance(1)
    consumer.got.clear()

    assert await world.intake.retry_now(wanted.id) == 4
    await eventually(lambda: len(consumer.got) == 4)
    assert {delivery.subscription_id for delivery in consumer.got} == {wanted.id}
    assert await world.intake.retry_now(wanted.id) == 0
    await world.clock.advance(30 * 60)
    await eventually(lambda: len(consumer.got) == 8)
    assert {delivery.subscription_id for delivery in consumer.got[4:]} == {other.id}


async def test_those_of_a_subscription_that_is_not_known_are_none(world: EmbeddedBroker) -> None:
    await world.start(Consumer())

    assert await world.intake.retry_now("0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f") == 0
