"""Ids of events that came in: remembered for a while, so that a repetition counts as nothing."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from event_platform.domain.events.event import Event
from event_platform.domain.events.repetitions import RELAYED_SECONDS, REMEMBERED_SECONDS

from ..store import bulk


@dataclass(frozen=True, slots=True)
class Batch:
    """A request's events, and when they came (unix seconds)."""

    tenant: str
    events: Sequence[Event]
    now: float
    relayed: bool


def new_events(
    connection: sqlite3.Connection, numbers: Iterator[int], batches: Sequence[Batch]
) -> list[list[Event]]:
    """The events of each batch whose ids did not come in lately, and remembers those."""
    keyed = [(batch, event, _key_of(batch.tenant, event.id)) for batch in batches for event in batch.events]
    keys = [(key,) for _, _, key in keyed]
    seen = dict(bulk.rows(connection, "SELECT key, at FROM seen WHERE key IN {keys}", keys))
    expired: list[tuple[bytes]] = []
    rows: list[tuple[int, bytes, float]] = []
    new: dict[int, list[Event]] = {id(batch): [] for batch in batches}
    known = _relayed_before(connection, keyed)
    for batch, event, key in keyed:
        if key in known and batch.relayed:
            continue
        at = seen.get(key)
        if at is not None and abs(batch.now - at) < REMEMBERED_SECONDS:
            continue
        if at is not None:
            expired.append((key,))
        seen[key] = batch.now
        rows.append((next(numbers), key, batch.now))
        new[id(batch)].append(event)
    bulk.change(connection, "DELETE FROM seen WHERE key IN {keys}", expired)
    bulk.insert(connection, "seen (no, key, at)", rows)
    return list(new.values())


def _relayed_before(
    connection: sqlite3.Connection, keyed: Sequence[tuple[Batch, Event, bytes]]
) -> set[bytes]:
    """Returns which ids of relayed events were relayed in the last 24 hours; remembers the others."""
    relayed = {key: batch.now for batch, _, key in keyed if batch.relayed}
    if not relayed:
        return set()
    rows = bulk.rows(
        connection, "SELECT key, at FROM relayed WHERE key IN {keys}", [(key,) for key in relayed]
    )
    known = {key for key, at in rows if abs(relayed[key] - at) < RELAYED_SECONDS}
    bulk.change(
        connection,
        "DELETE FROM relayed WHERE key IN {keys}",
        [(key,) for key, _ in rows if key not in known],
    )
    new = [(key, now) for key, now in relayed.items() if key not in known]
    bulk.insert(connection, "relayed (key, at)", new)
    return known


def drop_expired(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Forgets up to `limit` ids of each kind whose time is over; returns the most it were of one kind."""
    return max(
        _forget(connection, table, now=now, kept=kept, limit=limit)
        for table, kept in (("seen", REMEMBERED_SECONDS), ("relayed", RELAYED_SECONDS))
    )


def _forget(connection: sqlite3.Connection, table: str, *, now: float, kept: float, limit: int) -> int:
    """Deletes up to `limit` ids, the oldest first, whose time is too far from now, before or after."""
    return connection.execute(
        f"DELETE FROM {table} WHERE no <= (SELECT max(no) FROM"  # noqa: S608 - a constant
        f" (SELECT no, at FROM {table} ORDER BY no LIMIT ?) WHERE at NOT BETWEEN ? AND ?)",
        (limit, now - kept, now + kept),
    ).rowcount


def _key_of(tenant: str, event_id: str) -> bytes:
    return hashlib.sha256(f"{tenant}\n{event_id}".encode()).digest()[:16]
