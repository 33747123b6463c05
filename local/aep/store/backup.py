"""A consistent copy of the SQLite file, made while the platform runs and writes."""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from event_platform.domain.errors import StoreUnavailable

from ..errors import BackupRefused
from . import database

PARTIAL = ".partial"
"""What the name of a copy ends with until it is whole."""


def back_up(folder: Path, target: Path, *, overwrite: bool) -> int:
    """Copies the folder's store to `target`, mode 0600; the copy's size in bytes.

    The copy holds one moment, and comes under its name only when it is whole and on disk; before that it
    grows in a file beside it. Raises BackupRefused, NoStore, StoreUnavailable, OSError.
    """
    source = database.file_of(folder)
    _check(target, folder, overwrite=overwrite)
    partial = target.with_name(target.name + PARTIAL)
    with _held(partial) as descriptor:
        try:
            _copy(source, partial)
            os.fsync(descriptor)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        database.sync_folder(target.parent)
        return os.fstat(descriptor).st_size


def _check(target: Path, folder: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise BackupRefused(f"the folder {target.parent} does not exist: make it first")
    if target.parent.samefile(folder) and target.name in database.OWN_FILES:
        raise BackupRefused(f"{target} is the platform's own: give the backup another name")
    if target.exists() and not target.is_file():
        raise BackupRefused(f"{target} is not a file: give the name of a file for the backup")
    if target.exists() and not overwrite:
        raise BackupRefused(f"{target} exists: choose another name, or replace it with --force")


def _copy(source: Path, target: Path) -> None:
    """One read transaction; writers go on meanwhile."""
    try:
        with contextlib.closing(database.connect_to_read(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"{source} could not be copied to {target.parent}: {error}") from error


@contextlib.contextmanager
def _held(partial: Path) -> Iterator[int]:
    """The file, empty and for this process alone, whatever an earlier run left in it; its descriptor."""
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise BackupRefused(
            f"{partial} cannot be written ({error.strerror}): choose a folder that this user may write to"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _is_running(partial) from None
        if not _is_named(descriptor, partial):  # its maker finished between our two calls
            raise _is_running(partial)
        os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_running(partial: Path) -> BackupRefused:
    return BackupRefused(f"another backup writes {partial} just now: wait for it, or choose another name")
