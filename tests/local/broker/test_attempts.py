"""Attempts at once: an owner with many slow receivers leaves room for others, and being out of sockets is no
delivery's failure."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aep.broker.budget import OwnerKey, attempts_at_once
from aep.broker.dispatcher import Dispatcher
from aep.broker.pacer import Pacer
from aep.broker.queued import LaneKey, Queued, Receipt
from event_platform.budget import Budget
from event_platform.deliver import Observer
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import CannotConnect, NoResolver, OutOfSockets
from event_platform.domain.events.event import Envelope
from event_platform.domain.pace.rates import Limits
from support.clock import START, ManualClock
from support.records import UPDATED

HOG, OTHER = ("https://pim.example.com", "hog"), ("https://pim.example.com", "other")


class Unjudged:
    async def settled(self, settlement: Settlement) -> None: ...

    async def stop(self) -> None:
        pass


class Dispatching:
    """A queue of one delivery for each lane, and a dispatcher whose handler the test answers for."""

    def __init__(self, attempts: Budget) -> None:
        self.clock = ManualClock()
        self.begun: list[str] = []
        self.settled: list[Settlement] = []
        self.nacked: list[Queued] = []
        self.answers: dict[str, asyncio.Future[Exception | None]] = {}
        self.dispatcher = Dispatcher(
            self,  # pyright: ignore[reportArgumentType]
            self.handle,
            Pacer(self, self.clock, Limits(100, 100)),
            Observer(self, self, self.clock, Limits(100, 100)),  # pyright: ignore[reportArgumentType]
            Unjudged(),  # pyright: ignore[reportArgumentType]
            self.clock,
            on_fault=lambda error: None,
            attempts=attempts,
        )

    async def lanes(self) -> Sequence[LaneKey]:
        return ()

    async def waiting(self, *_: Any) -> Sequence[Queued]:
        return ()

    async def settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)

    async def nack(self, queued: Queued) -> None:
        self.nacked.append(queued)

    async def current(self, subscription_id: str) -> None:
        return None  # has no pace

    async def handle(self, delivery: Delivery) -> Settlement:
        self.begun.append(delivery.event_id)
        answer = self.answers[delivery.event_id] = asyncio.get_running_loop().create_future()
        if (error := await answer) is not None:
            raise error
        return Settlement(delivery, None)

    async def put(self, owner: OwnerKey, numbers: range) -> None:
        envelope = Envelope(b"{", b"}")
        for number in numbers:
            receipt = Receipt(LaneKey(number, 0), 1, number)
            name = f"{owner[1]}-{number}"
            entry = Queued(receipt, owner, name, name, UPDATED, START.timestamp(), 1, 0, 2, envelope)
            self.dispatcher.put([entry])
        await self.clock.advance(0)

    async def answer(self, name: str, error: Exception | None = None) -> None:
        self.answers.pop(name).set_result(error)
        await self.clock.advance(0)


async def test_slow_receivers_of_one_owner_do_not_keep_another_owner_waiting() -> None:
    world = Dispatching(Budget(88, reserve=8, minimum=2))
    await world.dispatcher.start()
    await world.put(HOG, range(2000))
    begun = len(world.begun)
    assert begun <= 88 // 4 + 1
    await world.put(OTHER, range(3000, 3010))
    assert world.begun[begun:] == [f"other-{number}" for number in range(3000, 3010)]
    for number in range(begun):  # the hog goes on at the pace of its receivers
        await world.answer(f"hog-{number}")
    assert begun < sum(name.startswith("hog") for name in world.begun) <= 2 * begun
    assert not world.nacked
    await world.dispatcher.stop(drain=0)


async def test_who_waits_for_his_turn_holds_up_no_stop() -> None:
    world = Dispatching(Budget(4, reserve=1, minimum=1))
    await world.dispatcher.start()
    await world.put(HOG, range(10))
    begun = list(world.begun)
    stopping = asyncio.create_task(world.dispatcher.stop(drain=60))
    await world.clock.advance(0)
    for name in begun:
        await world.answer(name)
    await asyncio.wait_for(stopping, 5)
    assert world.begun == begun


@pytest.mark.parametrize("error", [OutOfSockets("too many open files"), NoResolver("no nameserver answers")])
async def test_being_out_of_sockets_is_later_and_no_failure(error: CannotConnect) -> None:
    world = Dispatching(attempts_at_once(1024))
    await world.dispatcher.start()
    await world.put(HOG, range(1))
    for attempt in range(1, 200):  # more often than nacks make a dead letter
        assert len(world.begun) == attempt
        await world.answer("hog-0", error)
        assert len(world.begun) == attempt
        await world.clock.advance(1)
    await world.answer("hog-0")
    assert not world.nacked
    (settlement,) = world.settled
    assert (settlement.delivery.attempts, settlement.delivery.failures) == (0, 0)
    await world.dispatcher.stop(drain=0)


@pytest.mark.parametrize(
    ("open_files", "at_once", "of_one_owner"),
    [(-1, 2048, 449), (1_048_576, 2048, 449), (1024, 128, 29), (64, 16, 4)],
)
def test_attempts_leave_files_for_all_else(open_files: int, at_once: int, of_one_owner: int) -> None:
    budget = attempts_at_once(open_files)
    assert next(number for number in range(5000) if not budget.take(HOG, 1)) == of_one_owner - 1
    owners = [("pim", str(number)) for number in range(5000)]
    while any(budget.take(owner, 1) for owner in owners):
        pass
    assert at_once - at_once // 8 <= budget.in_use <= at_once
