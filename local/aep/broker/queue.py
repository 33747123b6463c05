"""The durable side of the broker: every change of the queue is one job of the store's writer.

Implements the ports `Intake` (with fan-out, in the same transaction or later) and `Settlements`.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any, TypeAlias

import structlog

from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.events.event import Envelope, Event
from event_platform.domain.record.logs import KEPT_FOR
from event_platform.domain.revocations import REMOVALS, removed_client
from event_platform.domain.subscriptions import SHOWN_AFTER_DELETION, Subscription
from event_platform.domain.suspension import Suspension
from event_platform.domain.tenants import Way
from event_platform.domain.values import value_object
from event_platform.fanout import IdentifierCheck, log_revoked
from event_platform.ports import Clock

from ..runtime.meters import Counted, Meters, SentAgain
from ..store import accepted, bodies, courses, kept, replays
from ..store.backlog import WEIGHT_AT_ONCE
from ..store.courses import CourseKey, kept_number
from ..store.database import Database
from ..store.ends import note_failures, record_end
from ..store.replays import Row
from ..store.retries import MADE_DUE, Search, make_due, subscription_no
from ..store.subscriptions import SqliteSubscriptions
from ..store.success_counts import drop_expired
from ..store.times import moment_of, seconds_of
from . import counted
from .budget import OwnerKey
from .pieces import WORK_AT_ACCEPTANCE, Piece, Pieces, Rows, work_of
from .queued import (
    DELIVERY_COLUMNS,
    LANE_MASK,
    QUEUED,
    REPLAY_BITS,
    SMALL_BODY,
    WITHOUT_BODY,
    LaneKey,
    Queued,
    Receipt,
    Taken,
    is_first,
    queued_in_file,
    receipt_of,
    subscription_id_of,
    take_out,
)
from .replay_reader import Found, ReadPiece, ReplayReader
from .seen import Batch, SeenIds
from .tail import Tails
from .turns import Senders

log = structlog.get_logger()

OWNERS_KEPT = 20_000
"""The number of subscriptions whose owners we keep in memory."""
LONGEST_DELAY = timedelta(days=31)
"""The longest delay of a retry that can be set."""

BYTES_OF_WEIGHT = 8192
"""The bytes of events that weigh as much as one more event, where requests share a call of the writer."""
TAKEN_AT_ONCE = 64
"""The number of deliveries that were taken and are settled as one item of the writer's work."""
LOOK_SECONDS = 1.0
"""The seconds for which the result of a look into the file is good."""


Listener: TypeAlias = Callable[[Sequence[Queued]], None]
"""A function that gets what a commit put into lanes, in the event loop and in the order of the queue."""


class DurableQueue:
    """The queue in the SQLite file: deliveries in lanes, retries, and ends of deliveries."""

    def __init__(
        self,
        database: Database,
        subscriptions: SqliteSubscriptions,
        clock: Clock,
        *,
        schema_base: str,
        longest_delay: timedelta = LONGEST_DELAY,
        meters: Meters | None = None,
        keeps: bool = True,
    ) -> None:
        self._keeps = keeps
        self._may_have_kept = True
        self._meters = meters or Meters()
        self._database = database
        self._subscriptions = subscriptions
        self._clock = clock
        self._longest_delay = longest_delay.total_seconds()
        self.schema_base = schema_base
        # Both are used in the writer thread only.
        self._pieces = Pieces(IdentifierCheck(clock), schema_base, clock, keeps=keeps)
        self._seen = SeenIds()
        self._replays = ReplayReader(self._pieces, subscriptions, clock, schema_base)
        database.on_rollback += [self._pieces.forget, self._seen.forget, self._forget]
        self._owners: dict[str, OwnerKey] = {}  # by the ids of subscriptions; numbers of rows come again
        self._senders = Senders()
        self.tails = Tails()
        self._put: Listener = lambda queued: None
        self._read_more: Callable[[Sequence[LaneKey]], None] = lambda keys: None
        self._scheduled: Callable[[float], None] = lambda due_at: None
        self._behind: Callable[[str], None] = lambda tenant: None
        self._moved: dict[str, int] = {}  # by other processes, as far as the meters know
        self._oldest = counted.OldestWaiting()
        self._looked_at = 0.0
        self._looking: asyncio.Future[float | None] | None = None

    def _forget(self) -> None:
        """Forgets what is known of the file, after something was undone there."""
        self._may_have_kept = True

    async def open(
        self,
        put: Listener,
        scheduled: Callable[[float], None],
        behind: Callable[[str], None] = lambda tenant: None,
        read_more: Callable[[Sequence[LaneKey]], None] = lambda keys: None,
    ) -> None:
        """Continues the file's numbering.

        From now on `put` gets new deliveries and `scheduled` the times of retries. `behind` gets a tenant
        when events of it wait for `fan_out_piece`, and `read_more` the lanes into which a piece put
        deliveries: these are too many to be handed on one by one.
        """
        self._put = put
        self._read_more = read_more
        self._scheduled = scheduled
        self._behind = behind
        self._pieces.numbers = count(await self._database.read(counted.highest_number) + 1)
        since = partial(kept.begin, now=self._clock.now().timestamp(), keeps=self._keeps)
        await self._database.write(since, needs_room=False)
        await self._database.write(counted.counted, self._opened, needs_room=False)

    async def look(self) -> float:
        """Brings the meters up to date with what other processes changed in the file.

        Returns the age in seconds of the oldest event that waits, 0 when none does. The file is read at most
        once in LOOK_SECONDS, for all that ask meanwhile. Raises StoreUnavailable.
        """
        now = self._clock.monotonic()
        looking = self._looking
        if looking is None or (looking.done() and now - self._looked_at >= LOOK_SECONDS):
            self._looked_at = now
            looking = self._looking = asyncio.ensure_future(self._look())
        oldest = await asyncio.shield(looking)
        return 0.0 if oldest is None else max(0.0, self._clock.now().timestamp() - oldest)

    async def _look(self) -> float | None:
        """Returns when the oldest event that waits was accepted, in unix seconds, None without any."""
        while (found := await self._database.read(self._look_at)) is None:
            pass
        moved, self._meters.dead_events, self._meters.sent_again = found
        new = {name: number - self._moved.get(name, 0) for name, number in moved.items()}
        self._meters.moved_elsewhere(replayed=new[counted.REPLAYED], dropped=new[counted.DROPPED])
        self._moved = moved
        return self._oldest.accepted_at

    def _look_at(self, connection: sqlite3.Connection) -> tuple[dict[str, int], int, SentAgain] | None:
        """Returns what the meters show of the file; None if the oldest event is not found yet."""
        if not self._oldest.step(connection):
            return None
        return (
            counted.moved(connection),
            accepted.number_of_dead(connection),
            counted.sent_again(connection),
        )

    def _opened(self, found: tuple[Counted, dict[str, int]]) -> None:
        self._meters.opened(found[0])
        self._moved = found[1]

    async def accept(self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS) -> None:
        """Accepts events, as the port `Intake` says: the check of ids and the events are one commit.

        Their deliveries are in it too where that is little work. Else the events are fanned out later, by
        `fan_out_piece`, to the subscriptions that are active now (docs/decisions/0027).
        """
        result = await self._submit(tenant, events, way)
        if result.revoked:
            await self._subscriptions.copies.in_force()

    def submit(
        self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS
    ) -> "asyncio.Future[Any] | None":
        """Submits events to be accepted, as `IntakeAtOnce` says."""
        if any(event.type in REMOVALS for event in events):
            return None  # the workers have to know of the revocations before the answer
        return self._submit(tenant, events, way)

    def _submit(self, tenant: str, events: Sequence[Event], way: Way) -> "asyncio.Future[_Accepted]":
        self._senders.note(tenant, self._clock.monotonic())
        batch = Batch(tenant, events, self._clock.now().timestamp(), way)
        weight = len(events) + sum(len(event.data_json) for event in events) // BYTES_OF_WEIGHT
        return self._database.write_jointly(
            self._accept, batch, partial(self._accepted, batch), weight=weight, tenant=tenant
        )

    async def accept_with(
        self, tenant: str, events: Sequence[Event], also: Callable[[sqlite3.Connection], None], *, way: Way
    ) -> None:
        """Accepts events as `accept` does, after work on tenants that wait; `also` is part of the commit.

        What `also` raises undoes all of it, and reaches the caller.
        """
        batch = Batch(tenant, events, self._clock.now().timestamp(), way)

        def job(connection: sqlite3.Connection, batches: Sequence[Batch]) -> list[_Accepted]:
            also(connection)
            return self._accept(connection, batches)

        await self._database.write_jointly(
            job,
            batch,
            partial(self._accepted, batch),
            weight=len(events) + 1,
            gives_way=True,
            tenant=tenant,
        )

    def _accepted(self, batch: Batch, result: "_Accepted") -> None:
        """Passes on what was accepted, after its commit."""
        if result.revoked:
            self._subscriptions.remember(result.revoked)
        self._meters.accepted(len(batch.events), result.new, result.later)
        self._pass_on(result.queued)
        if result.later:
            self._behind(batch.tenant)

    async def tenants_behind(self) -> list[str]:
        """Returns the tenants that have accepted events which wait for their fan-out."""
        return await self._database.read(accepted.tenants)

    async def fan_out_piece(self, tenant: str) -> bool:
        """Fans out some of the tenant's accepted events, oldest first; True if more of them wait."""
        piece = await self._database.write_jointly(
            self._fan_out, tenant, self._fanned_out, weight=WEIGHT_AT_ONCE, gives_way=True, tenant=tenant
        )
        return piece.more

    async def fan_out_alone(self, tenant: str) -> bool:
        """Fans out the tenant's first event by itself, where it becomes a dead letter if our own code fails.

        True if more events of the tenant wait.
        """
        try:
            piece = await self._database.write(
                lambda connection: self._pieces.next_alone(connection, tenant), self._fanned_out
            )
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours, which is logged with the dead letter
            return await self._dead_letter_event(tenant, error)
        return piece.more

    def _fanned_out(self, piece: Piece) -> None:
        self._meters.fanned_out(piece.events)
        self._meters.put_into_lanes(entry.subscription_id for entry in piece.queued)
        self._read_more(list(dict.fromkeys(entry.receipt.key for entry in piece.queued)))

    async def _dead_letter_event(self, tenant: str, error: Exception) -> bool:
        text, now = f"{type(error).__name__}: {error}", self._clock.now().timestamp()

        def committed(result: tuple[str | None, bool]) -> None:
            event_id, _ = result
            if event_id is not None:
                self._meters.event_dead_lettered()
                log.error("event.dead_lettered", tenant=tenant, event_id=event_id, exc_info=error)

        _, more = await self._database.write(
            lambda connection: self._pieces.dead_letter_first(connection, tenant, text, now), committed
        )
        return more

    async def take_up_events(self, limit: int) -> int:
        """Has up to `limit` dead events that were replayed wait for their fan-out; returns their number."""
        if not await self._database.read(lambda connection: accepted.due_again(connection, 1)):
            return 0

        def job(connection: sqlite3.Connection) -> list[str]:
            due = accepted.due_again(connection, limit)
            for number, tenant in due:
                recipients = self._subscriptions.active.whole(connection, tenant)
                self._pieces.put_again(connection, number, tenant, recipients)
            return [tenant for _, tenant in due]

        def committed(tenants: list[str]) -> None:
            self._meters.events_replayed(len(tenants))
            for tenant in dict.fromkeys(tenants):
                self._behind(tenant)

        return len(await self._database.write(job, committed))

    def others_came(self, tenant: str) -> bool:
        """True if another tenant has sent events in the last second."""
        return self._senders.others_than(tenant, self._clock.monotonic())

    def faulted(self) -> None:
        """Counts a failure of our own code on a fan-out."""
        self._meters.faulted()

    def _pass_on(self, queued: Sequence[Queued]) -> None:
        for entry in queued:
            if entry.subscription_id not in self._owners:
                self._keep_owner(entry.subscription_id, entry.owner)
        self._meters.put_into_lanes(entry.subscription_id for entry in queued)
        self._put(queued)

    async def settle(self, settlement: Settlement) -> None:
        """Applies a settlement, as the port `Settlements` says: everything that follows is one commit."""
        await self._on_its_way(settlement)
        if settlement.retry_at is not None:
            self._scheduled(settlement.retry_at.timestamp())

    def settle_soon(self, settlement: Settlement) -> "asyncio.Future[Any]":
        """Submits the removal of a taken delivery; the future ends when it is committed.

        That may be a moment later, in the commit of the next events. The future raises StoreUnavailable.
        """
        return self._on_its_way(settlement, lingers=True)

    def settle_taken(self, taken: Sequence[Taken]) -> "list[tuple[Sequence[Taken], asyncio.Future[Any]]]":
        """Does the same as `settle_soon` for many; returns the parts of them, each with its future."""
        by_tenant: dict[str | None, list[Taken]] = {}
        for each in taken:
            by_tenant.setdefault(self._tenant_of(each[4]), []).append(each)
        now = self._clock.now().timestamp()

        def committed(present: Sequence[Taken]) -> None:
            for _, _, _, _, subscription_id, waits_since, _, _ in present:
                self._meters.taken(subscription_id, now - waits_since)
            if self.tails.watched:
                self.tails.note_taken(present, now)

        def on_its_way(part: Sequence[Taken], tenant: str | None) -> "asyncio.Future[Any]":
            return self._database.write_jointly(
                self._remove,
                part,
                committed,
                weight=len(part),
                lingers=True,
                gives_way=True,
                tenant=tenant,
                needs_room=False,
            )

        return [
            (part := of_tenant[start : start + TAKEN_AT_ONCE], on_its_way(part, tenant))
            for tenant, of_tenant in by_tenant.items()
            for start in range(0, len(of_tenant), TAKEN_AT_ONCE)
        ]

    def _on_its_way(self, settlement: Settlement, *, lingers: bool = False) -> "asyncio.Future[Any]":
        seconds = (self._clock.now() - settlement.delivery.waits_since).total_seconds()

        def committed(settled: _Settled | None) -> None:
            if settled is not None:
                if settled.changed:
                    self._subscriptions.remember(settled.changed)
                self._meters.settled(settlement, seconds)
                if self.tails.watched:
                    self.tails.note_settled(settlement, self._clock.now().timestamp())
                self._put(settled.back)

        return self._database.write_jointly(
            self._settle,
            settlement,
            committed,
            lingers=lingers,
            gives_way=True,
            tenant=self._tenant_of(settlement.delivery.subscription_id),
            needs_room=False,
        )

    async def nack(self, queued: Queued) -> None:
        """Counts one more failure of our own code on this delivery, which stays at the head of its lane."""
        receipt = queued.receipt

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE deliveries SET nacks = nacks + 1"
                " WHERE subscription_no = ? AND lane = ? AND position = ?",
                (*receipt.key, receipt.position),
            )

        await self._database.write(job, lambda _: self._meters.faulted(), needs_room=False)

    async def dead_letter(self, queued: Queued, error: str) -> None:
        """Makes a dead letter of a delivery that our own code keeps failing on; its lane continues."""
        receipt = queued.receipt
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> None:
            where = "WHERE subscription_no = ? AND lane = ? AND position = ?"
            at = (*receipt.key, receipt.position)
            number = kept_number(receipt.event_no)  # a dead letter may stay longer than its event is kept
            bodies.move_out(connection, self.schema_base, number, number, room=0)
            connection.execute(
                f"INSERT INTO dead_letters ({DELIVERY_COLUMNS}, at, error)"  # noqa: S608 - constant columns
                f" SELECT {DELIVERY_COLUMNS}, ?, ? FROM deliveries {where}",
                (now, error, *at),
            )
            connection.execute(f"DELETE FROM deliveries {where}", at)  # noqa: S608 - constant clause
            if replay_no := receipt.key.replay_no:  # it is an ordinary delivery from now on
                connection.execute(
                    "UPDATE dead_letters SET lane = lane & ? WHERE position = ?",
                    (LANE_MASK, receipt.position),
                )
                replays.count_settled(connection, ended=[replay_no])
                key = (number, receipt.key.subscription_no, replay_no)
                message = error[: courses.MESSAGE_LENGTH]
                courses.end(connection, [(*key, courses.ENDED, None, None, message, None, now)])

        def committed(_: None) -> None:
            self._meters.faulted()
            self._meters.dead_lettered(queued.subscription_id)

        await self._database.write(job, committed, needs_room=False)

    async def requeue_due(self, limit: int) -> int:
        """Puts up to `limit` retries that are due at the end of their lanes; returns their number."""
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> list[Queued]:
            rows = connection.execute(
                "DELETE FROM retries WHERE (due_at, position) IN"
                " (SELECT due_at, position FROM retries WHERE due_at <= ? ORDER BY due_at, position LIMIT ?)"
                " RETURNING due_at, position, subscription_no, lane, event_no, lanes, epoch, attempts,"
                " failures, first_attempt_at, entered_at",
                (now, limit),
            ).fetchall()
            return [
                self._put_in_lane(connection, LaneKey(subscription_no, lane), *rest)
                for _, _, subscription_no, lane, *rest in sorted(rows)
            ]

        def committed(moved: list[Queued]) -> None:
            self._meters.requeued(entry.subscription_id for entry in moved)
            self._put(moved)

        return len(await self._database.write(job, committed, needs_room=False))

    async def retry_now(self, subscription_id: str, lanes: range | None = None) -> int:
        """Port `WaitingRetries`, in pieces; with `lanes` it is about these lanes alone."""
        now = self._clock.now().timestamp()
        number = await self._database.read(lambda connection: subscription_no(connection, subscription_id))
        if number is None:
            return 0
        return await self._make_due(Search(number, now, lanes), now)

    async def _make_due(self, search: Search, now: float) -> int:
        total = 0
        while search.after is not None:
            found = await self._database.read(search.step)
            for start in range(0, len(found), MADE_DUE):
                piece = found[start : start + MADE_DUE]
                total += await self._database.write(
                    partial(make_due, keys=piece, now=now),
                    lambda _: self._scheduled(now),
                    needs_room=False,
                )
        return total

    async def requeue_all(self, number: int) -> int:
        """Makes all retries of the subscription of this number due; returns how many there were."""
        return await self._make_due(Search(number, float("-inf")), self._clock.now().timestamp())

    async def read_replay(self, row: Row, found: Found) -> bool:
        """Puts the candidates that a replay, or a subscription that catches up, gets into its lanes.

        False if it has not come any further.
        """

        def committed(piece: ReadPiece) -> None:
            if piece.changed:
                self._subscriptions.remember(piece.changed)
            self._meters.put_into_lanes(entry.subscription_id for entry in piece.queued)
            self._read_more(list(dict.fromkeys(entry.receipt.key for entry in piece.queued)))

        piece = await self._database.write_jointly(
            self._read_replays, (row, found), committed, weight=WEIGHT_AT_ONCE, gives_way=True
        )
        return piece.has_moved

    def _read_replays(
        self, connection: sqlite3.Connection, pieces: Sequence[tuple[Row, Found]]
    ) -> list[ReadPiece]:
        """Reads a piece of each. A joint job."""
        return [self._replays.read(connection, row, found) for row, found in pieces]

    async def skip_in_replay(self, row: Row, number: int) -> None:
        """Leaves an event out of a replay."""
        await self._database.write(
            lambda connection: self._replays.skip(connection, row, number), needs_room=False
        )

    async def next_due(self) -> float | None:
        """Returns when the first retry is due, in unix seconds; None without any."""
        return await self._database.read(
            lambda connection: connection.execute("SELECT min(due_at) FROM retries").fetchone()[0]
        )

    async def waiting(self, key: LaneKey, after: int, limit: int, room: int) -> list[Queued]:
        """Returns the next deliveries of a lane after position `after`, the oldest first.

        There are as many as fit into `room` bytes. If the first one does not fit, it comes without its body.
        """

        def job(connection: sqlite3.Connection) -> list[Queued]:
            rows = connection.execute(
                f"{QUEUED} WHERE d.subscription_no = :number AND d.lane = :lane AND d.position > :after"
                " ORDER BY d.position LIMIT :limit",
                {
                    "number": key.subscription_no,
                    "lane": key.lane,
                    "after": after,
                    "limit": limit,
                    "room": room - WITHOUT_BODY,
                },
            )
            found: list[Queued] = []
            size = 0
            for row in rows:
                entry = self._queued(connection, row)
                size += entry.size()
                if found and size > room:
                    break
                found.append(entry)
                if size > room:
                    break
            return found

        return await self._database.read(job)

    async def envelope(self, event_no: int) -> Envelope:
        """Returns the body of an event that waits, without the subscription's id."""
        return await self._database.read(
            lambda connection: bodies.read(connection, event_no, self.schema_base)
        )

    def _queued(self, connection: sqlite3.Connection, row: Sequence[Any]) -> Queued:
        """Reads a row of `QUEUED`. Called in the database's threads."""
        return queued_in_file(row, self._owner(connection, subscription_id_of(row)), self.schema_base)

    def _owner(self, connection: sqlite3.Connection, subscription_id: str) -> OwnerKey:
        """Returns the owner of a subscription, which never changes. Called in the database's threads."""
        owner = self._owners.get(subscription_id)
        if owner is None:
            owner = connection.execute(
                "SELECT tenant, json_extract(document, '$.client_id') FROM subscriptions WHERE id = ?",
                (subscription_id,),
            ).fetchone()
            self._keep_owner(subscription_id, owner)
        return owner

    def _tenant_of(self, subscription_id: str) -> str | None:
        """Returns the tenant of a subscription if it is in memory."""
        owner = self._owners.get(subscription_id)
        return None if owner is None else owner[0]

    def _keep_owner(self, subscription_id: str, owner: OwnerKey) -> None:
        if len(self._owners) >= OWNERS_KEPT:
            self._owners.clear()
        self._owners[subscription_id] = owner

    async def lanes(self) -> list[LaneKey]:
        """Returns all lanes in which something waits; costs one index step per lane, not per delivery."""

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

        Retries that are due later than any could be become due after the longest delay: another clock
        scheduled them. Returns the highest of the numbers that were dropped.
        """
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> int:
            ids = self._seen.drop_expired(connection, now, limit)
            entries = connection.execute(
                "DELETE FROM log_entries WHERE id IN"
                " (SELECT id FROM log_entries WHERE at < ? ORDER BY at LIMIT ?)",
                (now - KEPT_FOR.total_seconds(), limit),
            ).rowcount
            return max(
                ids, entries, drop_expired(connection, now, limit), self._bring_back(connection, now, limit)
            )

        await self._subscriptions.forget_deleted(before=now - SHOWN_AFTER_DELETION.total_seconds())
        return await self._database.write(job, needs_room=False)

    def _bring_back(self, connection: sqlite3.Connection, now: float, limit: int) -> int:
        latest = now + self._longest_delay
        return connection.execute(
            "UPDATE retries SET due_at = ? WHERE (due_at, position) IN"
            " (SELECT due_at, position FROM retries WHERE due_at > ? ORDER BY due_at DESC LIMIT ?)",
            (latest, latest, limit),
        ).rowcount

    async def release_pages(self, pages: int) -> bool:
        """Returns up to `pages` of unused pages of the file to the disk; True if there are more."""
        return await self._database.release_pages(pages)

    def _fan_out(self, connection: sqlite3.Connection, tenants: Sequence[str]) -> list[Piece]:
        """Fans out one piece of each tenant. A joint job."""
        return [self._pieces.next(connection, tenant) for tenant in tenants]

    def _accept(self, connection: sqlite3.Connection, batches: Sequence[Batch]) -> list["_Accepted"]:
        """Accepts the new events of each batch. A joint job.

        A client that is gone from the PIM is revoked before the event that says so is fanned out. What is too
        much work waits for `Pieces.next`, and behind it all that the tenant sends meanwhile.
        """
        new = self._seen.new_events(connection, self._pieces.numbers, batches)
        rows = Rows()
        waiting: list[accepted.Waiting] = []
        keeping: list[kept.KeptRow] = []
        results: list[_Accepted] = []
        room = WORK_AT_ACCEPTANCE
        for batch, events in zip(batches, new, strict=True):
            result = _Accepted(len(events))
            results.append(result)
            of_type = partial(self._subscriptions.active.of, connection, batch.tenant)
            work = work_of(events, of_type)
            at_once = work <= room and batch.tenant not in self._pieces.behind(connection)
            for event in events:
                if event.type in REMOVALS:
                    result.revoked += self._revoke(connection, batch, event)
                number = self._pieces.numbers_of_event()
                about = (number, batch.tenant, batch.now)
                is_kept = self._keeps and event.benchmark_client is None
                if is_kept:
                    keeping.append(kept.row_of(*about, batch.way, event))
                if at_once:
                    recipients = of_type(event.type)
                    result.queued += self._pieces.fan_out(*about, event, recipients, rows, is_kept=is_kept)
                elif of_type(event.type).all:
                    recipients = self._subscriptions.active.whole(connection, batch.tenant)
                    waiting.append(self._pieces.put_off(connection, *about, event, recipients))
                    result.later += 1
            if at_once:
                room -= work
        kept.put(connection, keeping)
        accepted.put(connection, waiting)
        rows.insert(connection)
        return results

    def _revoke(self, connection: sqlite3.Connection, batch: Batch, event: Event) -> Sequence[Subscription]:
        client = removed_client(event, batch.tenant, moment_of(batch.now))
        if client is None:
            return ()
        log_revoked(client, event.id)
        return self._subscriptions.revoke_in(connection, client)

    def _remove(self, connection: sqlite3.Connection, parts: Sequence[Sequence[Taken]]) -> list[list[Taken]]:
        """Removes deliveries that were taken; returns those of each part that were there. A joint job."""
        removed = take_out(connection, [each[:3] for part in parts for each in part])
        present = [[each for each in part if is_first(each[2], removed)] for part in parts]
        gone = [each for part in present for each in part]
        self._release_bodies(connection, [each[3] for each in gone])
        if self._has_courses(connection):
            taken = [
                (kept_number(event_no), number, lane >> REPLAY_BITS, status, milliseconds)
                for number, lane, _, event_no, _, _, status, milliseconds in gone
            ]
            courses.deliver(connection, taken, self._clock.now().timestamp())
            replay_numbers = [each[2] for each in taken if each[2]]
            if replay_numbers:
                replays.count_settled(connection, delivered=replay_numbers)
        return present

    def _settle(
        self, connection: sqlite3.Connection, settlements: Sequence[Settlement]
    ) -> list["_Settled | None"]:
        """Applies settlements; returns what each changed, None for a delivery that has gone. A joint job."""
        receipts = [receipt_of(settlement.delivery) for settlement in settlements]
        removed = take_out(connection, [(*receipt.key, receipt.position) for receipt in receipts])
        results: list[_Settled | None] = []
        finished: list[int] = []
        settled: list[tuple[CourseKey, Settlement]] = []
        for settlement, receipt in zip(settlements, receipts, strict=True):
            if not is_first(receipt.position, removed):
                results.append(None)
                continue
            key = CourseKey(kept_number(receipt.event_no), receipt.key.subscription_no, receipt.key.replay_no)
            settled.append((key, settlement))
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
                    replay_id=delivery.replay_id,
                )
            results.append(_Settled(back, self._suspend(connection, settlement.suspension)))
        self._release_bodies(connection, finished)
        failures = [(key.subscription_no, settlement) for key, settlement in settled]
        note_failures(connection, failures, self._clock.now().timestamp())
        if self._has_courses(connection):
            courses.note(connection, settled, self._clock.now().timestamp())
            self._note_for_replays(connection, settled)
        return results

    def _has_courses(self, connection: sqlite3.Connection) -> bool:
        """True if deliveries may have courses: also where nothing is kept now, until all is removed."""
        if self._may_have_kept and not self._keeps:
            self._may_have_kept = kept.is_any(connection)
        return self._may_have_kept

    def _release_bodies(self, connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
        if self._has_courses(connection):
            numbers = bodies.possibly_moved(connection, numbers)
        bodies.release(connection, numbers)

    def _note_for_replays(
        self, connection: sqlite3.Connection, settled: Sequence[tuple[CourseKey, Settlement]]
    ) -> None:
        """Counts what is part of a replay, and notes what a suspended subscription has to catch up with."""
        delivered = [key.replay_no for key, each in settled if key.replay_no and each.is_delivered]
        ended = [key for key, each in settled if each.end is not None]
        if delivered or ended:
            replays.count_settled(
                connection,
                delivered=delivered,
                ended=[key.replay_no for key in ended if key.replay_no],
            )
            replays.note_ended(
                connection, [(key.subscription_no, key.event_no) for key in ended if not key.replay_no]
            )

    def _suspend(
        self, connection: sqlite3.Connection, suspension: Suspension | None
    ) -> Sequence[Subscription]:
        """Suspends the subscription if the settlement says so; returns the changed subscriptions."""
        if suspension is None:
            return ()
        tried = suspension.tried_under
        return self._subscriptions.change_in(
            connection,
            tried.owner,
            tried.subscriber_id,
            tried.id,
            suspension.of,
            action=suspension.action,
        )

    def _schedule(
        self, connection: sqlite3.Connection, delivery: Delivery, receipt: Receipt, due_at: float
    ) -> None:
        connection.execute(
            f"INSERT INTO retries ({DELIVERY_COLUMNS}, due_at)"  # noqa: S608 - constant columns
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *receipt.key,
                receipt.position,
                receipt.event_no,
                delivery.lanes,
                delivery.epoch,
                delivery.attempts,
                delivery.failures,
                seconds_of(delivery.first_attempt_at),
                seconds_of(delivery.entered_at),
                due_at,
            ),
        )

    def _back_to_lane(self, connection: sqlite3.Connection, delivery: Delivery, receipt: Receipt) -> Queued:
        return self._put_in_lane(
            connection,
            receipt.key,
            receipt.event_no,
            delivery.lanes,
            delivery.epoch,
            delivery.attempts,
            delivery.failures,
            seconds_of(delivery.first_attempt_at),
            seconds_of(delivery.entered_at),
        )

    def _put_in_lane(self, connection: sqlite3.Connection, key: LaneKey, *values: Any) -> Queued:
        """Puts a delivery at the end of its lane; `values` are those of DELIVERY_COLUMNS behind position."""
        position = next(self._pieces.numbers)
        connection.execute(
            f"INSERT INTO deliveries ({DELIVERY_COLUMNS})"  # noqa: S608 - constant columns
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*key, position, *values),
        )
        row = connection.execute(
            f"{QUEUED} WHERE d.subscription_no = :number AND d.lane = :lane AND d.position = :position",
            {"number": key.subscription_no, "lane": key.lane, "position": position, "room": SMALL_BODY},
        ).fetchone()
        return self._queued(connection, row)


@dataclass(slots=True)
class _Accepted:
    """The result of a batch: the number of its new events, their deliveries, and the revoked subscriptions.

    `later` is the number of events that are fanned out afterwards.
    """

    new: int
    queued: list[Queued] = field(default_factory=list[Queued])
    later: int = 0
    revoked: list[Subscription] = field(default_factory=list[Subscription])


@value_object
class _Settled:
    """The delivery that went back to its lane, and the subscription that may have been suspended."""

    back: Sequence[Queued]
    changed: Sequence[Subscription]
