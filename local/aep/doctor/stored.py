"""Checks of the store's file, and what other checks read in it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from event_platform.domain.words import counted

from ..errors import StoreDamaged
from ..store import identity, migrations, opening, schema, times
from ..store.figures import Figures, figures_of
from ..store.room import megabytes
from .findings import Check, broken, missing, ok, problem

T = TypeVar("T")
LARGE_LOG_BYTES = 256 * 1024 * 1024
OLD_BACKUP = timedelta(days=7)


def checks(folder: Path, now: datetime) -> Iterator[Check]:
    """Runs the checks of the store and its last backup."""
    yield store(folder)
    yield from files(figures_of(folder), now)


def store(folder: Path) -> Check:
    file = folder / opening.FILE
    try:
        identity.check(file)
    except StoreDamaged as error:
        return broken("store", str(error))
    if not file.exists():
        return ok("store", "none yet; the first start makes it")
    try:
        with closing(opening.connect_to_read(file)) as connection:
            found = migrations.version(connection)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.DatabaseError as error:
        return broken("store", f"{file} cannot be read: {identity.with_cure(error)}")
    known = len(schema.MIGRATIONS)
    if found > known:
        return broken(
            "store", f"schema version {found}, this program knows up to {known}: run the newer program"
        )
    return ok("store", f"schema version {found}{'' if found == known else '; the next start migrates it'}")


def files(found: Figures, now: datetime) -> Iterator[Check]:
    """Shows the sizes of the store's files, and its last backup; nothing while there is no store."""
    if found.file_bytes == 0:
        return
    shown = f"{megabytes(found.file_bytes)}, and {megabytes(found.wal_bytes)} of write-ahead log"
    if found.wal_bytes > LARGE_LOG_BYTES:
        why = "a reader that keeps the file open (a backup, a shell) lets the log grow: end it"
        yield problem("files", f"{shown}; {why}")
    else:
        yield ok("files", shown)
    if found.backup_at is None:
        yield missing("backup", "none is known: run `aep backup FILE`, each day")
        return
    age = max(timedelta(), now - found.backup_at)
    shown = f"the last one is {counted(age.days, 'day')} and {counted(age.seconds // 3600, 'hour')} old"
    if age > OLD_BACKUP:
        yield problem("backup", f"{shown}: run `aep backup FILE`, each day")
    else:
        yield ok("backup", shown)


def last_time(folder: Path) -> datetime | None:
    """Returns the last time in the file, from which the platform's time continues."""
    last = read(folder, times.last) or 0.0
    return datetime.fromtimestamp(last, UTC) if last else None


def lead(folder: Path) -> float:
    """Returns by how many seconds the platform's time was ahead of the machine's clock when it last
    looked.
    """
    return read(folder, times.lead) or 0.0


def read(folder: Path, job: Callable[[sqlite3.Connection], T]) -> T | None:
    """Returns the result of the job; None when the file cannot be read, which is a finding of its own."""
    file = folder / opening.FILE
    if file.exists():
        with suppress(sqlite3.DatabaseError), closing(opening.connect_to_read(file)) as connection:
            return job(connection)
    return None
