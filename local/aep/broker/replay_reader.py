"""Reads kept events for replays and for catching up, and puts their deliveries into lanes, in pieces.

A job of the reading thread looks for the next candidates, which costs the writer nothing. A job of the
writer matches these with the subscription as it is then, and writes deliveries, courses and the cursor in one
commit.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import orjson

from event_platform.domain import filters
from event_platform.domain.replays import Which
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.fanout import fan_out
from event_platform.ports import Clock

from ..store import accepted, bodies, bulk, courses, kept, kept_index, replays
from ..store.replays import CATCH_UP, ENDED_AT_SUSPENSION, REPLAY, RUNNING, Row
from ..store.subscriptions import SqliteSubscriptions
from .pieces import Pieces
from .queued import REPLAY_BITS, LaneKey, Queued, Receipt, insert_deliveries, lanes_of_replay

IN_LANES = 1_000
"""The deliveries of one replay that may wait in lanes; beyond half of them it reads no further."""
AT_ONCE = 128
BYTES_AT_ONCE = 256 * 1024
"""The bounds of a piece: some 8 ms of the writer, unless a single event is larger."""
NUMBERS_AT_ONCE = 16_384
"""The numbers among which one job of the reading thread looks for candidates: some 20 ms."""


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates behind a cursor, and the number up to which all were found. `is_end`: there are no more."""

    numbers: Sequence[int]
    looked_to: int
    is_end: bool
    has_room: bool = True


@dataclass(slots=True)
class ReadPiece:
    """The deliveries of a piece, and the subscription if it was changed with it.

    `has_moved`: there may be more to read at once.
    """

    has_moved: bool = False
    queued: list[Queued] = field(default_factory=list[Queued])
    changed: list[Subscription] = field(default_factory=list[Subscription])


def find(connection: sqlite3.Connection, row: Row, cursor: int, at_once: int = AT_ONCE) -> Found:
    """Looks for the next events that may be sent, at most `at_once`: a job that reads only."""
    if _number_in_lanes(connection, row) > IN_LANES // 2:
        return Found((), cursor, is_end=False, has_room=False)
    tenant, document = connection.execute(
        "SELECT tenant, document FROM subscriptions WHERE no = ?", (row.subscription_no,)
    ).fetchone()
    end = row.last_no if row.kind == REPLAY else kept.highest_number(connection)
    first_behind = accepted.first_number(connection, tenant)
    if first_behind is not None:  # what waits for its fan-out has no courses yet
        end = min(end, first_behind - 1)
    types = set(orjson.loads(document)["events"])
    if narrowed := row.asked.get("events"):
        types &= set(narrowed)
    where, of_where, to = _range(connection, row, cursor, end)
    condition, values = _condition(row)
    found = connection.execute(
        f"SELECT no, length(data_json) FROM kept WHERE {where} AND tenant = ?"  # noqa: S608 - constants
        f" AND type IN (SELECT value FROM json_each(?)){condition} ORDER BY no LIMIT ?",
        (*of_where, tenant, _json(sorted(types)), *values, at_once),
    ).fetchall()
    numbers = _fitting(found)
    if len(numbers) == at_once or len(numbers) < len(found):
        to = numbers[-1]
    return Found(numbers, max(cursor, to), is_end=to >= end and (row.kind == CATCH_UP or end == row.last_no))


def _range(
    connection: sqlite3.Connection, row: Row, cursor: int, end: int
) -> tuple[str, Sequence[int | str], int]:
    """Returns what says which events are looked at, as a part of a statement, and the last number of these.

    Ids are looked up in the index, as far as it goes.
    """
    ids = row.asked.get("event_ids")
    if not ids or cursor >= kept_index.indexed_to(connection):
        to = min(end, cursor + NUMBERS_AT_ONCE)
        if not ids:
            return "no > ? AND no <= ?", (cursor, to), to
        return "no > ? AND no <= ? AND id IN (SELECT value FROM json_each(?))", (cursor, to, _json(ids)), to
    numbers, looked_to = kept_index.find_ids(connection, ids, cursor, end)
    both = "no IN (SELECT value FROM json_each(?)) AND id IN (SELECT value FROM json_each(?))"
    return both, (_json(numbers), _json(ids)), min(end, looked_to)


def _json(values: Sequence[int | str]) -> str:
    return orjson.dumps(values).decode()


def _number_in_lanes(connection: sqlite3.Connection, row: Row) -> int:
    """Counts the deliveries that wait in the lanes that the reader fills, up to IN_LANES."""
    lanes = lanes_of_replay(row.no if row.kind == REPLAY else 0)
    return connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE subscription_no = ? AND lane >= ? AND lane < ?"
        " LIMIT ?)",
        (row.subscription_no, lanes.start, lanes.stop, IN_LANES),
    ).fetchone()[0]


_DELIVERED = (
    "EXISTS (SELECT 1 FROM courses WHERE event_no = kept.no AND subscription_no = ?"
    " AND outcome = 'delivered')"
)
_WAITS = "EXISTS (SELECT 1 FROM courses WHERE event_no = kept.no AND subscription_no = ? AND outcome IS NULL)"
_WAITED_THEN = (  # a dead letter is left to the operator
    "EXISTS (SELECT 1 FROM courses c WHERE event_no = kept.no AND subscription_no = ? AND replay_no = 0"
    " AND (ended_at >= ? OR (outcome IS NULL AND NOT EXISTS (SELECT 1 FROM dead_letters"
    " WHERE event_no IN (kept.no, kept.no + 1) AND subscription_no = c.subscription_no))))"
)


def _condition(row: Row) -> tuple[str, tuple[float | int, ...]]:
    """Returns what courses must say of a candidate, as a part of a statement."""
    number = row.subscription_no
    if row.kind == CATCH_UP:
        return (
            f" AND NOT {_DELIVERED} AND (CASE WHEN no > ? THEN NOT {_WAITS} ELSE {_WAITED_THEN} END)",
            (number, row.first_no, number, number, row.created_at - ENDED_AT_SUSPENSION),
        )
    if row.asked["which"] == Which.ALL:
        return "", ()
    return f" AND NOT {_DELIVERED} AND NOT {_WAITS}", (number, number)


def _fitting(found: Sequence[tuple[int, int]]) -> list[int]:
    """Returns the first numbers whose data fit into BYTES_AT_ONCE, at least one."""
    size, numbers = 0, list[int]()
    for number, length in found:
        size += length
        if numbers and size > BYTES_AT_ONCE:
            break
        numbers.append(number)
    return numbers


class ReplayReader:
    """Carries pieces out. Used in the writer thread only, inside its jobs."""

    def __init__(
        self, pieces: Pieces, subscriptions: SqliteSubscriptions, clock: Clock, schema_base: str
    ) -> None:
        self._pieces = pieces
        self._subscriptions = subscriptions
        self._clock = clock
        self._schema_base = schema_base

    def read(self, connection: sqlite3.Connection, row: Row, found: Found) -> ReadPiece:
        """Sends those candidates that match, and moves the cursor behind all that was looked at.

        Does nothing if the row has changed since they were found.
        """
        now_row = replays.one(connection, row.no)
        subscription = self._subscriptions.numbered(connection, row.subscription_no)
        if (
            now_row is None
            or (now_row.status, now_row.cursor_no) != (RUNNING, row.cursor_no)
            or subscription is None
            or subscription.status is not Status.ACTIVE
        ):
            return ReadPiece()
        piece, looked_to = ReadPiece(), found.looked_to
        if row.kind == REPLAY and subscription.replay_id != row.id:
            subscription = self._subscriptions.put_replay_id(connection, subscription, row.id)
            piece.changed.append(subscription)
        numbers = self._still_to_be_sent(connection, row, found.numbers)
        if row.kind == CATCH_UP:
            early = self._early(connection, row, numbers)
            if early is not None:
                numbers, looked_to = [*takewhile(lambda number: number < early, numbers)], early - 1
        piece.queued = self._match(connection, row, subscription, numbers)
        self._write(connection, row, piece.queued)
        piece.has_moved = looked_to > row.cursor_no
        connection.execute(
            "UPDATE replays SET cursor_no = max(cursor_no, ?), sent = sent + ? WHERE no = ?",
            (looked_to, len(piece.queued), row.no),
        )
        if row.kind == CATCH_UP and self._has_reached_the_latest(connection, subscription, looked_to):
            reached = replays.one(connection, row.no)
            assert reached is not None  # noqa: S101 - it was just changed
            replays.finish_catch_up(connection, reached, subscription, self._clock.now())
            self._subscriptions.active.outdate(subscription.owner.tenant)
        return piece

    def skip(self, connection: sqlite3.Connection, row: Row, number: int) -> None:
        """Leaves out an event on which our own code keeps failing."""
        connection.execute(
            "UPDATE replays SET cursor_no = ?, sent = sent + 1, ended = ended + 1 WHERE no = ?"
            " AND cursor_no < ?",
            (number, row.no, number),
        )

    def _still_to_be_sent(
        self, connection: sqlite3.Connection, row: Row, numbers: Sequence[int]
    ) -> list[int]:
        """Returns those of which courses still say so: they may have changed since they were found."""
        condition, values = _condition(row)
        statement = f"SELECT 1 FROM kept WHERE no = ?{condition}"  # noqa: S608 - constants
        return [each for each in numbers if connection.execute(statement, (each, *values)).fetchone()]

    def _early(self, connection: sqlite3.Connection, row: Row, numbers: Sequence[int]) -> int | None:
        """Returns the first event of before the suspension whose delivery has not ended yet."""
        keys = [(number, row.subscription_no) for number in numbers if number <= row.first_no]
        waiting = bulk.rows(
            connection,
            "SELECT event_no FROM courses WHERE (event_no, subscription_no) IN {keys} AND outcome IS NULL",
            keys,
        )
        return min((number for (number,) in waiting), default=None)

    def _match(
        self, connection: sqlite3.Connection, row: Row, subscription: Subscription, numbers: Sequence[int]
    ) -> list[Queued]:
        expression = subscription.filter
        predicates = {} if expression is None else {expression: filters.predicate_of(expression)}
        lanes = row.no << REPLAY_BITS if row.kind == REPLAY else 0
        queued: list[Queued] = []
        now = self._clock.now().timestamp()
        for kept_row in sorted(kept.rows(connection, numbers)):
            number, event = kept_row[0], kept.event_of(kept_row)
            for match in fan_out(event, [subscription], predicates, self._schema_base):
                key = LaneKey(row.subscription_no, lanes | match.lane)
                body_no = number if match.with_identifier else number + 1
                queued.append(
                    Queued(
                        receipt=Receipt(key, next(self._pieces.numbers), body_no),
                        owner=(subscription.owner.tenant, subscription.owner.client_id),
                        subscription_id=subscription.id,
                        event_id=event.id,
                        event_type=event.type,
                        accepted_at=kept_row[2],
                        lanes=subscription.lanes,
                        epoch=subscription.epoch,
                        body_size=len(match.envelope.after_subject),
                        envelope=match.envelope,
                        replay_id=row.id if row.kind == REPLAY else None,
                        entered_at=now,
                    )
                )
        return queued

    def _write(self, connection: sqlite3.Connection, row: Row, queued: Sequence[Queued]) -> None:
        """Writes the deliveries. A body that was moved to `events` for others is shared with them."""
        moved = bodies.moved(connection, [entry.receipt.event_no for entry in queued])
        bodies.use(connection, [(number, 1) for number in moved])
        insert_deliveries(connection, queued)
        replay_no = row.no if row.kind == REPLAY else 0
        now = self._clock.now().timestamp()
        begun = [
            (number := courses.kept_number(entry.receipt.event_no), row.subscription_no, replay_no, now,
             entry.receipt.event_no - number)
            for entry in queued
        ]  # fmt: skip
        courses.begin_again(connection, begun)
        kept_index.add_courses(connection, row.subscription_no, [number for number, *_ in begun])

    def _has_reached_the_latest(
        self, connection: sqlite3.Connection, subscription: Subscription, looked_to: int
    ) -> bool:
        """True if nothing that was accepted comes behind the cursor: what is accepted next is fanned out."""
        return (
            looked_to >= kept.highest_number(connection)
            and accepted.first_number(connection, subscription.owner.tenant) is None
        )
