"""Replays and catching up: the port `Replays`, and what carries them out between `start` and `stop`."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import structlog

from event_platform.domain.errors import Conflict, InvalidRequest, NotFound, Problem, StoreUnavailable
from event_platform.domain.faults import FAULTS_AT_MOST, backoff_seconds
from event_platform.domain.record.actions import Action, replay_entry
from event_platform.domain.replays import (
    MAX_EVENTS,
    Replay,
    ReplayStatus,
    check_number,
    check_replayable,
)
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.domain.timestamps import to_rfc3339
from event_platform.ports import Clock

from ..runtime.tasks import WatchedTasks, wait_at_most
from ..store import kept, replays
from ..store.database import Database
from ..store.logs import put_entry
from ..store.replays import CATCH_UP, CLEARING, REPLAY, RUNNING, Row
from ..store.retries import subscription_no
from ..store.subscriptions import SqliteSubscriptions
from ..store.times import moment_of
from .fan_out import rest_after
from .queue import DurableQueue
from .queued import lanes_of_replay
from .replay_reader import AT_ONCE, find

log = structlog.get_logger()

COUNTED_AT_ONCE = 50_000
"""The numbers of kept events that one job of the reading thread goes through: some 10 ms."""
LOOK_SECONDS = 0.1
"""The time after which one that runs is looked at again when nothing could be read."""
LOOK_AFTER = 4.0
"""The same while none runs: `aep replay`, in another process, starts one."""
STORE_RETRY_SECONDS = 1.0


class SqliteReplays:
    """Port `Replays`. `look` is called when one was started, `keeps` says whether events are kept."""

    def __init__(
        self,
        database: Database,
        subscriptions: SqliteSubscriptions,
        queue: DurableQueue,
        *,
        keeps: bool,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._queue = queue
        self._keeps = keeps
        self._look = look

    def check_kept(self) -> None:
        if not self._keeps:
            raise Conflict("no events are kept, so none can be sent again: AEP_KEEP is 0")

    async def start(self, owner: Owner, subscriber_id: str, replay: Replay, *, action: Action) -> Replay:
        await self._check_number(replay, owner.tenant)

        def job(connection: sqlite3.Connection) -> Subscription:
            subscription = self._subscriptions.one_of(
                connection, owner=owner, subscriber_id=subscriber_id, subscription_id=replay.subscription_id
            )
            start_in(connection, subscription, replay, action)
            return self._subscriptions.put_replay_id(connection, subscription, replay.id)

        await self._database.write(job, lambda changed: self._subscriptions.remember([changed]))
        await self._subscriptions.copies.in_force()
        self._look()
        return replay

    async def _check_number(self, replay: Replay, tenant: str) -> None:
        """Raises InvalidRequest if too many of the tenant's events lie in the range, which are counted if
        there may be so many."""
        first, last = await self._database.read(partial(range_of, replay=replay))
        number = (last - first) // 2  # an event has two numbers at least
        if replay.asked.since is None or number <= MAX_EVENTS:
            return
        number = 0
        for start in range(first, last, COUNTED_AT_ONCE):
            piece = partial(
                kept.number_between, tenant=tenant, after=start, to=min(last, start + COUNTED_AT_ONCE)
            )
            number += await self._database.read(piece)
        check_number(number)

    async def replays(self, subscription_id: str) -> Sequence[Replay]:
        def job(connection: sqlite3.Connection) -> list[Replay]:
            number = subscription_no(connection, subscription_id)
            rows = [] if number is None else replays.of_subscription(connection, number)
            return [replays.replay_of(row, subscription_id) for row in rows]

        return await self._database.read(job)

    async def replay(self, subscription_id: str, replay_id: str) -> Replay:
        def job(connection: sqlite3.Connection) -> Replay:
            return replays.replay_of(_row(connection, subscription_id, replay_id), subscription_id)

        return await self._database.read(job)

    async def cancel(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        replay_id: str,
        *,
        now: datetime,
        action: Action,
    ) -> Replay:
        def job(connection: sqlite3.Connection) -> tuple[Replay, Subscription, int]:
            subscription = self._subscriptions.one_of(
                connection, owner=owner, subscriber_id=subscriber_id, subscription_id=subscription_id
            )
            row = _row(connection, subscription_id, replay_id)
            if row.status == ReplayStatus.CANCELLED:
                return replays.replay_of(row, subscription_id), subscription, row.no
            if row.status != RUNNING:
                raise Conflict(f"replay {replay_id} is {row.status} and cannot be cancelled")
            cancelled = replays.end(connection, row, subscription, ReplayStatus.CANCELLED, now, action=action)
            return cancelled, self._subscriptions.put_replay_id(connection, subscription, None), row.no

        cancelled, _, no = await self._database.write(
            job, lambda done: self._subscriptions.remember([done[1]])
        )
        await self._subscriptions.copies.in_force()
        await self._queue.retry_now(subscription_id, lanes_of_replay(no))  # so that they are dropped now
        return cancelled


def start_in(
    connection: sqlite3.Connection, subscription: Subscription, replay: Replay, action: Action
) -> None:
    """Adds the replay, with its entry in the log, unless the subscription forbids it. For a job."""
    check_replayable(subscription)
    number = subscription_no(connection, subscription.id)
    assert number is not None  # noqa: S101 - it was read from there
    under_way = replays.running_of(connection, number)
    if under_way is not None:
        what = "catches up" if under_way.kind == CATCH_UP else f"has replay {under_way.id} running"
        raise Conflict(f"subscription {subscription.id} {what}: wait for its end")
    replays.put(connection, replay, number, *range_of(connection, replay))
    put_entry(connection, replay_entry(replay, subscription, "started", replay.created_at, action))


def range_of(connection: sqlite3.Connection, replay: Replay) -> tuple[int, int]:
    """Returns the number behind which its kept events begin, and that up to which they go.

    Raises InvalidRequest if it begins before what is kept.
    """
    since, until = replay.asked.since, replay.asked.until
    last = kept.highest_number(connection)
    if since is None:
        return kept.number_before(connection, 0.0), last
    kept_since = kept.since(connection)
    if kept_since is not None and since.timestamp() < kept_since:
        raise InvalidRequest(
            Problem(
                "from", f"is older than what is kept, which begins at {to_rfc3339(moment_of(kept_since))}"
            )
        )
    first = kept.number_before(connection, since.timestamp())
    return first, last if until is None else kept.number_before(connection, until.timestamp())


def _row(connection: sqlite3.Connection, subscription_id: str, replay_id: str) -> Row:
    row = replays.by_id(connection, replay_id)
    if row is None or row.subscription_no != subscription_no(connection, subscription_id):
        raise NotFound(f"replay {replay_id} is unknown")
    return row


class Replayer:
    """Runs between `start` and `stop`: those that run have a piece in turn. `on_fault` is called when it has
    ended by an error."""

    def __init__(
        self,
        database: Database,
        subscriptions: SqliteSubscriptions,
        queue: DurableQueue,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._database = database
        self._subscriptions = subscriptions
        self._queue = queue
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._looked_to: dict[int, tuple[int, int]] = {}
        """The cursor in the file of each that runs, and the number up to which nothing was found."""
        self._failures: dict[int, tuple[int, float]] = {}
        """The faults of ours in a row, and when it is tried again (monotonic)."""
        self._due = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._running = [self._tasks.start(self._run())]

    async def stop(self) -> None:
        await self._tasks.stop(*self._running)

    def look(self) -> None:
        """Looks for what was started: a replay, or catching up after a resume."""
        self._due.set()

    async def _run(self) -> None:
        while True:
            self._due.clear()
            try:
                rows = await self._database.read(replays.running)
                has_read = [await self._step_or_wait(row) for row in rows]
            except StoreUnavailable as error:
                log.warning("replay.store_unavailable", error=str(error))
                await self._clock.sleep(STORE_RETRY_SECONDS)
                continue
            self._looked_to = {row.no: self._looked_to[row.no] for row in rows if row.no in self._looked_to}
            if not any(has_read):
                await wait_at_most(self._due, self._clock, LOOK_SECONDS if rows else LOOK_AFTER)

    async def _step_or_wait(self, row: Row) -> bool:
        """Goes on with it; True if there was something to read. A fault of ours is tried again later."""
        failures, not_before = self._failures.get(row.no, (0, 0.0))
        if self._clock.monotonic() < not_before:
            return False
        try:
            has_read = await self._step(row, failures)
        except StoreUnavailable:
            raise
        except Exception:
            self._queue.faulted()
            log.exception("replay.failed", replay_id=row.id, failures=failures + 1)
            again_at = self._clock.monotonic() + backoff_seconds(failures + 1)
            self._failures[row.no] = failures + 1, again_at
            return False
        self._failures.pop(row.no, None)
        return has_read

    async def _step(self, row: Row, failures: int) -> bool:
        if row.status == CLEARING:
            return await self._clear(row)
        if row.kind == REPLAY and row.is_read:
            if row.delivered + row.ended >= row.sent:
                await self._finish(row)
            return False
        began = time.monotonic()
        cursor, looked_to = self._looked_to.get(row.no, (0, 0))
        if cursor != row.cursor_no:
            looked_to = row.cursor_no
        at_once = AT_ONCE if failures == 0 else 1
        found = await self._database.read(partial(find, row=row, cursor=looked_to, at_once=at_once))
        if not found.has_room:
            return False
        if failures >= FAULTS_AT_MOST and found.numbers:
            return await self._skip(row, found.numbers[0])
        if not found.numbers and not found.is_end:
            self._looked_to[row.no] = row.cursor_no, found.looked_to
            return found.looked_to > looked_to
        has_moved = await self._queue.read_replay(row, found)
        await asyncio.sleep(rest_after(time.monotonic() - began, for_others=False))
        return has_moved

    async def _clear(self, row: Row) -> bool:
        """Begins to read when nothing from before the suspension waits in a lane or for a retry."""
        if await self._database.read(partial(_has_deliveries, number=row.subscription_no)):
            return False
        if await self._queue.requeue_all(row.subscription_no):
            return False

        def job(connection: sqlite3.Connection) -> bool:
            if _has_deliveries(connection, row.subscription_no):
                return False
            return (
                connection.execute(
                    "UPDATE replays SET status = ? WHERE no = ? AND status = ?", (RUNNING, row.no, CLEARING)
                ).rowcount
                > 0
            )

        return await self._database.write(job, needs_room=False)

    async def _finish(self, row: Row) -> None:
        def job(connection: sqlite3.Connection) -> None:
            current = replays.one(connection, row.no)
            subscription = self._subscriptions.numbered(connection, row.subscription_no)
            if current is not None and current.status == RUNNING and subscription is not None:
                replays.end(connection, current, subscription, ReplayStatus.DONE, self._clock.now())

        await self._database.write(job, needs_room=False)

    async def _skip(self, row: Row, number: int) -> bool:
        log.error("replay.event_skipped", replay_id=row.id, event_no=number)
        await self._queue.skip_in_replay(row, number)
        return True


def _has_deliveries(connection: sqlite3.Connection, number: int) -> bool:
    row = connection.execute("SELECT 1 FROM deliveries WHERE subscription_no = ? LIMIT 1", (number,))
    return row.fetchone() is not None
