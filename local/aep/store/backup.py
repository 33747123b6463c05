"""A consistent copy of the SQLite file, made while the platform runs and writes."""

import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import structlog

from event_platform.domain.errors import StoreUnavailable

from ..errors import BackupRefused
from . import copies, database, figures, opening, room
from .identity import with_cure, words_of

log = structlog.get_logger()


def back_up(folder: Path, target: Path, *, overwrite: bool) -> int:
    """Copies the folder's store to `target`, mode 0600; returns the copy's size in bytes.

    The copy is given up if the disk of the store becomes nearly full. Raises BackupRefused, NoStore,
    StoreUnavailable, OSError.
    """
    source = opening.file_of(folder)
    _check(target, folder, overwrite=overwrite)
    began_at, has_room = datetime.now(UTC), room.free_bytes(folder) >= room.LEAST_BYTES

    def is_out_of_room() -> bool:
        return room.free_bytes(folder) < room.LEAST_BYTES

    try:
        with contextlib.closing(opening.connect_to_read(source)) as connection:
            if has_room:
                connection.set_progress_handler(is_out_of_room, database.STEPS_BETWEEN_LOOKS)
            size = copies.write_copy(connection, target)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise StoreUnavailable(
                f"the backup was ended, as the disk of {folder} was nearly full: what is written meanwhile"
                " stays in the write-ahead log. Make room there, or copy to another disk in a quieter hour"
            ) from error
        if room.is_out_of_room(error):
            raise StoreUnavailable(
                f"{source} could not be copied to {target.parent}: {words_of(error)};"
                f" {room.megabytes(room.free_bytes(target.parent))} are left there, and"
                f" {room.megabytes(source.stat().st_size)} are needed: make room, or choose another folder"
            ) from error
        raise StoreUnavailable(
            f"{source} could not be copied to {target.parent}: {with_cure(error)}"
        ) from error
    try:
        figures.note_backup(folder, began_at)
    except OSError as error:
        log.warning("store.backup_not_noted", folder=str(folder), error=error.strerror)
    return size


def _check(target: Path, folder: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise BackupRefused(f"the folder {target.parent} does not exist: make it first")
    if target.parent.samefile(folder) and target.name in opening.OWN_FILES:
        raise BackupRefused(f"{target} is the platform's own: give the backup another name")
    if target.exists() and not target.is_file():
        raise BackupRefused(f"{target} is not a file: give the name of a file for the backup")
    if target.exists() and not overwrite:
        raise BackupRefused(f"{target} exists: choose another name, or replace it with --force")
