"""The live side of the broker: one runner per lane that has work, at the subscription's pace.

A lane hands out one delivery at a time. It goes on when the receiver has taken that, and waits until it is
settled whenever anything else has come of it (docs/decisions/0024). What is not soon due stays on disk: a
lane keeps a few deliveries in memory and reads on when they are used up.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog

from event_platform.deliver import Judge
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import StoreUnavailable
from event_platform.ports import Clock

from ..tasks import WatchedTasks
from .pacer import Pacer
from .queue import LaneKey, Queued

log = structlog.get_logger()

Handler = Callable[[Delivery], Awaitable[Settlement]]

IN_MEMORY_PER_LANE = 128
BYTES_IN_MEMORY = 32 * 1024 * 1024
BYTES_AT_ONCE = 256 * 1024
"""What one reading of a lane may bring."""
UNSETTLED_PER_LANE = 16
"""Taken by the receiver and not yet settled: what an end of the process repeats."""
NACKS_AT_MOST = 100
BACKOFF_AT_MOST = 60.0
CLEAN_UP_EVERY = 10.0
STORE_RETRY_SECONDS = 1.0
DRAIN_SECONDS = 6.0
"""How long a stop waits for deliveries that were handed out: longer than one attempt may take."""


class LaneQueue(Protocol):
    """What the dispatcher needs of the queue (`DurableQueue`); every method raises StoreUnavailable."""

    async def lanes(self) -> Sequence[LaneKey]: ...

    async def waiting(self, key: LaneKey, after: int, limit: int, room: int) -> Sequence[Queued]: ...

    async def settle(self, settlement: Settlement) -> None: ...

    def settle_soon(self, settlement: Settlement) -> "asyncio.Future[Any]": ...

    async def nack(self, queued: Queued) -> None: ...

    async def bury(self, queued: Queued, error: str) -> None: ...


@dataclass(slots=True)
class _Lane:
    key: LaneKey
    waiting: deque[Queued] = field(default_factory=deque[Queued])
    last_position: int = 0
    more_on_disk: bool = False
    reading: bool = False
    busy: bool = False
    unsettled: int = 0
    runner: "asyncio.Task[None] | None" = None


class Dispatcher:
    """Hands deliveries to `handle` and has what follows settled. Start once; `stop` is the end."""

    def __init__(
        self,
        queue: LaneQueue,
        handle: Handler,
        pacer: Pacer,
        judge: Judge,
        clock: Clock,
        *,
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._pacer = pacer
        self._judge = judge
        self._clock = clock
        self._on_fault = on_fault
        self._lanes: dict[LaneKey, _Lane] = {}
        self._bytes = 0
        self._settling: set[asyncio.Future[Any]] = set()
        self._tasks = WatchedTasks(on_fault)
        self._cleaning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Goes on with what the file holds, once `put` is told of what comes."""
        self.read_on(await self._queue.lanes())
        self._cleaning = self._tasks.start(self._clean_up())

    async def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Hands out nothing more, and waits `drain` seconds at most for what was handed out."""
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

    def _under_way(self) -> list["asyncio.Future[Any]"]:
        runners = [lane.runner for lane in self._lanes.values() if lane.runner is not None]
        return [each for each in (*runners, *self._settling) if not each.done()]

    def read_on(self, keys: Iterable[LaneKey]) -> None:
        """More waits in these lanes than this was told of."""
        for key in keys:
            lane = self._lane(key)
            lane.more_on_disk = True
            self._run(lane)

    def put(self, queued: Sequence[Queued]) -> None:
        """These have come into their lanes: in the order of the queue, and before they are settled."""
        for entry in queued:
            lane = self._lane(entry.receipt.key)
            if entry.receipt.position <= lane.last_position:
                continue  # read from disk already, between its commit and this
            if (
                lane.more_on_disk
                or lane.reading
                or len(lane.waiting) >= IN_MEMORY_PER_LANE
                or self._bytes > BYTES_IN_MEMORY
            ):
                lane.more_on_disk = True
            else:
                self._keep(lane, entry)
            self._run(lane)

    def _keep(self, lane: _Lane, entry: Queued) -> None:
        lane.waiting.append(entry)
        lane.last_position = entry.receipt.position
        self._bytes += entry.size()

    def _lane(self, key: LaneKey) -> _Lane:
        return self._lanes.setdefault(key, _Lane(key))

    def _run(self, lane: _Lane) -> None:
        if lane.runner is None and not self._tasks.stopping:
            lane.runner = self._tasks.start(self._run_lane(lane))

    async def _run_lane(self, lane: _Lane) -> None:
        while not self._tasks.stopping:
            if lane.waiting:
                entry = lane.waiting[0]
                await self._process(lane, entry)
                lane.waiting.popleft()
                self._bytes -= entry.size()
            elif lane.more_on_disk:
                await self._read_on(lane)
            else:
                lane.runner = None
                self._leave(lane)
                return

    def _leave(self, lane: _Lane) -> None:
        """Forgets a lane at rest. While something of it is unsettled, only its last position tells what is
        not to be read from disk again."""
        if lane.runner is None and lane.unsettled == 0:
            del self._lanes[lane.key]

    async def _read_on(self, lane: _Lane) -> None:
        lane.reading, lane.more_on_disk = True, False
        room = min(BYTES_AT_ONCE, max(0, BYTES_IN_MEMORY - self._bytes))
        self._bytes += room  # set aside, since other lanes read at the same time
        try:
            found = await self._queue.waiting(lane.key, lane.last_position, IN_MEMORY_PER_LANE, room)
        except StoreUnavailable as error:
            lane.more_on_disk = True
            await self._store_is_away(error)
            return
        finally:
            self._bytes -= room
            lane.reading = False
        for entry in found:
            self._keep(lane, entry)
        if found:  # the next reading, once these are used up, tells whether there is more
            lane.more_on_disk = True

    async def _process(self, lane: _Lane, entry: Queued) -> None:
        """Until the delivery has left the head of its lane, settled or a dead letter; or until a stop."""
        while not self._tasks.stopping:
            try:
                await self._pacer.wait(entry.subscription_id, entry.epoch)
                lane.busy = True
                settlement = await self._handle(entry.delivery())
                await self._settle(lane, settlement)
            except StoreUnavailable as error:  # says nothing about this delivery
                lane.busy = False
                await self._store_is_away(error)
            except Exception as error:
                log.exception("delivery.nacked", event_id=entry.event_id, nacks=entry.nacks + 1)
                if await self._nack(entry, error):
                    return
                lane.busy = False
                if not self._tasks.stopping:
                    await self._clock.sleep(min(BACKOFF_AT_MOST, 2.0 ** (entry.nacks - 1)))
            else:
                return
            finally:
                lane.busy = False

    async def _settle(self, lane: _Lane, settlement: Settlement) -> None:
        """The pace is told first, so that what goes back to its lane finds the lower rate."""
        await self._pacer.observe(settlement)
        if settlement.is_delivered and lane.unsettled < UNSETTLED_PER_LANE:
            self._settle_soon(lane, settlement)
        else:
            await self._until_settled(settlement)
        await self._judge.settled(settlement)

    def _settle_soon(self, lane: _Lane, settlement: Settlement) -> None:
        lane.unsettled += 1
        self._watch(self._queue.settle_soon(settlement), lane, settlement)

    def _watch(self, future: "asyncio.Future[Any]", lane: _Lane, settlement: Settlement) -> None:
        self._settling.add(future)
        future.add_done_callback(partial(self._settled, lane, settlement))

    def _settled(self, lane: _Lane, settlement: Settlement, future: "asyncio.Future[Any]") -> None:
        self._settling.discard(future)
        error = self._tasks.error_of(future)
        if isinstance(error, StoreUnavailable):
            self._watch(asyncio.ensure_future(self._until_settled(settlement)), lane, settlement)
            return
        if error is not None:
            self._on_fault(error)
        lane.unsettled -= 1
        self._leave(lane)

    async def _until_settled(self, settlement: Settlement) -> None:
        """Keeps trying while the store is away: what was sent is not sent again for that."""
        while True:
            try:
                return await self._queue.settle(settlement)
            except StoreUnavailable as error:
                await self._store_is_away(error)

    async def _nack(self, entry: Queued, error: Exception) -> bool:
        """Counts the failure; True when the delivery has become a dead letter."""
        entry.nacks += 1
        try:
            if entry.nacks < NACKS_AT_MOST:
                await self._queue.nack(entry)
                return False
            await self._queue.bury(entry, f"{type(error).__name__}: {error}")
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
