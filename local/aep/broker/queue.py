"""The durable side of the broker: every change of the queue is one job of the store's writer.

Implements the ports `Intake` (fan-out in the same transaction) and `Settlements`.
"""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import orjson

from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.events import Envelope, Event
from event_platform.domain.logs import EVENTS_LISTED, DeliveryEnd
from event_platform.fanout import fan_out
from event_platform.ports import Clock

from ..store.database import Database
from ..store.subscriptions import SqliteSubscriptions

REMEMBERED_FOR = 600.0
"""Seconds for which an id that came in is remembered (ingest.md 2)."""


class LaneKey(NamedTuple):
    """An ordering key: one message of it is outstanding at a time."""

    subscription_no: int
    lane: int


class Receipt(NamedTuple):
    """Where a delivery stands in the queue; what `Delivery.receipt` holds."""

    key: LaneKey
    position: int
    event_no: int


@dataclass(slots=True)
class Queued:
    """A delivery as the queue holds it; its body is put together when it leaves."""

    receipt: Receipt
    subscription_id: str
    event_id: str
    event_type: str
    accepted_at: float
    lanes: int
    epoch: int
    envelope: Envelope = field(repr=False)
    attempts: int = 0
    failures: int = 0
    first_attempt_at: float | None = None
    nacks: int = 0

    def size(self) -> int:
        """Bytes that it keeps in memory, roughly."""
        return len(self.envelope.after_subject) + 500

    def delivery(self) -> Delivery:
        """As `deliver` takes it."""
        return Delivery(
            subscription_id=self.subscription_id,
            event_id=self.event_id,
            event_type=self.event_type,
            accepted_at=_moment(self.accepted_at),
            lane=self.receipt.key.lane,
            lanes=self.lanes,
            epoch=self.epoch,
            body=self.envelope.addressed_to(self.subscription_id),
            attempts=self.attempts,
            failures=self.failures,
            first_attempt_at=None if self.first_attempt_at is None else _moment(self.first_attempt_at),
            receipt=self.receipt,
        )


Listener: TypeAlias = Callable[[Sequence[Queued]], None]
"""Told, in the event loop and in the order of the queue, of what a commit put into lanes."""

_DELIVERY_COLUMNS = (
    "subscription_no, lane, position, event_no, lanes, epoch, attempts, failures, first_attempt_at"
)
_QUEUED = """
    SELECT d.subscription_no, d.lane, d.position, d.event_no, s.id, e.id, e.type, e.accepted_at,
           d.lanes, d.epoch, e.before_subject, e.after_subject, d.attempts, d.failures,
           d.first_attempt_at, d.nacks
    FROM deliveries d
    JOIN events e ON e.no = d.event_no
    JOIN subscriptions s ON s.no = d.subscription_no
"""


class DurableQueue:
    """What waits, what is due, and what ended, in the SQLite file."""

    def __init__(
        self, database: Database, subscriptions: SqliteSubscriptions, clock: Clock, *, schema_base: str
    ) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._clock = clock
        self.schema_base = schema_base
        self._numbers = count(1)  # for events, positions and ids seen; used in the writer thread only
        self._put: Listener = lambda queued: None
        self._scheduled: Callable[[float], None] = lambda due_at: None

    async def open(self, put: Listener, scheduled: Callable[[float], None]) -> None:
        """Continues the file's numbering, and tells `put` of new deliveries and `scheduled` of retries."""
        self._put = put
        self._scheduled = scheduled
        self._numbers = count(await self._database.read(_highest_number) + 1)

    async def accept(self, tenant: str, events: Sequence[Event]) -> None:
        """Port `Intake`: the check of ids, their memory, events and deliveries in one commit."""
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> list[Queued]:
            queued: list[Queued] = []
            for event in events:
                if self._is_new(connection, tenant, event.id, now):
                    queued += self._fan_out(connection, tenant, event, now)
            _insert_deliveries(connection, queued)
            return queued

        await self._database.write(job, self._put)

    async def settle(self, settlement: Settlement) -> None:
        """Port `Settlements`: removal, retry or return to the lane, and log entry in one commit."""
        delivery = settlement.delivery
        assert isinstance(delivery.receipt, Receipt)  # noqa: S101 - every delivery of this queue has one
        receipt = delivery.receipt

        def job(connection: sqlite3.Connection) -> Sequence[Queued]:
            removed = connection.execute(
                "DELETE FROM deliveries WHERE subscription_no = ? AND lane = ? AND position = ?",
                (*receipt.key, receipt.position),
            ).rowcount
            if removed == 0:
                return ()
            if settlement.retry_at is not None:
                self._schedule(connection, delivery, receipt, settlement.retry_at.timestamp())
                return ()
            if settlement.back_to_lane:
                return (self._back_to_lane(connection, delivery, receipt),)
            if settlement.end is not None:
                _record_end(connection, delivery, settlement.end)
            _release_event(connection, receipt.event_no)
            return ()

        await self._database.write(job, self._put)
        if settlement.retry_at is not None:
            self._scheduled(settlement.retry_at.timestamp())

    async def nack(self, queued: Queued) -> None:
        """Counts one more failure of our own code on this delivery, which stays at the head of its lane."""
        receipt = queued.receipt

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE deliveries SET nacks = nacks + 1"
                " WHERE subscription_no = ? AND lane = ? AND position = ?",
                (*receipt.key, receipt.position),
            )

        await self._database.write(job)

    async def bury(self, queued: Queued, error: str) -> None:
        """Makes a dead letter of a delivery that our own code keeps failing on, so that its lane goes on."""
        receipt = queued.receipt
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> None:
            where = "WHERE subscription_no = ? AND lane = ? AND position = ?"
            at = (*receipt.key, receipt.position)
            connection.execute(
                f"INSERT INTO dead_letters ({_DELIVERY_COLUMNS}, at, error)"  # noqa: S608 - constant columns
                f" SELECT {_DELIVERY_COLUMNS}, ?, ? FROM deliveries {where}",
                (now, error, *at),
            )
            connection.execute(f"DELETE FROM deliveries {where}", at)  # noqa: S608 - constant clause

        await self._database.write(job)

    async def wake(self, limit: int) -> int:
        """Puts up to `limit` retries that are due back to the end of their lanes; how many it were."""
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> list[Queued]:
            rows = connection.execute(
                "DELETE FROM retries WHERE (due_at, position) IN"
                " (SELECT due_at, position FROM retries WHERE due_at <= ? ORDER BY due_at, position LIMIT ?)"
                " RETURNING due_at, position, subscription_no, lane, event_no, lanes, epoch, attempts,"
                " failures, first_attempt_at",
                (now, limit),
            ).fetchall()
            moved: list[Queued] = []
            for _, _, *key, event_no, lanes, epoch, attempts, failures, first in sorted(rows):
                receipt = Receipt(LaneKey(*key), next(self._numbers), event_no)
                connection.execute(
                    f"INSERT INTO deliveries ({_DELIVERY_COLUMNS})"  # noqa: S608 - constant columns
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*receipt.key, receipt.position, event_no, lanes, epoch, attempts, failures, first),
                )
                row = connection.execute(
                    f"{_QUEUED} WHERE d.subscription_no = ? AND d.lane = ? AND d.position = ?",
                    (*receipt.key, receipt.position),
                ).fetchone()
                moved.append(_queued_of(row))
            return moved

        return len(await self._database.write(job, self._put))

    async def next_due(self) -> float | None:
        """When the first retry is due, in unix seconds; None without any."""
        return await self._database.read(
            lambda connection: connection.execute("SELECT min(due_at) FROM retries").fetchone()[0]
        )

    async def waiting(self, key: LaneKey, after: int, limit: int, room: int) -> list[Queued]:
        """The next deliveries of a lane behind position `after`, oldest first: what fits into `room` bytes.

        The first one comes whatever its size, so that the lane goes on.
        """

        def job(connection: sqlite3.Connection) -> list[Queued]:
            rows = connection.execute(
                f"{_QUEUED} WHERE d.subscription_no = ? AND d.lane = ? AND d.position > ?"
                " ORDER BY d.position LIMIT ?",
                (*key, after, limit),
            )
            found: list[Queued] = []
            size = 0
            for row in rows:
                entry = _queued_of(row)
                size += entry.size()
                if found and size > room:
                    break
                found.append(entry)
            return found

        return await self._database.read(job)

    async def lanes(self) -> list[LaneKey]:
        """All lanes in which something waits; costs one index step per lane, not per delivery."""

        def job(connection: sqlite3.Connection) -> list[LaneKey]:
            found = [LaneKey(-1, -1)]
            while row := connection.execute(
                "SELECT subscription_no, lane FROM deliveries WHERE (subscription_no, lane) > (?, ?)"
                " ORDER BY subscription_no, lane LIMIT 1",
                found[-1],
            ).fetchone():
                found.append(LaneKey(*row))
            return found[1:]

        return await self._database.read(job)

    async def clean_up(self, limit: int) -> int:
        """Forgets up to `limit` ids that came in long ago; how many it were."""
        before = self._clock.now().timestamp() - REMEMBERED_FOR

        def job(connection: sqlite3.Connection) -> int:
            return connection.execute(
                "DELETE FROM seen WHERE no <= (SELECT max(no) FROM"
                " (SELECT no, at FROM seen ORDER BY no LIMIT ?) WHERE at < ?)",
                (limit, before),
            ).rowcount

        return await self._database.write(job)

    async def give_back(self, pages: int) -> int:
        """Returns up to `pages` of unused pages of the file to the disk; how many it were."""
        return await self._database.give_back(pages)

    def _is_new(self, connection: sqlite3.Connection, tenant: str, event_id: str, now: float) -> bool:
        key = hashlib.sha256(f"{tenant}\n{event_id}".encode()).digest()[:16]
        row = connection.execute("SELECT at FROM seen WHERE key = ?", (key,)).fetchone()
        if row is not None:
            if now - row[0] < REMEMBERED_FOR:
                return False
            connection.execute("DELETE FROM seen WHERE key = ?", (key,))
        connection.execute("INSERT INTO seen (no, key, at) VALUES (?, ?, ?)", (next(self._numbers), key, now))
        return True

    def _fan_out(self, connection: sqlite3.Connection, tenant: str, event: Event, now: float) -> list[Queued]:
        active = self._subscriptions.active(connection, tenant)
        numbers = {subscription.id: no for no, subscription in active}
        matched = fan_out(event, (subscription for _, subscription in active), self.schema_base)
        rows: dict[int, int] = {}  # which event row holds which variant of the body
        queued: list[Queued] = []
        for match in matched:
            variant = id(match.envelope)
            if variant not in rows:
                rows[variant] = self._insert_event(connection, event, match.envelope, now)
            key = LaneKey(numbers[match.subscription.id], match.lane)
            queued.append(
                Queued(
                    receipt=Receipt(key, next(self._numbers), rows[variant]),
                    subscription_id=match.subscription.id,
                    event_id=event.id,
                    event_type=event.type,
                    accepted_at=now,
                    lanes=match.subscription.lanes,
                    epoch=match.subscription.epoch,
                    envelope=match.envelope,
                )
            )
        uses = Counter(entry.receipt.event_no for entry in queued)
        connection.executemany(
            "INSERT INTO event_uses VALUES (?, ?)", [item for item in uses.items() if item[1] > 1]
        )
        return queued

    def _insert_event(
        self, connection: sqlite3.Connection, event: Event, envelope: Envelope, now: float
    ) -> int:
        number = next(self._numbers)
        connection.execute(
            "INSERT INTO events (no, id, type, accepted_at, before_subject, after_subject)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (number, event.id, event.type, now, envelope.before_subject, envelope.after_subject),
        )
        return number

    def _schedule(
        self, connection: sqlite3.Connection, delivery: Delivery, receipt: Receipt, due_at: float
    ) -> None:
        connection.execute(
            f"INSERT INTO retries ({_DELIVERY_COLUMNS}, due_at)"  # noqa: S608 - constant columns
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *receipt.key,
                receipt.position,
                receipt.event_no,
                delivery.lanes,
                delivery.epoch,
                delivery.attempts,
                delivery.failures,
                _seconds(delivery.first_attempt_at),
                due_at,
            ),
        )

    def _back_to_lane(self, connection: sqlite3.Connection, delivery: Delivery, receipt: Receipt) -> Queued:
        behind = receipt._replace(position=next(self._numbers))
        row = connection.execute(
            "SELECT before_subject, after_subject FROM events WHERE no = ?", (receipt.event_no,)
        ).fetchone()
        queued = Queued(
            receipt=behind,
            subscription_id=delivery.subscription_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            accepted_at=delivery.accepted_at.timestamp(),
            lanes=delivery.lanes,
            epoch=delivery.epoch,
            envelope=Envelope(*row),
            attempts=delivery.attempts,
            failures=delivery.failures,
            first_attempt_at=_seconds(delivery.first_attempt_at),
        )
        _insert_deliveries(connection, [queued])
        return queued


def _insert_deliveries(connection: sqlite3.Connection, queued: Sequence[Queued]) -> None:
    connection.executemany(
        f"INSERT INTO deliveries ({_DELIVERY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant columns
        [
            (
                *entry.receipt.key,
                entry.receipt.position,
                entry.receipt.event_no,
                entry.lanes,
                entry.epoch,
                entry.attempts,
                entry.failures,
                entry.first_attempt_at,
            )
            for entry in queued
        ],
    )


def _release_event(connection: sqlite3.Connection, event_no: int) -> None:
    """One delivery less refers to the event; with the last one it goes."""
    row = connection.execute(
        "UPDATE event_uses SET remaining = remaining - 1 WHERE event_no = ? RETURNING remaining", (event_no,)
    ).fetchone()
    if row is not None and row[0] > 0:
        return
    connection.execute("DELETE FROM events WHERE no = ?", (event_no,))
    if row is not None:
        connection.execute("DELETE FROM event_uses WHERE event_no = ?", (event_no,))


def _record_end(connection: sqlite3.Connection, delivery: Delivery, end: DeliveryEnd) -> None:
    """Counts the end in its log entry (wire contract 13), which names the first events it stands for."""
    entry_id = end.entry_id(delivery.subscription_id)
    event = {"event_id": delivery.event_id, "type": delivery.event_type, "attempts": delivery.attempts}
    row = connection.execute("SELECT events FROM log_entries WHERE id = ?", (entry_id,)).fetchone()
    events = orjson.loads(row[0]) if row else []
    if len(events) < EVENTS_LISTED:
        events.append(event)
    connection.execute(
        "INSERT INTO log_entries (id, subscription_id, operation, message, reason, status, excerpt,"
        " occurrences, events, at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET occurrences = occurrences + 1, events = excluded.events,"
        " at = max(at, excluded.at), excerpt = excluded.excerpt",
        (
            entry_id,
            delivery.subscription_id,
            end.operation,
            end.message,
            end.reason,
            end.status,
            end.excerpt,
            orjson.dumps(events).decode(),
            end.at.timestamp(),
        ),
    )


def _queued_of(row: Sequence[Any]) -> Queued:
    """A row of `_QUEUED`."""
    (subscription_no, lane, position, event_no, subscription_id, event_id, event_type, accepted_at) = row[:8]
    (lanes, epoch, before, after, attempts, failures, first_attempt_at, nacks) = row[8:]
    return Queued(
        receipt=Receipt(LaneKey(subscription_no, lane), position, event_no),
        subscription_id=subscription_id,
        event_id=event_id,
        event_type=event_type,
        accepted_at=accepted_at,
        lanes=lanes,
        epoch=epoch,
        envelope=Envelope(before, after),
        attempts=attempts,
        failures=failures,
        first_attempt_at=first_attempt_at,
        nacks=nacks,
    )


def _highest_number(connection: sqlite3.Connection) -> int:
    """The last number given out: events, ids seen and positions share one numbering."""
    (highest,) = connection.execute(
        "SELECT max(highest) FROM (SELECT max(no) AS highest FROM events UNION ALL SELECT max(no) FROM seen"
        " UNION ALL SELECT max(position) FROM dead_letters UNION ALL SELECT max(position) FROM deliveries"
        " UNION ALL SELECT max(position) FROM retries)"
    ).fetchone()
    return highest or 0


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
