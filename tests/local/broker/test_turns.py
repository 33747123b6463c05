"""Which attempts begin in which round of the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from aep.broker.turns import (
    BEGIN_ALONE_IN_A_ROUND,
    BEGIN_IN_A_ROUND,
    COUNTED_SECONDS,
    EACH_IN_A_ROUND,
    SHARE,
    Senders,
    Turns,
)

BUSY, OTHER, QUIET = ("pim", "busy"), ("pim", "other"), ("pim", "quiet")


class NotedTurns:
    """Turns, and in which order owners began."""

    def __init__(self) -> None:
        self.turns = Turns(lambda: 0.0)
        self.began: list[tuple[str, str]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def crowd(self, owner: tuple[str, str], number: int) -> None:
        self._tasks += [asyncio.create_task(self.attempt(owner)) for _ in range(number)]

    async def attempt(self, owner: tuple[str, str]) -> None:
        if not self.turns.take(owner):
            await self.turns.wait(owner)
        self.began.append(owner)

    async def ended(self) -> None:
        await asyncio.gather(*self._tasks)

    def cancel(self, number: int) -> None:
        for task in self._tasks[-number:]:
            task.cancel()


@pytest.fixture
async def world() -> NotedTurns:
    return NotedTurns()


async def test_few_begin_in_a_round_and_all_in_their_order(world: NotedTurns) -> None:
    world.crowd(BUSY, 300)
    await asyncio.sleep(0)
    assert len(world.began) == BEGIN_ALONE_IN_A_ROUND
    rounds = 0
    while len(world.began) < 300:
        before = len(world.began)
        await asyncio.sleep(0)
        assert len(world.began) - before <= BEGIN_ALONE_IN_A_ROUND
        rounds += 1
    assert rounds >= 300 / BEGIN_ALONE_IN_A_ROUND - 1
    await world.ended()


async def test_who_has_little_to_do_begins_at_once(world: NotedTurns) -> None:
    world.crowd(BUSY, 100)
    await asyncio.sleep(0)
    for _ in range(BEGIN_IN_A_ROUND):
        assert world.turns.take(QUIET)
    assert not world.turns.take(QUIET)
    await world.ended()


async def test_those_who_wait_take_turns_by_owner(world: NotedTurns) -> None:
    world.crowd(BUSY, 200)
    world.crowd(OTHER, 200)
    await world.ended()
    first = world.began[BEGIN_ALONE_IN_A_ROUND + BEGIN_IN_A_ROUND :][:100]
    assert abs(first.count(BUSY) - first.count(OTHER)) <= BEGIN_IN_A_ROUND


async def test_a_round_is_smaller_while_several_owners_deliver(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    await machine.crowd(BUSY, 2 * COUNTED_SECONDS)
    assert machine.turns._most == BEGIN_ALONE_IN_A_ROUND
    until = machine.now + 2 * COUNTED_SECONDS
    await asyncio.gather(machine.crowd(BUSY, until), machine.crowd(OTHER, until))
    assert machine.turns._most == BEGIN_IN_A_ROUND


async def test_one_that_is_cancelled_takes_no_turn(world: NotedTurns) -> None:
    world.crowd(BUSY, 70)
    world.crowd(OTHER, 20)
    await asyncio.sleep(0)
    world.cancel(20)
    await asyncio.gather(*world._tasks, return_exceptions=True)
    assert world.began.count(BUSY) == 70
    assert world.turns.take(OTHER)


class Machine:
    """An event loop whose time and CPU time go by as told: each attempt costs `cost` seconds of both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float = 0.0002) -> None:
        self.cost, self.now, self.used, self.rested = cost, 0.0, 0.0, 0.0
        self._loop = asyncio.get_running_loop()
        monkeypatch.setattr(self._loop, "call_later", self._rest)
        self.turns = Turns(lambda: self.now, lambda: self.used)
        self.began = Counter[tuple[str, str]]()

    def _rest(self, delay: float, callback: Callable[[], None]) -> asyncio.Handle:
        self.now += delay
        self.rested += delay
        return self._loop.call_soon(callback)

    def begin(self, owner: tuple[str, str]) -> None:
        self.began[owner] += 1
        self.now += self.cost
        self.used += self.cost

    async def crowd(self, owner: tuple[str, str], until: float) -> None:
        """Keeps enough deliveries running that some always wait."""

        async def attempts() -> None:
            while self.now < until:
                if not self.turns.take(owner):
                    await self.turns.wait(owner)
                self.begin(owner)
                await asyncio.sleep(0)

        await asyncio.gather(*(attempts() for _ in range(100)))

    async def delivers(self, owner: tuple[str, str], until: float, every: float = 0.01) -> list[bool]:
        """One now and then; returns for each whether it began at once."""
        at_once: list[bool] = []
        due = self.now
        while self.now < until:
            if self.now >= due:
                at_once.append(self.turns.take(owner))
                if at_once[-1]:
                    self.begin(owner)
                due += every
            await asyncio.sleep(0)
        return at_once


async def test_a_crowd_uses_its_share_while_somebody_has_little_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    await asyncio.gather(machine.crowd(BUSY, COUNTED_SECONDS), machine.delivers(QUIET, COUNTED_SECONDS))
    began, used = machine.now, machine.used  # from here on it is known who has little to do
    until = began + 3 * COUNTED_SECONDS
    _, at_once = await asyncio.gather(machine.crowd(BUSY, until), machine.delivers(QUIET, until))
    assert (machine.used - used) / (machine.now - began) == pytest.approx(SHARE, rel=0.1)
    assert all(at_once)


async def test_a_crowd_that_is_alone_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    await machine.crowd(BUSY, 3 * COUNTED_SECONDS)
    assert machine.rested == 0


async def test_crowds_among_themselves_never_rest_and_share_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    until = 3 * COUNTED_SECONDS
    await asyncio.gather(machine.crowd(BUSY, until), machine.crowd(OTHER, until))
    assert machine.rested == 0
    assert machine.began[BUSY] == pytest.approx(machine.began[OTHER], rel=0.1)


async def test_a_crowd_goes_on_at_full_speed_when_the_other_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    until = 2 * COUNTED_SECONDS
    await asyncio.gather(machine.crowd(BUSY, until), machine.delivers(QUIET, until))
    assert machine.rested > 0
    await machine.crowd(BUSY, machine.now + 2 * COUNTED_SECONDS)
    rested = machine.rested
    await machine.crowd(BUSY, machine.now + COUNTED_SECONDS)
    assert machine.rested == rested


async def test_a_crowd_goes_on_where_other_work_takes_all_of_the_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch)
    await asyncio.gather(machine.crowd(BUSY, COUNTED_SECONDS), machine.delivers(QUIET, COUNTED_SECONDS))
    machine.used += 10.0
    before = machine.began[BUSY]
    await machine.crowd(BUSY, machine.now + 0.5 * COUNTED_SECONDS)
    assert machine.began[BUSY] > before + EACH_IN_A_ROUND


def test_senders_know_whether_others_send() -> None:
    senders = Senders()
    assert not senders.others_than("a", 0.0)
    senders.note("a", 0.0)
    assert not senders.others_than("a", 0.0)
    assert senders.others_than("b", 0.0)
    senders.note("b", 0.5)
    assert senders.others_than("a", 0.5)
    assert senders.others_than("b", 0.5)
    senders.note("b", 1.5)
    assert not senders.others_than("b", 1.5)
    assert senders.others_than("a", 1.5)
    assert not senders.others_than("a", 1.5 + COUNTED_SECONDS)
