"""Fan-out inside the writer's jobs: at once where it is little work, else in pieces of several jobs.

A piece is a few recipients of a *window*, the first of a tenant's events that wait: so its rows go into few
lanes, and with them into few pages of the file (docs/decisions/0027).
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count

from cachetools import LRUCache

from event_platform.domain.events.event import Envelope, Event
from event_platform.domain.subscriptions import Recipient
from event_platform.fanout import IdentifierCheck, fan_out
from event_platform.ports import Clock

from ..store import accepted, bodies, bulk, courses, kept
from ..store.accepted import Waiting
from ..store.courses import Begun
from ..store.recipients import Recipients, delete_snapshot, put_snapshot, snapshot
from .queued import LaneKey, Queued, Receipt, insert_deliveries

WORK_OF_EVENT = 4
BYTES_OF_WORK = 2048
"""Fan-out is measured in the work of one match, some 4 µs: an event costs a few of them, and its bytes."""
WORK_OF_COMPILING = 250
"""The work of a filter that nobody has compiled yet: some 1 ms."""
WORK_AT_ACCEPTANCE = 5000
"""The work up to which a call of the writer fans out what it accepts: some 20 ms."""
WORK_OF_PIECE = 2000
"""The work of waiting events that one job of the writer fans out: some 8 ms."""
EVENTS_OF_WINDOW = 128
BYTES_OF_WINDOW = 1024 * 1024
"""The bounds of the waiting events that are in memory, unless a single event is larger."""
BYTES_OF_WINDOWS = 8 * 1024 * 1024
"""The bytes of all windows that are kept while other tenants have their turn."""
BYTES_OF_WAITING = 2048
"""The bytes in memory of a waiting event beside those of its data, roughly."""
COPIES_OF_DATA = 3
"""The data of a waiting event and its rendered variants."""
SNAPSHOTS_KEPT = 8
"""The number of snapshots read from the file that are kept.

A tenant may change its subscriptions after each event, and 400 of them take about 1 MB.
"""


@dataclass(slots=True)
class Piece:
    """The result of one job: `events` that are finished, and whether others of the tenant wait."""

    events: int = 0
    queued: list[Queued] = field(default_factory=list[Queued])
    more: bool = False


@dataclass(slots=True)
class Rows:
    """The rows that fan-out puts into tables, gathered.

    `uses` says how many deliveries refer to a body in `events`; `moved_uses` the same of the bodies of kept
    events that were moved there.
    """

    events: list[bodies.EventRow] = field(default_factory=list[bodies.EventRow])
    uses: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    moved_uses: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    queued: list[Queued] = field(default_factory=list[Queued])
    courses: list[Begun] = field(default_factory=list[Begun])

    def insert(self, connection: sqlite3.Connection) -> None:
        """Writes all rows, when no later piece refers to their events."""
        self._insert_events_and_deliveries(connection)
        bulk.insert(connection, "event_uses (event_no, remaining)", [use for use in self.uses if use[1] > 1])

    def insert_some(self, connection: sqlite3.Connection) -> None:
        """Writes all rows, and keeps new bodies for later pieces until they are released."""
        self._insert_events_and_deliveries(connection)
        new = {row[0] for row in self.events}
        connection.executemany(
            "INSERT INTO event_uses (event_no, remaining) VALUES (?, ?)"
            " ON CONFLICT (event_no) DO UPDATE SET remaining = remaining + excluded.remaining",
            [(number, uses + (number in new)) for number, uses in self.uses],
        )
        bodies.use(connection, self.moved_uses)

    def _insert_events_and_deliveries(self, connection: sqlite3.Connection) -> None:
        bulk.insert(connection, bodies.INTO_EVENTS, self.events)
        insert_deliveries(connection, self.queued)
        courses.begin(connection, self.courses)


@dataclass(slots=True)
class _Window:
    """Events of a tenant that are fanned out together; `done` of their recipients have theirs.

    `variants` has each event's bodies. `kept` are the events that are kept, and `written` the bodies of the
    others that are in the file.
    """

    tenant: str
    waiting: Sequence[Waiting]
    recipients: Recipients
    done: int
    kept: set[int]
    written: set[int]
    variants: Sequence[dict[bool, Envelope]]

    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return sum(COPIES_OF_DATA * len(each.event.data_json) + BYTES_OF_WAITING for each in self.waiting)

    def group(self) -> Sequence[Recipient]:
        """Returns the recipients of the next piece, at least one."""
        size = len(self.waiting)
        work = WORK_OF_EVENT * size
        if self.done == 0:  # the bodies are written with the first ones
            work += sum(len(each.event.data_json) for each in self.waiting) // BYTES_OF_WORK
        room = WORK_OF_PIECE - work
        group = self.recipients.all[self.done : self.done + max(1, room // size)]
        if not self.recipients.uncompiled:
            return group
        for place, each in enumerate(group):
            room -= size + WORK_OF_COMPILING * (each.filter in self.recipients.uncompiled)
            if room < 0:
                return group[: max(1, place)]
        return group


class Pieces:
    """The events that wait for their fan-out. Used in the writer thread only, inside its jobs."""

    def __init__(self, identifiers: IdentifierCheck, schema_base: str, clock: Clock, *, keeps: bool) -> None:
        self.numbers = count(1)
        """The next number for events, positions and ids seen."""
        self._clock = clock
        self._keeps = keeps
        self._identifiers = identifiers
        self._schema_base = schema_base
        self._behind: set[str] | None = None
        self._latest: dict[str, tuple[int, Recipients]] = {}
        """The snapshot for which each tenant's last event waits. Older ones are in the file only."""
        self._read: LRUCache[int, Recipients] = LRUCache(SNAPSHOTS_KEPT)
        self._finished: dict[str, Recipients] = {}
        """The last snapshot of each tenant that is behind: the next one takes its compiled filters over."""
        self._windows: LRUCache[str, _Window] = LRUCache(BYTES_OF_WINDOWS, _Window.size)
        """The windows that are under way, by tenant: those used last, as far as they fit."""

    def forget(self) -> None:
        """Forgets what is known of the file, after something was undone there."""
        self._behind = None
        self._windows.clear()
        self._latest.clear()
        self._read.clear()

    def behind(self, connection: sqlite3.Connection) -> set[str]:
        """The tenants that have events waiting."""
        if self._behind is None:
            self._behind = set(accepted.tenants(connection))
        return self._behind

    def numbers_of_event(self) -> int:
        """Sets a pair of numbers aside for an event; returns the first one, which is even.

        So the number of a kept event follows from that of each of its two bodies.
        """
        number = next(self.numbers)
        if number & 1:
            number = next(self.numbers)
        next(self.numbers)
        return number

    def fan_out(
        self,
        number: int,
        tenant: str,
        accepted_at: float,
        event: Event,
        recipients: Recipients,
        rows: Rows,
        *,
        is_kept: bool,
    ) -> Sequence[Queued]:
        """Adds to `rows` what an event gives for all of its recipients; returns the deliveries."""
        waiting = Waiting(number, tenant, 0, accepted_at, event)
        recipients.compile(recipients.all)
        return self._fan_out(waiting, recipients, recipients.all, rows, set(), {}, None, is_kept=is_kept)

    def put_off(
        self,
        connection: sqlite3.Connection,
        number: int,
        tenant: str,
        accepted_at: float,
        event: Event,
        recipients: Recipients,
    ) -> Waiting:
        """Returns the event as one that waits for its fan-out; the caller puts it into the file."""
        snapshot_no = self._latest_snapshot(connection, tenant, recipients)
        self.behind(connection).add(tenant)
        return Waiting(number, tenant, snapshot_no, accepted_at, event)

    def put_again(
        self, connection: sqlite3.Connection, dead: int, tenant: str, recipients: Recipients
    ) -> None:
        """Has a dead event wait for its fan-out again, for the subscriptions that are active now."""
        number = self.numbers_of_event()
        snapshot_no = self._latest_snapshot(connection, tenant, recipients)
        accepted.put_again(connection, dead, number, snapshot_no)
        if self._keeps:
            kept.put_again(connection, dead, number)
        self.behind(connection).add(tenant)

    def _latest_snapshot(self, connection: sqlite3.Connection, tenant: str, recipients: Recipients) -> int:
        snapshot_no, latest = self._latest.get(tenant, (0, None))
        if latest is not recipients:
            snapshot_no = put_snapshot(connection, tenant, recipients)
            self._latest[tenant] = snapshot_no, recipients
        return snapshot_no

    def next_alone(self, connection: sqlite3.Connection, tenant: str) -> Piece:
        """Fans out the first event of a tenant by itself, to all of its recipients that have not had it."""
        self._windows.pop(tenant, None)
        _, done = accepted.progress(connection, tenant)
        with closing(accepted.of_tenant(connection, tenant)) as found:
            first = next(found, None)
        if first is None:
            self.behind(connection).discard(tenant)
            return Piece()
        recipients, rows = self._snapshot(connection, tenant, first.snapshot_no), Rows()
        group = recipients.all[done:]
        recipients.compile(group)
        is_kept = bool(kept.there(connection, [first.no]))
        written = accepted.written(connection, [first.no]) if done else set[int]()
        self._fan_out(first, recipients, group, rows, written, {}, self._now(), is_kept=is_kept)
        rows.insert_some(connection)
        if not is_kept:
            bodies.release(connection, list(written))
        more = self._remove_first(connection, tenant, first.no, first.snapshot_no)
        return Piece(1, rows.queued, more)

    def dead_letter_first(
        self, connection: sqlite3.Connection, tenant: str, error: str, at: float
    ) -> tuple[str | None, bool]:
        """Makes a dead letter of the first event of a tenant; returns its id, and True if others wait."""
        self._windows.pop(tenant, None)
        first = accepted.first(connection, tenant)
        if first is None:
            return None, False
        number, snapshot_no, event_id = first
        if accepted.progress(connection, tenant)[1] and not kept.there(connection, [number]):
            bodies.release(connection, list(accepted.written(connection, [number])))
        accepted.dead_letter(connection, number, error, at)
        return event_id, self._remove_first(connection, tenant, number, snapshot_no)

    def _remove_first(
        self, connection: sqlite3.Connection, tenant: str, number: int, snapshot_no: int
    ) -> bool:
        """Removes the first event of a tenant; True if others wait."""
        needed = accepted.remove_first(connection, tenant, number)
        self._drop_snapshot(connection, tenant, snapshot_no, needed)
        if needed is None:
            self.behind(connection).discard(tenant)
        return needed is not None

    def next(self, connection: sqlite3.Connection, tenant: str) -> Piece:
        """Fans out one piece of the tenant's events that wait."""
        window = self._windows.get(tenant) or self._next_window(connection, tenant)
        if window is None:
            self.behind(connection).discard(tenant)
            return Piece()
        group, rows = window.group(), Rows()
        window.recipients.compile(group)
        now = self._now()
        moved = accepted.written(connection, window.kept) if window.done else set[int]()
        for waiting, variants in zip(window.waiting, window.variants, strict=True):
            is_kept = waiting.no in window.kept
            written = moved if is_kept else window.written
            self._fan_out(waiting, window.recipients, group, rows, written, variants, now, is_kept=is_kept)
        first, last = window.done == 0, window.done + len(group) == len(window.recipients.all)
        window.done += len(group)
        if first and last:
            rows.insert(connection)
        else:
            rows.insert_some(connection)
        if not last:
            if tenant not in self._windows:
                with suppress(ValueError):  # it is larger than all that may be kept
                    self._windows[tenant] = window
            accepted.note_progress(connection, tenant, window.waiting[-1].no, window.done)
            return Piece(queued=rows.queued, more=True)
        if not first:
            bodies.release(connection, list(window.written))
        more = self._finish(connection, window)
        return Piece(len(window.waiting), rows.queued, more)

    def _finish(self, connection: sqlite3.Connection, window: _Window) -> bool:
        """Removes the events of the window; True if there are others of its tenant."""
        self._windows.pop(window.tenant, None)
        needed = accepted.remove(connection, window.tenant, window.waiting[-1].no)
        self._drop_snapshot(connection, window.tenant, window.waiting[0].snapshot_no, needed)
        if needed is None:
            self.behind(connection).discard(window.tenant)
            self._finished.pop(window.tenant, None)
        else:
            self._finished[window.tenant] = window.recipients
        return needed is not None

    def _drop_snapshot(
        self, connection: sqlite3.Connection, tenant: str, number: int, needed: int | None
    ) -> None:
        """Deletes a snapshot unless the next event needs it too."""
        if number != needed:
            delete_snapshot(connection, number)
            self._read.pop(number, None)
            if self._latest.get(tenant, (0,))[0] == number:
                del self._latest[tenant]

    def _next_window(self, connection: sqlite3.Connection, tenant: str) -> _Window | None:
        """Returns the window that is begun, else one of the first events that are for the same
        subscriptions.
        """
        last_no, done = accepted.progress(connection, tenant)
        waiting: list[Waiting] = []
        size = 0
        with closing(accepted.of_tenant(connection, tenant)) as found:
            for each in found:
                size += len(each.event.data_json)
                if last_no is not None:
                    if each.no > last_no:
                        break
                elif waiting and (
                    len(waiting) == EVENTS_OF_WINDOW
                    or size > BYTES_OF_WINDOW
                    or each.snapshot_no != waiting[0].snapshot_no
                ):
                    break
                waiting.append(each)
        if not waiting:
            return None
        recipients = self._snapshot(connection, tenant, waiting[0].snapshot_no)
        numbers = [each.no for each in waiting]
        is_kept = kept.there(connection, numbers)
        others = [number for number in numbers if number not in is_kept]
        written = accepted.written(connection, others) if done else set[int]()
        return _Window(tenant, waiting, recipients, done, is_kept, written, [{} for _ in waiting])

    def _snapshot(self, connection: sqlite3.Connection, tenant: str, number: int) -> Recipients:
        latest_no, latest = self._latest.get(tenant, (0, None))
        if latest is not None and latest_no == number:
            return latest
        found = self._read.get(number)
        if found is None:
            found = self._read[number] = snapshot(connection, number)
        return found

    def _fan_out(
        self,
        waiting: Waiting,
        recipients: Recipients,
        group: Sequence[Recipient],
        rows: Rows,
        written: set[int],
        variants: dict[bool, Envelope],
        matched_at: float | None,
        *,
        is_kept: bool,
    ) -> Sequence[Queued]:
        """Adds to `rows` what the event gives for a group of the recipients.

        A body that is `written` is not written again, and that of an event that `is_kept` is not written. One
        of the `variants` is not rendered again. `matched_at` is None at acceptance.
        """
        event, accepted_at, number = waiting.event, waiting.accepted_at, waiting.no
        matched = fan_out(event, group, recipients.predicates, self._schema_base, variants)
        self._identifiers.look(waiting.tenant, event, matched)
        queued: list[Queued] = []
        for match in matched:
            body_no = number if match.with_identifier else number + 1
            if not is_kept and body_no not in written:
                written.add(body_no)
                parts = (match.envelope.before_subject, match.envelope.after_subject)
                rows.events.append((body_no, event.id, event.type, accepted_at, *parts))
            subscription = match.subscription
            key = LaneKey(recipients.numbers[subscription.id], match.lane)
            queued.append(
                Queued(
                    receipt=Receipt(key, next(self.numbers), body_no),
                    owner=(subscription.owner.tenant, subscription.owner.client_id),
                    subscription_id=subscription.id,
                    event_id=event.id,
                    event_type=event.type,
                    accepted_at=accepted_at,
                    lanes=subscription.lanes,
                    epoch=subscription.epoch,
                    body_size=len(match.envelope.after_subject),
                    envelope=match.envelope,
                )
            )
        rows.queued += queued
        if is_kept:
            for entry in queued:
                (subscription_no, _), _, body_no = entry.receipt
                rows.courses.append((number, subscription_no, 0, matched_at, body_no - number))
                if body_no in written:
                    rows.moved_uses.append((body_no, 1))
        elif len(queued) == 1:
            rows.uses.append((queued[0].receipt.event_no, 1))
        elif queued:
            rows.uses += Counter(entry.receipt.event_no for entry in queued).items()
        return queued

    def _now(self) -> float:
        return self._clock.now().timestamp()


def work_of(events: Sequence[Event], recipients: Callable[[str], Recipients]) -> int:
    """Returns the work that the fan-out of the events takes at most, known before anything is matched.

    `recipients` returns those of an event type.
    """
    of_type = {event.type: recipients(event.type) for event in events}
    uncompiled = sum(len(each.uncompiled) for each in of_type.values())
    return WORK_OF_COMPILING * uncompiled + sum(
        WORK_OF_EVENT + len(of_type[event.type].all) + len(event.data_json) // BYTES_OF_WORK
        for event in events
    )
