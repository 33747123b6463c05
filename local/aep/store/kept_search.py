"""Searches kept events from the newest back, in steps of a few milliseconds: others read in between."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from event_platform.domain.errors import Conflict
from event_platform.domain.events.entities import Entity, entity_name, entity_of
from event_platform.domain.kept_events import (
    Course,
    CourseStatus,
    FailedAttempt,
    KeptEvent,
    KeptPage,
    KeptQuery,
    KeptWithData,
)
from event_platform.domain.subscriptions import Owner

from . import kept, kept_index
from .database import Database
from .kept_index import Key
from .times import moment_of, seconds_of

CANDIDATES_A_STEP = 400
"""The rows that one step reads at most: some 5 ms."""
SEGMENTS_A_STEP = 2500
"""The segments that one step looks into at most: some 5 ms."""
COURSES_A_STEP = 20_000
"""The deliveries after which a step ends: some 3 ms."""
STEPS = 12
"""The steps of one page at most: it may end with fewer events than asked for, and say where to go on."""

_SHOWN = "no, tenant, accepted_at, way, id, type, time, identity, identifier"
_COURSE = (
    "subscription_no, replay_no, matched_at, attempts, outcome, status, reason, message, milliseconds,"
    " ended_at"
)
_NEWEST = " ORDER BY subscription_no DESC, replay_no"
_END = 1 << 62


class KeptSearch:
    """A search of one reader. `tenant` None is the operator, who sees all; see `search_of_all`.

    `ids` are the subscriptions whose deliveries the reader sees, by their numbers.
    """

    def __init__(self, tenant: str | None, ids: Mapping[int, str], query: KeptQuery) -> None:
        self._tenant = tenant
        self._ids = ids
        self._query = query
        self._since = seconds_of(query.since)
        self._until = seconds_of(query.until)
        self._subscription_no = _number_of(ids, query.subscription_id)
        self._key = self._narrowest_key()
        self._counted = 0
        """The deliveries that this step has counted."""
        self.below: int | None = query.below or _END
        """Only events before this number are still to be looked at; None when none is left."""
        if query.subscription_id is not None and self._subscription_no is None:
            self.below = None

    def page(self, connection: sqlite3.Connection) -> KeptPage:
        """Searches to the end of a page, in one go."""
        events: list[KeptEvent] = []
        for _ in range(STEPS):
            events += self.step(connection, self._query.limit - len(events))
            if self.is_over(len(events)):
                break
        return KeptPage(events, self.below)

    def is_over(self, found: int) -> bool:
        """True if a page with so many events is full, or nothing is left."""
        return self.below is None or found >= self._query.limit

    def step(self, connection: sqlite3.Connection, limit: int) -> list[KeptEvent]:
        """Returns up to `limit` events that the next step finds."""
        found: list[KeptEvent] = []
        before, self._counted = self.below, 0
        for number, is_looked_at in self._candidates(connection):
            self.below = number
            if is_looked_at and (event := self._event(connection, number)) is not None:
                found.append(event)
            if len(found) == limit or self._counted >= COURSES_A_STEP:
                break
        is_stuck = self.below == before
        if self.below is not None and (is_stuck or self.below <= self._first_number(connection)):
            self.below = None
        return found

    def _candidates(self, connection: sqlite3.Connection) -> Iterator[tuple[int, bool]]:
        """Yields numbers from `below` down, and whether there may be an event of the query."""
        below, left = self.below or 0, CANDIDATES_A_STEP
        indexed_to = kept_index.indexed_to(connection)
        if below > indexed_to + 1:
            rows = connection.execute(
                "SELECT no FROM kept WHERE no > ? AND no < ? ORDER BY no DESC LIMIT ?",
                (indexed_to, below, left),
            ).fetchall()
            yield from ((number, True) for (number,) in rows)
            left -= len(rows)
            if left <= 0:
                return
            yield indexed_to + 1, False
        newest = connection.execute(
            "SELECT no FROM kept_segments WHERE first_no < ? ORDER BY no DESC LIMIT 1", (below,)
        ).fetchone()
        if newest is None:
            return
        lowest = newest[0] - SEGMENTS_A_STEP + 1
        for first, entries in self._segments(connection, lowest, newest[0]):
            numbers = [first + offset for offset in kept_index.offsets(entries, self._key)]
            for number in sorted(numbers, reverse=True):
                if number < below:
                    yield number, True
                    left -= 1
                    if left <= 0:
                        return
        (first,) = connection.execute(
            "SELECT min(first_no) FROM kept_segments WHERE no BETWEEN ? AND ?", (lowest, newest[0])
        ).fetchone()
        yield first, False

    def _segments(self, connection: sqlite3.Connection, lowest: int, newest: int) -> Iterator[Any]:
        since, until = self._since, self._until
        return connection.execute(
            "SELECT s.first_no, i.entries FROM kept_segments s CROSS JOIN kept_index i"
            " ON i.segment_no = s.no AND i.key = ?"
            " WHERE s.no BETWEEN ? AND ? AND s.last_at >= ? AND s.first_at < ? ORDER BY s.no DESC",
            (
                self._key.number,
                lowest,
                newest,
                0 if since is None else since,
                _END if until is None else until,
            ),
        )

    def _first_number(self, connection: sqlite3.Connection) -> int:
        """Returns the number of the first event that may be in the time asked for."""
        if self._since is None:
            row = connection.execute("SELECT min(no) FROM kept").fetchone()
            return row[0] or _END
        row = connection.execute(
            "SELECT min(first_no) FROM kept_segments WHERE last_at >= ?", (self._since,)
        ).fetchone()
        return row[0] if row[0] is not None else kept_index.indexed_to(connection) + 1

    def _narrowest_key(self) -> Key:
        query = self._query
        if query.event_id is not None:
            return kept_index.id_key(query.event_id)
        if query.entity is not None:
            return kept_index.entity_key(query.entity.identity)
        if self._subscription_no is not None:
            return kept_index.subscription_key(self._subscription_no)
        if query.event_type is not None:
            return kept_index.type_key(self._tenant or "", query.event_type)
        return kept_index.tenant_key(self._tenant or "")

    def _event(self, connection: sqlite3.Connection, number: int) -> KeptEvent | None:
        """Returns the event if it is one of the query."""
        row = connection.execute(
            f"SELECT {_SHOWN} FROM kept WHERE no = ?",  # noqa: S608 - constant columns
            (number,),
        ).fetchone()
        if row is None or not self._fits(row):
            return None
        query = self._query
        is_whole = query.courses_at_most is None
        counts = None if is_whole else self._counts(connection, number)
        event = _kept_event(row, self._courses(connection, number), counts)
        self._counted += len(event.courses)
        if query.subscription_id is not None and not event.deliveries:
            return None
        if query.outcome is CourseStatus.UNMATCHED:
            return None if event.deliveries else event
        return event if query.outcome is None or event.count(query.outcome) else None

    def _fits(self, row: Sequence[Any]) -> bool:
        _, tenant, accepted_at, _, event_id, event_type, _, identity, identifier = row
        query = self._query
        return (
            self._tenant in (None, tenant)
            and (self._since is None or accepted_at >= self._since)
            and (self._until is None or accepted_at < self._until)
            and query.event_id in (None, event_id)
            and query.event_type in (None, event_type)
            and (query.entity is None or _is_of(query.entity, event_type, identity, identifier))
        )

    def _counts(self, connection: sqlite3.Connection, number: int) -> Mapping[CourseStatus, int]:
        """Counts the deliveries of an event that the reader sees."""
        if self._tenant is None and self._subscription_no is None:
            statement = "SELECT outcome, count(*) FROM courses WHERE event_no = ? GROUP BY outcome"
            rows = connection.execute(statement, (number,)).fetchall()
            self._counted += sum(count for _, count in rows)
            return {_status(outcome): count for outcome, count in rows}
        rows = connection.execute(
            "SELECT subscription_no, outcome FROM courses WHERE event_no = ?", (number,)
        ).fetchall()
        self._counted += len(rows)
        return Counter(_status(outcome) for subscription_no, outcome in rows if self._sees(subscription_no))

    def _courses(self, connection: sqlite3.Connection, number: int) -> list[Course]:
        most = self._query.courses_at_most
        if most == 0:
            return []
        if self._subscription_no is not None:
            rows = connection.execute(
                f"SELECT {_COURSE} FROM courses WHERE event_no = ? AND subscription_no = ?",  # noqa: S608
                (number, self._subscription_no),
            )
            return [_course(row, self._ids[row[0]]) for row in rows]
        if self._tenant is None:
            rows = connection.execute(
                f"SELECT {_COURSE}, (SELECT id FROM subscriptions WHERE no = subscription_no)"  # noqa: S608
                f" FROM courses WHERE event_no = ?{'' if most is None else _NEWEST} LIMIT ?",
                (number, -1 if most is None else most),
            )
            return [_course(row, subscription_id or "") for *row, subscription_id in rows]
        rows = connection.execute(
            f"SELECT {_COURSE} FROM courses WHERE event_no = ?",  # noqa: S608 - constant columns
            (number,),
        )
        return [_course(row, self._ids[row[0]]) for row in rows if self._sees(row[0])]

    def _sees(self, subscription_no: int) -> bool:
        """True if the reader sees what became of the deliveries of a subscription."""
        wanted = self._subscription_no
        return subscription_no in self._ids if wanted is None else subscription_no == wanted


class SqliteKeptEvents:
    """The port `KeptEvents`."""

    def __init__(self, database: Database, *, keeps: bool) -> None:
        self._database = database
        self._keeps = keeps

    def check_kept(self) -> None:
        if not self._keeps:
            raise Conflict("no events are kept here: the platform's operator has set AEP_KEEP to 0")

    async def page(self, owner: Owner, query: KeptQuery) -> KeptPage:
        ids = await self._database.read(lambda connection: subscriptions_of(connection, owner))
        search = KeptSearch(owner.tenant, ids, query)
        events: list[KeptEvent] = []
        for _ in range(STEPS):
            left = query.limit - len(events)
            events += await self._database.read(lambda connection, left=left: search.step(connection, left))
            if search.is_over(len(events)):
                break
        return KeptPage(events, search.below)

    async def with_data(self, events: Sequence[KeptEvent]) -> Sequence[KeptWithData]:
        found: list[KeptWithData] = []
        for each in events:
            row = await self._database.read(lambda connection, each=each: _row(connection, each.number))
            if row is not None:
                found.append(KeptWithData(each, kept.event_of(row)))
        return found


def headings(
    connection: sqlite3.Connection, numbers: Collection[int]
) -> dict[int, tuple[str, str, Entity | None]]:
    """Returns the id, the type and the entity of those of the events that are kept, by their numbers."""
    found = connection.execute(
        f"SELECT no, id, type, identity FROM kept WHERE no IN ({', '.join('?' * len(numbers))})",  # noqa: S608
        list(numbers),
    )
    return {
        number: (event_id, event_type, entity_of(event_type, kept.identity_of(identity)))
        for number, event_id, event_type, identity in found
    }


def _row(connection: sqlite3.Connection, number: int) -> kept.KeptRow | None:
    return connection.execute(
        f"SELECT {kept.COLUMNS} FROM kept WHERE no = ?",  # noqa: S608 - constant columns
        (number,),
    ).fetchone()


def subscriptions_of(connection: sqlite3.Connection, owner: Owner) -> dict[int, str]:
    """Returns the ids of a client's subscriptions, also of deleted ones, by their numbers."""
    return dict(
        connection.execute(
            "SELECT s.no, s.id FROM subscribers b JOIN subscriptions s ON s.subscriber_id = b.id"
            " WHERE b.tenant = ? AND b.client_id = ?",
            (owner.tenant, owner.client_id),
        ).fetchall()
    )


def search_of_all(connection: sqlite3.Connection, query: KeptQuery) -> KeptSearch:
    """Returns a search of the operator, who sees the events of all PIMs and all their deliveries."""
    chosen = connection.execute("SELECT no, id FROM subscriptions WHERE id = ?", (query.subscription_id,))
    return KeptSearch(None, dict(chosen.fetchall()), query)


def _number_of(ids: Mapping[int, str], subscription_id: str | None) -> int | None:
    return next((number for number, each in ids.items() if each == subscription_id), None)


def _is_of(entity: Entity, event_type: str, identity: str, identifier: bytes | None) -> bool:
    if entity_name(event_type).replace("_", "-") != entity.name:
        return False
    is_identifier = identifier is not None and kept.identifier_of(identifier) == entity.identity
    return is_identifier or "/".join(kept.identity_of(identity)) == entity.identity


def _kept_event(
    row: Sequence[Any], courses: Sequence[Course], counts: Mapping[CourseStatus, int] | None
) -> KeptEvent:
    number, tenant, accepted_at, way, event_id, event_type, time, identity, _ = row
    return KeptEvent(
        number,
        tenant,
        moment_of(accepted_at),
        way,
        event_id,
        event_type,
        time,
        kept.identity_of(identity),
        courses,
        counts,
    )


def _status(outcome: str | None) -> CourseStatus:
    return CourseStatus.WAITING if outcome is None else CourseStatus(outcome)


def _course(row: Sequence[Any], subscription_id: str) -> Course:
    _, replay_no, matched_at, attempts, outcome, status, reason, message, milliseconds, ended_at = row
    failed = [] if attempts is None else json.loads(attempts)
    return Course(
        subscription_id,
        _status(outcome),
        is_replay=replay_no != 0,
        matched_at=None if matched_at is None else moment_of(matched_at),
        attempts=[FailedAttempt(moment_of(at), *more) for at, *more in failed],
        status=status,
        reason=reason,
        message=message,
        milliseconds=milliseconds,
        ended_at=None if ended_at is None else moment_of(ended_at),
    )
