"""Bytes that a process holds of deliveries: bounds in all and per owner, turns, and that they come back."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from aep.broker.budget import OwnerKey
from event_platform.budget import Budget

HOG, SMALL, OTHER = ("https://pim.example.com", "hog"), ("https://pim.example.com", "small"), ("b", "other")


def a_budget() -> Budget:
    return Budget(shared=1000, reserve=100, minimum=20)


class Holders:
    """Holds of many owners, each ended by the test."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.got: list[tuple[OwnerKey, int]] = []
        self._ends: dict[tuple[OwnerKey, int], asyncio.Event] = {}
        self.tasks: dict[tuple[OwnerKey, int], asyncio.Task[None]] = {}

    async def begin(self, owner: OwnerKey, size: int, *numbers: int) -> None:
        for number in numbers or (0,):
            key = (owner, number)
            self._ends[key] = asyncio.Event()
            self.tasks[key] = asyncio.create_task(self._hold(key, size))
        await asyncio.sleep(0)

    async def _hold(self, key: tuple[OwnerKey, int], size: int) -> None:
        async with self.budget.hold(key[0], size):
            self.got.append(key)
            await self._ends[key].wait()

    async def end(self, owner: OwnerKey, number: int = 0) -> None:
        self._ends[owner, number].set()
        await self.tasks[owner, number]
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def end_all(self) -> None:
        for event in self._ends.values():
            event.set()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def test_one_owner_gets_a_quarter_and_one_delivery_beyond_it() -> None:
    holders = Holders(a_budget())
    await holders.begin(HOG, 10, *range(100))
    assert holders.budget.in_use == 250
    assert len(holders.got) == 25 + 1
    await holders.end_all()
    assert holders.budget.in_use == 0


async def test_many_owners_who_want_everything_leave_room_for_another_one() -> None:
    holders = Holders(a_budget())
    for number in range(10):
        await holders.begin(("hogs", str(number)), 10, *range(100))
    assert holders.budget.in_use <= 1000
    before = len(holders.got)
    await holders.begin(SMALL, 2, *range(10))
    assert [owner for owner, _ in holders.got[before:]] == [SMALL] * 10
    await holders.end_all()
    assert len(holders.got) == 10 * 100 + 10
    assert holders.budget.in_use == 0


async def test_an_owner_who_has_little_gets_it_from_the_reserve_when_nothing_is_free() -> None:
    holders = Holders(a_budget())
    for number in range(200):
        await holders.begin(("hogs", str(number)), 21)
    taken = holders.budget.in_use
    assert taken > 1000 - 3 * 21
    await holders.begin(SMALL, 2, *range(10))
    assert holders.budget.in_use == taken + 20
    assert holders.budget.in_use <= 1100
    await holders.end_all()


async def test_a_delivery_larger_than_the_budget_goes_alone() -> None:
    holders = Holders(a_budget())
    await holders.begin(HOG, 5000, 1, 2, 3)
    await holders.begin(OTHER, 5000)
    assert holders.got == [(HOG, 1)]
    await holders.begin(SMALL, 10)
    assert holders.got == [(HOG, 1), (SMALL, 0)]
    await holders.end(HOG, 1)
    await holders.end(HOG, 2)
    await holders.end(OTHER)
    assert holders.got[2:] == [(HOG, 2), (OTHER, 0), (HOG, 3)]
    await holders.end_all()
    assert holders.budget.in_use == 0


async def test_the_next_of_an_owner_waits_behind_the_first() -> None:
    holders = Holders(a_budget())
    await holders.begin(OTHER, 5000)
    await holders.begin(HOG, 5000, 1)
    await holders.begin(HOG, 10, 2)
    assert holders.got == [(OTHER, 0)]
    await holders.end(OTHER)
    assert holders.got[1:] == [(HOG, 1), (HOG, 2)]
    await holders.end_all()


async def test_bytes_come_back_after_a_fault_and_after_a_cancellation() -> None:
    budget = a_budget()
    with pytest.raises(RuntimeError):
        async with budget.hold(HOG, 100):
            raise RuntimeError
    holders = Holders(budget)
    await holders.begin(HOG, 200, 1, 2, 3)  # held, beyond the bounds, waiting
    assert holders.got == [(HOG, 1), (HOG, 2)]
    for task in reversed(holders.tasks.values()):
        task.cancel()
    await holders.end_all()
    assert budget.in_use == 0
    await holders.begin(HOG, 5000)
    assert holders.got[2:] == [(HOG, 0)]
    await holders.end_all()


async def test_a_grant_that_nobody_waits_for_any_more_comes_back() -> None:
    holders = Holders(a_budget())
    await holders.begin(HOG, 250, 1, 2, 3)
    holders._ends[HOG, 1].set()
    await asyncio.sleep(0)  # the third is granted now, and does not run before it is cancelled
    holders.tasks[HOG, 3].cancel()
    await asyncio.gather(holders.tasks[HOG, 3], return_exceptions=True)
    assert len(holders.got) == 2
    await holders.end_all()
    assert holders.budget.in_use == 0


async def test_what_is_kept_leaves_room_for_attempts() -> None:
    budget = a_budget()
    kept = 0
    while budget.keep(HOG, 10):
        kept += 10
    assert kept == 200
    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(budget.hold(HOG, 10))
        assert budget.in_use == 250
    for _ in range(20):
        budget.release(HOG, 10)
    assert budget.in_use == 0


async def test_a_reservation_takes_a_part_of_what_may_be_kept() -> None:
    budget = a_budget()
    assert budget.reserve(HOG, 1000) == 250 // 8
    assert budget.reserve(HOG, 5) == 5
    budget.release(HOG, 250 // 8 + 5)
    assert budget.in_use == 0
