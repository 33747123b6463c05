"""The bodies of deliveries that wait.

Each stands once: the body of an event that is kept is made of the row in `kept`, and only the others are in
`events`, with their number of deliveries in `event_uses` (docs/decisions/0072). A body moves to `events` when
its event is not kept any longer and a delivery still waits, or has become a dead letter.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from event_platform.domain.events.event import Envelope, rendered
from event_platform.domain.events.facts import Facts, span_of_identifier

from . import bulk, kept
from .courses import kept_number

AROUND_DATA = 256
"""The bytes of a body around the event's data, roughly."""
INTO_EVENTS = "events (no, id, type, accepted_at, before_subject, after_subject)"

EventRow: TypeAlias = tuple[int, str, str, float, bytes, bytes]
"""A row of `events`."""


def made_of(
    event_no: int, schema_base: str, event_id: str, event_type: str, time: str, identifier: bytes | None,
    data_json: bytes,
) -> Envelope:  # fmt: skip
    """Returns the body of this number, made of what is kept of its event.

    It takes up to some 20 ms where the data have to be parsed.
    """
    data = _data_of(event_no, identifier, data_json)
    if data is None:
        span = Facts(event_type, json.loads(data_json)).identifier_span(data_json)
        data = data_json if span is None else data_json[: span[0]] + data_json[span[1] :]
    return rendered(event_id, event_type, time, data, schema_base)


def quickly_made_of(
    event_no: int, schema_base: str, event_id: str, event_type: str, time: str, identifier: bytes | None,
    data_json: bytes,
) -> Envelope | None:  # fmt: skip
    """Returns the same as `made_of`, but None where the data have to be parsed."""
    data = _data_of(event_no, identifier, data_json)
    return None if data is None else rendered(event_id, event_type, time, data, schema_base)


def _data_of(event_no: int, identifier: bytes | None, data_json: bytes) -> bytes | None:
    """Returns the data of the body of this number; None where they have to be parsed for that.

    An odd number is of the body that leaves the product's identifier out.
    """
    if not event_no & 1:
        return data_json
    span = None if identifier is None else span_of_identifier(kept.identifier_of(identifier), data_json)
    return None if span is None else data_json[: span[0]] + data_json[span[1] :]


def read(connection: sqlite3.Connection, event_no: int, schema_base: str) -> Envelope:
    """Returns the body of this number. Raises LookupError if it is not in the file."""
    row = connection.execute(
        "SELECT before_subject, after_subject FROM events WHERE no = ?", (event_no,)
    ).fetchone()
    if row is not None:
        return Envelope(*row)
    row = connection.execute(
        "SELECT id, type, time, identifier, data_json FROM kept WHERE no = ?", (kept_number(event_no),)
    ).fetchone()
    if row is None:
        raise LookupError(f"event {event_no} is not in the file, though a delivery of it waits")
    return made_of(event_no, schema_base, *row)


def accepted_at(connection: sqlite3.Connection, event_no: int) -> float | None:
    """Returns when the event of the body of this number was accepted; None if it is not in the file."""
    return connection.execute(
        "SELECT coalesce((SELECT accepted_at FROM events WHERE no = ?),"
        " (SELECT accepted_at FROM kept WHERE no = ?))",
        (event_no, kept_number(event_no)),
    ).fetchone()[0]


def moved(connection: sqlite3.Connection, numbers: Iterable[int]) -> set[int]:
    """Returns those of the bodies that are in `events`."""
    keys = [(number,) for number in possibly_moved(connection, numbers)]
    return {number for (number,) in bulk.rows(connection, "SELECT no FROM events WHERE no IN {keys}", keys)}


def use(connection: sqlite3.Connection, uses: Iterable[tuple[int, int]]) -> None:
    """Adds so many deliveries to each of these bodies, which are in `events`."""
    connection.executemany(  # a body without a row here is for one delivery
        "INSERT INTO event_uses (event_no, remaining) VALUES (?, 1 + ?)"
        " ON CONFLICT (event_no) DO UPDATE SET remaining = remaining + excluded.remaining - 1",
        uses,
    )


def release(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Takes a delivery from a body, each time its number stands here.

    A body in `events` is deleted with its last delivery.
    """
    if not numbers:
        return
    times = Counter(numbers)
    connection.executemany(
        "UPDATE event_uses SET remaining = remaining - ? WHERE event_no = ?",
        [(count - 1, number) for number, count in times.items() if count > 1],
    )
    one_less = "UPDATE event_uses SET remaining = remaining - 1 WHERE event_no IN {keys}"
    remaining = dict(
        bulk.rows(connection, f"{one_less} RETURNING event_no, remaining", [(number,) for number in times])
    )
    gone = [number for number in times if remaining.get(number, 0) <= 0]
    bulk.change(connection, "DELETE FROM events WHERE no IN {keys}", [(number,) for number in gone])
    shared = [(number,) for number in gone if number in remaining]
    bulk.change(connection, "DELETE FROM event_uses WHERE event_no IN {keys}", shared)


def possibly_moved(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[int]:
    """Returns those of the bodies that may be in `events`, which are few where events are kept."""
    last = connection.execute("SELECT max(no) FROM events").fetchone()[0] or 0
    return [number for number in numbers if number <= last]


def move_out(connection: sqlite3.Connection, schema_base: str, first: int, last: int, room: int) -> int:
    """Moves the bodies of kept events `first` to `last` to `events`, as far as deliveries of them wait.

    Moves as many as have `room` bytes, at least those of one event. Returns the number up to which all are
    moved.
    """
    waiting = connection.execute(
        "SELECT event_no, variant, count(*) FROM courses WHERE event_no BETWEEN ? AND ? AND outcome IS NULL"
        " AND variant IS NOT NULL GROUP BY event_no, variant ORDER BY event_no",
        (first, last),
    ).fetchall()
    there = moved(connection, [event_no + variant for event_no, variant, _ in waiting])
    rows: list[EventRow] = []
    uses: list[tuple[int, int]] = []
    for event_no, variant, count in waiting:
        body_no = event_no + variant
        if body_no in there:
            continue
        if room <= 0 and rows and kept_number(rows[-1][0]) != event_no:
            last = event_no - 1
            break
        event_id, event_type, at, time, identifier, data_json = connection.execute(
            "SELECT id, type, accepted_at, time, identifier, data_json FROM kept WHERE no = ?", (event_no,)
        ).fetchone()
        body = made_of(body_no, schema_base, event_id, event_type, time, identifier, data_json)
        rows.append((body_no, event_id, event_type, at, body.before_subject, body.after_subject))
        if count > 1:
            uses.append((body_no, count))
        room -= len(data_json)
    bulk.insert(connection, INTO_EVENTS, rows)
    bulk.insert(connection, "event_uses (event_no, remaining)", uses)
    return last
