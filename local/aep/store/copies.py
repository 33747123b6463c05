"""Copies of a database that stand under their names only when they are whole and on disk."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..errors import BackupRefused
from .identity import clear_mark
from .locking import PRIVATE, is_at

PARTIAL = ".partial"
"""The end of a copy's name until it is whole."""


def write_copy(connection: sqlite3.Connection, target: Path) -> int:
    """Copies what the connection sees to `target`, mode 0600; returns the copy's size in bytes.

    The copy holds one moment, and writers go on meanwhile. It grows in a file beside `target`. Raises
    BackupRefused, DatabaseError, OSError.
    """
    partial = target.with_name(target.name + PARTIAL)
    with _held(partial) as descriptor:
        try:
            connection.execute("VACUUM INTO ?", (str(partial),))
            clear_mark(descriptor)
            os.fsync(descriptor)
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
        return os.fstat(descriptor).st_size


def sync_folder(folder: Path) -> None:
    """Makes new names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _held(partial: Path) -> Iterator[int]:
    """Opens the file, empty and for this process alone, whatever an earlier run left in it.

    Yields its descriptor.
    """
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE)
    except OSError as error:
        raise BackupRefused(
            f"{partial} cannot be written ({error.strerror}): choose a folder that this user may write to"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _is_running(partial) from None
        if not is_at(partial, os.fstat(descriptor)):  # its maker finished between our two calls
            raise _is_running(partial)
        os.fchmod(descriptor, PRIVATE)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_running(partial: Path) -> BackupRefused:
    return BackupRefused(f"another backup writes {partial} just now: wait for it, or choose another name")
