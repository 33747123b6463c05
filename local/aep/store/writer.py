"""The one thread that writes to the SQLite file: jobs that wait together share a commit."""

import asyncio
import contextlib
import math
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any

import structlog

from event_platform.domain.errors import EventPlatformError, StoreUnavailable

from ..errors import StoreReplaced
from ..runtime.meters import Meters
from . import keeping
from .backlog import BUSY_JOBS, Backlog, Entry, Item, Job, JointJob, Result, alone, answer, calls_of
from .checkpoints import Checkpoints
from .identity import OwnFiles
from .opening import FILE, connect
from .room import Room

log = structlog.get_logger()

COMMIT_SECONDS = 0.1
GATHERING_SECONDS = 0.004
"""The seconds for which the writer rests after a commit of BUSY_JOBS, so that the next commit serves more
jobs.

Each commit costs a sync, and hands Python's lock to and fro. The rest ends early for a job whose tenant had
nothing in that commit.
"""
LINGER_SECONDS = 0.02
"""The seconds for which work that nobody waits for may wait for other work to share a commit with."""
LOOK_SECONDS = 2.0
"""The seconds between two looks at the files while nothing is written."""
LOOK_SECONDS_OF_COMMITS = 0.05
"""The seconds between two looks at the files while there are commits.

Each call to the system gives Python's lock away, which costs more than the look itself.
"""


class Writer:
    """The writer of a folder whose files the caller holds: started, given jobs from one event loop, stopped.

    `on_fault` is called in the event loop when the writer has ended by an error, or when a callback after a
    commit has failed: faults of ours, after which only the file can be relied on.
    """

    def __init__(
        self, folder: Path, meters: Meters, on_fault: Callable[[BaseException], None], reserve: int
    ) -> None:
        self._meters = meters
        self._on_fault = on_fault
        self.folder = folder
        self.path = folder / FILE
        self.on_rollback: list[Callable[[], None]] = []
        """Callbacks in the writer thread after work was undone: caches that jobs keep must be dropped."""
        self.after_commit: list[Callable[[], None]] = []
        """The functions that jobs want called once after their commit, in the writer thread; not if they are
        undone.
        """
        self._jobs: queue.SimpleQueue[Sequence[Entry[Any]] | None] = queue.SimpleQueue()
        self._lingering: list[Entry[Any]] = []
        """The entries that wait for others to share a commit with; the writer is not woken for them alone."""
        self._lingers: asyncio.TimerHandle | None = None
        """The call that submits them at the latest."""
        self._gathering_for: Set[str | None] | None = None
        """The tenants of the last commit, while the writer rests after it."""
        self._gathered = threading.Event()
        self._thread = threading.Thread(target=self._write, name="aep-writer", daemon=True)
        self._checkpoints = Checkpoints(connect, self.path, self._meters)
        self.room = Room(folder, reserve)
        self._looked_at = -math.inf
        self._closing = threading.Event()
        self.ended: StoreUnavailable | None = None
        """The reason why nothing is written or read any more; None as long as the writer works."""

    def _start(self, loop: asyncio.AbstractEventLoop, files: OwnFiles) -> None:
        self._loop, self._files = loop, files
        self._checkpoints.start(files.are_ours)
        self._thread.start()

    async def _stop(self) -> None:
        """Finishes what was submitted."""
        self._closing.set()
        self._submit_lingering()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._checkpoints.stop)

    async def write(
        self,
        job: Job[Result],
        on_commit: Callable[[Result], None] | None = None,
        *,
        needs_room: bool = True,
    ) -> Result:
        """Returns the result of `job`, once its changes are on disk.

        Jobs that wait together share one commit. The job runs in the writer thread, inside a savepoint: an
        exception undoes its own changes only, and is raised here. `on_commit` is called with the result in
        the event loop, in the order of the commits and before this returns. Raises StoreUnavailable when the
        disk can't take it. A job that `needs_room` is not tried while the disk is nearly full.
        """
        entry = Entry(alone, job, self._future(), on_commit)
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
        """Does the same as `write`, where one call of `job` may serve all the items that wait for it
        together.

        When a call for several items raises, it is undone and each item gets a call alone. `weight` says how
        many times the usual work an item is. It is submitted when this returns, awaited or not. An item that
        `lingers` may be on disk LINGER_SECONDS later, in the commit of other work. An item that `gives_way`
        is done after all that do not, in its own order; a crowd of these shares no commit with work for other
        tenants.
        """
        entry = Entry(job, item, self._future(), on_commit, True, weight, gives_way, tenant)
        return self._submit(entry, needs_room=needs_room, lingers=lingers)

    def _future(self) -> "asyncio.Future[Any]":
        return self._loop.create_future()

    def _submit(
        self, entry: Entry[Result], *, needs_room: bool, lingers: bool = False
    ) -> "asyncio.Future[Result]":
        if self.ended is not None:
            entry.future.set_exception(self.ended)
        elif needs_room and self.room.is_short:
            entry.future.set_exception(StoreUnavailable(self.room.problem))
        elif lingers:
            self._lingering.append(entry)
            if sum(each.jobs for each in self._lingering) >= BUSY_JOBS:
                self._submit_lingering()
            elif self._lingers is None:
                self._lingers = self._loop.call_later(LINGER_SECONDS, self._submit_lingering)
        else:
            self._jobs.put([*self._taken_lingering(), entry] if self._lingering else (entry,))
            gathering_for = self._gathering_for
            if gathering_for is not None and not entry.gives_way and entry.tenant not in gathering_for:
                self._gathered.set()
        return entry.future

    def _submit_lingering(self) -> None:
        if entries := self._taken_lingering():
            self._jobs.put(entries)

    def _taken_lingering(self) -> list[Entry[Any]]:
        """Takes what lingers, to be submitted at once: what is put together is in one commit."""
        if self._lingers is not None:
            self._lingers.cancel()
            self._lingers = None
        entries, self._lingering = self._lingering, []
        return entries

    def _write(self) -> None:
        """Runs in the writer thread: takes what waits, commits it and has it answered, until None comes."""
        backlog = Backlog()
        batch: list[Entry[Any]] | None = []
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

    def _gather(self, backlog: Backlog) -> None:
        """Rests until GATHERING_SECONDS are over, or somebody waits who had nothing in the last commit."""
        tenants = self._gathering_for or ()
        self._add_waiting(backlog)
        if not backlog.is_ending and all(entry.tenant in tenants for entry in backlog.first):
            self._gathered.wait(GATHERING_SECONDS)
        self._gathering_for = None

    def _take(self, backlog: Backlog, connection: sqlite3.Connection) -> list[Entry[Any]] | None:
        """Returns the next batch of the jobs that wait, at least one; None at the end."""
        self._look_for_room(connection)
        while len(backlog) == 0 and not backlog.is_ending:
            try:
                backlog.add(self._jobs.get(timeout=LOOK_SECONDS))
            except queue.Empty:
                self._look_at_files(0)
                self._look_for_room(connection)
        self._add_waiting(backlog)
        return backlog.take() or None

    def _add_waiting(self, backlog: Backlog) -> None:
        with contextlib.suppress(queue.Empty):
            while not backlog.is_ending:
                backlog.add(self._jobs.get_nowait())

    def _look_at_files(self, seconds: float) -> None:
        """Looks at the files if the last look is long enough ago.

        Raises StoreReplaced when one is not ours.
        """
        now = time.monotonic()
        if now - self._looked_at >= seconds:
            self._looked_at = now
            self._files.check()

    def _look_for_room(self, connection: sqlite3.Connection) -> None:
        """Measures the free disk once in a while, and after a failure checks whether the store can be written
        again.
        """
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

    def _commit(self, connection: sqlite3.Connection, batch: list[Entry[Any]], backlog: Backlog) -> None:
        """Runs the batch in one transaction; when that fails as a whole, every entry gets the error.

        Afterwards `batch` has the order in which its entries were run. Entries that have not begun after
        COMMIT_SECONDS go back to the backlog, so that long jobs delay others only by their own time.
        """
        started, changes = time.monotonic(), connection.total_changes
        calls = deque(calls_of(batch))
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
            backlog.requeue([entry for call in calls for entry in call])

    def _run(self, connection: sqlite3.Connection, call: Sequence[Entry[Any]]) -> None:
        """Calls the job once for all the entries of `call`; if it raises, once for each of them."""
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

    def _resolve(self, batch: Sequence[Entry[Any]]) -> None:
        """Answers each caller, in the order of the writes. Runs in the event loop."""
        for entry in batch:
            try:
                if entry.error is None and entry.on_commit is not None:
                    entry.on_commit(entry.result)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault of ours
                self._on_fault(error)  # it is committed, so the caller is told so all the same
            finally:
                answer(entry)

    def _end(self, reason: StoreUnavailable, batch: list[Entry[Any]] | None, backlog: Backlog) -> None:
        """Refuses what waits, and all that comes later."""
        self.ended = reason
        left = [*(batch or ()), *backlog.first, *backlog.later]
        self._loop.call_soon_threadsafe(self._give_up, left)

    def _give_up(self, waiting: Iterable[Entry[Any] | None]) -> None:
        """Answers everything that waits with the error. Runs in the event loop when the writer has ended."""
        self._submit_lingering()
        left = list(waiting)
        with contextlib.suppress(queue.Empty):
            while True:
                left += self._jobs.get_nowait() or ()
        for entry in left:
            if entry is not None:
                entry.error = self.ended
                answer(entry)

    def _undone(self) -> None:
        for forget in self.on_rollback:
            forget()


def _is_the_files(error: Exception) -> bool:
    """True if an error is about the file or the disk, and not about what a job asked for."""
    return type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError, sqlite3.InternalError)
