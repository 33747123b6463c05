"""The platform's time on one machine, which does not follow jumps of the machine's wall clock.

It runs with the monotonic clock and follows the wall clock where the two part slowly. It never goes back
(docs/decisions/0044).
"""

import asyncio
import math
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from event_platform.domain.errors import StoreUnavailable

from ..runtime.tasks import WatchedTasks
from . import times
from .database import Database

log = structlog.get_logger()

JUMP_SECONDS = 60.0
"""The largest step in seconds of the wall clock that is followed. A larger one is a jump."""
FOLLOWED_AFTER = 600.0
"""Seconds for which the wall clock must have stayed where it jumped to before it is followed."""
SLOWER_BY = 0.1
"""The share of its speed that the platform's time loses while the wall clock catches up with it."""
LOOK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of a look at the wall clock, in seconds: its jump, and a step of the platform's time."""

    jumped: float = 0.0
    followed: float = 0.0


class SteadyClock:
    """The port `Clock`. One process looks at the wall clock; those that it starts share its time.

    `descriptor` is that of a clock in the process that started this one.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        descriptor: int | None = None,
    ) -> None:
        self._wall = wall
        self.monotonic = monotonic
        self._last = -math.inf
        self.descriptor = _shared_memory() if descriptor is None else descriptor
        self._ahead = memoryview(mmap.mmap(self.descriptor, 8)).cast("d")  # of the monotonic clock
        if descriptor is None:
            self.start(-math.inf)

    def now(self) -> datetime:
        now = self.monotonic() + self._ahead[0]
        if now < self._last:
            return datetime.fromtimestamp(self._last, UTC)
        self._last = now
        return datetime.fromtimestamp(now, UTC)

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    @property
    def lead(self) -> float:
        """The seconds by which the platform's time is ahead of the wall clock; negative after a jump
        forward.
        """
        return self.monotonic() + self._ahead[0] - self._wall()

    @property
    def is_apart(self) -> bool:
        """True while the platform's time is not the wall clock's, because of a jump."""
        return abs(self.lead) > JUMP_SECONDS

    def start(self, last: float) -> Seen:
        """Begins at the wall clock's time, but not before the last time in the file (unix seconds)."""
        now = self.monotonic()
        self._looked_at = self._jumped_at = now
        self._wall_ahead = self._wall() - now
        self._last = -math.inf
        self._ahead[0] = max(self._wall_ahead, last - now)
        lead = self._ahead[0] - self._wall_ahead
        return Seen(jumped=-lead if lead > JUMP_SECONDS else 0.0)

    def look(self) -> Seen:
        """Compares the platform's time with the wall clock and follows it as far as that is allowed."""
        now = self.monotonic()
        wall_ahead, passed = self._wall() - now, now - self._looked_at
        jumped = wall_ahead - self._wall_ahead
        self._looked_at, self._wall_ahead = now, wall_ahead
        if abs(jumped) > JUMP_SECONDS:
            self._jumped_at = now
        else:
            jumped = 0.0
        lead = self._ahead[0] - wall_ahead
        followed = 0.0
        if abs(lead) <= JUMP_SECONDS or now - self._jumped_at >= FOLLOWED_AFTER:
            self._ahead[0] -= min(lead, passed * SLOWER_BY)
            followed = -lead if lead < -JUMP_SECONDS else 0.0
        return Seen(jumped, followed)


def _shared_memory() -> int:
    """Returns the descriptor of 8 bytes that other processes can share."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("aep-clock")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, 8)
    return descriptor


def describe_lead(lead: float) -> str:
    """Says how far the platform's time is from the wall clock, and what to do."""
    if lead > 0:
        return (
            f"the machine's clock is {lead:.0f} s behind the platform's time, which never goes back but runs"
            f" slower after {FOLLOWED_AFTER / 60:.0f} minutes, until they meet: set the clock (NTP) if it is"
            " wrong"
        )
    return (
        f"the machine's clock has jumped {-lead:.0f} s ahead of the platform's time, which goes there when it"
        f" has stayed for {FOLLOWED_AFTER / 60:.0f} minutes: set the clock (NTP) if it is wrong"
    )


class ClockWatch:
    """Has the clock follow the wall clock between `start` and `stop`, logs its jumps, and notes in the file
    how far apart the two are, for `aep doctor`."""

    def __init__(
        self, clock: SteadyClock, database: Database, *, on_fault: Callable[[BaseException], None]
    ) -> None:
        self._clock = clock
        self._database = database
        self._tasks = WatchedTasks(on_fault)
        self._watching: asyncio.Task[None] | None = None
        self._noted = math.nan  # the lead that the file has

    async def start(self) -> None:
        """Sets the clock by what the file holds. Raises StoreUnavailable."""
        self._log(self._clock.start(await self._database.read(times.last)))
        self._watching = self._tasks.start(self._watch())

    async def stop(self) -> None:
        await self._tasks.stop(self._watching)
        if self._watching is not None:
            with suppress(StoreUnavailable):
                await self._database.write(
                    lambda connection: times.note_lead(connection, 0), needs_room=False
                )

    async def _watch(self) -> None:
        while True:
            self._log(self._clock.look())
            with suppress(StoreUnavailable):  # each commit that fails is logged; the next look tries again
                await self._note()
            await self._clock.sleep(LOOK_EVERY)

    def _log(self, seen: Seen) -> None:
        for name, seconds in (("clock.jumped", seen.jumped), ("clock.followed", seen.followed)):
            if seconds:
                log.warning(
                    name,
                    seconds=round(seconds, 1),
                    wall_clock=self._clock.wall().isoformat(),
                    platform_time=self._clock.now().isoformat(),
                )

    async def _note(self) -> None:
        """Writes the lead into the file.

        It is rounded to tens of seconds: a slow drift is not a change each second.
        """
        lead = 10 * round(self._clock.lead / 10) if self._clock.is_apart else 0
        if lead != self._noted:
            await self._database.write(lambda connection: times.note_lead(connection, lead), needs_room=False)
            self._noted = lead
