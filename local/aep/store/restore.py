"""Puts a backup in the place of the store, and keeps what was there."""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from ..errors import DataFolderInUse, RestoreRefused
from . import migrations, opening, schema
from .copies import sync_folder
from .identity import clear_mark, kept_name, shm_of, wal_of, words_of, write_mark
from .locking import ALL_OF_SQLITE, OWN_BYTE, PRIVATE, lock_database, lock_of, lock_of_database, try_lock

RESTORING = ".restoring"
"""The end of the new file's name until it is whole."""
CHECK_SECONDS = 60.0
"""The time for looking for damage; 60 s are enough for some 10 GB."""
STEPS = 100_000
"""The steps of SQLite between two looks at the clock."""
COPIED_AT_ONCE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore. `kept` is the file that was there before; None if there was none."""

    size: int
    kept: Path | None
    is_checked: bool
    """False if CHECK_SECONDS were not enough to read the whole file."""


def restore(folder: Path, source: Path) -> Restored:
    """Makes a copy of `source` the store of the folder, and moves the files of the folder to a name with the
    time.

    The copy is checked and on disk before anything is moved. An end in the middle leaves the old store, or
    the new one, or none beside the kept one, which a start refuses until the restore is run again. Raises
    DataFolderInUse, RestoreRefused, OSError.
    """
    path = folder / opening.FILE
    _check_source(source, path)
    with lock_of(folder) as lock, contextlib.ExitStack() as stack:
        if path.exists():
            _lock_out_all(stack.enter_context(lock_of_database(path)), folder)
        new = path.with_name(path.name + RESTORING)
        try:
            _copy(source, new)
            is_checked = _check(new, source)
            descriptor = os.open(new, os.O_RDWR)
            stack.callback(os.close, descriptor)
            lock_database(descriptor, new)  # so that nobody starts on it before this is done
            clear_mark(descriptor)
            os.fsync(descriptor)
        except BaseException:
            _remove(new)
            raise
        kept = _move_away(path)
        write_mark(lock, b"")
        new.replace(path)
        sync_folder(folder)
        return Restored(os.fstat(descriptor).st_size, kept, is_checked)


def _check_source(source: Path, path: Path) -> None:
    if not source.is_file():
        raise RestoreRefused(f"{source} is not a file: give the name of a backup that `aep backup` made")
    if path.exists() and source.samefile(path):
        raise RestoreRefused(f"{source} is the store itself: give the name of a backup")


def _lock_out_all(descriptor: int, folder: Path) -> None:
    if not try_lock(descriptor, ALL_OF_SQLITE):
        raise DataFolderInUse(
            f"another command works on the store in {folder}: wait for its end, then try again"
        )


def _copy(source: Path, new: Path) -> None:
    """Copies the file, and its write-ahead log if it has one. Raises RestoreRefused, OSError."""
    _remove(new)  # what a restore that was killed has left
    with _opened(source) as original:
        if not try_lock(original.fileno(), OWN_BYTE, shared=True):
            raise RestoreRefused(f"a platform runs on {source}: make a backup of it with `aep backup`")
        log = wal_of(source)
        size = source.stat().st_size + (log.stat().st_size if log.exists() else 0)
        free = shutil.disk_usage(new.parent).free
        if size > free:
            raise RestoreRefused(
                f"{source} has {size / 1e6:.1f} MB, and {new.parent} has room for {free / 1e6:.1f} MB:"
                f" make room for {(size - free) / 1e6:.1f} MB more"
            )
        _write(original, new)
        if log.exists():
            with _opened(log) as original_log:
                _write(original_log, wal_of(new))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RestoreRefused(
            f"{path} cannot be read ({error.strerror}): give this user the right to"
        ) from error
    with file:
        yield file


def _write(original: BinaryIO, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        shutil.copyfileobj(original, file, COPIED_AT_ONCE)


def _check(new: Path, source: Path) -> bool:
    """Checks that the copy is a store that this program can use. Raises RestoreRefused.

    False if there was not enough time to look for damage in all of it.
    """
    try:
        with contextlib.closing(opening.connect(new)) as connection:  # closing folds its log into it
            _check_schema(connection, source)
            return _is_whole(connection, source)
    except sqlite3.DatabaseError as error:
        raise RestoreRefused(
            f"{source} is damaged, or no store ({words_of(error)}): give another backup"
        ) from error


def _check_schema(connection: sqlite3.Connection, source: Path) -> None:
    found, known = migrations.version(connection), len(schema.MIGRATIONS)
    if found > known:
        raise RestoreRefused(
            f"{source} has schema version {found}, this program knows up to {known}: restore it with the"
            " version of the program that made it, or a later one"
        )
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as model:
        for script in schema.MIGRATIONS[:found]:
            model.executescript(script)
        if found == 0 or not _tables(model) <= _tables(connection):
            raise RestoreRefused(
                f"{source} is not a store of the platform: give a backup that `aep backup` made"
            )


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _is_whole(connection: sqlite3.Connection, source: Path) -> bool:
    until = time.monotonic() + CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return False
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise RestoreRefused(f"{source} is damaged ({' '.join(found.split())}): give another backup")
    return True


def _move_away(path: Path) -> Path | None:
    """Moves the files of the store to names with the time, the database first.

    Returns the database's new name, if any. While the database is away, no platform starts on the rest
    (`identity.check_present`).
    """
    kept = kept_name(path, datetime.now(UTC))
    is_kept = path.exists()
    for old, name in ((path, kept), (wal_of(path), wal_of(kept)), (shm_of(path), shm_of(kept))):
        with contextlib.suppress(FileNotFoundError):
            old.rename(name)
            sync_folder(path.parent)
    return kept if is_kept else None


def _remove(new: Path) -> None:
    for path in (new, wal_of(new), shm_of(new)):
        path.unlink(missing_ok=True)
