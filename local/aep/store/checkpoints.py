"""Checkpoints of the write-ahead log: one thread makes them all, so that no commit waits for one.

SQLite before 3.51.3 (3.50.7, 3.44.6) can lose pages when a checkpoint begins though the whole log is copied
already, and a commit begins the log anew meanwhile (sqlite.org/wal.html#walresetbug). Two rules prevent that:

- Nobody else makes checkpoints: connections of ours have no automatic ones (`schema.PRAGMAS`), and while the
  platform has the file open, closing another connection makes none.
- After a complete checkpoint none begins until something was committed, which is not copied yet.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from ..runtime.meters import Meters

log = structlog.get_logger()

WANTED_FRAMES = 4000
"""The frames (pages of 4 KiB) between two checkpoints while much is written: 16 MiB, roughly. A page that
many commits change is copied once, so half as many would cost a third more."""
LONGEST_SECONDS = 2.0
SHORTEST_SECONDS = 0.05
FEW_FRAMES = 256
"""The frames that are copied while the writer waits, so that the log can begin anew; that takes some 5 ms."""
MOST_FRAMES = 8192
"""A log of so many frames is copied while the writer waits, however much is left."""
ROUNDS = 4
LARGE_LOG_FRAMES = 65_536
"""The log is said to be large once it has so many frames: 256 MiB."""


class Checkpoints:
    """Copies what was committed into the file, from `start` to `stop`, in a thread of its own.

    The writer holds `commits` while it commits, and calls `committed` afterwards.
    """

    def __init__(self, connect: Callable[[Path], sqlite3.Connection], path: Path, meters: Meters) -> None:
        self.commits = threading.Lock()
        self._connect = connect
        self._path = path
        self._meters = meters
        self._committed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="aep-checkpoints", daemon=True)

    def start(self, are_ours: Callable[[], bool]) -> None:
        """Starts the thread. `are_ours` says whether the files are still those of the store.

        Raises DatabaseError.
        """
        self._are_ours = are_ours
        self._copier = Copier(self._connect(self._path), self._connect(self._path), self.commits)
        self._thread.start()

    def stop(self) -> None:
        """Waits for the checkpoint that is being made. Closing the last connection makes a final one."""
        self._stopping.set()
        self._committed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def committed(self) -> None:
        """Notes that something was committed."""
        if not self._committed.is_set():
            self._committed.set()

    def _run(self) -> None:
        copier = self._copier
        with contextlib.closing(copier):
            began, seconds, frames = time.monotonic(), LONGEST_SECONDS, 0
            is_large = has_failed = False
            while not self._stopping.is_set():
                if copier.is_complete:
                    self._committed.wait()
                if self._stopping.wait(seconds):
                    return
                self._committed.clear()
                if not self._are_ours():  # copying would damage another one's, and the writer ends soon
                    seconds = LONGEST_SECONDS
                    continue
                since, began, before = began, time.monotonic(), frames
                try:
                    frames = copier.copy()
                except sqlite3.DatabaseError as error:  # the disk is full, or fails: the log keeps it all
                    if not has_failed:
                        log.warning("store.checkpoint_failed", error=str(error))
                    has_failed, seconds = True, LONGEST_SECONDS
                    continue
                has_failed = False
                self._meters.checkpointed(time.monotonic() - began)
                new = frames - before if frames >= before else frames
                seconds = pause_after(new, began - since)
                is_large = _say_if_large(frames, was_large=is_large)


class Copier:
    """Makes checkpoints on a connection; `commits` is held by whoever commits.

    `excluding` is a connection that keeps every writer out, those of other processes too.
    """

    def __init__(
        self, connection: sqlite3.Connection, excluding: sqlite3.Connection, commits: threading.Lock
    ) -> None:
        self._connection = connection
        self._excluding = excluding
        self._commits = commits
        self._complete_at: int | None = self._version()

    @property
    def is_complete(self) -> bool:
        """True if the last checkpoint copied all there was."""
        return self._complete_at is not None

    def copy(self) -> int:
        """Copies what can be copied; returns the number of frames in the log, 0 if there is nothing to do.

        Readers do not wait for it, and commits only for the last FEW_FRAMES. Raises DatabaseError.
        """
        if self._complete_at == self._version():
            return 0
        frames, left = self._checkpoint()
        for _ in range(ROUNDS):
            if left <= FEW_FRAMES or frames < WANTED_FRAMES:
                break
            frames, left = self._checkpoint()
        if (left <= FEW_FRAMES and frames >= WANTED_FRAMES) or frames >= MOST_FRAMES:
            frames, left = self._checkpoint_alone()
        return frames

    def close(self) -> None:
        self._connection.close()
        self._excluding.close()

    def _checkpoint_alone(self) -> tuple[int, int]:
        """Runs `_checkpoint` while no transaction writes, so that the next one begins the log anew.

        A transaction that was open meanwhile would go on behind what it found in the log, even if all that is
        copied.
        """
        with self._commits:
            self._excluding.execute("BEGIN IMMEDIATE")
            try:
                return self._checkpoint()
            finally:
                self._excluding.execute("ROLLBACK")

    def _checkpoint(self) -> tuple[int, int]:
        """Makes a checkpoint; returns the frames in the log, and how many of them are in the file now."""
        # -1 and -1 while another program makes a checkpoint, which we take for a complete one.
        _, frames, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        # Read after the checkpoint, so that another value later means a commit after it.
        self._complete_at = self._version() if copied >= frames else None
        return max(0, frames), max(0, frames - copied)

    def _version(self) -> int:
        """Returns a number that changes when another connection commits."""
        return self._connection.execute("PRAGMA data_version").fetchone()[0]


def pause_after(frames: int, seconds: float) -> float:
    """Returns the seconds until the next checkpoint, when so many frames came in `seconds`."""
    return min(LONGEST_SECONDS, max(SHORTEST_SECONDS, seconds * WANTED_FRAMES / max(1, frames)))


def _say_if_large(frames: int, *, was_large: bool) -> bool:
    """Logs once that the log is large, until it was small again."""
    if frames >= LARGE_LOG_FRAMES and not was_large:
        log.warning(
            "store.wal_large",
            frames=frames,
            fix="a reader keeps the file open in a transaction (a backup, a shell): end it",
        )
    return frames >= LARGE_LOG_FRAMES
