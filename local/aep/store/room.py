"""Room on the disk of the data folder: when events are refused for lack of it, and a reserve to empty the
queue.

Removing a delivery takes room in the write-ahead log. So a part of the disk is kept in a file, `reserve`,
which is removed when the disk is full; once little is left, only work is done that needs next to no room.
"""

import errno
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import structlog

from .identity import with_cure, words_of

log = structlog.get_logger()

RESERVE = "reserve"
RESERVE_BYTES = 8 * 1024 * 1024
LEAST_BYTES = 16 * 1024 * 1024
"""The bytes that must be free on the disk; with less, no event is taken in."""
ENOUGH_BYTES = 32 * 1024 * 1024
"""The free bytes from which on events are taken in again."""
LOOK_SECONDS = 1.0
_OUT_OF_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""The errors of SQLite that a full disk, or a used up quota, can cause."""


class Room:
    """The free space on the disk of a folder. Used by the thread that writes; all may read the two facts.

    `is_short`: only work that needs next to no room is done. `failure`: the error of the last commit.
    `reserve` is the size of the reserve in bytes.
    """

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self._reserve = reserve
        self._path = folder / RESERVE
        self._look_at = 0.0
        self.is_short = False
        self.failure: str | None = None

    @property
    def problem(self) -> str | None:
        """The reason why nothing can be written, or no event is taken in; None if all is well."""
        return self._shortage() if self.is_short else self.failure

    def is_due(self, now: float) -> bool:
        """True if `look` should be called, at a time of the monotonic clock."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        return True

    def look(self) -> None:
        """Measures the free space, and makes the reserve again when there is room for it."""
        free = free_bytes(self._folder)
        if self.is_short and free >= ENOUGH_BYTES and self._make():
            self.is_short = False
            log.info("store.room_again", folder=str(self._folder), free_bytes=free)
        elif not self.is_short and (free < LEAST_BYTES or not self._make()):
            self._run_short(free)

    def failed(self, error: sqlite3.DatabaseError) -> None:
        """Notes the error of a commit, and removes the reserve if the disk may be full."""
        self.failure = f"the store cannot be written: {explained(error, self._folder)}"
        self.give_up(error)

    def works(self) -> None:
        """Notes that a commit succeeded."""
        self.failure = None

    def give_up(self, error: BaseException | None) -> bool:
        """Removes the reserve if the disk may be full; False if that cannot help."""
        if not is_out_of_room(error):
            return False
        if not self.is_short and (free := free_bytes(self._folder)) < ENOUGH_BYTES:
            self._run_short(free)
        had_one = self._path.exists()
        self._path.unlink(missing_ok=True)
        return had_one

    def _run_short(self, free: int) -> None:
        self.is_short = True
        log.error(
            "store.out_of_room",
            folder=str(self._folder),
            free_bytes=free,
            missing_bytes=max(0, ENOUGH_BYTES - free),
            fix="make room on this disk; until then nothing is taken in, and what waits is delivered",
        )

    def _shortage(self) -> str:
        free = free_bytes(self._folder)
        left = f"its disk has {megabytes(free)} left" if free < ENOUGH_BYTES else "its quota is used up"
        return (
            f"the store cannot be written: {left}, and {megabytes(ENOUGH_BYTES)} are needed: make room there,"
            " and what is sent is taken in again"
        )

    def _make(self) -> bool:
        """Makes the reserve if it is not there; False if there is no room for it."""
        if self._reserve == 0 or self._path.exists():
            return True
        partial = self._path.with_name(f"{RESERVE}.partial")
        try:
            _fill(partial, self._reserve)
            partial.replace(self._path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            if is_out_of_room(error):
                return False
            log.warning("store.no_reserve", file=str(self._path), error=error.strerror)
            self._reserve = 0
        return True


def free_bytes(folder: Path) -> int:
    """Returns the bytes that are left on a folder's disk for users without special rights; 0 if that is
    unknown.
    """
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def is_out_of_room(error: BaseException | None) -> bool:
    """True if a full disk, or a used up quota, can be behind an error of SQLite or of the system."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # The lower byte is the kind of the error (sqlite.org/rescode.html).
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OUT_OF_ROOM


def explained(error: sqlite3.DatabaseError, folder: Path) -> str:
    """Returns the error's text with its cure: when the disk may be full, how much is left on it."""
    if not is_out_of_room(error):
        return with_cure(error)
    return f"{words_of(error)}; {megabytes(free_bytes(folder))} are left on its disk: make room there"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _fill(path: Path, size: int) -> None:
    """Writes a file in full, so that the disk has room for all of it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        if sys.platform == "linux":
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.write(os.urandom(size))  # zeros might be left out, or compressed
