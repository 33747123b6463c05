"""Callers share a write: none returns before its own is durable, and a second passes between two."""

import asyncio
from collections.abc import Sequence

import pytest

from event_platform.adapters.firestore.sharing import SharedWrite
from support.clock import ManualClock


class Writes:
    """Notes what is written when; a write takes until `go` is set, and raises what `fails` holds."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.made: list[tuple[float, list[int]]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.fails: list[Exception] = []
        self.shared = SharedWrite(self.clock, self.write, seconds=1)

    async def write(self, items: Sequence[int]) -> None:
        self.made.append((self.clock.monotonic(), list(items)))
        await self.go.wait()
        if self.fails:
            raise self.fails.pop()

    def add(self, *items: int) -> "list[asyncio.Task[None]]":
        return [asyncio.create_task(self.shared.add(item)) for item in items]


async def test_the_first_is_written_at_once() -> None:
    writes = Writes()
    await writes.shared.add(1)
    assert writes.made == [(0, [1])]


async def test_what_comes_within_a_second_is_one_write_at_its_end() -> None:
    writes = Writes()
    await writes.shared.add(1)
    await writes.clock.advance(0.25)
    waiting = writes.add(2, 3)
    await writes.clock.advance(0.5)
    waiting += writes.add(4)
    await writes.clock.advance(0.125)
    assert not any(each.done() for each in waiting)
    await writes.clock.advance(0.125)
    assert writes.made == [(0, [1]), (1, [2, 3, 4])]
    assert all(each.done() for each in waiting)


async def test_what_comes_during_a_write_waits_for_the_next_one() -> None:
    writes = Writes()
    writes.go.clear()
    first = writes.add(1)
    await writes.clock.advance(3)
    later = writes.add(2)
    await writes.clock.advance(3)
    assert writes.made == [(0, [1])]
    writes.go.set()
    await asyncio.gather(*first, *later)
    assert writes.made == [(0, [1]), (6, [2])]


async def test_a_failure_reaches_all_who_waited_for_it_and_nobody_else() -> None:
    writes = Writes()
    writes.fails = [RuntimeError("away")]
    writes.go.clear()
    first = writes.add(1, 2)
    await writes.clock.advance(2)
    later = writes.add(3)
    writes.go.set()
    assert [str(each) for each in await asyncio.gather(*first, return_exceptions=True)] == ["away"] * 2
    await asyncio.gather(*later)


async def test_a_caller_that_is_broken_off_takes_no_others_write_along() -> None:
    writes = Writes()
    writes.go.clear()
    broken_off, other = writes.add(1, 2)
    await writes.clock.advance(0.1)
    broken_off.cancel()
    with pytest.raises(asyncio.CancelledError):
        await broken_off
    writes.go.set()
    await other
    assert writes.made == [(0, [1, 2])]
