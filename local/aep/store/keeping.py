"""Keeps the content of a store whose file was removed or replaced while the platform ran on it."""

import os
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import structlog

from ..errors import BackupRefused
from .copies import write_copy
from .identity import OwnFiles, kept_name, restoring, wal_of, words_of
from .locking import READERS_OF_SQLITE, is_at, try_lock

log = structlog.get_logger()

RETRY_SECONDS = 10.0


def keep(files: OwnFiles, connection: sqlite3.Connection, stopping: threading.Event) -> str:
    """Makes sure that all that was committed is in a file with a name, and logs in which.

    Waits for room on the disk until `stopping` is set. Leaves files of others alone, but moves a write-ahead
    log away that would be applied to the wrong file at the next start.
    """
    # SQLite would remove the write-ahead log by its name when it closes the file, whosever that is now. It
    # does not while another program seems to read the file.
    try_lock(files.descriptor, READERS_OF_SQLITE, shared=True)
    now = datetime.now(UTC)
    is_overwritten = files.is_overwritten()
    if is_overwritten:
        said = "What it held is lost, but for what is in the backup that it was overwritten with"
    else:
        said = _kept(files, connection, kept_name(files.path, now), stopping)
    wal = wal_of(files.path)
    if files.owns(wal) != (files.owns(files.path) and not is_overwritten):
        _move(wal, kept_name(wal, now))
    return said


def _kept(files: OwnFiles, connection: sqlite3.Connection, target: Path, stopping: threading.Event) -> str:
    is_said = False
    while True:
        try:
            if (place := _place_of(files)) is not None and _is_copied_whole(connection):
                return _said_of(place, files)
            write_copy(connection, target)
        except (BackupRefused, sqlite3.DatabaseError, OSError) as error:
            if not is_said:
                fix = "make room; it is tried again every 10 s until the platform is stopped, which loses it"
                log.error("store.not_kept", file=str(target), error=str(error), fix=fix)
            is_said = True
            if stopping.wait(RETRY_SECONDS):
                return f"What had not been delivered is lost, as {target} could not be written: {_why(error)}"
        else:
            return _said_of(target, files)


def _said_of(kept: Path, files: OwnFiles) -> str:
    command = restoring(kept, files.path.parent)
    return f"Nothing was lost: all that was accepted is in {kept}. Put it back with `{command}`"


def _why(error: BackupRefused | sqlite3.DatabaseError | OSError) -> str:
    match error:
        case sqlite3.DatabaseError():
            return words_of(error)
        case OSError():
            return error.strerror or "the system refuses it"
        case _:
            return str(error)


def _place_of(files: OwnFiles) -> Path | None:
    """Returns the path of the database now; None if it has none, or one that the system does not tell."""
    try:
        place = Path(f"/proc/self/fd/{files.descriptor}").readlink()
        return place if is_at(place, os.fstat(files.descriptor)) else None
    except OSError:
        return None


def _is_copied_whole(connection: sqlite3.Connection) -> bool:
    """Copies the write-ahead log into the database; False if a reader keeps a part of it from that."""
    (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def _move(path: Path, target: Path) -> None:
    try:
        path.rename(target)
    except FileNotFoundError:
        return
    except OSError as error:
        log.error("store.wal_not_moved", file=str(path), error=error.strerror, fix="remove it before a start")
