"""Numbers about the queue in the file: for the meters, and to continue the numbering."""

import sqlite3

from ..runtime.meters import Counted, SentAgain
from ..store import accepted, kept, replays
from ..store.replays import CATCH_UP, CATCHING_UP, REPLAY

REPLAYED, DROPPED = "dead_letters_replayed", "dead_letters_dropped"
"""Counts in `meta` of what other processes did with dead letters."""
COURSES_AT_ONCE = 20_000
"""The courses of deliveries that one job of the reading thread looks at: some 5 ms."""
_COLUMNS = "event_no, subscription_no, replay_no"
_KEY = f"({_COLUMNS})"


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


def sent_again(connection: sqlite3.Connection) -> SentAgain:
    """Returns what replays and catching up are about. A job of the store."""
    running = dict(
        connection.execute(
            "SELECT kind, count(*) FROM replays WHERE status IN ('running', 'clearing') GROUP BY kind"
        )
    )
    (behind_at,) = connection.execute(
        "SELECT min((SELECT accepted_at FROM kept WHERE no > r.cursor_no ORDER BY no LIMIT 1)) FROM replays r"
        " WHERE status IN ('running', 'clearing') AND kind = 'catch_up'"
    ).fetchone()
    return SentAgain({REPLAY: 0, CATCH_UP: 0} | running, replays.ended(connection), behind_at)


class OldestWaiting:
    """A search for the oldest event that waits, which remembers up to where all deliveries have ended.

    Events of dead letters do not count, nor deliveries of replays and of those that catch up.
    """

    def __init__(self) -> None:
        self._start: tuple[int, ...] | None = None
        """The key of the first course whose delivery may wait."""
        self.accepted_at: float | None = None
        """The time of acceptance of the oldest event in unix seconds; None without any."""

    def step(self, connection: sqlite3.Connection) -> bool:
        """Looks for it; False if it is not found yet. A job."""
        if self._start is None:
            self._start = _first_waiting(connection), 0, 0
        (end,) = connection.execute("SELECT coalesce(min(no), 1 << 62) FROM accepted").fetchone()
        looked_at = f"FROM courses c WHERE {_KEY} >= (?, ?, ?) AND event_no < ? ORDER BY {_COLUMNS}"
        at = (*self._start, end)
        found = connection.execute(
            f"SELECT {_COLUMNS} FROM (SELECT * {looked_at} LIMIT ?) c"  # noqa: S608 - constants
            " WHERE outcome IS NULL AND replay_no = 0"
            " AND NOT EXISTS (SELECT 1 FROM dead_letters WHERE event_no IN (c.event_no, c.event_no + 1)"
            " AND subscription_no = c.subscription_no)"
            f" AND subscription_no NOT IN ({CATCHING_UP}) LIMIT 1",
            (*at, COURSES_AT_ONCE),
        ).fetchone()
        if found is None:
            last = connection.execute(
                f"SELECT {_COLUMNS} {looked_at} LIMIT 1 OFFSET ?",
                (*at, COURSES_AT_ONCE),
            ).fetchone()
            self._start = last or _last_course(connection, end) or self._start
            if last is not None:
                return False
        else:
            self._start = found
        self.accepted_at = _oldest(connection, None if found is None else found[0])
        return True


def _first_waiting(connection: sqlite3.Connection) -> int:
    """Returns a number at or before that of the first kept event that waits."""
    (first,) = connection.execute(
        "SELECT min(first) & ~1 FROM (SELECT min(event_no) AS first FROM deliveries"
        " UNION ALL SELECT min(event_no) FROM retries UNION ALL SELECT min(no) FROM accepted)"
    ).fetchone()
    return kept.highest_number(connection) if first is None else first


def _last_course(connection: sqlite3.Connection, end: int) -> tuple[int, ...] | None:
    descending = _COLUMNS.replace(",", " DESC,") + " DESC"
    return connection.execute(
        f"SELECT {_COLUMNS} FROM courses WHERE event_no < ? ORDER BY {descending} LIMIT 1",  # noqa: S608
        (end,),
    ).fetchone()


def _oldest(connection: sqlite3.Connection, kept_no: int | None) -> float | None:
    """Returns the earliest time of acceptance of that kept event, and of what waits and is not kept."""
    return connection.execute(
        "SELECT min(accepted_at) FROM ("
        "SELECT accepted_at FROM (SELECT accepted_at FROM events WHERE NOT EXISTS"
        " (SELECT 1 FROM dead_letters WHERE event_no = events.no) ORDER BY no LIMIT 1)"
        " UNION ALL SELECT accepted_at FROM kept WHERE no = ?"
        " UNION ALL SELECT accepted_at FROM (SELECT accepted_at FROM accepted ORDER BY no LIMIT 1))",
        (kept_no,),
    ).fetchone()[0]
