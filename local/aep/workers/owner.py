"""The owner's side: hands queued deliveries out to the workers and does the work on the file for them.

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
"""The seconds of a round, in which each worker is asked for an answer.

Silence is counted in rounds, not by a clock: a time in which the owner itself or the whole machine stood
still is one round.
"""
SILENT_ROUNDS = 15
"""The silent rounds after which a worker is killed and replaced."""
WAITED_FOR_ROUNDS = 5
"""The silent rounds if somebody waits until the worker has a change; then the platform is not ready."""
START_ROUNDS = 60
"""The silent rounds that a worker has to start."""

IDLE_ROUNDS = 10
GROWN_BYTES = 32 * 1024 * 1024
"""The growth in bytes for which a worker that was idle for IDLE_ROUNDS is replaced.

Python keeps the memory of freed objects for others of their size, so the memory of a crowd would stay.
"""

FEW = 8
"""The deliveries that a worker need not know at once to be settled: none of its lanes waits for so few."""

log = structlog.get_logger()


class WorkerEnded(Exception):
    """Raised when the process of a worker that should run has ended."""


class Process(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int: ...

    @property
    def end(self) -> socket.socket:
        """The owner's end of the socket to it."""
        ...

    def kill(self) -> None:
        """Kills the process, whatever it does."""
        ...


class Processes(Protocol):
    """The processes that deliver for this owner."""

    @property
    def started(self) -> Sequence[Process]: ...

    def start_another(self) -> Process:
        """Starts one in place of one that was killed. Raises OSError."""
        ...


class Workers:
    """The live side of the broker in other processes, in place of a `Dispatcher`.

    Each worker has the subscriptions whose numbers fall to it, so a lane, a rate and the counts of a series
    are in one worker. Sends the workers changed records too, as `SqliteSubscriptions.copies`.
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
        self._workers: list[_Worker] = []
        self._changes_waiting = 0

    async def start(self) -> None:
        """Has the workers continue with what the file holds; from now on `put` gets what comes."""
        processes = self._processes.started
        self._workers = [self._new_worker(number, process) for number, process in enumerate(processes)]
        self._watching = self._tasks.start(self._watch())
        await asyncio.gather(*map(self._begin, self._workers))

    async def stop(self) -> None:
        """Has the workers hand out nothing more, waits for what they handed out and closes the channels."""
        self._tasks.stopping = True
        if self._watching is not None:
            self._watching.cancel()
        if stopped := [
            worker.channel.call(WorkerSide.stop) for worker in self._workers if worker.gets_changes
        ]:
            done, _ = await asyncio.wait(stopped, timeout=WORKER_SECONDS)
            for each in done:
                self._report_fault(each)
        for worker in self._workers:
            if worker.beginning is not None:
                worker.beginning.cancel()
            worker.channel.close()

    def problem(self) -> str | None:
        """Returns what keeps deliveries from being made now, in one line; None if nothing does."""
        silent = sum(worker.is_away or worker.silent_rounds >= WAITED_FOR_ROUNDS for worker in self._workers)
        return (
            f"{silent} of {len(self._workers)} workers do not answer; they are replaced" if silent else None
        )

    def put(self, queued: Sequence[Queued]) -> None:
        """Hands deliveries that came into their lanes to the workers of these lanes."""
        if len(self._workers) == 1:
            self._workers[0].put(queued)
            return
        for number, worker in enumerate(self._workers):
            own = [entry for entry in queued if _serves(number, len(self._workers), entry.receipt.key)]
            if own:
                worker.put(own)

    def read_more(self, keys: Sequence[LaneKey]) -> None:
        """Has the workers read these lanes, in which more waits than they were sent."""
        for number, worker in enumerate(self._workers):
            own = [key for key in keys if _serves(number, len(self._workers), key)]
            if own:
                worker.read_more(own)

    def changed(self, subscriptions: Sequence[Subscription]) -> None:
        """Sends the workers the changed subscriptions, as `Copies` says."""
        self._send_change(WorkerSide.remember, subscriptions)

    def forgotten(self, ids: Sequence[str]) -> None:
        """Has the workers forget these subscriptions, as `Copies` says."""
        self._send_change(WorkerSide.forget, ids)

    async def in_force(self) -> None:
        """Waits as `Copies` does; also ends when a worker has ended, which sends nothing more.

        A worker that does not answer is killed first, within WAITED_FOR_ROUNDS.
        """
        if unanswered := [each for worker in self._workers for each in worker.unanswered_changes]:
            self._changes_waiting += 1
            try:
                await asyncio.wait(unanswered)
            finally:
                self._changes_waiting -= 1

    def _send_change(self, method: Callable[[Any, Sequence[T]], None], what: Sequence[T]) -> None:
        for worker in self._workers:
            if worker.gets_changes:
                worker.unanswered_changes.add(change := worker.channel.call(method, what))
                change.add_done_callback(partial(self._change_answered, worker))

    def _change_answered(self, worker: "_Worker", change: "asyncio.Future[Any]") -> None:
        worker.unanswered_changes.discard(change)
        self._report_fault(change)

    def _report_fault(self, answered: "asyncio.Future[Any]") -> None:
        """Reports the error of a call to a worker; `_ended` reports a worker that ended and so cancels it."""
        if not answered.cancelled() and (error := answered.exception()) is not None:
            self._on_fault(error)

    def _new_worker(self, number: int, process: Process) -> "_Worker":
        return _Worker(
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

    async def _begin(self, worker: "_Worker") -> None:
        """Has a worker take up its lanes. Returns when it has, or has ended, which `_ended` reports."""
        await worker.channel.open(worker.process.end)
        if not await _is_answered(worker.channel.call(WorkerSide.configure, self._settings)):
            return
        # Before this it knows no record, and afterwards it gets each change.
        worker.gets_changes = True
        if await _is_answered(worker.channel.call(WorkerSide.start)):
            worker.started(self._resident_bytes(worker.process.pid))

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(ROUND_SECONDS)
            for worker in self._workers:
                self._check(worker)

    def _check(self, worker: "_Worker") -> None:
        """Kills a worker that was silent for too long; replaces one that is idle and has grown."""
        worker.count_round()
        if worker.idle_rounds >= IDLE_ROUNDS and worker.beginning is None and not worker.is_killed:
            grown = self._resident_bytes(worker.process.pid) - worker.resident_bytes
            if grown >= GROWN_BYTES:
                worker.beginning = self._tasks.start(self._renew(worker, grown))
        if worker.silent_rounds < self._silent_rounds_at_most(worker):
            return
        if worker.is_killed:  # a round ago, but the system has not closed its socket
            worker.channel.abort()
            return
        log.error(
            "worker.killed",
            worker=worker.number,
            pid=worker.process.pid,
            silent_seconds=worker.silent_rounds * ROUND_SECONDS,
            changes_waiting=self._changes_waiting,
        )
        self._meters.process_replaced("worker")
        worker.is_killed = True
        worker.process.kill()

    async def _renew(self, worker: "_Worker", grown: int) -> None:
        """Replaces an idle worker, after it has stopped handing out deliveries."""
        log.info("worker.renewed", worker=worker.number, pid=worker.process.pid, grown_bytes=grown)
        worker.is_renewed = True
        if await _is_answered(worker.channel.call(WorkerSide.stop)) and not worker.is_killed:
            worker.is_killed = True
            worker.process.kill()

    def _silent_rounds_at_most(self, worker: "_Worker") -> int:
        if worker.unanswered_changes and self._changes_waiting:
            return WAITED_FOR_ROUNDS
        return SILENT_ROUNDS if worker.is_started else START_ROUNDS

    def _ended(self, worker: "_Worker") -> None:
        if self._tasks.stopping:
            return
        if not worker.is_killed:
            self._on_fault(WorkerEnded("a worker has ended: everything it had is in the file"))
            return
        try:
            process = self._processes.start_another()
        except OSError as error:
            self._on_fault(error)
            return
        other = self._workers[worker.number] = self._new_worker(worker.number, process)
        other.is_away = not worker.is_renewed
        log.info("worker.replaced", worker=worker.number, pid=process.pid)
        other.beginning = self._tasks.start(self._begin(other))


async def _is_answered(call: "asyncio.Future[Any]") -> bool:
    """Waits for the answer; False if the worker ended before. Raises what the worker raised."""
    await asyncio.wait([call])
    if call.cancelled():
        return False
    call.result()
    return True


class _Worker:
    """One worker, as the owner sees it. It serves the calls of its process (`OwnerSide`)."""

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
        on_end: Callable[["_Worker"], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self.number = number
        self.process = process
        self._serves = serves
        self._queue = queue
        self.waiting, self.envelope, self.settle = queue.waiting, queue.envelope, queue.settle
        self.nack, self.dead_letter = queue.nack, queue.dead_letter
        self.current, self.change_pace = subscriptions.current, subscriptions.change_pace
        self.add, self.since = counts.add, counts.since
        self._change_subscription = subscriptions.change_subscription
        self.log = write_log
        served: OwnerSide = self
        self.channel = Channel(
            served, on_end=partial(on_end, self), on_fault=on_fault, on_room=self._has_room
        )
        self.gets_changes = False
        """True once it may know records, so that it has to get their changes."""
        self.unanswered_changes: set[asyncio.Future[Any]] = set()
        """The changes that were sent to it and that it has not answered."""
        self.is_started = False
        """True once it knows which lanes have work. What comes before that stays in the file."""
        self.is_away = False
        """True while it starts in place of one that did not answer."""
        self.beginning: asyncio.Task[None] | None = None
        """The task that starts it, or that ends it to replace it."""
        self.is_renewed = False
        self.resident_bytes = 0
        """The bytes of its memory when it had started."""
        self._asked: asyncio.Future[Any] | None = None
        self.idle_rounds = 0
        self.silent_rounds = 0
        self.is_killed = False
        self._behind: set[LaneKey] = set()

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
        """Sends what the channel has room for; the worker reads the rest from the file when it gets there."""
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

    def read_more(self, keys: Sequence[LaneKey]) -> None:
        """Has the worker read more of these lanes: now if the channel has room, else once it has."""
        self._behind.update(keys)
        if self.channel.room > 0:
            self._has_room()

    def _has_room(self) -> None:
        """Has the worker read what it was not sent. Called before more is put, so that the order is kept."""
        if self._behind and self.is_started:
            self.channel.send(WorkerSide.read_more, list(self._behind))
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

    def delivered(self, number: int, rows: Sequence[Taken]) -> None:
        """Submits the removal of deliveries that were taken; the worker is notified when it is committed."""
        parts = [future for _, future in self._queue.settle_taken(rows)]
        together = parts[0] if len(parts) == 1 else asyncio.gather(*parts)
        together.add_done_callback(partial(self._settled, number, len(rows)))

    def _settled(self, number: int, size: int, future: "asyncio.Future[Any]") -> None:
        if (error := future.exception()) is not None:  # of one part; settling the others again is no harm
            self.channel.send(WorkerSide.not_settled, number, error)
        elif size < FEW:
            self.channel.send_with_next(WorkerSide.settled, number)
        else:
            self.channel.send(WorkerSide.settled, number)


def _serves(number: int, of: int, key: LaneKey) -> bool:
    return key.subscription_no % of == number
