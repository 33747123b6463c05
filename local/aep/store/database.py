"""The store of a data folder: its one writer, and its reader."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from event_platform.domain.errors import StoreUnavailable

from ..runtime.meters import Meters
from . import identity
from .backlog import Job, Result
from .identity import OwnFiles
from .migrations import prepare
from .opening import connect, exclusive, narrow
from .room import explained
from .writer import Writer

log = structlog.get_logger()

KEPT_PAGES = 4096  # 16 MiB
READ_SECONDS = 30.0
"""A read is ended after so long: what it sees stays in the write-ahead log for that time."""
STEPS_BETWEEN_LOOKS = 100_000


class Database(Writer):
    """One open data folder. Create, `open`, use from one event loop, `close`.

    `on_fault` is the writer's. `reserve` is the size in bytes of the file that keeps a part of the disk free
    for when it is full.
    """

    def __init__(
        self,
        folder: Path,
        meters: Meters | None = None,
        *,
        on_fault: Callable[[BaseException], None] | None = None,
        reserve: int = 0,
    ) -> None:
        super().__init__(folder, meters or Meters(), on_fault or _log_fault, reserve)
        self._readers = ThreadPoolExecutor(1, "aep-reader")
        self._lock = contextlib.ExitStack()
        self._read_until = 0.0

    def open(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Takes the folder and starts the writer. Raises DataFolderInUse, StoreDamaged, StoreUnavailable.

        It reads what a killed process left in the log, which may take a while: called in another thread, it
        is given the loop that the store is used from.
        """
        loop = loop or asyncio.get_running_loop()
        files = self._lock.enter_context(exclusive(self.folder))
        narrow(self.folder)
        try:
            try:
                self._prepare(files)
            except sqlite3.DatabaseError as error:
                if not self.room.give_up(error):
                    raise
                self._prepare(files)
            self.room.look()
            self._reader = connect(self.path)  # later, the path may name another file
            self._reader.execute("PRAGMA query_only = ON")
            self._reader.set_progress_handler(self._is_read_over, STEPS_BETWEEN_LOOKS)
            self._start(loop, files)
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise StoreUnavailable(f"the store cannot be read: {explained(error, self.folder)}") from error
        except BaseException:
            self._lock.close()
            raise

    def _prepare(self, files: OwnFiles) -> None:
        with contextlib.closing(connect(self.path)) as connection:
            prepare(connection)
            files.mark(connection)

    async def read(self, job: Job[Result]) -> Result:
        """Returns the result of `job` on a connection that only reads and sees every commit so far.

        Raises StoreUnavailable, also when it takes longer than READ_SECONDS.
        """
        if self.ended is not None:
            raise self.ended

        def run() -> Result:
            with _as_unavailable():
                self._read_until = time.monotonic() + READ_SECONDS
                return job(self._reader)

        return await self._loop.run_in_executor(self._readers, run)

    def _is_read_over(self) -> bool:
        """True if the read that runs has taken its time, which has SQLite interrupt it."""
        return time.monotonic() > self._read_until

    async def release_pages(self, pages: int) -> bool:
        """Returns up to `pages` of the file's unused pages to the disk; True if there are more.

        Some are kept, since a queue that empties usually fills again; but not while the disk is nearly full.
        """

        def job(connection: sqlite3.Connection) -> bool:
            kept = 0 if self.room.is_short else KEPT_PAGES
            surplus = _unused_pages(connection) - kept
            if surplus > 0:
                connection.execute(f"PRAGMA incremental_vacuum({min(pages, surplus)})").fetchall()
            return 0 < _unused_pages(connection) - kept < surplus

        return await self.write(job, needs_room=False)

    async def shrink_caches(self) -> None:
        """Frees the pages of the file that both connections keep in memory. Raises StoreUnavailable."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA shrink_memory")

        await self.read(job)
        await self.write(job, needs_room=False)

    async def close(self) -> None:
        """Finishes what was submitted, then gives the folder back."""
        await self._stop()
        self._readers.submit(self._reader.close)
        await asyncio.to_thread(self._readers.shutdown)
        self._lock.close()


def _unused_pages(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA freelist_count").fetchone()[0]


def _log_fault(error: BaseException) -> None:
    log.critical("store.fault", exc_info=error)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"the store cannot be read: {identity.with_cure(error)}") from error
