"""The owner's side: hands queued deliveries out to the workers and does for them what needs the file.

A worker that hangs is killed and replaced (docs/decisions/0045).
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from event_platform.domain.record.actions import Action
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.ports import Clock, SuccessCounts
from event_platform.settings import Settings

from ..broker.queue import DurableQueue
from ..broker.queued import LaneKey, Queued, Taken
from ..runtime.memory import resident_bytes_of
from ..runtime.meters import Meters
from ..runtime.stopping import WORKER_SECONDS
from ..runtime.tasks import WatchedTasks
from ..store.subscriptions import SqliteSubscriptions
from .channel import Channel
from .sides import OwnerSide, WorkerSide

T = TypeVar("T")

ROUND_SECONDS = 1.0
"""The workers are asked for an answer in each round. Their silence is counted in rounds and not by a clock:
when the owner itself stood still, or the whole machine, that is one round however long it was."""
SILENT_ROUNDS = 15
"""A worker that was silent for so many rounds is killed and replaced."""
WAITED_FOR_ROUNDS = 5
"""The silent rounds while somebody waits until the worker knows of a change; then we are not ready."""
START_ROUNDS = 60
"""The silent rounds that a worker has to start."""

IDLE_ROUNDS = 10
GROWN_BYTES = 32 * 1024 * 1024
"""A worker that was idle for so many rounds, and has grown by so much since it started, is replaced. Python
keeps the memory of objects for others of their size: what a crowd took would stay."""

log = structlog.get_logger()


class WorkerEnded(Exception):
    """Raised when a worker's process is gone that should run."""


class Process(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int: ...

    @property
    def end(self) -> socket.socket:
        """The owner's end of the socket to it."""
        ...

    def kill(self) -> None:
        """Has it run nothing more, whatever it does."""
        ...


class Processes(Protocol):
    """The processes that deliver for this owner."""

    @property
    def started(self) -> Sequence[Process]: ...

    def start_another(self) -> Process:
        """Starts one in place of one that was killed. Raises OSError."""
        ...


class Workers:
    """The live side of the broker in other processes: in place of a `Dispatcher`.

    Subscriptions are dealt out by their numbers, so a lane, a rate and the counts of a series are in one
    worker. Tells the workers of changed records too, as `SqliteSubscriptions.copies`.
    """

    def __init__(
        self,
        processes: Processes,
        queue: DurableQueue,
        subscriptions: SqliteSubscriptions,
        counts: SuccessCounts,
        *,
        settings: Settings,
        meters: Meters,
        clock: Clock,
        write_log: Callable[[bytes], None],
        on_fault: Callable[[BaseException], None],
        resident_bytes: Callable[[int], int] = resident_bytes_of,
    ) -> None:
        self._resident_bytes = resident_bytes
        self._processes = processes
        self._queue = queue
        self._subscriptions = subscriptions
        self._counts = counts
        self._settings = settings
        self._meters = meters
        self._clock = clock
        self._write_log = write_log
        self._on_fault = on_fault
        self._tasks = WatchedTasks(on_fault)
        self._watching: asyncio.Task[None] | None = None
        self._desks: list[_Desk] = []
        self._changes_waiting = 0

    async def start(self) -> None:
        """Lets the workers go on with what the file holds, once `put` is told of what comes."""
        processes = self._processes.started
        self._desks = [self._desk(number, process) for number, process in enumerate(processes)]
        self._watching = self._tasks.start(self._watch())
        await asyncio.gather(*map(self._begin, self._desks))

    async def stop(self) -> None:
        """Has the workers hand out nothing more, waits for what they handed out, and lets go of them."""
        self._tasks.stopping = True
        if self._watching is not None:
            self._watching.cancel()
        if stopped := [desk.channel.call(WorkerSide.stop) for desk in self._desks if desk.is_told]:
            done, _ = await asyncio.wait(stopped, timeout=WORKER_SECONDS)
            for each in done:
                self._tell_fault(each)
        for desk in self._desks:
            if desk.beginning is not None:
                desk.beginning.cancel()
            desk.channel.close()

    def problem(self) -> str | None:
        """Returns what keeps deliveries from being made now, in one line; None if nothing does."""
        silent = sum(desk.is_away or desk.silent_rounds >= WAITED_FOR_ROUNDS for desk in self._desks)
        return f"{silent} of {len(self._desks)} workers do not answer; they are replaced" if silent else None

    def put(self, queued: Sequence[Queued]) -> None:
        """These have come into their lanes."""
        if len(self._desks) == 1:
            self._desks[0].put(queued)
            return
        for number, desk in enumerate(self._desks):
            of_desk = [entry for entry in queued if _serves(number, len(self._desks), entry.receipt.key)]
            if of_desk:
                desk.put(of_desk)

    def read_on(self, keys: Sequence[LaneKey]) -> None:
        """More waits in these lanes than their workers were sent."""
        for number, desk in enumerate(self._desks):
            of_desk = [key for key in keys if _serves(number, len(self._desks), key)]
            if of_desk:
                desk.read_on(of_desk)

    def changed(self, subscriptions: Sequence[Subscription]) -> None:
        """As `Copies`."""
        self._tell(WorkerSide.remember, subscriptions)

    def forgotten(self, ids: Sequence[str]) -> None:
        """As `Copies`."""
        self._tell(WorkerSide.forget, ids)

    async def in_force(self) -> None:
        """Waits as `Copies` does; also ends when a worker has ended, which sends nothing more.

        A worker that does not answer is killed first, within WAITED_FOR_ROUNDS.
        """
        if told := [each for desk in self._desks for each in desk.told]:
            self._changes_waiting += 1
            try:
                await asyncio.wait(told)
            finally:
                self._changes_waiting -= 1

    def _tell(self, method: Callable[[Any, Sequence[T]], None], what: Sequence[T]) -> None:
        for desk in self._desks:
            if desk.is_told:
                desk.told.add(told := desk.channel.call(method, what))
                told.add_done_callback(partial(self._is_told, desk))

    def _is_told(self, desk: "_Desk", told: "asyncio.Future[Any]") -> None:
        desk.told.discard(told)
        self._tell_fault(told)

    def _tell_fault(self, answered: "asyncio.Future[Any]") -> None:
        """Reports the error of a call to a worker; `_ended` reports a worker that ended and so cancels it."""
        if not answered.cancelled() and (error := answered.exception()) is not None:
            self._on_fault(error)

    def _desk(self, number: int, process: Process) -> "_Desk":
        return _Desk(
            number,
            process,
            partial(_serves, number, len(self._processes.started)),
            self._queue,
            self._subscriptions,
            self._counts,
            write_log=self._write_log,
            on_end=self._ended,
            on_fault=self._on_fault,
        )

    async def _begin(self, desk: "_Desk") -> None:
        """Has a worker take up its lanes. Returns when it has, or has ended, which `_ended` tells."""
        await desk.channel.open(desk.process.end)
        if not await _is_answered(desk.channel.call(WorkerSide.configure, self._settings)):
            return
        # Before this it knows no record, and afterwards it is told of each change.
        desk.is_told = True
        if await _is_answered(desk.channel.call(WorkerSide.start)):
            desk.started(self._resident_bytes(desk.process.pid))

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(ROUND_SECONDS)
            for desk in self._desks:
                self._check(desk)

    def _check(self, desk: "_Desk") -> None:
        """Ends a worker that was silent for too long, or keeps memory for nothing."""
        desk.count_round()
        if desk.idle_rounds >= IDLE_ROUNDS and desk.beginning is None and not desk.is_killed:
            grown = self._resident_bytes(desk.process.pid) - desk.resident_bytes
            if grown >= GROWN_BYTES:
                desk.beginning = self._tasks.start(self._renew(desk, grown))
        if desk.silent_rounds < self._silent_rounds_at_most(desk):
            return
        if desk.is_killed:  # a round ago, but the system has not closed its socket
            desk.channel.abort()
            return
        log.error(
            "worker.killed",
            worker=desk.number,
            pid=desk.process.pid,
            silent_seconds=desk.silent_rounds * ROUND_SECONDS,
            changes_waiting=self._changes_waiting,
        )
        self._meters.process_replaced("worker")
        desk.is_killed = True
        desk.process.kill()

    async def _renew(self, desk: "_Desk", grown: int) -> None:
        """Replaces a worker that works, after it has handed out nothing more."""
        log.info("worker.renewed", worker=desk.number, pid=desk.process.pid, grown_bytes=grown)
        desk.is_renewed = True
        if await _is_answered(desk.channel.call(WorkerSide.stop)) and not desk.is_killed:
            desk.is_killed = True
            desk.process.kill()

    def _silent_rounds_at_most(self, desk: "_Desk") -> int:
        if desk.told and self._changes_waiting:
            return WAITED_FOR_ROUNDS
        return SILENT_ROUNDS if desk.is_started else START_ROUNDS

    def _ended(self, desk: "_Desk") -> None:
        if self._tasks.stopping:
            return
        if not desk.is_killed:
            self._on_fault(WorkerEnded("a worker has ended: everything it had is in the file"))
            return
        try:
            process = self._processes.start_another()
        except OSError as error:
            self._on_fault(error)
            return
        other = self._desks[desk.number] = self._desk(desk.number, process)
        other.is_away = not desk.is_renewed
        log.info("worker.replaced", worker=desk.number, pid=process.pid)
        other.beginning = self._tasks.start(self._begin(other))


async def _is_answered(call: "asyncio.Future[Any]") -> bool:
    """Waits for the answer; False if the worker ended before. Raises what the worker raised."""
    await asyncio.wait([call])
    if call.cancelled():
        return False
    call.result()
    return True


class _Desk:
    """What one worker may ask for. Its methods are called from there."""

    def __init__(
        self,
        number: int,
        process: Process,
        serves: Callable[[LaneKey], bool],
        queue: DurableQueue,
        subscriptions: SqliteSubscriptions,
        counts: SuccessCounts,
        *,
        write_log: Callable[[bytes], None],
        on_end: Callable[["_Desk"], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.process = process
        self._serves = serves
        self._queue = queue
        self.waiting, self.envelope, self.settle = queue.waiting, queue.envelope, queue.settle
        self.nack, self.bury = queue.nack, queue.bury
        self.current, self.change_pace = subscriptions.current, subscriptions.change_pace
        self.add, self.since = counts.add, counts.since
        self._change_subscription = subscriptions.change_subscription
        self.log = write_log
        served: OwnerSide = self
        self.channel = Channel(
            served, on_end=partial(on_end, self), on_fault=on_fault, on_room=self._has_room
        )
        self.is_told = False
        """True once it may know records, so that it has to be told of changes."""
        self.told: set[asyncio.Future[Any]] = set()
        """Changes that it was told of, and has not answered."""
        self.is_started = False
        """True once it knows which lanes have work. What comes before that stays in the file."""
        self.is_away = False
        """True while it starts in place of one that did not answer."""
        self.beginning: asyncio.Task[None] | None = None
        """Has it begin, or end to be replaced."""
        self.is_renewed = False
        self.resident_bytes = 0
        """Its memory when it had started."""
        self._asked: asyncio.Future[Any] | None = None
        self.idle_rounds = 0
        self.silent_rounds = 0
        self.is_killed = False
        self._behind: set[LaneKey] = set()
        self._settled: list[int] = []

    def count_round(self) -> None:
        """Counts a round in which nothing came from the worker, and asks it again."""
        self.silent_rounds = 0 if self.channel.has_heard else self.silent_rounds + 1
        self.channel.has_heard = False
        asked = self._asked
        is_idle = asked is not None and asked.done() and not asked.cancelled() and asked.result() is True
        self.idle_rounds = self.idle_rounds + 1 if is_idle else 0
        self._asked = self.channel.call(WorkerSide.answer)

    def started(self, resident_bytes: int) -> None:
        """Has the worker read what came while it started; from now on it is sent what comes."""
        self.is_started, self.is_away = True, False
        self.resident_bytes = resident_bytes
        self.beginning = None
        self._has_room()

    def put(self, queued: Sequence[Queued]) -> None:
        """What does not fit in stays in the file, from where the worker reads on when it gets to it."""
        room = start = self.channel.room if self.is_started else 0
        sent: list[Queued] = []
        for entry in queued:
            if room > 0:
                sent.append(entry)
                room -= entry.size_now()
            else:
                self._behind.add(entry.receipt.key)
        if sent:
            self.channel.send_large(start - room, WorkerSide.put, sent)

    def read_on(self, keys: Sequence[LaneKey]) -> None:
        """Has the worker read these lanes on when it gets to them; at once if it has room."""
        self._behind.update(keys)
        if self.channel.room > 0:
            self._has_room()

    def _has_room(self) -> None:
        """Called before anything more is put, so that the worker reads what it was not sent first."""
        if self._behind and self.is_started:
            self.channel.send(WorkerSide.read_on, list(self._behind))
            self._behind.clear()

    async def lanes(self) -> list[LaneKey]:
        return [key for key in await self._queue.lanes() if self._serves(key)]

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        action: Action,
    ) -> Subscription:
        return await self._change_subscription(owner, subscriber_id, subscription_id, change, action=action)

    def delivered(self, rows: Sequence[Taken]) -> None:
        """Has them on their way to the file; the worker is told when they are there."""
        for part, future in self._queue.settle_taken(rows):
            future.add_done_callback(partial(self._are_settled, [position for _, _, position, *_ in part]))

    def _are_settled(self, positions: Sequence[int], future: "asyncio.Future[Any]") -> None:
        if (error := future.exception()) is not None:
            for position in positions:
                self.channel.send(WorkerSide.not_settled, position, error)
            return
        if not self._settled:
            asyncio.get_running_loop().call_soon(self._tell_settled)  # behind those of the same commit
        self._settled += positions

    def _tell_settled(self) -> None:
        self.channel.send(WorkerSide.settled, self._settled)
        self._settled = []


def _serves(number: int, of: int, key: LaneKey) -> bool:
    return key.subscription_no % of == number
