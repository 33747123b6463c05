"""The durable side of the broker: every change of the queue is one job of the store's writer.

Implements the ports `Intake` (fan-out in the same transaction) and `Settlements`.
"""

import asyncio
import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import orjson
import structlog

from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.events import Envelope, Event
from event_platform.domain.logs import EVENTS_LISTED, FAILED_DELIVERY, KEPT_FOR, DeliveryEnd, LogType
from event_platform.domain.revocations import client_gone, revoking
from event_platform.domain.subscriptions import SHOWN_AFTER_DELETION, Owner, Subscription
from event_platform.domain.suspension import Suspension
from event_platform.fanout import IdentifierCheck, fan_out
from event_platform.ports import Clock

from ..meters import Counted, Meters
from ..store import bulk
from ..store.database import Database
from ..store.subscriptions import SqliteSubscriptions
from ..store.success_counts import drop_expired
from .budget import OwnerKey

log = structlog.get_logger()

SMALL_BODY = 16 * 1024
"""A larger body stays on disk when its delivery goes back to a lane; it is read for the next attempt."""
OWNERS_KEPT = 20_000
"""For so many subscriptions we keep in memory who owns them."""
WITHOUT_BODY = 500
"""Bytes that a queued delivery takes in memory without its body, roughly."""
REMEMBERED_FOR = 600.0
"""Seconds for which an id that came in is remembered (ingest.md 2)."""
RELAYED_FOR = 86400.0
"""The same for relayed events: their signature has no time, so a copy is good for ever (ingest.md 4)."""


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
    """A delivery as the queue holds it; its body is put together when it leaves.

    Without `envelope` the body is on disk only. `is_kept` is the dispatcher's: the bytes count in its budget.
    """

    receipt: Receipt
    owner: OwnerKey
    subscription_id: str
    event_id: str
    event_type: str
    accepted_at: float
    lanes: int
    epoch: int
    body_size: int
    envelope: Envelope | None = field(repr=False)
    attempts: int = 0
    failures: int = 0
    first_attempt_at: float | None = None
    nacks: int = 0
    is_kept: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """As a row, which travels between processes at less than half of what fields by name cost."""
        receipt, envelope = self.receipt, self.envelope
        before, after = (
            (None, None) if envelope is None else (envelope.before_subject, envelope.after_subject)
        )
        row = (
            *receipt.key, receipt.position, receipt.event_no, self.subscription_id, self.event_id,
            self.event_type, self.accepted_at, self.lanes, self.epoch, before, after, self.body_size,
            self.attempts, self.failures, self.first_attempt_at, self.nacks,
        )  # fmt: skip
        return _queued_of, (row, self.owner)

    def size(self) -> int:
        """Bytes that it takes in memory with its body, roughly."""
        return self.body_size + WITHOUT_BODY

    def size_now(self) -> int:
        """Bytes that it takes in memory now, roughly."""
        return WITHOUT_BODY if self.envelope is None else self.body_size + WITHOUT_BODY

    def delivery(self) -> Delivery:
        """The delivery as `deliver` takes it; its body must have been read."""
        assert self.envelope is not None  # noqa: S101 - see above
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
           d.lanes, d.epoch, CASE WHEN length(e.after_subject) <= :room THEN e.before_subject END,
           CASE WHEN length(e.after_subject) <= :room THEN e.after_subject END, length(e.after_subject),
           d.attempts, d.failures, d.first_attempt_at, d.nacks
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
        self._identifiers = IdentifierCheck(clock)  # used in the writer thread only
        self._owners: dict[int, OwnerKey] = {}  # of subscriptions, by the numbers of their rows
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

    async def accept(self, tenant: str, events: Sequence[Event], *, relayed: bool = False) -> None:
        """Port `Intake`: the check of ids, their memory, events and deliveries in one commit."""

        def committed(result: _Accepted) -> None:
            if result.revoked:
                self._subscriptions.remember(result.revoked)
            self._meters.accepted(len(events), result.new, (entry.subscription_id for entry in result.queued))
            self._put(result.queued)

        batch = _Batch(tenant, events, self._clock.now().timestamp(), relayed)
        accepted = await self._database.write_jointly(self._accept, batch, committed, weight=len(events))
        if accepted.revoked:
            await self._subscriptions.copies.in_force()

    async def settle(self, settlement: Settlement) -> None:
        """Port `Settlements`: removal, retry or return to the lane, and log entry in one commit."""
        await self._on_its_way(settlement)
        if settlement.retry_at is not None:
            self._scheduled(settlement.retry_at.timestamp())

    def settle_soon(self, settlement: Settlement) -> "asyncio.Future[Any]":
        """Has the removal of what was delivered on its way to the file; the future ends when it is there.

        That may be a moment later, in the commit of the next events. Raises StoreUnavailable by the future.
        """
        return self._on_its_way(settlement, lingers=True)

    def _on_its_way(self, settlement: Settlement, *, lingers: bool = False) -> "asyncio.Future[Any]":
        seconds = (self._clock.now() - settlement.delivery.accepted_at).total_seconds()

        def committed(settled: _Settled | None) -> None:
            if settled is not None:
                if settled.changed:
                    self._subscriptions.remember(settled.changed)
                self._meters.settled(settlement, seconds)
                self._put(settled.back)

        return self._database.write_jointly(self._settle, settlement, committed, lingers=lingers)

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
                    f"{_QUEUED} WHERE d.subscription_no = :number AND d.lane = :lane"
                    " AND d.position = :position",
                    {
                        "number": receipt.key.subscription_no,
                        "lane": receipt.key.lane,
                        "position": receipt.position,
                        "room": SMALL_BODY,
                    },
                ).fetchone()
                moved.append(_queued_of(row, self._owner(connection, receipt.key.subscription_no)))
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

        If the first one does not fit, it comes without its body.
        """

        def job(connection: sqlite3.Connection) -> list[Queued]:
            rows = connection.execute(
                f"{_QUEUED} WHERE d.subscription_no = :number AND d.lane = :lane AND d.position > :after"
                " ORDER BY d.position LIMIT :limit",
                {
                    "number": key.subscription_no,
                    "lane": key.lane,
                    "after": after,
                    "limit": limit,
                    "room": room - WITHOUT_BODY,
                },
            )
            owner = self._owner(connection, key.subscription_no)
            found: list[Queued] = []
            size = 0
            for row in rows:
                entry = _queued_of(row, owner)
                size += entry.size()
                if found and size > room:
                    break
                found.append(entry)
                if size > room:
                    break
            return found

        return await self._database.read(job)

    async def envelope(self, event_no: int) -> Envelope:
        """The body of an event that waits, but for the subscription's id."""

        def job(connection: sqlite3.Connection) -> Envelope:
            row = connection.execute(
                "SELECT before_subject, after_subject FROM events WHERE no = ?", (event_no,)
            ).fetchone()
            if row is None:
                raise LookupError(f"event {event_no} is not in the file, though a delivery of it waits")
            return Envelope(*row)

        return await self._database.read(job)

    def _owner(self, connection: sqlite3.Connection, subscription_no: int) -> OwnerKey:
        """The owner of a subscription, which never changes. Called in the database's threads."""
        owner = self._owners.get(subscription_no)
        if owner is None:
            owner = connection.execute(
                "SELECT tenant, json_extract(document, '$.client_id') FROM subscriptions WHERE no = ?",
                (subscription_no,),
            ).fetchone()
            if len(self._owners) >= OWNERS_KEPT:
                self._owners.clear()
            self._owners[subscription_no] = owner
        return owner

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
        """Drops up to `limit` of each that has expired: ids that came in, log entries, counts.

        Returns the most it were of one of them.
        """
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> int:
            ids = max(
                _forget(connection, table, before=now - kept, limit=limit)
                for table, kept in (("seen", REMEMBERED_FOR), ("relayed", RELAYED_FOR))
            )
            entries = connection.execute(
                "DELETE FROM log_entries WHERE id IN"
                " (SELECT id FROM log_entries WHERE at < ? ORDER BY at LIMIT ?)",
                (now - KEPT_FOR.total_seconds(), limit),
            ).rowcount
            return max(ids, entries, drop_expired(connection, now, limit))

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

    def _accept(self, connection: sqlite3.Connection, batches: Sequence["_Batch"]) -> list["_Accepted"]:
        """A joint job: what becomes of each batch's new events.

        Whoever is gone from the PIM is revoked before the event that says so is fanned out.
        """
        new = self._new_events(connection, batches)
        rows = _Rows()
        results = [_Accepted(len(events)) for events in new]
        for batch, events, result in zip(batches, new, results, strict=True):
            for event in events:
                result.revoked += self._revoke(connection, batch, event)
                result.queued += self._fan_out(connection, batch, event, rows)
        bulk.insert(
            connection, "events (no, id, type, accepted_at, before_subject, after_subject)", rows.events
        )
        bulk.insert(connection, "event_uses (event_no, remaining)", rows.uses)
        _insert_deliveries(connection, [queued for result in results for queued in result.queued])
        return results

    def _revoke(
        self, connection: sqlite3.Connection, batch: "_Batch", event: Event
    ) -> Sequence[Subscription]:
        client_id = client_gone(event)
        if client_id is None:
            return ()
        log.info("client.revoked", tenant=batch.tenant, client_id=client_id, event_id=event.id)
        return self._subscriptions.revoke_in(
            connection, Owner(batch.tenant, client_id), now=_moment(batch.now), action=revoking(event)
        )

    def _new_events(self, connection: sqlite3.Connection, batches: Sequence["_Batch"]) -> list[list[Event]]:
        """The events of each batch whose ids did not come in lately, and remembers those."""
        keyed = [
            (batch, event, _key_of(batch.tenant, event.id)) for batch in batches for event in batch.events
        ]
        keys = [(key,) for _, _, key in keyed]
        seen = dict(bulk.rows(connection, "SELECT key, at FROM seen WHERE key IN {keys}", keys))
        expired: list[tuple[bytes]] = []
        rows: list[tuple[int, bytes, float]] = []
        new: dict[int, list[Event]] = {id(batch): [] for batch in batches}
        known = self._relayed_before(connection, keyed)
        for batch, event, key in keyed:
            if key in known and batch.relayed:
                continue
            at = seen.get(key)
            if at is not None and batch.now - at < REMEMBERED_FOR:
                continue
            if at is not None:
                expired.append((key,))
            seen[key] = batch.now
            rows.append((next(self._numbers), key, batch.now))
            new[id(batch)].append(event)
        bulk.change(connection, "DELETE FROM seen WHERE key IN {keys}", expired)
        bulk.insert(connection, "seen (no, key, at)", rows)
        return list(new.values())

    def _relayed_before(
        self, connection: sqlite3.Connection, keyed: Sequence[tuple["_Batch", Event, bytes]]
    ) -> set[bytes]:
        """Which ids of relayed events were relayed in the last 24 hours; remembers the others."""
        relayed = {key: batch.now for batch, _, key in keyed if batch.relayed}
        if not relayed:
            return set()
        rows = bulk.rows(
            connection, "SELECT key, at FROM relayed WHERE key IN {keys}", [(key,) for key in relayed]
        )
        known = {key for key, at in rows if relayed[key] - at < RELAYED_FOR}
        bulk.change(
            connection,
            "DELETE FROM relayed WHERE key IN {keys}",
            [(key,) for key, _ in rows if key not in known],
        )
        new = [(key, now) for key, now in relayed.items() if key not in known]
        bulk.insert(connection, "relayed (key, at)", new)
        return known

    def _fan_out(
        self, connection: sqlite3.Connection, batch: "_Batch", event: Event, rows: "_Rows"
    ) -> list[Queued]:
        active = self._subscriptions.active(connection, batch.tenant, event.type)
        numbers: dict[int, int] = {}  # which event row holds which variant of the body
        queued: list[Queued] = []
        matched = fan_out(event, active.subscriptions, self.schema_base)
        self._identifiers.look(batch.tenant, event, matched)
        for match in matched:
            variant = id(match.envelope)
            if variant not in numbers:
                numbers[variant] = number = next(self._numbers)
                parts = (match.envelope.before_subject, match.envelope.after_subject)
                rows.events.append((number, event.id, event.type, batch.now, *parts))
            key = LaneKey(active.numbers[match.subscription.id], match.lane)
            queued.append(
                Queued(
                    receipt=Receipt(key, next(self._numbers), numbers[variant]),
                    owner=self._owner(connection, key.subscription_no),
                    subscription_id=match.subscription.id,
                    event_id=event.id,
                    event_type=event.type,
                    accepted_at=batch.now,
                    lanes=match.subscription.lanes,
                    epoch=match.subscription.epoch,
                    body_size=len(match.envelope.after_subject),
                    envelope=match.envelope,
                )
            )
        if len(queued) > 1:
            uses = Counter(entry.receipt.event_no for entry in queued)
            rows.uses += [item for item in uses.items() if item[1] > 1]
        return queued

    def _settle(
        self, connection: sqlite3.Connection, settlements: Sequence[Settlement]
    ) -> list["_Settled | None"]:
        """A joint job: what each changed; None for a delivery that has gone."""
        receipts = [receipt_of(settlement.delivery) for settlement in settlements]
        removed = bulk.change(
            connection,
            "DELETE FROM deliveries WHERE (subscription_no, lane, position) IN {keys}",
            [(*receipt.key, receipt.position) for receipt in receipts],
        )
        if removed < len(receipts):
            if len(receipts) > 1:
                raise _SomeHaveGone  # which of them, a call for each alone tells
            return [None]
        results: list[_Settled | None] = []
        finished: list[int] = []
        for settlement, receipt in zip(settlements, receipts, strict=True):
            delivery = settlement.delivery
            back: Sequence[Queued] = ()
            if settlement.retry_at is not None:
                self._schedule(connection, delivery, receipt, settlement.retry_at.timestamp())
            elif settlement.back_to_lane:
                back = (self._back_to_lane(connection, delivery, receipt),)
            else:
                finished.append(receipt.event_no)
            if settlement.end is not None:
                record_end(
                    connection,
                    settlement.end,
                    subscription_id=delivery.subscription_id,
                    event_id=delivery.event_id,
                    event_type=delivery.event_type,
                    attempts=delivery.attempts,
                )
            results.append(_Settled(back, self._suspend(connection, settlement.suspension)))
        release_events(connection, finished)
        return results

    def _suspend(
        self, connection: sqlite3.Connection, suspension: Suspension | None
    ) -> Sequence[Subscription]:
        """The subscription as it is after what the settlement says of it."""
        if suspension is None:
            return ()
        tried = suspension.tried_under
        changed = self._subscriptions.change_in(
            connection,
            tried.owner,
            tried.subscriber_id,
            tried.id,
            suspension.of,
            action=suspension.action,
        )
        return (changed,)

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
        before, after, body_size = connection.execute(
            "SELECT CASE WHEN length(after_subject) <= :room THEN before_subject END,"
            " CASE WHEN length(after_subject) <= :room THEN after_subject END, length(after_subject)"
            " FROM events WHERE no = :number",
            {"room": SMALL_BODY, "number": receipt.event_no},
        ).fetchone()
        queued = Queued(
            receipt=behind,
            owner=self._owner(connection, receipt.key.subscription_no),
            subscription_id=delivery.subscription_id,
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            accepted_at=delivery.accepted_at.timestamp(),
            lanes=delivery.lanes,
            epoch=delivery.epoch,
            body_size=body_size,
            envelope=None if after is None else Envelope(before, after),
            attempts=delivery.attempts,
            failures=delivery.failures,
            first_attempt_at=_seconds(delivery.first_attempt_at),
        )
        _insert_deliveries(connection, [queued])
        return queued


class _SomeHaveGone(Exception):
    """Raised inside a joint job to have it done for each item alone."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """A request's events, and when they came (unix seconds)."""

    tenant: str
    events: Sequence[Event]
    now: float
    relayed: bool


@dataclass(slots=True)
class _Accepted:
    """What became of a batch: how many of its events are new, their deliveries, and who was revoked."""

    new: int
    queued: list[Queued] = field(default_factory=list[Queued])
    revoked: list[Subscription] = field(default_factory=list[Subscription])


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a settlement put back into its lane, and the subscription that it may have suspended."""

    back: Sequence[Queued]
    changed: Sequence[Subscription]


@dataclass(slots=True)
class _Rows:
    """What fan-out puts into tables, gathered."""

    events: list[tuple[int, str, str, float, bytes, bytes]] = field(default_factory=list)
    uses: list[tuple[int, int]] = field(default_factory=list)


def _forget(connection: sqlite3.Connection, table: str, *, before: float, limit: int) -> int:
    """Deletes up to `limit` ids that came in before then, the oldest first."""
    return connection.execute(
        f"DELETE FROM {table} WHERE no <= (SELECT max(no) FROM"  # noqa: S608 - a constant
        f" (SELECT no, at FROM {table} ORDER BY no LIMIT ?) WHERE at < ?)",
        (limit, before),
    ).rowcount


def _key_of(tenant: str, event_id: str) -> bytes:
    return hashlib.sha256(f"{tenant}\n{event_id}".encode()).digest()[:16]


def receipt_of(delivery: Delivery) -> Receipt:
    """Where it stands in this queue."""
    assert isinstance(delivery.receipt, Receipt)  # noqa: S101 - every delivery of this queue has one
    return delivery.receipt


def _insert_deliveries(connection: sqlite3.Connection, queued: Sequence[Queued]) -> None:
    rows = [
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
    ]
    bulk.insert(connection, f"deliveries ({DELIVERY_COLUMNS})", rows)


def release_events(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """One delivery less refers to an event, each time its number stands here; with the last one it goes."""
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
        written = connection.execute(
            "INSERT INTO log_entries (id, tenant, client_id, log_type, error_type, subscriber_id,"
            " subscription_id, operation, message, reason, status, excerpt, occurrences, events, first_at,"
            " at)"
            " SELECT ?, tenant, json_extract(document, '$.client_id'), ?, ?, subscriber_id,"
            " id, ?, ?, ?, ?, ?, 1, ?, ?, ? FROM subscriptions WHERE id = ?",
            (
                end.entry_id(subscription_id),
                LogType.ERROR,
                FAILED_DELIVERY,
                end.operation,
                end.message,
                end.reason,
                end.status,
                end.excerpt,
                orjson.dumps([event]).decode(),
                end.at.timestamp(),
                end.at.timestamp(),
                subscription_id,
            ),
        ).rowcount
        if not written:
            raise LookupError(f"the end of a delivery for {subscription_id}, of which there is no record")
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


def _queued_of(row: Sequence[Any], owner: OwnerKey) -> Queued:
    """A row of `_QUEUED`."""
    (subscription_no, lane, position, event_no, subscription_id, event_id, event_type, accepted_at) = row[:8]
    (lanes, epoch, before, after, body_size, attempts, failures, first_attempt_at, nacks) = row[8:]
    return Queued(
        receipt=Receipt(LaneKey(subscription_no, lane), position, event_no),
        owner=owner,
        subscription_id=subscription_id,
        event_id=event_id,
        event_type=event_type,
        accepted_at=accepted_at,
        lanes=lanes,
        epoch=epoch,
        body_size=body_size,
        envelope=None if after is None else Envelope(before, after),
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
