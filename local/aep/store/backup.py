"""A consistent copy of the SQLite file, made while the platform runs and writes."""

import contextlib
import sqlite3
from pathlib import Path

from event_platform.domain.errors import StoreUnavailable

from ..errors import BackupRefused
from . import copies, database
from .identity import with_cure


def back_up(folder: Path, target: Path, *, overwrite: bool) -> int:
    """Copies the folder's store to `target`, mode 0600; the copy's size in bytes.

    Raises BackupRefused, NoStore, StoreUnavailable, OSError.
    """
    source = database.file_of(folder)
    _check(target, folder, overwrite=overwrite)
    try:
        with contextlib.closing(database.connect_to_read(source)) as connection:
            return copies.write_copy(connection, target)
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(
            f"{source} could not be copied to {target.parent}: {with_cure(error)}"
        ) from error


def _check(target: Path, folder: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise BackupRefused(f"the folder {target.parent} does not exist: make it first")
    if target.parent.samefile(folder) and target.name in database.OWN_FILES:
        raise BackupRefused(f"{target} is the platform's own: give the backup another name")
    if target.exists() and not target.is_file():
        raise BackupRefused(f"{target} is not a file: give the name of a file for the backup")
    if target.exists() and not overwrite:
        raise BackupRefused(f"{target} exists: choose another name, or replace it with --force")
