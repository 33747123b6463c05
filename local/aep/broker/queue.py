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
from event_platform.domain.logs import EVENTS_LISTED, KEPT_FOR, DeliveryEnd
from event_platform.domain.subscriptions import SHOWN_AFTER_DELETION
from event_platform.fanout import fan_out
from event_platform.ports import Clock

from ..meters import Counted, Meters
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

DELIVERY_COLUMNS = (
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
        self,
        database: Database,
        subscriptions: SqliteSubscriptions,
        clock: Clock,
        *,
        schema_base: str,
        meters: Meters | None = None,
    ) -> None:
        self._meters = meters or Meters()
        self._seen_version: int | None = None  # of the file, as far as other processes change it
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
        await self._recount()

    async def look(self) -> float:
        """Brings the meters up to date with what other processes changed in the file.

        Returns the age in seconds of the oldest event that waits, 0 when none does. Raises StoreUnavailable.
        """
        await self._recount()
        oldest = await self._database.read(_oldest_accepted_at)
        return 0.0 if oldest is None else max(0.0, self._clock.now().timestamp() - oldest)

    async def accept(self, tenant: str, events: Sequence[Event]) -> None:
        """Port `Intake`: the check of ids, their memory, events and deliveries in one commit."""
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> tuple[int, list[Queued]]:
            new = 0
            queued: list[Queued] = []
            for event in events:
                if self._is_new(connection, tenant, event.id, now):
                    new += 1
                    queued += self._fan_out(connection, tenant, event, now)
            _insert_deliveries(connection, queued)
            return new, queued

        def committed(result: tuple[int, list[Queued]]) -> None:
            new, queued = result
            self._meters.accepted(len(events), new, (entry.subscription_id for entry in queued))
            self._put(queued)

        await self._database.write(job, committed)

    async def settle(self, settlement: Settlement) -> None:
        """Port `Settlements`: removal, retry or return to the lane, and log entry in one commit."""
        delivery = settlement.delivery
        assert isinstance(delivery.receipt, Receipt)  # noqa: S101 - every delivery of this queue has one
        receipt = delivery.receipt
        seconds = (self._clock.now() - delivery.accepted_at).total_seconds()

        def job(connection: sqlite3.Connection) -> Sequence[Queued] | None:
            removed = connection.execute(
                "DELETE FROM deliveries WHERE subscription_no = ? AND lane = ? AND position = ?",
                (*receipt.key, receipt.position),
            ).rowcount
            if removed == 0:
                return None
            if settlement.retry_at is not None:
                self._schedule(connection, delivery, receipt, settlement.retry_at.timestamp())
                return ()
            if settlement.back_to_lane:
                return (self._back_to_lane(connection, delivery, receipt),)
            if settlement.end is not None:
                record_end(
                    connection,
                    settlement.end,
                    subscription_id=delivery.subscription_id,
                    event_id=delivery.event_id,
                    event_type=delivery.event_type,
                    attempts=delivery.attempts,
                )
            release_event(connection, receipt.event_no)
            return ()

        def committed(back: Sequence[Queued] | None) -> None:
            if back is not None:
                self._meters.settled(settlement, seconds)
                self._put(back)

        await self._database.write(job, committed)
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

        await self._database.write(job, lambda _: self._meters.faulted())

    async def bury(self, queued: Queued, error: str) -> None:
        """Makes a dead letter of a delivery that our own code keeps failing on, so that its lane goes on."""
        receipt = queued.receipt
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> None:
            where = "WHERE subscription_no = ? AND lane = ? AND position = ?"
            at = (*receipt.key, receipt.position)
            connection.execute(
                f"INSERT INTO dead_letters ({DELIVERY_COLUMNS}, at, error)"  # noqa: S608 - constant columns
                f" SELECT {DELIVERY_COLUMNS}, ?, ? FROM deliveries {where}",
                (now, error, *at),
            )
            connection.execute(f"DELETE FROM deliveries {where}", at)  # noqa: S608 - constant clause

        def committed(_: None) -> None:
            self._meters.faulted()
            self._meters.buried(queued.subscription_id)

        await self._database.write(job, committed)

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
                    f"INSERT INTO deliveries ({DELIVERY_COLUMNS})"  # noqa: S608 - constant columns
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*receipt.key, receipt.position, event_no, lanes, epoch, attempts, failures, first),
                )
                row = connection.execute(
                    f"{_QUEUED} WHERE d.subscription_no = ? AND d.lane = ? AND d.position = ?",
                    (*receipt.key, receipt.position),
                ).fetchone()
                moved.append(_queued_of(row))
            return moved

        def committed(moved: list[Queued]) -> None:
            self._meters.woken(entry.subscription_id for entry in moved)
            self._put(moved)

        return len(await self._database.write(job, committed))

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
        """Drops up to `limit` of each that has expired: ids that came in, log entries; the most it were."""
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> int:
            ids = connection.execute(
                "DELETE FROM seen WHERE no <= (SELECT max(no) FROM"
                " (SELECT no, at FROM seen ORDER BY no LIMIT ?) WHERE at < ?)",
                (limit, now - REMEMBERED_FOR),
            ).rowcount
            entries = connection.execute(
                "DELETE FROM log_entries WHERE id IN"
                " (SELECT id FROM log_entries WHERE at < ? ORDER BY at LIMIT ?)",
                (now - KEPT_FOR.total_seconds(), limit),
            ).rowcount
            return max(ids, entries)

        await self._subscriptions.forget_deleted(before=now - SHOWN_AFTER_DELETION.total_seconds())
        return await self._database.write(job)

    async def give_back(self, pages: int) -> int:
        """Returns up to `pages` of unused pages of the file to the disk; how many it were."""
        return await self._database.give_back(pages)

    async def _recount(self) -> None:
        """Counts what the meters only follow by what this process changes: all of it the first time, and
        later, when another process has written, the tables that others write."""

        def job(connection: sqlite3.Connection) -> tuple[int, Counted | None]:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version == self._seen_version:
                return version, None
            return version, _counted(connection, with_queue=self._seen_version is None)

        def committed(result: tuple[int, Counted | None]) -> None:
            self._seen_version, counted = result
            if counted is not None:
                self._meters.recounted(counted)

        await self._database.write(job, committed)

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
        active = self._subscriptions.active(connection, tenant, event.type)
        matched = fan_out(event, active.subscriptions, self.schema_base)
        rows: dict[int, int] = {}  # which event row holds which variant of the body
        queued: list[Queued] = []
        for match in matched:
            variant = id(match.envelope)
            if variant not in rows:
                rows[variant] = self._insert_event(connection, event, match.envelope, now)
            key = LaneKey(active.numbers[match.subscription.id], match.lane)
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
            f"INSERT INTO retries ({DELIVERY_COLUMNS}, due_at)"  # noqa: S608 - constant columns
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
        f"INSERT INTO deliveries ({DELIVERY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constant columns
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


def release_event(connection: sqlite3.Connection, event_no: int) -> None:
    """One delivery less refers to the event; with the last one it goes."""
    row = connection.execute(
        "UPDATE event_uses SET remaining = remaining - 1 WHERE event_no = ? RETURNING remaining", (event_no,)
    ).fetchone()
    if row is not None and row[0] > 0:
        return
    connection.execute("DELETE FROM events WHERE no = ?", (event_no,))
    if row is not None:
        connection.execute("DELETE FROM event_uses WHERE event_no = ?", (event_no,))


def record_end(
    connection: sqlite3.Connection,
    end: DeliveryEnd,
    *,
    subscription_id: str,
    event_id: str,
    event_type: str,
    attempts: int,
) -> None:
    """Counts the end in its log entry (wire contract 13), which names the first events it stands for."""
    event = {"event_id": event_id, "type": event_type, "attempts": attempts}
    row = connection.execute(
        "SELECT id, first_at, events FROM log_entries WHERE subscription_id = ? AND operation = ?"
        " AND message = ? ORDER BY first_at DESC LIMIT 1",
        (subscription_id, end.operation, end.message),
    ).fetchone()
    if row is None or not end.joins(_moment(row[1])):
        connection.execute(
            "INSERT INTO log_entries (id, subscription_id, operation, message, reason, status, excerpt,"
            " occurrences, events, first_at, at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?)",
            (
                end.entry_id(subscription_id),
                subscription_id,
                end.operation,
                end.message,
                end.reason,
                end.status,
                end.excerpt,
                orjson.dumps([event]).decode(),
                end.at.timestamp(),
                end.at.timestamp(),
            ),
        )
        return
    entry_id, _, listed = row
    events = orjson.loads(listed)
    if len(events) < EVENTS_LISTED:
        events.append(event)
    connection.execute(
        "UPDATE log_entries SET occurrences = occurrences + 1, events = ?, excerpt = ?, at = max(at, ?)"
        " WHERE id = ?",
        (orjson.dumps(events).decode(), end.excerpt, end.at.timestamp(), entry_id),
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


def _counted(connection: sqlite3.Connection, *, with_queue: bool) -> Counted:
    (retries,) = connection.execute("SELECT count(*) FROM retries").fetchone()
    (dead_letters,) = connection.execute("SELECT count(*) FROM dead_letters").fetchone()
    if not with_queue:
        return Counted(retries, dead_letters)
    rows = connection.execute(
        "SELECT s.id, d.number FROM"
        " (SELECT subscription_no, count(*) AS number FROM deliveries GROUP BY subscription_no) d"
        " JOIN subscriptions s ON s.no = d.subscription_no"
    )
    return Counted(retries, dead_letters, dict(rows.fetchall()))


def _oldest_accepted_at(connection: sqlite3.Connection) -> float | None:
    """An event that a dead letter keeps is left out: nothing goes on with it before somebody looks at it."""
    row = connection.execute(
        "SELECT accepted_at FROM events WHERE no NOT IN (SELECT event_no FROM dead_letters)"
        " ORDER BY no LIMIT 1"
    ).fetchone()
    return row[0] if row else None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
