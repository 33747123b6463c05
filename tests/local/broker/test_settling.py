"""When the dispatcher waits for the file: after what is not simply delivered, and after too much that is."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from contract.suites.broker import Consumer, delivered
from contract.test_embedded import BrokerWithWorkers, EmbeddedBroker
from event_platform.budget import Budget
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.subscriptions import Subscription
from support.eventually import eventually
from support.records import PIM, an_event

AHEAD = 16
"""The most of a lane that an end of the process repeats (docs/decisions/0024-ahead-of-the-file.md)."""


class Held:
    """A job that holds the writer of the file up, from when it runs until it is let go."""

    def __init__(self, world: EmbeddedBroker) -> None:
        self._runs, self._go_on = threading.Event(), threading.Event()
        self._done = asyncio.ensure_future(world.database.write(lambda _: self._hold()))

    def _hold(self) -> None:
        self._runs.set()
        self._go_on.wait(10)

    async def runs(self) -> None:
        await asyncio.to_thread(self._runs.wait, 10)

    async def let_go(self) -> None:
        self._go_on.set()
        await self._done


@pytest.fixture(params=[EmbeddedBroker, BrokerWithWorkers], ids=["in-one-process", "with-workers"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedBroker]:
    async with request.param(tmp_path / "data") as world:
        yield world


@pytest.fixture
async def subscription(world: EmbeddedBroker) -> Subscription:
    (subscription,) = await world.subscribe()
    return subscription


async def accept(world: EmbeddedBroker, numbers: range) -> None:
    await world.intake.accept(PIM, [an_event(number, entity="one") for number in numbers])


async def taken_while_the_writer_is_held(
    world: EmbeddedBroker, numbers: range, *answers: Callable[[Delivery], Settlement]
) -> tuple[Consumer, Held]:
    """A receiver that begins to answer once nothing can be settled; the events are on disk by then."""
    consumer = Consumer(*answers)
    consumer.released.clear()
    await world.start(consumer)
    await accept(world, numbers)
    held = Held(world)
    await held.runs()
    consumer.released.set()
    return consumer, held


def events(numbers: range) -> list[str]:
    return [f"event-{number}" for number in numbers]


async def test_a_lane_goes_on_ahead_of_the_file_for_so_many_that_were_delivered(
    world: EmbeddedBroker, subscription: Subscription
) -> None:
    consumer, held = await taken_while_the_writer_is_held(world, range(AHEAD + 5))
    await eventually(lambda: len(consumer.got) == AHEAD + 1)
    await world.clock.advance(1)
    assert consumer.events == events(range(AHEAD + 1))
    await held.let_go()
    await eventually(lambda: len(consumer.got) == AHEAD + 5)
    assert consumer.events == events(range(AHEAD + 5))


async def test_an_end_of_the_process_repeats_what_was_ahead_in_its_order(
    world: EmbeddedBroker, subscription: Subscription, tmp_path: Path
) -> None:
    consumer, held = await taken_while_the_writer_is_held(world, range(5))
    await eventually(lambda: len(consumer.got) == 5)
    shutil.copytree(tmp_path / "data", tmp_path / "left")  # what a kill would leave
    await held.let_go()
    left, again = EmbeddedBroker(tmp_path / "left"), Consumer()
    await left.start(again)
    await eventually(lambda: len(again.got) == 5)
    assert again.events == events(range(5))
    await left.close()


async def test_a_lane_waits_for_the_file_after_anything_else(
    world: EmbeddedBroker, subscription: Subscription
) -> None:
    def fails(delivery: Delivery) -> Settlement:
        due = world.clock.now().replace(hour=23)
        return Settlement(delivery, Outcome(Kind.RETRYABLE, Reason.CONNECTION_REFUSED), retry_at=due)

    consumer, held = await taken_while_the_writer_is_held(world, range(2), fails, delivered)
    await world.clock.advance(1)
    assert consumer.events == events(range(1))
    await held.let_go()
    await eventually(lambda: consumer.events == events(range(2)))


async def test_what_is_ahead_of_the_file_is_not_read_from_it_again(
    world: EmbeddedBroker, subscription: Subscription
) -> None:
    world.budget = Budget(0, 0, 0)  # so that all is read from disk
    consumer = Consumer()
    consumer.released.clear()
    await world.start(consumer)
    await accept(world, range(1))
    await eventually(lambda: consumer.got)
    before = Held(world)
    await before.runs()
    more = asyncio.ensure_future(accept(world, range(1, 4)))
    await asyncio.sleep(0)
    beside = Held(world)  # in the commit of the new events
    await before.let_go()
    await beside.runs()
    behind = Held(world)  # in the next one, with the settlement of the event before them
    consumer.released.set()
    await eventually(lambda: not consumer.outstanding.total())
    await beside.let_go()
    await more
    await eventually(lambda: len(consumer.got) >= 4)
    await behind.let_go()
    await world.clock.advance(1)
    assert consumer.events == events(range(4))


async def test_a_stop_waits_for_what_is_ahead_of_the_file(
    world: EmbeddedBroker, subscription: Subscription
) -> None:
    consumer, held = await taken_while_the_writer_is_held(world, range(3))
    await eventually(lambda: len(consumer.got) == 3)
    stopping = asyncio.ensure_future(world.stop())
    await world.clock.advance(1)
    assert not stopping.done()
    await held.let_go()
    await stopping
    assert await world.left_over() == 0
