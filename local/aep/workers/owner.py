"""The owner's side: hands queued deliveries out to the workers and does for them what needs the file."""

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from event_platform.domain.actions import Action
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.outcomes import Kind, Outcome
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.ports import SuccessCounts

from ..broker.dispatcher import DRAIN_SECONDS
from ..broker.queue import DurableQueue
from ..broker.rows import LaneKey, Queued, Receipt
from ..store.subscriptions import SqliteSubscriptions
from .channel import Channel

STOP_SECONDS = DRAIN_SECONDS + 1.0
"""What a worker gets to drain; then it is killed, and what it had comes again after the next start."""

Delivered = tuple[int, int, int, int, str, float]
"""What a receiver took: the receipt's numbers, the subscription's id, when it was accepted (unix seconds)."""
_TAKEN = Outcome(Kind.DELIVERED, None)


class WorkerEnded(Exception):
    """Raised when a worker's process is gone that should run."""


class Workers:
    """The live side of the broker in other processes: in place of a `Dispatcher`.

    Subscriptions are dealt out by their numbers, so a lane, a rate and the counts of a series are in one
    worker. Tells the workers of changed records too, as `SqliteSubscriptions.copies`.
    """

    def __init__(
        self,
        ends: Sequence[socket.socket],
        queue: DurableQueue,
        subscriptions: SqliteSubscriptions,
        counts: SuccessCounts,
        *,
        write_log: Callable[[bytes], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._ends = ends
        self._queue = queue
        self._subscriptions = subscriptions
        self._counts = counts
        self._write_log = write_log
        self._on_fault = on_fault
        self._stopping = False
        self._desks: list[_Desk] = []
        self._told: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        """Lets the workers go on with what the file holds, once `put` is told of what comes."""
        for number, end in enumerate(self._ends):
            serves = partial(_serves, number, len(self._ends))
            desk = _Desk(
                serves,
                self._queue,
                self._subscriptions,
                self._counts,
                write_log=self._write_log,
                on_end=self._ended,
                on_fault=self._on_fault,
            )
            self._desks.append(desk)
            await desk.channel.open(end)
        # What comes now must not overtake what waited: a worker knows its lanes before it is told of more.
        started = [desk.channel.call("start") for desk in self._desks]
        await asyncio.wait(started)
        for each in started:
            if not each.cancelled():  # else the worker has ended, which `_ended` tells
                each.result()

    async def stop(self) -> None:
        """Has the workers hand out nothing more, waits for what they handed out, and lets go of them."""
        self._stopping = True
        if stopped := [desk.channel.call("stop") for desk in self._desks]:
            done, _ = await asyncio.wait(stopped, timeout=STOP_SECONDS)
            for each in done:
                self._tell_fault(each)
        for desk in self._desks:
            desk.channel.close()

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
        self._tell("remember", subscriptions)

    def forgotten(self, ids: Sequence[str]) -> None:
        """As `Copies`."""
        self._tell("forget", ids)

    async def in_force(self) -> None:
        """As `Copies`: also when a worker has ended, which sends nothing more."""
        if self._told:
            await asyncio.wait(self._told)

    def _tell(self, method: str, what: Sequence[Any]) -> None:
        for desk in self._desks:
            self._told.add(told := desk.channel.call(method, what))
            told.add_done_callback(self._is_told)

    def _is_told(self, told: "asyncio.Future[Any]") -> None:
        self._told.discard(told)
        self._tell_fault(told)

    def _tell_fault(self, answered: "asyncio.Future[Any]") -> None:
        """Of a call to a worker; it is cancelled when the worker has ended, which `_ended` tells."""
        if not answered.cancelled() and (error := answered.exception()) is not None:
            self._on_fault(error)

    def _ended(self) -> None:
        if not self._stopping:
            self._on_fault(WorkerEnded("a worker has ended: everything it had is in the file"))


class _Desk:
    """What one worker may ask for. Its methods are called from there."""

    def __init__(
        self,
        serves: Callable[[LaneKey], bool],
        queue: DurableQueue,
        subscriptions: SqliteSubscriptions,
        counts: SuccessCounts,
        *,
        write_log: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_fault: Callable[[BaseException], None],
    ) -> None:
        self._serves = serves
        self._queue = queue
        self.waiting, self.envelope, self.settle = queue.waiting, queue.envelope, queue.settle
        self.nack, self.bury = queue.nack, queue.bury
        self.current, self.change_pace = subscriptions.current, subscriptions.change_pace
        self.add, self.since = counts.add, counts.since
        self._change_subscription = subscriptions.change_subscription
        self.log = write_log
        self.channel = Channel(self, on_end=on_end, on_fault=on_fault, on_room=self._has_room)
        self._behind: set[LaneKey] = set()
        self._settled: list[int] = []

    def put(self, queued: Sequence[Queued]) -> None:
        """What does not fit in stays in the file, from where the worker reads on when it gets to it."""
        room = start = self.channel.room
        sent: list[Queued] = []
        for entry in queued:
            if room > 0:
                sent.append(entry)
                room -= entry.size_now()
            else:
                self._behind.add(entry.receipt.key)
        if sent:
            self.channel.tell("put", sent, size=start - room)

    def read_on(self, keys: Sequence[LaneKey]) -> None:
        """Has the worker read these lanes on when it gets to them; at once if it has room."""
        self._behind.update(keys)
        if self.channel.room > 0:
            self._has_room()

    def _has_room(self) -> None:
        """Called before anything more is put, so that the worker reads what it was not sent first."""
        if self._behind:
            self.channel.tell("read_on", list(self._behind))
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

    def delivered(self, rows: Iterable[Delivered]) -> None:
        """Has them on their way to the file; the worker is told when they are there."""
        for number, lane, position, event_no, subscription_id, accepted_at in rows:
            accepted = datetime.fromtimestamp(accepted_at, UTC)
            receipt = Receipt(LaneKey(number, lane), position, event_no)
            delivery = Delivery(subscription_id, "", "", accepted, lane, 0, 0, b"", receipt=receipt)
            future = self._queue.settle_soon(Settlement(delivery, _TAKEN))
            future.add_done_callback(partial(self._is_settled, position))

    def _is_settled(self, position: int, future: "asyncio.Future[Any]") -> None:
        if (error := future.exception()) is not None:
            self.channel.tell("not_settled", position, error)
            return
        if not self._settled:
            asyncio.get_running_loop().call_soon(self._tell_settled)  # behind those of the same commit
        self._settled.append(position)

    def _tell_settled(self) -> None:
        self.channel.tell("settled", self._settled)
        self._settled = []


def _serves(number: int, of: int, key: LaneKey) -> bool:
    return key.subscription_no % of == number
