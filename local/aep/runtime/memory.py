"""The memory of a process: the garbage collector, and the return of freed memory to the system after a
crowd.
"""

import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.ports import Clock

from .tasks import WatchedTasks

log = structlog.get_logger()

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Settings of mallopt(3)."""
LARGE_BLOCK_BYTES = 256 * 1024
ARENAS = 2
LOOK_SECONDS = 5.0
LOOKS_AFTER_GROWTH = 12
GROWN_BYTES = 8 * 1024 * 1024
"""The least growth in bytes for which memory is returned; more growth shows that a crowd is still there."""


def configure_malloc() -> None:
    """Has glibc return large blocks when they are freed, and keep the small ones in few arenas.

    By default it returns a large block only until the first was freed: then it keeps room for blocks of that
    size. It also gives each thread an arena of its own, and what one arena keeps no other can use. Workers
    inherit this. Other C libraries have no such settings.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
        mallopt(M_ARENA_MAX, ARENAS)


def collect_garbage_rarely() -> None:
    """Has the garbage collector run seldom, and never look at what was made so far.

    What the platform makes per delivery is freed by its reference counts, so there is little else to find. It
    does not look before either: the places that it would find free are filled after the fork, and each page
    that is changed then is copied.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class MemoryUpkeep:
    """Returns free memory to the system every few seconds for a minute after the process has grown.

    Does nothing while the process still grows. `shrink` drops caches that can be filled again. Runs between
    `start` and `stop`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
        shrink: Callable[[], Awaitable[None]] | None = None,
        resident_bytes: Callable[[], int] | None = None,
        trim: Callable[[], object] | None = None,
    ) -> None:
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._shrink = shrink
        self._resident_bytes = resident_bytes or resident_bytes_of
        self._trim = trim or _malloc_trim()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the upkeep, or does nothing where the system has no such call."""
        if self._trim is not None:
            self._task = self._tasks.start(self._run(self._trim))

    async def stop(self) -> None:
        await self._tasks.stop(self._task)

    async def _run(self, trim: Callable[[], object]) -> None:
        trimmed = before = self._resident_bytes()
        looks = 0
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            now = self._resident_bytes()
            if now >= trimmed + GROWN_BYTES:
                looks = LOOKS_AFTER_GROWTH
            is_growing, before = now >= before + GROWN_BYTES, now
            if looks == 0 or is_growing:
                continue
            looks -= 1
            try:
                if self._shrink is not None:
                    await self._shrink()
            except StoreUnavailable as error:  # its caches stay until the next look
                log.warning("memory.store_unavailable", error=str(error))
            # In a thread, as it may take some 10 ms; ctypes lets other threads run meanwhile.
            await asyncio.to_thread(trim)
            trimmed = before = self._resident_bytes()


def resident_bytes_of(process: int | str = "self") -> int:
    """Returns the resident bytes of a process that it shares with no file; 0 where the system does not
    say.
    """
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text().split()
    except FileNotFoundError:  # no Linux, or the process has ended
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _malloc_trim() -> Callable[[], object] | None:
    """Returns glibc's malloc_trim(0); None where there is none."""
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)
