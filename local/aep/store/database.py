"""The SQLite file: who may open it, its one writer thread with natural group commit, and its readers."""

import asyncio
import contextlib
import fcntl
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from event_platform.domain.errors import StoreUnavailable

from ..errors import DataFolderInUse
from . import schema

log = structlog.get_logger()

Result = TypeVar("Result")
Job = Callable[[sqlite3.Connection], Result]

FILE = "aep.db"
LOCK = "lock"
JOBS_PER_COMMIT = 1000
KEPT_PAGES = 4096  # 16 MiB


@dataclass(slots=True)
class _Entry(Generic[Result]):
    job: Job[Result]
    future: "asyncio.Future[Result]"
    on_commit: Callable[[Result], None] | None
    result: Result | None = None
    error: BaseException | None = None


class Database:
    """One open data folder. Create, `open`, use from one event loop, `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.on_rollback: list[Callable[[], None]] = []
        """Called in the writer thread after work was undone: caches that jobs keep must be dropped."""
        self._jobs: queue.SimpleQueue[_Entry[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="aep-writer", daemon=True)
        self._readers = ThreadPoolExecutor(1, "aep-reader", initializer=self._open_reader)
        self._reading = threading.local()
        self._lock = contextlib.ExitStack()

    def open(self) -> None:
        """Takes the folder and starts the writer. Raises DataFolderInUse, StoreUnavailable."""
        self._loop = asyncio.get_running_loop()
        self._lock.enter_context(exclusive(self.folder))
        try:
            with contextlib.closing(connect(self.path)) as connection:
                prepare(connection)
        except BaseException:
            self._lock.close()
            raise
        self._thread.start()

    async def write(self, job: Job[Result], on_commit: Callable[[Result], None] | None = None) -> Result:
        """What `job` returned, once its changes are on disk. Jobs that wait together share one commit.

        The job runs in the writer thread, inside a savepoint: what it raises undoes its own changes
        only, and is raised here. `on_commit` is called with the result in the event loop, in the order
        of the commits and before this returns. Raises StoreUnavailable when the disk can't take it.
        """
        entry = _Entry(job, self._loop.create_future(), on_commit)
        self._jobs.put(entry)
        return await entry.future

    async def read(self, job: Job[Result]) -> Result:
        """What `job` returned on a connection that only reads and sees every commit so far."""

        def run() -> Result:
            with _as_unavailable():
                return job(self._reading.connection)

        return await self._loop.run_in_executor(self._readers, run)

    async def give_back(self, pages: int) -> int:
        """Returns up to `pages` of the file's unused pages to the disk; how many it were.

        Some are kept, since a queue that empties usually fills again.
        """

        def job(connection: sqlite3.Connection) -> int:
            (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
            surplus = min(pages, unused - KEPT_PAGES)
            if surplus > 0:
                connection.execute(f"PRAGMA incremental_vacuum({surplus})").fetchall()
            return max(0, surplus)

        return await self.write(job)

    async def close(self) -> None:
        """Finishes what was submitted, then gives the folder back."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.submit(self._close_reader)
        await asyncio.to_thread(self._readers.shutdown)
        self._lock.close()

    def _open_reader(self) -> None:
        self._reading.connection = connect(self.path)
        self._reading.connection.execute("PRAGMA query_only = ON")

    def _close_reader(self) -> None:
        self._reading.connection.close()

    def _write(self) -> None:
        with contextlib.closing(connect(self.path)) as connection:
            while (first := self._jobs.get()) is not None:
                batch, last = self._take_waiting(first)
                self._commit(connection, batch)
                self._loop.call_soon_threadsafe(_resolve, batch)
                if last:
                    return

    def _take_waiting(self, first: _Entry[Any]) -> tuple[list[_Entry[Any]], bool]:
        """All that waits now, and whether the end was among it."""
        batch = [first]
        while len(batch) < JOBS_PER_COMMIT:
            try:
                entry = self._jobs.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
        return batch, False

    def _commit(self, connection: sqlite3.Connection, batch: list[_Entry[Any]]) -> None:
        """Runs the batch in one transaction; when that fails as a whole, every entry gets the error."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for entry in batch:
                self._run(connection, entry)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._undone()
            log.error("store.commit_failed", error=str(error), jobs=len(batch))
            for entry in batch:
                entry.error = StoreUnavailable(f"the store cannot be written: {error}")

    def _run(self, connection: sqlite3.Connection, entry: _Entry[Any]) -> None:
        connection.execute("SAVEPOINT job")
        try:
            entry.result = entry.job(connection)
        except sqlite3.OperationalError:
            raise  # a full disk, an I/O error: SQLite may have undone the whole transaction
        except Exception as error:  # noqa: BLE001 - handed to the caller, who waits for it
            connection.execute("ROLLBACK TO job")
            self._undone()
            entry.error = error
        connection.execute("RELEASE job")

    def _undone(self) -> None:
        for forget in self.on_rollback:
            forget()


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the settings that durability rests on, in autocommit mode."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(schema.PRAGMAS)
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables of a new file, or migrates an older one. The caller holds the folder.

    All steps are one transaction, so that an end in the middle leaves the file as it was. Raises
    StoreUnavailable for a file of a newer program.
    """
    connection.execute("BEGIN IMMEDIATE")
    found = version(connection)
    if found > len(schema.MIGRATIONS):
        connection.execute("ROLLBACK")
        raise StoreUnavailable(
            f"the store has schema version {found}, but this program knows versions up to"
            f" {len(schema.MIGRATIONS)}: run the version of the program that wrote it, or a later one"
        )
    for script in schema.MIGRATIONS[found:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    connection.execute("COMMIT")


def version(connection: sqlite3.Connection) -> int:
    """The version of the file's schema; 0 for a new one."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


@contextlib.contextmanager
def beside_the_server(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection for commands that work on the folder while a server may run on it.

    A new folder is made ready and an older one migrated, but never under a running server: that raises
    DataFolderInUse. Raises StoreUnavailable for a file of a newer program.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(connect(folder / FILE)) as connection:
        if version(connection) != len(schema.MIGRATIONS):
            with exclusive(folder):
                prepare(connection)
        yield connection


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the folder for this process; the lock ends with the process, however that ends."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataFolderInUse(
                f"another process already runs the platform on {folder}; stop it, or choose another --data"
            ) from None
        yield


def _resolve(batch: list[_Entry[Any]]) -> None:
    """In the event loop: tells each caller, in the order of the writes."""
    for entry in batch:
        if entry.error is None and entry.on_commit is not None:
            entry.on_commit(entry.result)
        if entry.future.cancelled():
            continue
        if entry.error is not None:
            entry.future.set_exception(entry.error)
        else:
            entry.future.set_result(entry.result)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"the store cannot be read: {error}") from error
