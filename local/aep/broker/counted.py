"""Numbers about the queue in the file: for the meters, and to continue the numbering."""

import sqlite3

from ..runtime.meters import Counted
from ..store import accepted, kept

REPLAYED, DROPPED = "dead_letters_replayed", "dead_letters_dropped"
"""Counts in `meta` of what other processes did with dead letters."""


def highest_number(connection: sqlite3.Connection) -> int:
    """The last number given out: events, ids seen and positions share one numbering."""
    (highest,) = connection.execute(
        "SELECT max(highest) FROM (SELECT max(no) AS highest FROM events UNION ALL SELECT max(no) FROM seen"
        " UNION ALL SELECT max(no) FROM arrived"
        " UNION ALL SELECT max(position) FROM dead_letters UNION ALL SELECT max(position) FROM deliveries"
        " UNION ALL SELECT max(position) FROM retries UNION ALL SELECT max(no) + 1 FROM accepted)"
    ).fetchone()
    return max(highest or 0, kept.highest_number(connection))


def counted(connection: sqlite3.Connection) -> tuple[Counted, dict[str, int]]:
    """Returns the numbers that the meters start with. A job of the store."""
    (retries,) = connection.execute("SELECT count(*) FROM retries").fetchone()
    (dead_letters,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    rows = connection.execute(
        "SELECT s.id, d.number FROM"
        " (SELECT subscription_no, count(*) AS number FROM deliveries GROUP BY subscription_no) d"
        " JOIN subscriptions s ON s.no = d.subscription_no"
    )
    return Counted(retries, dead_letters, accepted.number_of(connection), dict(rows.fetchall())), moved(
        connection
    )


def count_moved(connection: sqlite3.Connection, name: str, number: int) -> None:
    """Counts what another process than the server did: REPLAYED or DROPPED dead letters."""
    connection.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name)"
        " DO UPDATE SET value = CAST(value AS INTEGER) + excluded.value",
        (name, number),
    )


def moved(connection: sqlite3.Connection) -> dict[str, int]:
    """Returns the counts that `count_moved` has added up so far."""
    rows = connection.execute("SELECT name, value FROM meta WHERE name IN (?, ?)", (REPLAYED, DROPPED))
    return {REPLAYED: 0, DROPPED: 0} | {name: int(value) for name, value in rows}


def oldest_accepted_at(connection: sqlite3.Connection) -> float | None:
    """Returns when the oldest event that waits was accepted. Events of dead letters do not count."""
    return connection.execute(
        "SELECT min(accepted_at) FROM ("
        "SELECT accepted_at FROM (SELECT accepted_at FROM events WHERE NOT EXISTS"
        " (SELECT 1 FROM dead_letters WHERE event_no = events.no) ORDER BY no LIMIT 1)"
        " UNION ALL SELECT accepted_at FROM (SELECT accepted_at FROM accepted ORDER BY no LIMIT 1))"
    ).fetchone()[0]
