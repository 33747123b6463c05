"""The last calls of each PIM by each ingest format, in the SQLite file: taken ones and refused ones."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import astuple

from event_platform.domain.tenants import Way

from ..runtime.meters import CallKey, LastCalls


def put(connection: sqlite3.Connection, calls: Iterable[tuple[CallKey, LastCalls]]) -> None:
    """Writes the last calls of some PIMs, in a job."""
    rows = [(*key, *astuple(last)) for key, last in calls]
    connection.executemany("INSERT OR REPLACE INTO last_calls VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def read(connection: sqlite3.Connection) -> Mapping[CallKey, LastCalls]:
    """Returns the last calls of all PIMs, in a job; none from a file of an older program."""
    try:
        rows = connection.execute(
            "SELECT tenant, way, taken_at, answered_at, refused_at, status, reason FROM last_calls"
            " ORDER BY tenant, way"
        ).fetchall()
    except sqlite3.OperationalError:
        return {}
    return {(tenant, Way(way)): LastCalls(*last) for tenant, way, *last in rows}


def read_those_of(connection: sqlite3.Connection, tenants: Iterable[str]) -> Mapping[CallKey, LastCalls]:
    """Returns the last calls of these PIMs and of no PIM, in a job, and deletes those of others."""
    names = {"", *tenants}
    known = read(connection)
    others = {(tenant,) for tenant, _ in known if tenant not in names}
    connection.executemany("DELETE FROM last_calls WHERE tenant = ?", sorted(others))
    return {key: last for key, last in known.items() if key[0] in names}
