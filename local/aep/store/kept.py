"""The table of accepted events that are kept for a while after they were delivered, matched or not."""

import json
import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

import orjson

from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.tenants import Way

from . import bulk

COLUMNS = "no, tenant, accepted_at, way, id, type, time, identity, identifier, data_json"

KeptRow: TypeAlias = tuple[int, str, float, str, str, str, str, str, bytes | None, bytes]
"""The values of COLUMNS."""
KEPT_SINCE = "kept_since"
"""The name in `meta` of the time since which events are kept (unix seconds)."""
REMOVED_TO = "kept_removed_to"
"""The name in `meta` of the highest number that was removed: numbers go on behind it."""


def row_of(number: int, tenant: str, accepted_at: float, way: Way, event: Event) -> KeptRow:
    """Returns the row of an event that was accepted in this ingest format."""
    identifier = event.facts.part("product").get("identifier")
    return (
        number,
        tenant,
        accepted_at,
        way,
        event.id,
        event.type,
        event.time,
        _identity_json(event.identity),
        identifier_bytes(identifier) if isinstance(identifier, str) else None,
        event.data_json,
    )


def _identity_json(identity: Sequence[str]) -> str:
    try:
        return orjson.dumps(identity).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair, which `json` escapes
        return json.dumps(identity)


def identity_of(text: str) -> tuple[str, ...]:
    """Returns the identity of a row, whose JSON is given."""
    try:
        return tuple(orjson.loads(text))
    except orjson.JSONDecodeError:
        return tuple(json.loads(text))


def identifier_bytes(identifier: str) -> bytes:
    """Returns the identifier of a product as it is kept: it may hold half of a surrogate pair."""
    return identifier.encode("utf-8", "surrogatepass")


def identifier_of(kept: bytes) -> str:
    """Returns the identifier that was kept so."""
    return kept.decode("utf-8", "surrogatepass")


def event_of(row: KeptRow) -> Event:
    """Returns the event of a row, whose data are parsed again: some 10 ms for the largest."""
    _, _, _, _, event_id, event_type, time, identity, _, data_json = row
    facts = Facts(event_type, json.loads(data_json))
    return Event(event_id, event_type, time, facts, data_json, identity_of(identity))


def put(connection: sqlite3.Connection, rows: Sequence[KeptRow]) -> None:
    """Adds them behind all that are there."""
    bulk.insert(connection, f"kept ({COLUMNS})", rows)


def put_again(connection: sqlite3.Connection, dead: int, number: int) -> None:
    """Adds a kept event once more, under the number that it has when it waits for its fan-out again."""
    others = COLUMNS.removeprefix("no, ")
    connection.execute(
        f"INSERT INTO kept ({COLUMNS}) SELECT ?, {others} FROM kept WHERE no = ?",  # noqa: S608 - constants
        (number, dead & ~1),
    )


def highest_number(connection: sqlite3.Connection) -> int:
    """Returns the highest number of an event that is kept or was; 0 if there was none."""
    row = connection.execute(
        "SELECT max(coalesce((SELECT max(no) + 1 FROM kept), 0),"
        " coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?), 0))",
        (REMOVED_TO,),
    ).fetchone()
    return row[0]


def begin(connection: sqlite3.Connection, now: float, *, keeps: bool) -> None:
    """Notes since when events are kept; keeping that is turned off and on begins anew."""
    if keeps:
        connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (KEPT_SINCE, repr(now)))
    else:
        connection.execute("DELETE FROM meta WHERE name = ?", (KEPT_SINCE,))


def since(connection: sqlite3.Connection) -> float | None:
    """Returns the time (unix seconds) since which all accepted events are kept; None if none are."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (KEPT_SINCE,)).fetchone()
    if row is None:
        return None
    began = float(row[0])
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (REMOVED_TO,)).fetchone() is None:
        return began
    first = oldest_at(connection)
    return began if first is None else max(began, first)


def oldest_at(connection: sqlite3.Connection) -> float | None:
    """Returns when the first kept event was accepted."""
    row = connection.execute("SELECT accepted_at FROM kept ORDER BY no LIMIT 1").fetchone()
    return None if row is None else row[0]


def number_before(connection: sqlite3.Connection, at: float) -> int:
    """Returns a number behind which stand the events that were accepted at that time or later."""
    (first,) = connection.execute("SELECT min(no) FROM kept").fetchone()
    low, high = 0 if first is None else first - 1, highest_number(connection)
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            "SELECT no, accepted_at FROM kept WHERE no > ? ORDER BY no LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row[1] >= at:
            high = middle
        else:
            low = row[0]
    return low


def is_any(connection: sqlite3.Connection) -> bool:
    """True if an event is kept."""
    return connection.execute("SELECT EXISTS (SELECT 1 FROM kept)").fetchone()[0] == 1


def there(connection: sqlite3.Connection, numbers: Sequence[int]) -> set[int]:
    """Returns those of the events that are kept."""
    keys = [(number,) for number in numbers]
    return {number for (number,) in bulk.rows(connection, "SELECT no FROM kept WHERE no IN {keys}", keys)}


def number_between(connection: sqlite3.Connection, tenant: str, after: int, to: int) -> int:
    """Counts the tenant's events behind one number up to another one."""
    return connection.execute(
        "SELECT count(*) FROM kept WHERE no > ? AND no <= ? AND tenant = ?", (after, to, tenant)
    ).fetchone()[0]


def rows(connection: sqlite3.Connection, numbers: Sequence[int]) -> list[KeptRow]:
    """Returns the rows of these numbers, in any order."""
    statement = f"SELECT {COLUMNS} FROM kept WHERE no IN {{keys}}"  # noqa: S608 - constant columns
    return bulk.rows(connection, statement, [(number,) for number in numbers])
