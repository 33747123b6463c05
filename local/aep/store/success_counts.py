"""The counts of attempts in the SQLite file: the port `SuccessCounts`."""

import sqlite3
from collections.abc import Mapping

from event_platform.domain.suspension import HOUR_MINUTES, Count, Series

from .database import Database

KEPT_MINUTES = 2 * HOUR_MINUTES


class SqliteSuccessCounts:
    """The port `SuccessCounts`: one row for each series and minute."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        rows = [
            (series.key, minute, count.succeeded, count.failed, count.first_failed_at)
            for series, minutes in counts.items()
            for minute, count in minutes.items()
        ]
        if not rows:
            return

        def job(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO success_counts (series, minute, succeeded, failed, first_failed_at)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (series, minute) DO UPDATE SET"
                " succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed,"
                " first_failed_at = min(coalesce(first_failed_at, excluded.first_failed_at),"
                " coalesce(excluded.first_failed_at, first_failed_at))",
                rows,
            )

        await self._database.write(job)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        def job(connection: sqlite3.Connection) -> dict[int, Count]:
            rows = connection.execute(
                "SELECT minute, succeeded, failed, first_failed_at FROM success_counts"
                " WHERE series = ? AND minute >= ? AND minute < ?",
                (series.key, minute, minute + HOUR_MINUTES),
            )
            return {at: Count(*figures) for at, *figures in rows}

        return await self._database.read(job)


def drop_expired(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Drops up to `limit` rows that are too old, or too new, for any hour at `now` (unix seconds).

    Returns their number.
    """
    minute = int(now // 60)
    return connection.execute(
        "DELETE FROM success_counts WHERE (series, minute) IN"
        " (SELECT series, minute FROM success_counts WHERE minute < ? OR minute > ? LIMIT ?)",
        (minute - KEPT_MINUTES, minute + KEPT_MINUTES, limit),
    ).rowcount
