"""Settling of what receivers took: many deliveries at once, of which some may have gone already."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from aep.broker import queue as broker_queue
from aep.broker.queued import Taken
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.subscriptions import Owner
from support.embedded import Embedded
from support.records import PIM, an_event

OTHER = "https://other.example.com"


class TwoPims(Embedded):
    """The queue on a folder, with a subscription of each PIM."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, keeps=False)
        self._numbers = count(1)

    async def accepted(self, number: int, pim: str = PIM) -> list[Taken]:
        """The deliveries of so many events, as a worker tells that they were taken."""
        before = len(self.put)
        await self.queue.accept(pim, [an_event(next(self._numbers)) for _ in range(number)])
        return [
            (
                each.receipt.key.subscription_no,
                each.receipt.key.lane,
                each.receipt.position,
                each.receipt.event_no,
                each.subscription_id,
                each.accepted_at,
                204,
                7,
            )
            for each in self.put[before:]
        ]

    async def settle(self, taken: Sequence[Taken]) -> list[Sequence[Taken]]:
        """The parts in which they were settled."""
        parts = list(self.queue.settle_taken(taken))
        await asyncio.gather(*(future for _, future in parts))
        return [part for part, _ in parts]

    async def left(self) -> tuple[int, int]:
        """The deliveries and the events in the file."""
        return await self.count("deliveries"), await self.count("events")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TwoPims]:
    async with await TwoPims(tmp_path).open() as world:
        for pim in (PIM, OTHER):
            await world.subscribe(owner=Owner(pim, "client"))
        yield world


async def test_what_was_taken_is_gone_and_counted(world: TwoPims) -> None:
    taken = await world.accepted(3)
    await world.clock.advance(2)
    assert await world.settle(taken[:2]) == [taken[:2]]
    assert await world.left() == (1, 1)
    assert (world.meters.delivered, world.meters.queued) == (2, 1)
    assert world.meters.delivery_seconds.total == pytest.approx(4)


async def test_each_tenants_are_settled_apart_in_parts_of_bounded_size(
    world: TwoPims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_queue, "TAKEN_AT_ONCE", 2)
    one, other = await world.accepted(3), await world.accepted(1, OTHER)
    assert await world.settle([one[0], other[0], *one[1:]]) == [one[:2], one[2:], other]
    assert await world.left() == (0, 0)


async def test_what_has_gone_already_is_not_counted_and_holds_up_no_other(world: TwoPims) -> None:
    one, two = (await world.accepted(3))[:2], await world.accepted(2)
    await world.settle(one[:1])
    await asyncio.gather(world.settle(one), world.settle(two))
    assert await world.left() == (1, 1)
    assert (world.meters.delivered, world.meters.queued) == (4, 1)


async def test_what_is_settled_twice_at_once_counts_once_and_leaves_the_event_to_others(
    world: TwoPims,
) -> None:
    taken = await world.accepted(1)
    await world.database.write(  # another delivery refers to the event, too
        lambda connection: connection.execute("INSERT INTO event_uses VALUES (?, 2)", (taken[0][3],))
    )
    await asyncio.gather(world.settle(taken * 2), world.settle(taken))
    assert await world.left() == (0, 1)
    assert (world.meters.delivered, world.meters.queued) == (1, 0)


async def test_what_a_store_cannot_take_is_told_of_all(
    world: TwoPims, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await world.accepted(2)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(broker_queue.bodies, "release", fail)
        with pytest.raises(StoreUnavailable):
            await world.settle(taken)
    assert await world.left() == (2, 2)
    assert world.meters.delivered == 0
