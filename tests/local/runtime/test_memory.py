"""Memory that was freed goes back to the system after a crowd, and not while there is one."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aep.runtime import memory
from aep.runtime.memory import GROWN_BYTES, LOOK_SECONDS, LOOKS_AFTER_GROWTH, MemoryUpkeep
from aep.store.database import Database
from event_platform.domain.errors import StoreUnavailable
from support.clock import ManualClock

MIB = 1024 * 1024


class Process:
    """A process whose memory the test sets; `done` has what was done to it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.resident = 50 * MIB
        self.freed = 0
        self.done: list[str] = []
        self.faults: list[BaseException] = []
        self.is_store_away = False
        self.upkeep = MemoryUpkeep(
            self.clock,
            on_fault=self.faults.append,
            shrink=self._shrink,
            resident_bytes=lambda: self.resident,
            trim=self._trim,
        )

    async def _shrink(self) -> None:
        if self.is_store_away:
            raise StoreUnavailable("away")
        self.done.append("shrink")

    def _trim(self) -> None:
        self.done.append("trim")
        self.resident, self.freed = self.resident - self.freed, 0

    async def looks(self, number: int) -> list[str]:
        """Returns the actions of a number of looks."""
        self.done.clear()
        for _ in range(number):
            await self.clock.advance(LOOK_SECONDS)
        return list(self.done)


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    made.upkeep.start()
    yield made
    await made.upkeep.stop()
    assert made.faults == []


async def test_a_process_that_does_not_grow_is_left_alone(process: Process) -> None:
    process.resident += GROWN_BYTES - 1
    assert await process.looks(3) == []


async def test_what_was_freed_goes_back_when_the_process_grows_no_more(process: Process) -> None:
    for _ in range(3):
        process.resident += GROWN_BYTES
        assert await process.looks(1) == []
    process.freed = 2 * GROWN_BYTES
    assert await process.looks(1) == ["shrink", "trim"]
    assert process.resident == 50 * MIB + GROWN_BYTES


async def test_what_is_freed_later_goes_back_too_and_then_there_are_no_more_looks(process: Process) -> None:
    process.resident += 10 * GROWN_BYTES
    await process.looks(2)
    process.freed = 9 * GROWN_BYTES
    assert (await process.looks(1), process.resident) == (["shrink", "trim"], 50 * MIB + GROWN_BYTES)
    assert len(await process.looks(2 * LOOKS_AFTER_GROWTH)) == 2 * (LOOKS_AFTER_GROWTH - 2)
    assert await process.looks(3) == []


@pytest.mark.provokes("memory.store_unavailable")
async def test_memory_goes_back_also_while_the_store_is_away(process: Process) -> None:
    process.resident += 2 * GROWN_BYTES
    process.is_store_away = True
    assert await process.looks(2) == ["trim"]


async def test_pages_that_are_kept_of_the_file_are_read_again_after_they_were_dropped(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()
    await database.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', 'b')"))
    await database.shrink_caches()
    found = await database.read(
        lambda connection: connection.execute("SELECT * FROM meta WHERE name = 'a'").fetchall()
    )
    assert found == [("a", "b")]
    await database.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_this_process_can_be_measured() -> None:
    assert memory.resident_bytes_of() > MIB
