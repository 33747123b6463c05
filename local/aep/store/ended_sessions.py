"""Sessions of the console that were ended before their time: their cookies are good for nobody any more."""

import sqlite3

ENDED_AT_MOST = 1_000
"""The sessions of one tenant that are remembered; of more the earliest are forgotten."""
OPERATOR = ""
"""The tenant of the operator's own sessions."""


def end(connection: sqlite3.Connection, session_id: str, tenant: str, until: float, now: float) -> None:
    """Remembers that a session has ended, for as long as its cookie would be good (unix seconds)."""
    connection.execute("DELETE FROM ended_sessions WHERE until <= ?", (now,))
    connection.execute("INSERT OR IGNORE INTO ended_sessions VALUES (?, ?, ?)", (session_id, tenant, until))
    connection.execute(
        "DELETE FROM ended_sessions WHERE id IN"
        " (SELECT id FROM ended_sessions WHERE tenant = ? ORDER BY until DESC LIMIT -1 OFFSET ?)",
        (tenant, ENDED_AT_MOST),
    )


def is_ended(connection: sqlite3.Connection, session_id: str) -> bool:
    return (
        connection.execute("SELECT 1 FROM ended_sessions WHERE id = ?", (session_id,)).fetchone() is not None
    )


def all_of(connection: sqlite3.Connection, tenant: str) -> list[str]:
    """Returns the ids of the tenant's sessions that have ended."""
    found = connection.execute("SELECT id FROM ended_sessions WHERE tenant = ?", (tenant,))
    return [session_id for (session_id,) in found]
