"""Which attempts begin in which round of the event loop."""

import asyncio

import pytest

from aep.broker.turns import BEGIN_IN_A_ROUND, EACH_IN_A_ROUND, Turns

BUSY, OTHER, QUIET = ("pim", "busy"), ("pim", "other"), ("pim", "quiet")


class World:
    """Turns, and in which order owners began."""

    def __init__(self) -> None:
        self.turns = Turns()
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
async def world() -> World:
    return World()


async def test_few_begin_in_a_round_and_all_in_their_order(world: World) -> None:
    world.crowd(BUSY, 100)
    await asyncio.sleep(0)
    assert len(world.began) == BEGIN_IN_A_ROUND
    rounds = 0
    while len(world.began) < 100:
        before = len(world.began)
        await asyncio.sleep(0)
        assert len(world.began) - before <= BEGIN_IN_A_ROUND
        rounds += 1
    assert rounds >= 100 / BEGIN_IN_A_ROUND - 1
    await world.ended()


async def test_who_has_little_to_do_begins_at_once(world: World) -> None:
    world.crowd(BUSY, 100)
    await asyncio.sleep(0)
    for _ in range(EACH_IN_A_ROUND):
        assert world.turns.take(QUIET)
    assert not world.turns.take(QUIET)
    await world.ended()


async def test_those_who_wait_take_turns_by_owner(world: World) -> None:
    world.crowd(BUSY, 100)
    world.crowd(OTHER, 100)
    await world.ended()
    first = world.began[BEGIN_IN_A_ROUND + EACH_IN_A_ROUND :][:100]
    assert abs(first.count(BUSY) - first.count(OTHER)) <= BEGIN_IN_A_ROUND


async def test_one_that_is_cancelled_takes_no_turn(world: World) -> None:
    world.crowd(BUSY, 20)
    world.crowd(OTHER, 20)
    await asyncio.sleep(0)
    world.cancel(20)
    await asyncio.gather(*world._tasks, return_exceptions=True)
    assert world.began.count(BUSY) == 20
    assert world.turns.take(OTHER)


async def test_a_crowd_rests_while_another_delivers_and_not_when_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, seconds, rests = asyncio.get_running_loop(), 0.0, list[float]()

    def time() -> float:
        nonlocal seconds
        seconds += 0.001  # each look at the clock; a round has two or three of them
        return seconds

    def call_later(delay: float, callback: object, *arguments: object) -> asyncio.Handle:
        rests.append(delay)
        return loop.call_soon(callback, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_later", call_later)
    monkeypatch.setattr(loop, "time", time)
    world.crowd(BUSY, 100)
    await world.ended()
    assert not rests
    world.crowd(BUSY, 100)
    await asyncio.sleep(0)
    assert world.turns.take(QUIET)
    await world.ended()
    assert rests
    assert max(rests) <= 0.05
