"""How much of what waits on disk is in memory at once, after a start with a long queue."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aep.broker import dispatcher
from aep.broker.queue import LaneKey, Queued
from contract.broker import Consumer
from contract.test_embedded import EmbeddedWorld, WorkersWorld
from event_platform.domain.lanes import LANES_AT_START
from eventually import eventually
from records import PIM, a_subscriber, a_subscription, an_event

IN_MEMORY = 40_000
AT_ONCE = 10_000


@pytest.fixture(params=[EmbeddedWorld, WorkersWorld], ids=["in-one-process", "with-workers"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[EmbeddedWorld]:
    world = request.param(tmp_path / "data")
    yield world
    await world.crash()


async def test_lanes_that_read_at_the_same_time_share_the_memory(
    world: EmbeddedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "BYTES_IN_MEMORY", IN_MEMORY)
    monkeypatch.setattr(dispatcher, "BYTES_AT_ONCE", AT_ONCE)
    subscriber = a_subscriber()
    await world.subscriptions.add_subscriber(subscriber, limit=20)
    await world.subscriptions.add_subscription(a_subscription(subscriber), lambda _: None, limit=20)
    await world.intake.accept(PIM, [an_event(number) for number in range(400)])
    read: list[int] = []
    waiting = world.intake.waiting

    async def noted(key: LaneKey, after: int, limit: int, room: int) -> list[Queued]:
        found = await waiting(key, after, limit, room)
        read.extend(entry.size() for entry in found)
        return found

    monkeypatch.setattr(world.intake, "waiting", noted)
    consumer = Consumer()
    consumer.released.clear()
    await world.start(consumer)
    await eventually(lambda: len(consumer.got) == LANES_AT_START)
    first_of_each_lane = LANES_AT_START * max(read)  # comes whatever its size
    assert IN_MEMORY / 2 < sum(read) <= IN_MEMORY + first_of_each_lane
    consumer.released.set()
    await eventually(lambda: len(consumer.got) == 400)
