"""The table of events that are accepted and not fanned out yet, per tenant in the order of acceptance."""

import json
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from event_platform.domain.events.event import Event, event_of_row

from . import bodies, bulk

_COLUMNS = (
    "no, tenant, snapshot_no, accepted_at, id, type, time, facts, data_json, identity, benchmark_client"
)
_EVENT = "tenant, accepted_at, id, type, time, facts, data_json, identity, benchmark_client"


@dataclass(slots=True)
class Waiting:
    """An event that waits for its fan-out, and which snapshot of the subscriptions it is for.

    `no`, and `no` + 1 for its other variant, are set aside for it in `events`.
    """

    no: int
    tenant: str
    snapshot_no: int
    accepted_at: float
    event: Event


def put(connection: sqlite3.Connection, waiting: Sequence[Waiting]) -> None:
    """Adds the events behind all that are there."""
    bulk.insert(connection, f"accepted ({_COLUMNS})", [_to_row(each) for each in waiting])


def of_tenant(connection: sqlite3.Connection, tenant: str) -> Generator[Waiting]:
    """Yields the tenant's events, oldest first; each is read when it is drawn."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM accepted WHERE tenant = ? ORDER BY no",  # noqa: S608 - constant columns
        (tenant,),
    )
    for row in rows:
        yield _from_row(row)


def note_progress(connection: sqlite3.Connection, tenant: str, last: int, done: int) -> None:
    """Notes that the tenant's events up to number `last` are with the first `done` of their recipients."""
    connection.execute(
        "INSERT INTO fan_outs VALUES (?, ?, ?) ON CONFLICT (tenant) DO UPDATE SET done = excluded.done",
        (tenant, last, done),
    )


def progress(connection: sqlite3.Connection, tenant: str) -> tuple[int | None, int]:
    """Returns what `note_progress` noted since the last `remove`: (last, done)."""
    row = connection.execute("SELECT last_no, done FROM fan_outs WHERE tenant = ?", (tenant,)).fetchone()
    return (None, 0) if row is None else (row[0], row[1])


def written(connection: sqlite3.Connection, waiting: Iterable[int]) -> set[int]:
    """Returns the numbers set aside for these events that are in `events`."""
    return bodies.moved(connection, [number for no in waiting for number in (no, no + 1)])


def remove(connection: sqlite3.Connection, tenant: str, last: int) -> int | None:
    """Removes the tenant's events up to that number.

    Returns the snapshot of the next one, None without any.
    """
    connection.execute("DELETE FROM accepted WHERE tenant = ? AND no <= ?", (tenant, last))
    connection.execute("DELETE FROM fan_outs WHERE tenant = ?", (tenant,))
    return _needed_snapshot(connection, tenant)


def _needed_snapshot(connection: sqlite3.Connection, tenant: str) -> int | None:
    row = first(connection, tenant)
    return None if row is None else row[1]


def remove_first(connection: sqlite3.Connection, tenant: str, number: int) -> int | None:
    """Removes the tenant's first event; returns the snapshot of the next one, None without any."""
    connection.execute("DELETE FROM accepted WHERE no = ?", (number,))
    connection.execute("DELETE FROM fan_outs WHERE tenant = ? AND last_no <= ?", (tenant, number))
    return _needed_snapshot(connection, tenant)


def first(connection: sqlite3.Connection, tenant: str) -> tuple[int, int, str] | None:
    """Returns number, snapshot and id of the tenant's first event, whatever else is in its row."""
    return connection.execute(
        "SELECT no, snapshot_no, id FROM accepted WHERE tenant = ? ORDER BY no LIMIT 1", (tenant,)
    ).fetchone()


def first_number(connection: sqlite3.Connection, tenant: str) -> int | None:
    """Returns the number of the tenant's first event."""
    return connection.execute("SELECT min(no) FROM accepted WHERE tenant = ?", (tenant,)).fetchone()[0]


def dead_letter(connection: sqlite3.Connection, number: int, error: str, at: float) -> None:
    """Copies an event to those that our own code failed to fan out."""
    connection.execute(
        f"INSERT INTO dead_events (at, error, no, {_EVENT})"  # noqa: S608 - constant columns
        f" SELECT ?, ?, no, {_EVENT} FROM accepted WHERE no = ?",
        (at, error, number),
    )


def number_of_dead(connection: sqlite3.Connection) -> int:
    """Returns how many dead events there are."""
    return connection.execute("SELECT count(*) FROM dead_events").fetchone()[0]


def due_again(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str]]:
    """Returns number and tenant of the dead events that are to be fanned out again."""
    return connection.execute(
        "SELECT no, tenant FROM dead_events WHERE is_due ORDER BY no LIMIT ?", (limit,)
    ).fetchall()


def put_again(connection: sqlite3.Connection, dead: int, number: int, snapshot_no: int) -> None:
    """Moves a dead event behind all that are there."""
    connection.execute(
        f"INSERT INTO accepted (no, snapshot_no, {_EVENT})"  # noqa: S608 - constant columns
        f" SELECT ?, ?, {_EVENT} FROM dead_events WHERE no = ?",
        (number, snapshot_no, dead),
    )
    connection.execute("DELETE FROM dead_events WHERE no = ?", (dead,))


def number_of(connection: sqlite3.Connection) -> int:
    """Returns how many events of all tenants wait."""
    return connection.execute("SELECT count(*) FROM accepted").fetchone()[0]


def tenants(connection: sqlite3.Connection) -> list[str]:
    """Returns the tenants that have events here; costs one index step per tenant."""
    found: list[str] = []
    last = ""
    while row := connection.execute(
        "SELECT tenant FROM accepted WHERE tenant > ? ORDER BY tenant LIMIT 1", (last,)
    ).fetchone():
        last = row[0]
        found.append(last)
    return found


def _to_row(waiting: Waiting) -> tuple[Any, ...]:
    event = waiting.event
    return (
        waiting.no,
        waiting.tenant,
        waiting.snapshot_no,
        waiting.accepted_at,
        event.id,
        event.type,
        event.time,
        event.facts.to_json(event.data_json),
        event.data_json,
        json.dumps(event.identity),
        event.benchmark_client,
    )


def _from_row(row: Sequence[Any]) -> Waiting:
    no, tenant, snapshot_no, accepted_at, event_id, event_type, time, facts, data_json, identity, client = row
    event = event_of_row(event_id, event_type, time, facts, data_json, tuple(json.loads(identity)), client)
    return Waiting(no, tenant, snapshot_no, accepted_at, event)
