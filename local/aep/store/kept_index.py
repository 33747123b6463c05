"""The index of kept events: written in pieces behind acceptance, and removed with what it is of.

A *segment* is some of the events that follow each other. Its index says which of them may have an id, an
entity, a tenant, a type or a subscription, by hashes: whoever reads a row checks it. So the commits of
acceptance and settlement change no index, and a look-up is a step for each segment (docs/decisions/0067).
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple, TypeAlias

import orjson

from . import bodies, bulk
from .kept import REMOVED_TO, identifier_bytes, identity_of

EVENTS_OF_SEGMENT = 1024
COURSES_OF_SEGMENT, COURSES_OF_SUBSCRIPTION = 8192, 8
"""The most of each in a segment, where each subscription with courses counts as some more courses, as it has
a row of its own: so a segment is written by one job of some 8 ms."""
ROWS_OF_LOOKUP, TAGS_OF_LOOKUP, FOUND_BY_LOOKUP = 2048, 8192, 512
"""The bounds of one look-up of ids: rows of the index, tags searched in these, and numbers found."""
PARTS_OF_BOUNDS = 24
"""The head becomes a segment when its first event is as old as this part of the time for which events are
kept, or when its data are as large as this part of the bytes that they may take."""
HEAD_COUNTED = 4096
"""The events of the head that are counted; the number and size of more are estimated."""
EVENTS_REMOVED, BYTES_REMOVED, COURSES_REMOVED, ENTRIES_REMOVED = 512, 2 * 1024 * 1024, 2048, 512
"""The most entries that one job removes: some 4 ms."""
BYTES_MOVED = 512 * 1024
"""The most bytes of bodies that one job moves to `events` before, unless a single one is larger."""
BYTES_OF_EVENT, BYTES_OF_COURSE = 300, 70
"""The bytes of the file that each takes, roughly: of an event beside its data, and with its index."""

_Indexed: TypeAlias = tuple[int, str, float, str, str, str, bytes | None, int]
"""An event that is indexed: no, tenant, accepted_at, id, type, identity, identifier, bytes of its data."""

BUCKETS = 64
_POSTING = 1 << 62
"""Set in the key of what many events of a segment share; the other keys are numbers of buckets."""
_TAGGED, _OFFSET = Struct(">II"), Struct(">I")
_TAG_BYTES = 4


class Key(NamedTuple):
    """The key by which events are looked up: its place in the index of a segment.

    Entries of a bucket begin with a `tag`, as other keys share it; without a tag the entries are of this key
    alone.
    """

    number: int
    tag: bytes | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The seconds for which events are kept, and the bytes that they may take."""

    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """The figures of kept events: the bytes that they take, roughly, and how many are not indexed.

    `is_due`: there may be something to index or to remove.
    """

    is_due: bool
    bytes: int
    not_indexed: int


@dataclass(frozen=True, slots=True)
class _Head:
    """The kept events that are in no segment: their number, the bytes that they take, and when the first one
    was accepted."""

    events: int
    bytes: int
    first_at: float | None


@dataclass(frozen=True, slots=True)
class Removed:
    """The part of a segment that one job removed: its events, and the times of acceptance of the segment.

    `was_held`: it was not to be removed for its age.
    """

    events: int
    first_at: float
    last_at: float
    was_held: bool = False


def id_key(event_id: str) -> Key:
    """Returns the key of events with this id, of whatever PIM."""
    return _bucket(b"id", event_id.encode("utf-8", "replace"))


def entity_key(identity: str) -> Key:
    """Returns the key of what has this identity, or this identifier of a product, in whatever PIM."""
    return _bucket(b"entity", identifier_bytes(identity))


def tenant_key(tenant: str) -> Key:
    return _posting(b"tenant", tenant.encode())


def type_key(tenant: str, event_type: str) -> Key:
    return _posting(b"type", tenant.encode(), event_type.encode())


def subscription_key(number: int) -> Key:
    """Returns the key of what has a course of this subscription."""
    return _posting(b"subscription", str(number).encode())


def _digest(kind: bytes, *parts: bytes) -> bytes:
    return hashlib.blake2b(b"\n".join((kind, *parts)), digest_size=8).digest()


def _bucket_of(digest: bytes) -> int:
    return digest[-1] % BUCKETS


def _bucket(kind: bytes, *parts: bytes) -> Key:
    digest = _digest(kind, *parts)
    return Key(_bucket_of(digest), digest[:_TAG_BYTES])


def _posting(kind: bytes, *parts: bytes) -> Key:
    return Key(int.from_bytes(_digest(kind, *parts), "big") & (_POSTING - 1) | _POSTING, None)


def offsets(entries: bytes, key: Key) -> Iterator[int]:
    """Yields the entries of the key: numbers of events, less that of the segment's first one."""
    if key.tag is None:
        yield from sorted({offset for (offset,) in _OFFSET.iter_unpack(entries)})
        return
    at = entries.find(key.tag)
    while at >= 0:
        if at % _TAGGED.size == 0:
            yield _TAGGED.unpack_from(entries, at)[1]
        at = entries.find(key.tag, at + 1)


def find_ids(
    connection: sqlite3.Connection, event_ids: Sequence[str], after: int, to: int
) -> tuple[list[int], int]:
    """Returns numbers in segments, of events that may have one of these ids, and up to where it has looked.

    The numbers are behind `after`, and not above `to`, in their order. One call looks into some segments
    only; where none is left it has looked up to the head.
    """
    tags: defaultdict[int, list[Key]] = defaultdict(list[Key])
    for key in {id_key(event_id) for event_id in event_ids}:
        tags[key.number].append(key)
    at_once = max(1, min(ROWS_OF_LOOKUP // len(tags), TAGS_OF_LOOKUP // len(event_ids)))
    looked_to = indexed_to(connection)
    segments = connection.execute(
        "SELECT no, first_no, last_no FROM kept_segments WHERE last_no > ? AND first_no <= ?"
        " ORDER BY no LIMIT ?",
        (after, to, at_once),
    ).fetchall()
    numbers: list[int] = []
    buckets = orjson.dumps([*tags]).decode()
    for segment_no, first, last in segments:
        rows = connection.execute(
            "SELECT key, entries FROM kept_index WHERE segment_no = ?"
            " AND key IN (SELECT value FROM json_each(?))",
            (segment_no, buckets),
        )
        found = {
            first + offset
            for bucket, entries in rows
            for key in tags[bucket]
            for offset in offsets(entries, key)
        }
        numbers += sorted(number for number in found if after < number <= to)
        if len(numbers) >= FOUND_BY_LOOKUP:
            return numbers, last
    return numbers, segments[-1][2] if len(segments) == at_once else looked_to


def indexed_to(connection: sqlite3.Connection) -> int:
    """Returns the number of the last event that is in a segment, or was: the head begins behind it."""
    row = connection.execute("SELECT max(last_no) FROM kept_segments").fetchone()
    return row[0] if row[0] is not None else _removed_to(connection)


def look(connection: sqlite3.Connection, now: float, bounds: Bounds) -> Look:
    """Measures what is kept, and looks if there may be something to index or to remove; some 3 ms at most."""
    head = _head(connection)
    oldest = connection.execute("SELECT last_at FROM kept_segments ORDER BY no LIMIT 1").fetchone()
    size = _size_of_segments(connection) + head.bytes
    is_due = (
        head.events >= EVENTS_OF_SEGMENT
        or head.bytes >= bounds.bytes / PARTS_OF_BOUNDS
        or (head.first_at is not None and _is_due_for_its_age(head.first_at, now, bounds))
        or (oldest is not None and abs(now - oldest[0]) > bounds.seconds)
        or size > bounds.bytes
    )
    return Look(is_due, size, head.events)


def _head(connection: sqlite3.Connection) -> _Head:
    after = indexed_to(connection)
    events, size, first_at, last = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0), min(accepted_at), max(no) FROM"
        " (SELECT no, accepted_at, length(data_json) AS size FROM kept WHERE no > ? ORDER BY no LIMIT ?)",
        (after, HEAD_COUNTED),
    ).fetchone()
    size += events * (BYTES_OF_EVENT + BYTES_OF_COURSE)
    if events == HEAD_COUNTED:
        (highest,) = connection.execute("SELECT max(no) FROM kept").fetchone()
        times = max(1.0, (highest - after) / (last - after))
        events, size = round(events * times), round(size * times)
    return _Head(events, size, first_at)


def _is_due_for_its_age(accepted_at: float, now: float, bounds: Bounds) -> bool:
    return abs(now - accepted_at) >= bounds.seconds / PARTS_OF_BOUNDS


def write_segment(connection: sqlite3.Connection, now: float, bounds: Bounds) -> bool:
    """Makes a segment of the first events of the head; False if there is none to be made.

    What waits for its fan-out stays in the head, as its courses are still to come.
    """
    after = indexed_to(connection)
    before = _first_to_be_fanned_out(connection)
    events = connection.execute(
        "SELECT no, tenant, accepted_at, id, type, identity, identifier, length(data_json) FROM kept"
        " WHERE no > ? AND no < ? ORDER BY no LIMIT ?",
        (after, before, EVENTS_OF_SEGMENT),
    ).fetchall()
    if not events:
        return False
    fitting = _first_within(events, bounds.bytes / PARTS_OF_BOUNDS)
    is_full = len(events) == EVENTS_OF_SEGMENT or len(fitting) < len(events)
    if not is_full and not _is_due_for_its_age(events[0][2], now, bounds):
        return False
    events = fitting
    courses = _courses(connection, events[0][0], events[-1][0], COURSES_OF_SEGMENT + 1)
    if (end := _end_of_what_fits(courses)) is not None:
        events = [event for event in events if event[0] < end] or events[:1]
        courses = _courses(connection, events[0][0], events[-1][0], -1)
    _write(connection, events, courses)
    return True


def _first_within(events: Sequence[_Indexed], size: float) -> Sequence[_Indexed]:
    """Returns the first events, until they take more than that."""
    for place, each in enumerate(events, 1):
        size -= each[-1] + BYTES_OF_EVENT + BYTES_OF_COURSE
        if size < 0:
            return events[:place]
    return events


def _end_of_what_fits(courses: Sequence[tuple[int, int]]) -> int | None:
    """Returns the first event whose courses are too many for a segment; None if all fit."""
    left = COURSES_OF_SEGMENT
    if len(courses) + COURSES_OF_SUBSCRIPTION * len({number for _, number in courses}) <= left:
        return None
    subscriptions = set[int]()
    for event_no, subscription_no in courses:
        left -= 1
        if subscription_no not in subscriptions:
            subscriptions.add(subscription_no)
            left -= COURSES_OF_SUBSCRIPTION
        if left < 0:
            return event_no
    return None


def _courses(connection: sqlite3.Connection, first: int, last: int, limit: int) -> list[tuple[int, int]]:
    return connection.execute(
        "SELECT event_no, subscription_no FROM courses WHERE event_no BETWEEN ? AND ?"
        " ORDER BY event_no LIMIT ?",
        (first, last, limit),
    ).fetchall()


def _write(
    connection: sqlite3.Connection,
    events: Sequence[_Indexed],
    courses: Sequence[tuple[int, int]],
) -> None:
    first = events[0][0]
    found: defaultdict[int, bytearray] = defaultdict(bytearray)
    shared: dict[tuple[str, str], tuple[bytearray, bytearray]] = {}
    for number, tenant, _, event_id, event_type, identity, identifier, _ in events:
        offset = _OFFSET.pack(number - first)
        of_shared = shared.get((tenant, event_type))
        if of_shared is None:
            keys = (tenant_key(tenant), type_key(tenant, event_type))
            of_shared = shared[tenant, event_type] = (found[keys[0].number], found[keys[1].number])
        for entries in of_shared:
            entries += offset
        for digest in _digests(event_id, identity, identifier):
            entries = found[_bucket_of(digest)]
            entries += digest[:_TAG_BYTES]
            entries += offset
    of_subscriptions: defaultdict[int, bytearray] = defaultdict(bytearray)
    for number, subscription_no in courses:
        of_subscriptions[subscription_no] += _OFFSET.pack(number - first)
    for subscription_no, entries in of_subscriptions.items():
        found[subscription_key(subscription_no).number] = entries
    times = [event[2] for event in events]
    size = sum(event[-1] for event in events) + len(events) * BYTES_OF_EVENT + len(courses) * BYTES_OF_COURSE
    segment_no = connection.execute(
        "INSERT INTO kept_segments (no, first_no, last_no, first_at, last_at, events, bytes)"
        " SELECT coalesce(max(no), 0) + 1, ?, ?, ?, ?, ?, ? FROM kept_segments",
        (first, events[-1][0], min(times), max(times), len(events), size),
    ).lastrowid
    rows = [(segment_no, key, bytes(entries)) for key, entries in sorted(found.items())]
    bulk.insert(connection, "kept_index (segment_no, key, entries)", rows)


def _digests(event_id: str, identity: str, identifier: bytes | None) -> Iterator[bytes]:
    """Yields the digests of the `id_key` and of each `entity_key` of an event."""
    yield _digest(b"id", event_id.encode("utf-8", "replace"))
    if identity != "[]":
        yield _digest(b"entity", identifier_bytes("/".join(identity_of(identity))))
    if identifier is not None:
        yield _digest(b"entity", identifier)


def add_courses(connection: sqlite3.Connection, subscription_no: int, events: Iterable[int]) -> None:
    """Notes new courses of old events, for replays, in the segments that are written already."""
    key = subscription_key(subscription_no).number
    by_segment: defaultdict[int, bytearray] = defaultdict(bytearray)
    for number in events:
        row = connection.execute(
            "SELECT no, first_no FROM kept_segments WHERE no ="
            " (SELECT no FROM kept_segments WHERE first_no <= ? ORDER BY no DESC LIMIT 1) AND last_no >= ?",
            (number, number),
        ).fetchone()
        if row is not None:
            by_segment[row[0]] += _OFFSET.pack(number - row[1])
    for segment_no, entries in by_segment.items():
        row = connection.execute(
            "SELECT entries FROM kept_index WHERE segment_no = ? AND key = ?", (segment_no, key)
        ).fetchone()
        connection.execute(
            "INSERT OR REPLACE INTO kept_index (segment_no, key, entries) VALUES (?, ?, ?)",
            (segment_no, key, bytes(entries) if row is None else row[0] + entries),
        )


def size_of(connection: sqlite3.Connection) -> int:
    """Returns the bytes that kept events take, roughly."""
    return _size_of_segments(connection) + _head(connection).bytes


def _size_of_segments(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT coalesce(sum(bytes), 0) FROM kept_segments").fetchone()[0]


def remove_some(
    connection: sqlite3.Connection,
    now: float,
    bounds: Bounds,
    *,
    schema_base: str,
    held_from: int | None = None,
) -> Removed | None:
    """Removes a part of the oldest segment if that is beyond the bounds; None if it is not.

    What has the number `held_from` or a higher one is not removed for its age. Bodies of deliveries that
    still wait move to `events`.
    """
    oldest = connection.execute(
        "SELECT no, last_no, first_at, last_at FROM kept_segments ORDER BY no LIMIT 1"
    ).fetchone()
    if oldest is None:
        return _remove_head(connection, schema_base) if bounds.seconds == 0 else None
    segment_no, last, first_at, last_at = oldest
    is_held = held_from is not None and held_from <= last
    is_old = bounds.seconds == 0 or (abs(now - last_at) > bounds.seconds and not is_held)
    if not is_old and size_of(connection) <= bounds.bytes:
        return None
    entries = connection.execute(
        "DELETE FROM kept_index WHERE (segment_no, key) IN (SELECT segment_no, key FROM kept_index"
        " WHERE segment_no = ? LIMIT ?)",
        (segment_no, ENTRIES_REMOVED),
    ).rowcount
    if entries == ENTRIES_REMOVED:
        return Removed(0, first_at, last_at, is_held)
    events, is_all = _remove_events(connection, last, schema_base)
    if is_all:
        connection.execute("DELETE FROM kept_segments WHERE no = ?", (segment_no,))
        _note_removed(connection, last)
    return Removed(events, first_at, last_at, is_held)


def _remove_head(connection: sqlite3.Connection, schema_base: str) -> Removed | None:
    """Removes some of what is in no segment, which is where nothing is kept any more.

    What waits for its fan-out stays, as its courses are still to come.
    """
    (last,) = connection.execute(
        "SELECT max(no) FROM kept WHERE no < ?", (_first_to_be_fanned_out(connection),)
    ).fetchone()
    if last is None:
        return None
    events, _ = _remove_events(connection, last, schema_base)
    _note_removed(connection, last)
    return Removed(events, 0, 0)


def _first_to_be_fanned_out(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT coalesce(min(no), 1 << 62) FROM accepted").fetchone()[0]


def _remove_events(connection: sqlite3.Connection, last: int, schema_base: str) -> tuple[int, bool]:
    """Removes some courses and events up to a number; returns how many events, and if these are all."""
    some = connection.execute(
        "SELECT event_no FROM courses WHERE event_no <= ? ORDER BY event_no LIMIT ?", (last, COURSES_REMOVED)
    ).fetchall()
    is_partly = False
    if some:
        (first,), (to,) = some[0], some[-1]
        moved_to = bodies.move_out(connection, schema_base, first, to, BYTES_MOVED)
        is_partly = moved_to < to
        last = moved_to if is_partly else last
    courses = connection.execute(
        "DELETE FROM courses WHERE (event_no, subscription_no, replay_no) IN"
        " (SELECT event_no, subscription_no, replay_no FROM courses WHERE event_no <= ?"
        " ORDER BY event_no, subscription_no, replay_no LIMIT ?)",
        (last, COURSES_REMOVED),
    ).rowcount
    if courses == COURSES_REMOVED or is_partly:
        return 0, False
    rows = connection.execute(
        "SELECT no, length(data_json) FROM kept WHERE no <= ? ORDER BY no LIMIT ?", (last, EVENTS_REMOVED)
    ).fetchall()
    number, size = 0, 0
    for number, length in rows:  # noqa: B007 - the last one is used
        size += length
        if size >= BYTES_REMOVED:
            break
    removed = connection.execute("DELETE FROM kept WHERE no <= ?", (number,)).rowcount
    return removed, removed == len(rows) < EVENTS_REMOVED


def _note_removed(connection: sqlite3.Connection, last: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (REMOVED_TO, last + 1))


def _removed_to(connection: sqlite3.Connection) -> int:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (REMOVED_TO,)).fetchone()
    return 0 if row is None else int(row[0])
