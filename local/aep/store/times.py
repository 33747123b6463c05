"""Times in the file: conversion of unix seconds, the last time in it, and its distance from the wall
clock.
"""

import sqlite3
import time
from datetime import UTC, datetime

LAST = """
    SELECT max(at) FROM (
        SELECT accepted_at AS at FROM (SELECT accepted_at FROM events ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT accepted_at FROM (SELECT accepted_at FROM kept ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT accepted_at FROM (SELECT accepted_at FROM accepted ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT at FROM (SELECT at FROM seen ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT at FROM (SELECT at FROM arrived ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT max(at) FROM log_entries
    )
"""
_LEAD = "clock_lead"


def last(connection: sqlite3.Connection) -> float:
    """Returns the last time in the file, in unix seconds; 0 in an empty one. A job."""
    return connection.execute(LAST).fetchone()[0] or 0.0


def now(connection: sqlite3.Connection) -> datetime:
    """Returns the platform's time for commands beside it: the wall clock, corrected by the lead in the
    file.
    """
    return datetime.fromtimestamp(max(time.time() + lead(connection), last(connection)), UTC)


def note_lead(connection: sqlite3.Connection, seconds: int) -> None:
    """Notes by how many seconds the platform's time is ahead of the wall clock; 0 deletes the note. A job."""
    if seconds == 0:
        connection.execute("DELETE FROM meta WHERE name = ?", (_LEAD,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_LEAD, seconds))


def lead(connection: sqlite3.Connection) -> int:
    """Returns the lead that was noted last, in seconds."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_LEAD,)).fetchone()
    return int(row[0]) if row else 0


def moment_of(seconds: float) -> datetime:
    """Returns the moment of unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds_of(moment: datetime | None) -> float | None:
    """Returns the unix seconds of a moment, if there is one."""
    return None if moment is None else moment.timestamp()
