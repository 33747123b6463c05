"""Times in the file: unix seconds and moments, the last time in it, and its distance from the wall clock."""

import sqlite3
import time
from datetime import UTC, datetime

LAST = """
    SELECT max(at) FROM (
        SELECT accepted_at AS at FROM (SELECT accepted_at FROM events ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT accepted_at FROM (SELECT accepted_at FROM accepted ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT at FROM (SELECT at FROM seen ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT at FROM (SELECT at FROM arrived ORDER BY no DESC LIMIT 1)
        UNION ALL SELECT max(at) FROM log_entries
    )
"""
_LEAD = "clock_lead"


def last(connection: sqlite3.Connection) -> float:
    """A job: the last time in the file, in unix seconds; 0 in an empty one."""
    return connection.execute(LAST).fetchone()[0] or 0.0


def now(connection: sqlite3.Connection) -> datetime:
    """The platform's time, for commands beside it: by the wall clock and by what the file says of it."""
    return datetime.fromtimestamp(max(time.time() + lead(connection), last(connection)), UTC)


def note_lead(connection: sqlite3.Connection, seconds: int) -> None:
    """A job: notes by how much the platform's time is ahead of the wall clock; 0 takes the note away."""
    if seconds == 0:
        connection.execute("DELETE FROM meta WHERE name = ?", (_LEAD,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_LEAD, seconds))


def lead(connection: sqlite3.Connection) -> int:
    """Returns what was noted last."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_LEAD,)).fetchone()
    return int(row[0]) if row else 0


def moment_of(seconds: float) -> datetime:
    """Returns the moment of unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def seconds_of(moment: datetime | None) -> float | None:
    """Returns the unix seconds of a moment, if there is one."""
    return None if moment is None else moment.timestamp()
