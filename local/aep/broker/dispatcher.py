"""The live side of the broker: one runner per lane that has work, at the subscription's pace.

A lane hands out one delivery at a time. It continues at once when the receiver has taken the delivery; after
any other outcome it waits until that is settled (docs/decisions/0024). A lane keeps a few deliveries in
memory and reads more from disk when they are used up. All bodies in memory count in one budget of bytes
(docs/decisions/0029).
"""

import asyncio
import resource
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import structlog

from event_platform.budget import Budget
from event_platform.deliver import Attempt, Judge, Observer, Pipeline
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import CannotConnect, StoreUnavailable
from event_platform.domain.events.event import Envelope
from event_platform.domain.faults import FAULTS_AT_MOST, backoff_seconds
from event_platform.ports import Clock

from ..runtime.stopping import DRAIN_SECONDS
from ..runtime.tasks import WatchedTasks
from .budget import OwnerKey, attempts_at_once, bytes_in_flight
from .pacer import Pacer
from .queued import SMALL_BODY, LaneKey, Queued
from .turns import Turns

log = structlog.get_logger()

IN_MEMORY_PER_LANE = 128
READ_FIRST = 2
"""The number of deliveries that a lane reads first.

It doubles with each reading up to IN_MEMORY_PER_LANE: a crowd fills thousands of lanes, which need few at a
time.
"""
BYTES_AT_ONCE = 256 * 1024
"""The bytes of bodies that one reading of a lane may bring."""
BODIES_READ_AT_ONCE = 4
"""The number of bodies that are read at the same time. Each is in memory two or three times for a moment."""
UNSETTLED_PER_LANE = 16
"""The number of deliveries of a lane that the receiver has taken and that are not settled yet.

They are repeated if the process ends.
"""
CLEAN_UP_EVERY = 10.0
STORE_RETRY_SECONDS = 1.0
SOCKETS_RETRY_SECONDS = 1.0


class LaneQueue(Protocol):
    """The queue as the dispatcher needs it (`DurableQueue`). Every method raises StoreUnavailable."""

    async def lanes(self) -> Sequence[LaneKey]: ...

    async def waiting(self, key: LaneKey, after: int, limit: int, room: int) -> Sequence[Queued]: ...

    async def envelope(self, event_no: int) -> Envelope: ...

    async def settle(self, settlement: Settlement) -> None: ...

    def settle_soon(self, settlement: Settlement) -> "asyncio.Future[Any]": ...

    async def nack(self, queued: Queued) -> None: ...

    async def dead_letter(self, queued: Queued, error: str) -> None: ...


@dataclass(slots=True)
class _Lane:
    key: LaneKey
    owner: OwnerKey | None = None
    """The owner, once a delivery of the lane was seen."""
    waiting: deque[Queued] = field(default_factory=deque[Queued])
    last_position: int = 0
    more_on_disk: bool = False
    reading: bool = False
    read_next: int = READ_FIRST
    busy: bool = False
    attempt: bool | None = None
    """The lane's share of the budget of attempts: None for none, True for one beyond the bounds."""
    body: bool | None = None
    """The lane's share of the budget of bytes, in the same terms, for a body that is not kept."""
    unsettled: int = 0
    runner: "asyncio.Task[None] | None" = None


class Dispatcher:
    """Delivers what waits in lanes. Start once; `stop` is the end.

    It is the pipeline's host: a lane may go on as the bucket of its subscription and the budgets of this
    process allow.
    """

    def __init__(
        self,
        queue: LaneQueue,
        handle: Attempt,
        pacer: Pacer,
        observer: Observer,
        judge: Judge,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
        budget: Budget | None = None,
        attempts: Budget | None = None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._pacer = pacer
        self._judge = judge
        self._pipeline = Pipeline(self, self._attempt, observer, self._settle, judge)
        self._clock = clock
        self._on_fault = on_fault
        self._lanes: dict[LaneKey, _Lane] = {}
        self._budget = budget or bytes_in_flight()
        self._attempts = attempts or attempts_at_once(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._turns = Turns(clock.monotonic)
        self._reading_bodies = asyncio.Semaphore(BODIES_READ_AT_ONCE)
        self._settling: dict[asyncio.Future[Any], list[tuple[_Lane, Settlement]]] = {}
        """The deliveries whose settlement a future is: those that travel to the file together share one."""
        self._tasks = WatchedTasks(on_fault)
        self._cleaning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Continues with what the file holds. From now on `put` gets what comes."""
        self.read_more(await self._queue.lanes())
        self._cleaning = self._tasks.start(self._clean_up())

    async def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Hands out nothing more, and waits at most `drain` seconds for what was handed out."""
        self._tasks.stopping = True
        tasks = [] if self._cleaning is None else [self._cleaning]
        for task in tasks:
            task.cancel()
        for lane in self._lanes.values():
            if lane.runner is not None and not lane.busy:
                lane.runner.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(drain):
                while under_way := self._under_way():
                    await asyncio.wait(under_way)
        late = self._under_way()  # handed out, and not settled: comes again after the next start
        for each in late:
            each.cancel()
        await asyncio.gather(*tasks, *late, return_exceptions=True)
        await self._judge.stop()

    @property
    def is_idle(self) -> bool:
        """True if nothing waits in memory and nothing is under way."""
        return not self._lanes

    def _under_way(self) -> list["asyncio.Future[Any]"]:
        runners = [lane.runner for lane in self._lanes.values() if lane.runner is not None]
        return [each for each in (*runners, *self._settling) if not each.done()]

    def read_more(self, keys: Iterable[LaneKey]) -> None:
        """Notes lanes in the file that have more than `put` was given."""
        for key in keys:
            lane = self._lane(key)
            lane.more_on_disk = True
            self._run(lane)

    def put(self, queued: Sequence[Queued]) -> None:
        """Adds deliveries to their lanes, in the order of the queue. It is called before they are settled."""
        for entry in queued:
            lane = self._lane(entry.receipt.key)
            if entry.receipt.position <= lane.last_position:
                continue  # read from disk already, between its commit and this
            if lane.more_on_disk or lane.reading or len(lane.waiting) >= IN_MEMORY_PER_LANE:
                lane.more_on_disk = True
            elif self._keeps(entry) or not lane.waiting:
                self._append(lane, entry)
            else:
                lane.more_on_disk = True
            self._run(lane)

    def _keeps(self, entry: Queued) -> bool:
        """True if the body may stay in memory; else it is read again before the attempt."""
        if entry.envelope is not None:
            entry.is_kept = self._budget.keep(entry.owner, entry.size())
            if not entry.is_kept:
                entry.envelope = None
        return entry.is_kept

    def _append(self, lane: _Lane, entry: Queued) -> None:
        lane.owner = entry.owner
        lane.waiting.append(entry)
        lane.last_position = entry.receipt.position

    def _lane(self, key: LaneKey) -> _Lane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        return lane

    def _run(self, lane: _Lane) -> None:
        if lane.runner is None and not self._tasks.stopping:
            lane.runner = self._tasks.start(self._run_lane(lane))

    async def _run_lane(self, lane: _Lane) -> None:
        while not self._tasks.stopping:
            if lane.waiting:
                entry = lane.waiting[0]
                try:
                    await self._process(lane, entry)
                finally:
                    lane.waiting.popleft()
                    if entry.is_kept:
                        self._budget.release(entry.owner, entry.size())
            elif lane.more_on_disk:
                await self._read_more(lane)
            else:
                lane.runner = None
                self._leave(lane)
                return

    def _leave(self, lane: _Lane) -> None:
        """Forgets a lane at rest, unless something of it is unsettled.

        Only the lane's last position then says which deliveries must not be read from disk again.
        """
        if lane.runner is None and lane.unsettled == 0:
            del self._lanes[lane.key]

    async def _read_more(self, lane: _Lane) -> None:
        lane.reading, lane.more_on_disk = True, False
        owner = lane.owner
        if owner is not None and not self._turns.take(owner):
            await self._turns.wait(owner)
        limit, lane.read_next = lane.read_next, min(IN_MEMORY_PER_LANE, 2 * lane.read_next)
        room = 0 if owner is None else self._budget.reserve(owner, BYTES_AT_ONCE)
        try:
            found = await self._queue.waiting(lane.key, lane.last_position, limit, room)
        except StoreUnavailable as error:
            lane.more_on_disk = True
            await self._store_is_away(error)
            return
        finally:
            lane.reading = False
            if owner is not None and room:
                self._budget.release(owner, room)
        for entry in found:
            self._keeps(entry)
            self._append(lane, entry)
        if found:  # the next reading, once these are used up, tells whether there is more
            lane.more_on_disk = True

    async def _process(self, lane: _Lane, entry: Queued) -> None:
        """Returns when the delivery has left the head of its lane, settled or a dead letter, or at a stop."""
        while not self._tasks.stopping:
            try:
                await self._pipeline.carry_out(lane)
            except CannotConnect:  # says nothing about this delivery
                lane.busy = False
                self._release_body(lane, entry)
                await self._clock.sleep(SOCKETS_RETRY_SECONDS)  # meanwhile the others have no turn either
            except StoreUnavailable as error:  # says nothing about this delivery either
                lane.busy = False
                self._release(lane, entry)
                await self._store_is_away(error)
            except Exception as error:
                self._release(lane, entry)
                log.exception("delivery.nacked", event_id=entry.event_id, nacks=entry.nacks + 1)
                if await self._nack(entry, error):
                    return
                lane.busy = False
                if not self._tasks.stopping:
                    await self._clock.sleep(backoff_seconds(entry.nacks))
            else:
                return
            finally:
                lane.busy = False
                self._release(lane, entry)

    # The pace of the pipeline

    async def before(self, lane: _Lane) -> Delivery:
        """Returns the lane's first delivery once it may be sent and this process has room for the attempt."""
        entry = lane.waiting[0]
        owner = entry.owner
        if entry.replay_id is None:
            await self._pacer.wait(entry.subscription_id, entry.epoch)
        else:
            others_wait = partial(self._has_ordinary_work, lane.key.subscription_no, entry.lanes)
            await self._pacer.wait_beside(entry.subscription_id, entry.epoch, entry.replay_id, others_wait)
        if not self._turns.take(owner):
            await self._turns.wait(owner)
        lane.attempt = not self._attempts.take(owner, 1) and await self._attempts.wait(owner, 1)
        if entry.envelope is None:
            size = entry.size()
            lane.body = not self._budget.take(owner, size) and await self._budget.wait(owner, size)
            entry.envelope = await self._read_body(entry)
        lane.busy = True
        delivery = entry.delivery()
        if entry.body_size > SMALL_BODY or not entry.is_kept:
            entry.envelope = None  # so that the body is in memory once
        return delivery

    def _has_ordinary_work(self, subscription_no: int, lanes: int) -> bool:
        """True if something of the subscription waits here in lanes that are of no replay."""
        keys = (LaneKey(subscription_no, number) for number in range(lanes))
        return any((lane := self._lanes.get(key)) is not None and lane.runner is not None for key in keys)

    async def again(self, lane: _Lane, settlement: Settlement) -> bool:
        """Returns False: the delivery always goes back to its lane, and waits there for a token."""
        return False

    def after(self, lane: _Lane, settlement: Settlement) -> None:
        """Does nothing: the next delivery waits before its own attempt."""

    def _release(self, lane: _Lane, entry: Queued) -> None:
        """Releases the shares of the budgets that `before` has taken."""
        if lane.body is not None:
            self._release_body(lane, entry)
        if lane.attempt is not None:
            self._attempts.end(entry.owner, 1, is_beyond=lane.attempt)
            lane.attempt = None

    def _release_body(self, lane: _Lane, entry: Queued) -> None:
        if lane.body is not None:
            self._budget.end(entry.owner, entry.size(), is_beyond=lane.body)
            lane.body = None

    async def _attempt(self, delivery: Delivery) -> Settlement:
        settlement = await self._handle(delivery)
        if len(delivery.body) > SMALL_BODY:  # settling may take a while
            settlement = _without_body(settlement)
        return settlement

    async def _read_body(self, entry: Queued) -> Envelope:
        async with self._reading_bodies:
            return await self._queue.envelope(entry.receipt.event_no)

    async def _settle(self, lane: _Lane, settlement: Settlement) -> None:
        """Settles a delivery.

        Up to UNSETTLED_PER_LANE that the receiver has taken do not wait for the commit.
        """
        if settlement.is_delivered and lane.unsettled < UNSETTLED_PER_LANE:
            lane.unsettled += 1
            self._watch(self._queue.settle_soon(settlement), lane, settlement)
        else:
            await self._until_settled(settlement)

    def _watch(self, future: "asyncio.Future[Any]", lane: _Lane, settlement: Settlement) -> None:
        together = self._settling.get(future)
        if together is None:
            together = self._settling[future] = []
            future.add_done_callback(self._settled)
        together.append((lane, settlement))

    def _settled(self, future: "asyncio.Future[Any]") -> None:
        error = self._tasks.error_of(future)
        for lane, settlement in self._settling.pop(future):
            if isinstance(error, StoreUnavailable):
                settlement = _without_body(settlement)
                self._watch(asyncio.ensure_future(self._until_settled(settlement)), lane, settlement)
                continue
            if error is not None:
                self._on_fault(error)
            lane.unsettled -= 1
            self._leave(lane)

    async def _until_settled(self, settlement: Settlement) -> None:
        """Settles a delivery, and tries again while the store is away: it is not sent again for that."""
        while True:
            try:
                return await self._queue.settle(settlement)
            except StoreUnavailable as error:
                await self._store_is_away(error)

    async def _nack(self, entry: Queued, error: Exception) -> bool:
        """Counts the failure; True if the delivery has become a dead letter."""
        entry.nacks += 1
        try:
            if entry.nacks < FAULTS_AT_MOST:
                await self._queue.nack(entry)
                return False
            await self._queue.dead_letter(entry, f"{type(error).__name__}: {error}")
        except Exception:
            log.exception("delivery.nack_not_recorded", event_id=entry.event_id)
            return False
        log.error("delivery.dead_lettered", event_id=entry.event_id, subscription_id=entry.subscription_id)
        return True

    async def _clean_up(self) -> None:
        while True:
            await self._clock.sleep(CLEAN_UP_EVERY)
            self._pacer.clean_up()

    async def _store_is_away(self, error: StoreUnavailable) -> None:
        log.warning("broker.store_unavailable", error=str(error))
        await self._clock.sleep(STORE_RETRY_SECONDS)


def _without_body(settlement: Settlement) -> Settlement:
    """Returns the settlement without the delivery's body, which the file has."""
    return replace(settlement, delivery=replace(settlement.delivery, body=b""))
