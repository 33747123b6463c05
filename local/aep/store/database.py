"""The SQLite file: who may open it, its one writer thread with natural group commit, and its readers."""

import asyncio
import contextlib
import math
import os
import queue
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from event_platform.domain.errors import EventPlatformError, StoreUnavailable

from ..errors import NoStore, StoreReplaced
from ..runtime.meters import Meters
from . import identity, keeping, schema
from .checkpoints import Checkpoints
from .identity import OwnFiles
from .locking import LOCK, PRIVATE, lock_of, lock_of_database
from .room import RESERVE, Room, explained

log = structlog.get_logger()

Result = TypeVar("Result")
Item = TypeVar("Item")
Job = Callable[[sqlite3.Connection], Result]
JointJob = Callable[[sqlite3.Connection, Sequence[Item]], Sequence[Result]]
"""A job for several items at once: what it returns for each, in their order."""

FILE = "aep.db"
KEY_FILE = "secrets.key"
LAST_BACKUP = "last-backup"
OWN_FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", LOCK, KEY_FILE, RESERVE, LAST_BACKUP)
"""The files that the platform keeps in its data folder, for its own user alone."""
JOBS_PER_COMMIT = 1000
GIVING_WAY_PER_COMMIT = 256
"""The number of jobs that give way in a commit, by their weight. They change pages all over the file, which
take long to write. The next commit has whatever came meanwhile and gives way to nobody."""
COMMIT_SECONDS = 0.1
BUSY_JOBS = 8
GATHERING_SECONDS = 0.004
"""After a commit of BUSY_JOBS the writer rests, so that the next one serves more: each costs a sync,
and hands the lock of Python to and fro. The rest ends for who had nothing in that commit."""
LINGER_SECONDS = 0.02
"""The time that work for which nobody waits lingers for other work to share a commit with."""
WEIGHT_AT_ONCE = 256
"""The weight of the items that one call of a joint job gets."""
KEPT_PAGES = 4096  # 16 MiB
READ_SECONDS = 30.0
"""A read is ended after so long: what it sees stays in the write-ahead log for that time."""
STEPS_BETWEEN_LOOKS = 100_000
LOOK_SECONDS = 2.0
"""The time between two looks at the files while nothing is written."""
LOOK_SECONDS_OF_COMMITS = 0.05
"""The time between two looks at the files while there are commits. Each call to the system gives Python's
lock away, which costs more than the look itself."""


@dataclass(slots=True)
class _Entry(Generic[Result]):
    job: JointJob[Any, Result]
    item: Any
    future: "asyncio.Future[Result]"
    on_commit: Callable[[Result], None] | None
    joint: bool = False
    weight: int = 1
    lingers: bool = False
    gives_way: bool = False
    tenant: str | None = None
    result: Result | None = None
    error: BaseException | None = None

    @property
    def jobs(self) -> int:
        """The number of jobs that it counts for: what gives way is often many small ones in one item."""
        return self.weight if self.gives_way else 1


@dataclass(slots=True)
class _Backlog:
    """The jobs that were submitted and are not committed yet, in the order in which they are done."""

    first: deque[_Entry[Any]] = field(default_factory=deque[_Entry[Any]])
    later: deque[_Entry[Any]] = field(default_factory=deque[_Entry[Any]])
    """The jobs that give way."""
    later_jobs: int = 0
    tenants: Counter[str | None] = field(default_factory=Counter[str | None])
    """The number of them by tenant; None stands for work of no tenant."""
    has_held_back: bool = False
    """True if the last `take` left what gives way to the next one."""
    is_ending: bool = False
    """True if nothing more will be submitted."""

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def add(self, entry: _Entry[Any] | None) -> None:
        """Adds what was submitted; None is the end."""
        if entry is None:
            self.is_ending = True
        elif entry.gives_way:
            self.later.append(entry)
            self.later_jobs += entry.weight
            self.tenants[entry.tenant] += 1
        else:
            self.first.append(entry)

    def lingers(self) -> bool:
        """True if it may wait for more to share a commit with."""
        return 0 < len(self.first) + self.later_jobs < BUSY_JOBS and all(
            entry.lingers for entry in (*self.first, *self.later)
        )

    def take(self) -> list[_Entry[Any]]:
        """Takes what the next commit does.

        A crowd that gives way is left to the next commit when a tenant waits of whom nothing is in the crowd.
        It is left once, so that it goes on however many come.
        """
        taken = [self.first.popleft() for _ in range(min(len(self.first), JOBS_PER_COMMIT))]
        self.has_held_back = (
            self.later_jobs >= BUSY_JOBS
            and not self.has_held_back
            and any(self.tenants[entry.tenant] == 0 for entry in taken)
        )
        room = 0 if self.has_held_back else min(GIVING_WAY_PER_COMMIT, JOBS_PER_COMMIT - len(taken))
        while self.later and room > 0:
            entry = self.later.popleft()
            room -= entry.weight
            self.later_jobs -= entry.weight
            self.tenants[entry.tenant] -= 1
            if not self.tenants[entry.tenant]:
                del self.tenants[entry.tenant]
            taken.append(entry)
        return taken

    def put_back(self, entries: Sequence[_Entry[Any]]) -> None:
        """Takes back what was not done, to be the next."""
        for entry in reversed(entries):
            if entry.gives_way:
                self.later.appendleft(entry)
                self.later_jobs += entry.weight
                self.tenants[entry.tenant] += 1
            else:
                self.first.appendleft(entry)


class Database:
    """One open data folder. Create, `open`, use from one event loop, `close`.

    `on_fault` is called in the event loop when the writer has ended by an error, or when one of those that
    it tells of a commit has failed: faults of ours, after which only the file can be relied on. So many bytes
    of the disk as `reserve` says are kept for when it is full.
    """

    def __init__(
        self,
        folder: Path,
        meters: Meters | None = None,
        *,
        on_fault: Callable[[BaseException], None] | None = None,
        reserve: int = 0,
    ) -> None:
        self._meters = meters or Meters()
        self._on_fault = on_fault or _log_fault
        self.folder = folder
        self.path = folder / FILE
        self.on_rollback: list[Callable[[], None]] = []
        """Called in the writer thread after work was undone: caches that jobs keep must be dropped."""
        self.after_commit: list[Callable[[], None]] = []
        """Jobs put here what the writer thread calls once, after their commit; not when they are undone."""
        self._jobs: queue.SimpleQueue[_Entry[Any] | None] = queue.SimpleQueue()
        self._gathering_for: Set[str | None] | None = None
        """The tenants of the last commit, while the writer rests after it."""
        self._gathered = threading.Event()
        self._thread = threading.Thread(target=self._write, name="aep-writer", daemon=True)
        self._readers = ThreadPoolExecutor(1, "aep-reader")
        self._checkpoints = Checkpoints(connect, self.path, self._meters)
        self.room = Room(folder, reserve)
        self._lock = contextlib.ExitStack()
        self._read_until = 0.0
        self._looked_at = -math.inf
        self._closing = threading.Event()
        self.ended: StoreUnavailable | None = None
        """The reason why nothing is written or read any more; None as long as it is."""

    def open(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Takes the folder and starts the writer. Raises DataFolderInUse, StoreDamaged, StoreUnavailable.

        It reads what a killed process left in the log, which may take a while: called in another thread, it
        is given the loop that the store is used from.
        """
        self._loop = loop or asyncio.get_running_loop()
        self._files = self._lock.enter_context(exclusive(self.folder))
        narrow(self.folder)
        try:
            try:
                self._prepare()
            except sqlite3.DatabaseError as error:
                if not self.room.give_up(error):
                    raise
                self._prepare()
            self.room.look()
            self._reader = connect(self.path)  # later, the path may name another file
            self._reader.execute("PRAGMA query_only = ON")
            self._reader.set_progress_handler(self._is_read_over, STEPS_BETWEEN_LOOKS)
            self._checkpoints.start(self._files.are_ours)
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise StoreUnavailable(f"the store cannot be read: {explained(error, self.folder)}") from error
        except BaseException:
            self._lock.close()
            raise
        self._thread.start()

    def _prepare(self) -> None:
        with contextlib.closing(connect(self.path)) as connection:
            prepare(connection)
            self._files.mark(connection)

    async def write(
        self,
        job: Job[Result],
        on_commit: Callable[[Result], None] | None = None,
        *,
        needs_room: bool = True,
    ) -> Result:
        """What `job` returned, once its changes are on disk. Jobs that wait together share one commit.

        The job runs in the writer thread, inside a savepoint: what it raises undoes its own changes
        only, and is raised here. `on_commit` is called with the result in the event loop, in the order
        of the commits and before this returns. Raises StoreUnavailable when the disk can't take it; what
        `needs_room` is not tried while the disk is nearly full.
        """
        entry = _Entry(_alone, job, self._future(), on_commit)
        return await self._submit(entry, needs_room=needs_room)

    def write_jointly(
        self,
        job: JointJob[Item, Result],
        item: Item,
        on_commit: Callable[[Result], None] | None = None,
        *,
        weight: int = 1,
        lingers: bool = False,
        gives_way: bool = False,
        tenant: str | None = None,
        needs_room: bool = True,
    ) -> "asyncio.Future[Result]":
        """Does what `write` does, where one call of `job` may serve all the items that wait for it together.

        When a call for several items raises, it is undone and each gets a call alone. `weight` says how many
        times the usual work an item is. It is on its way when this returns, awaited or not. What `lingers`
        may be on disk LINGER_SECONDS later, in the commit of what comes meanwhile. What `gives_way` is done
        after all that does not, in its own order; a crowd of it shares no commit with what is done for other
        tenants.
        """
        entry = _Entry(job, item, self._future(), on_commit, True, weight, lingers, gives_way, tenant)
        return self._submit(entry, needs_room=needs_room)

    def _future(self) -> "asyncio.Future[Any]":
        return self._loop.create_future()

    def _submit(self, entry: _Entry[Result], *, needs_room: bool) -> "asyncio.Future[Result]":
        if self.ended is not None:
            entry.future.set_exception(self.ended)
        elif needs_room and self.room.is_short:
            entry.future.set_exception(StoreUnavailable(self.room.problem))
        else:
            self._jobs.put(entry)
            gathering_for = self._gathering_for
            if gathering_for is not None and not entry.gives_way and entry.tenant not in gathering_for:
                self._gathered.set()
        return entry.future

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

    async def give_back(self, pages: int) -> bool:
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
        self._closing.set()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._checkpoints.stop)
        self._readers.submit(self._reader.close)
        await asyncio.to_thread(self._readers.shutdown)
        self._lock.close()

    def _write(self) -> None:
        """The writer thread: takes what waits, commits it, tells the event loop; until None comes."""
        backlog = _Backlog()
        batch: list[_Entry[Any]] | None = []
        try:
            with contextlib.closing(connect(self.path)) as connection:
                self._files.opened()
                try:
                    while (batch := self._take(backlog, connection)) is not None:
                        with self._checkpoints.commits:
                            self._commit(connection, batch, backlog)
                        self._look_at_files(LOOK_SECONDS_OF_COMMITS)
                        self._checkpoints.committed()
                        busy = sum(entry.jobs for entry in batch) >= BUSY_JOBS
                        if busy:
                            self._gathered.clear()
                            self._gathering_for = {entry.tenant for entry in batch}
                        self._loop.call_soon_threadsafe(self._resolve, batch)
                        batch = []
                        if busy:
                            self._gather(backlog)
                    self._look_at_files(0)
                except StoreReplaced as error:
                    self._end(StoreUnavailable(f"nothing is taken in any more: {error}"), batch, backlog)
                    log.critical("store.replaced", file=str(self.path), reason=str(error))
                    kept = keeping.keep(self._files, connection, self._closing)
                    raise StoreReplaced(f"{error} while the platform ran on {self.folder}. {kept}") from None
        except BaseException as error:  # noqa: BLE001 - reported as a fault; the thread ends here
            if self.ended is None:
                self._end(StoreUnavailable("the store's writer has ended; the log says why"), batch, backlog)
            self._loop.call_soon_threadsafe(self._on_fault, error)

    def _gather(self, backlog: "_Backlog") -> None:
        """Rests until GATHERING_SECONDS are over, or somebody waits who had nothing in the last commit."""
        tenants = self._gathering_for or ()
        with contextlib.suppress(queue.Empty):
            while not backlog.is_ending:
                backlog.add(self._jobs.get_nowait())
        if not backlog.is_ending and all(entry.tenant in tenants for entry in backlog.first):
            self._gathered.wait(GATHERING_SECONDS)
        self._gathering_for = None

    def _take(self, backlog: "_Backlog", connection: sqlite3.Connection) -> list[_Entry[Any]] | None:
        """The next batch, of what waits now: at least one; None at the end."""
        self._look_for_room(connection)
        while len(backlog) == 0 and not backlog.is_ending:
            try:
                backlog.add(self._jobs.get(timeout=LOOK_SECONDS))
            except queue.Empty:
                self._look_at_files(0)
                self._look_for_room(connection)
        with contextlib.suppress(queue.Empty):
            until = time.monotonic() + LINGER_SECONDS
            while not backlog.is_ending:
                timeout = max(0.0, until - time.monotonic()) if backlog.lingers() else 0.0
                backlog.add(self._jobs.get(timeout=timeout))
        return backlog.take() or None

    def _look_at_files(self, seconds: float) -> None:
        """Looks at them if the last look was so long ago. Raises StoreReplaced when one is not ours."""
        now = time.monotonic()
        if now - self._looked_at >= seconds:
            self._looked_at = now
            self._files.check()

    def _look_for_room(self, connection: sqlite3.Connection) -> None:
        """Looks at the disk once in a while, and after a failure whether the store can be written again."""
        if not self.room.is_due(time.monotonic()):
            return
        self.room.look()
        if self.room.failure is None or self.room.is_short:
            return
        try:
            with self._checkpoints.commits:
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', '')")
        except sqlite3.DatabaseError as error:
            self.room.failed(error)
        else:
            self.room.works()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Entry[Any]], backlog: "_Backlog") -> None:
        """Runs the batch in one transaction; when that fails as a whole, every entry gets the error.

        Afterwards `batch` has the order in which its entries were run. What has not begun after
        COMMIT_SECONDS goes back to the backlog, so that long jobs hold up nobody longer than they take
        themselves.
        """
        started, changes = time.monotonic(), connection.total_changes
        calls = deque(_calls(batch))
        batch.clear()
        try:
            connection.execute("BEGIN IMMEDIATE")
            while calls and not (batch and time.monotonic() - started > COMMIT_SECONDS):
                batch += (call := calls.popleft())
                self._run(connection, call)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self.after_commit.clear()
            self._undone()
            batch += [entry for call in calls for entry in call]
            calls.clear()
            self._meters.commit_failed()
            self.room.failed(error)
            log.error("store.commit_failed", file=str(self.path), error=self.room.failure, jobs=len(batch))
            for entry in batch:
                entry.error = StoreUnavailable(self.room.failure)
        else:
            if connection.total_changes > changes:
                self.room.works()
                self._meters.committed(time.monotonic() - started, len(batch))
            while self.after_commit:
                self.after_commit.pop(0)()
        finally:
            backlog.put_back([entry for call in calls for entry in call])

    def _run(self, connection: sqlite3.Connection, call: Sequence[_Entry[Any]]) -> None:
        """One call of a job for all the entries of `call`; when it raises, one for each of them."""
        failure: Exception | None = None
        changes, waiting = connection.total_changes, len(self.after_commit)
        connection.execute("SAVEPOINT job")
        try:
            results = call[0].job(connection, [entry.item for entry in call])
            for entry, result in zip(call, results, strict=True):
                entry.result = result
        except Exception as error:
            if _is_the_files(error):
                raise  # SQLite may have undone the whole transaction
            connection.execute("ROLLBACK TO job")
            del self.after_commit[waiting:]
            # A refusal that wrote nothing must not cost all tenants their caches.
            if connection.total_changes > changes or not isinstance(error, EventPlatformError):
                self._undone()
            failure = error
        connection.execute("RELEASE job")
        if failure is not None and len(call) == 1:
            call[0].error = failure  # the caller's, who waits for it
        elif failure is not None:
            for entry in call:
                self._run(connection, [entry])

    def _resolve(self, batch: Sequence[_Entry[Any]]) -> None:
        """In the event loop: tells each caller, in the order of the writes."""
        for entry in batch:
            try:
                if entry.error is None and entry.on_commit is not None:
                    entry.on_commit(entry.result)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault of ours
                self._on_fault(error)  # it is committed, so the caller is told so all the same
            finally:
                _answer(entry)

    def _end(self, reason: StoreUnavailable, batch: list[_Entry[Any]] | None, backlog: "_Backlog") -> None:
        """Refuses what waits, and all that comes later."""
        self.ended = reason
        left = [*(batch or ()), *backlog.first, *backlog.later]
        self._loop.call_soon_threadsafe(self._give_up, left)

    def _give_up(self, waiting: Iterable[_Entry[Any] | None]) -> None:
        """In the event loop, when the writer has ended: nobody waits for it for ever."""
        left = list(waiting)
        with contextlib.suppress(queue.Empty):
            while True:
                left.append(self._jobs.get_nowait())
        for entry in left:
            if entry is not None:
                entry.error = self.ended
                _answer(entry)

    def _undone(self) -> None:
        for forget in self.on_rollback:
            forget()


def _alone(connection: sqlite3.Connection, jobs: Sequence[Job[Result]]) -> Sequence[Result]:
    """A job of its own as a joint one, which is called for one item at a time."""
    (job,) = jobs
    return (job(connection),)


def _calls(batch: Sequence[_Entry[Any]]) -> list[list[_Entry[Any]]]:
    """The calls that the entries need: those of one joint job stand together where its first one stood."""
    calls: list[list[_Entry[Any]]] = []
    open_calls: dict[Any, tuple[list[_Entry[Any]], int]] = {}  # and the weight that they have so far
    for entry in batch:
        call, weight = open_calls.get(entry.job, ([], 0))
        if not entry.joint or not call or weight + entry.weight > WEIGHT_AT_ONCE:
            call, weight = [], 0
            calls.append(call)
        call.append(entry)
        if entry.joint:
            open_calls[entry.job] = (call, weight + entry.weight)
    return calls


def connect(path: Path) -> sqlite3.Connection:
    """A connection with the settings that durability rests on, in autocommit mode."""
    _make_private(path)  # SQLite gives the files beside it the same mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(schema.PRAGMAS)
    return connection


def _make_private(path: Path) -> None:
    """Makes a file that is not there yet, mode 0600 whatever the umask is.

    An existing one is not opened: closing it would drop the locks that SQLite holds in this process.
    """
    identity.check_present(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


def narrow(folder: Path) -> None:
    """Takes the rights of others away from the platform's own files, and logs which had them."""
    narrowed: list[str] = []
    for path in (folder / name for name in OWN_FILES):
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(PRIVATE)
                narrowed.append(path.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("store.file_open_to_others", file=str(path), error=error.strerror, fix="chmod 0600")
    if narrowed:
        log.warning("store.files_narrowed", folder=str(folder), files=narrowed, mode=f"{PRIVATE:04o}")


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, whoever writes meanwhile and whatever schema the file has."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def file_of(folder: Path) -> Path:
    """The file of a folder that a platform has run on. Raises NoStore."""
    path = folder / FILE
    if not path.is_file():
        raise NoStore(f"there is no store in {folder}: name the platform's data folder with --data")
    return path


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
    if found == len(schema.MIGRATIONS):
        connection.execute("ROLLBACK")  # so that a full disk does not stop a start
        return
    for script in schema.MIGRATIONS[found:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    connection.execute("COMMIT")


def _unused_pages(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA freelist_count").fetchone()[0]


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
    path = folder / FILE
    identity.check(path)
    while True:
        with contextlib.closing(connect(path)) as connection:
            if version(connection) == len(schema.MIGRATIONS):
                yield connection
                return
        # Only now, as closing what this opens would end SQLite's locks on an open connection.
        with exclusive(folder), contextlib.closing(connect(path)) as connection:
            prepare(connection)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[OwnFiles]:
    """Holds the folder for this process; the locks end with the process, however that ends.

    Connections are opened and closed inside. Raises DataFolderInUse, StoreDamaged.
    """
    path = folder / FILE
    with lock_of(folder) as lock:
        identity.check_present(path)
        with lock_of_database(path) as database:
            identity.check_wal(path, database, identity.read_mark(lock))
            yield OwnFiles(path, database, lock)


def _log_fault(error: BaseException) -> None:
    log.critical("store.fault", exc_info=error)


def _answer(entry: _Entry[Any]) -> None:
    if entry.future.done():
        return  # the caller has gone
    if entry.error is not None:
        entry.future.set_exception(entry.error)
    else:
        entry.future.set_result(entry.result)


def _is_the_files(error: Exception) -> bool:
    """Whether an error is about the file or the disk, and not about what a job asked for."""
    return type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.InternalError)


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"the store cannot be read: {identity.with_cure(error)}") from error
