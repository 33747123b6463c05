"""Checks that the files of the store are still those that the platform opened, and that they belong together.

A backup that is put in the place of a file in use, or an `rm`, leaves the platform with a file without a
name: what it writes there is gone when it ends. A write-ahead log knows nothing of the file that it was
written for, so SQLite applies an old one to a backup that was put beside it, and damages that.

Each start puts a random number into the header of the file (`application_id`), and into the file `lock` once
it is there. So the header says whether the file was overwritten, which keeps its identity. The two together
say whether a write-ahead log that was left is that of the file beside it.
"""

import os
import secrets
import shlex
import sqlite3
from datetime import datetime
from pathlib import Path

import structlog

from ..errors import StoreDamaged, StoreReplaced
from .locking import LOCK, is_at

log = structlog.get_logger()

MARK_AT = 68
"""The offset of `application_id` in the header, 4 bytes (sqlite.org/fileformat2.html 1.3.16)."""
MARK_BYTES = 4
KEPT = ".kept-"
"""The text before the time in the name of a file that was kept when another one took its place."""
CURE = "restore a backup with `aep restore FILE`, which moves the old files of the store out of the way"

_WORDS = {
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk does not read or write",
    sqlite3.SQLITE_CANTOPEN: "a file cannot be opened or made",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no database",
    sqlite3.SQLITE_BUSY: "another process holds it",
    sqlite3.SQLITE_LOCKED: "another process holds it",
    sqlite3.SQLITE_READONLY: "the file may not be written to",
    sqlite3.SQLITE_INTERRUPT: "it took too long and was ended",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_AUTH: "the file may not be opened",
}
_CURES = {
    sqlite3.SQLITE_FULL: "make room on the disk of the data folder",
    sqlite3.SQLITE_CANTOPEN: "look at the rights of the data folder and at the room on its disk",
    sqlite3.SQLITE_CORRUPT: CURE,
    sqlite3.SQLITE_NOTADB: CURE,
    sqlite3.SQLITE_READONLY: "run this as the user who owns the data folder",
    sqlite3.SQLITE_PERM: "run this as the user who owns the data folder",
}


class OwnFiles:
    """The files of a store that is open: the database, its write-ahead log and the index of that.

    `database` and `lock` are descriptors of locked files that stay open for longer than this is used. No file
    is opened here, as closing it would end the locks of SQLite.
    """

    def __init__(self, path: Path, database: int, lock: int) -> None:
        self.path = path
        self.descriptor = database
        self._lock = lock
        self._mark = b""
        self._is_marked = False
        self._database = os.fstat(database)
        self._beside: dict[Path, os.stat_result] = {}

    def mark(self, connection: sqlite3.Connection) -> None:
        """Gives the file its number of this start; it is in the header after the next checkpoint.

        On a full disk the file has none, and what needs it is not checked.
        """
        write_mark(self._lock, b"")
        mark = secrets.token_bytes(MARK_BYTES)
        try:
            connection.execute(f"PRAGMA application_id = {int.from_bytes(mark, signed=True)}")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            log.warning("store.not_marked", error=str(error), fix="make room, then start again")
        else:
            self._mark = mark

    def opened(self) -> None:
        """Notes the files that a connection has made beside the database, and that stay while it is open."""
        names = (wal_of(self.path), shm_of(self.path))  # which some file systems cannot have
        self._beside = {path: path.stat() for path in names if path.exists()}

    def check(self) -> None:
        """Raises StoreReplaced when a file is not ours any more."""
        if not _is_there(self.path, self._database):
            raise StoreReplaced(f"{self.path.name} was removed, or replaced by another file")
        if self.is_overwritten():
            raise StoreReplaced(f"{self.path.name} was overwritten")
        for path, found in self._beside.items():
            if not _is_there(path, found):
                raise StoreReplaced(f"{path.name} was removed, or replaced by another file")

    def are_ours(self) -> bool:
        """False if `check` would raise."""
        try:
            self.check()
        except StoreReplaced:
            return False
        return True

    def is_overwritten(self) -> bool:
        """True if something else than SQLite has written the file."""
        found = mark_of(self.descriptor)
        if self._is_marked:
            return found != self._mark
        if self._mark and found == self._mark:
            self._is_marked = True
            try:
                os.fsync(self.descriptor)  # else a power cut may leave a number that the header does not have
                write_mark(self._lock, self._mark)
            except OSError as error:
                log.warning("store.lock_not_marked", error=error.strerror, fix="make room, then start again")
        return False

    def owns(self, path: Path) -> bool:
        """True if the path names the file of the store that it named when the store was opened."""
        found = self._database if path == self.path else self._beside.get(path)
        return found is not None and _is_there(path, found)


def kept_name(path: Path, now: datetime) -> Path:
    """Returns the name under which a file is kept when another one takes its place."""
    return path.with_name(f"{path.name}{KEPT}{now:%Y%m%dT%H%M%S.%f}Z")


def wal_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(f"{path.name}-wal")


def shm_of(path: Path) -> Path:
    """The index of the write-ahead log of a database."""
    return path.with_name(f"{path.name}-shm")


def mark_of(descriptor: int) -> bytes:
    """Returns the number in the header of a database; less than MARK_BYTES if the file is no database."""
    return os.pread(descriptor, MARK_BYTES, MARK_AT)


def clear_mark(descriptor: int) -> None:
    """Takes the number out of a database that no connection has open: a copy is another file."""
    os.pwrite(descriptor, bytes(MARK_BYTES), MARK_AT)


def write_mark(lock: int, mark: bytes) -> None:
    """Writes into the file `lock` which database the write-ahead log is for; nothing if `mark` is empty."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, mark.hex().encode(), 0)
    os.fsync(lock)


def read_mark(lock: int) -> bytes:
    """Returns the mark in the open file `lock`; empty if it has none."""
    return os.pread(lock, 2 * MARK_BYTES, 0)


def check_present(path: Path) -> None:
    """Raises StoreDamaged if the database has gone and other files of the store have not.

    To begin a new one then would hide the loss, and SQLite would remove the write-ahead log.
    """
    if path.exists():
        return
    stores = sorted(path.parent.glob(f"{path.name}{KEPT}*Z"))
    logs = sorted(path.parent.glob(f"{wal_of(path).name}{KEPT}*Z"))
    if _size(wal_of(path)) > 0:
        logs.append(wal_of(path))
    if not stores and not logs:
        return
    if stores:
        cure = (
            f"{stores[-1]} is the newest store that was kept: put it back with"
            f" `{restoring(stores[-1], path.parent)}`, or restore a backup in the same way"
        )
    else:
        cure = f"{logs[-1].name} is there: {CURE}"
    raise StoreDamaged(
        f"{path} is gone, but {cure}; to begin with an empty store, move the files that are left of it to"
        " another folder first"
    )


def restoring(file: Path, folder: Path) -> str:
    """Returns the command that puts a store into the place of that of a data folder."""
    return f"aep restore {shlex.quote(str(file))} --data {shlex.quote(str(folder))}"


def check_wal(path: Path, database: int, lock: bytes) -> None:
    """Raises StoreDamaged if the write-ahead log beside the database was written for another one.

    `lock` is the content of the file `lock`.
    """
    if lock and _size(wal_of(path)) > 0 and mark_of(database).hex().encode() != lock:
        raise StoreDamaged(
            f"{wal_of(path)} was not written for the {path.name} beside it, which would be damaged: {CURE}."
            f" If both came from one snapshot of the disk, remove {path.with_name(LOCK)} instead"
        )


def check(path: Path) -> None:
    """Checks the files of a store that this process has not opened yet. Raises StoreDamaged."""
    check_present(path)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    said = read_lock(path)
    try:
        check_wal(path, descriptor, said)
    except StoreDamaged:
        if read_lock(path) == said:  # else a platform has started meanwhile, which checks by itself
            raise
    finally:
        os.close(descriptor)


def read_lock(path: Path) -> bytes:
    """Returns the mark in the file `lock` beside the database; empty if it has none."""
    try:
        with path.with_name(LOCK).open("rb") as file:
            return read_mark(file.fileno())
    except FileNotFoundError:
        return b""


def with_cure(error: sqlite3.DatabaseError) -> str:
    """Says what went wrong, and what to do if the file is damaged or its disk is full."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    cure = _CURES.get(code)
    return f"{words_of(error)}: {cure}" if cure else words_of(error)


def words_of(error: sqlite3.DatabaseError) -> str:
    """Returns our words for an error of SQLite, by its kind (sqlite.org/rescode.html).

    Other kinds are faults of ours, and quoted so that they can be reported.
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return _WORDS.get(code) or f"a fault of the platform's own, please report it: {error}"


def _is_there(path: Path, found: os.stat_result) -> bool:
    """False if the path names nothing, or another file; True if it cannot be looked at."""
    try:
        return is_at(path, found)
    except OSError:
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
