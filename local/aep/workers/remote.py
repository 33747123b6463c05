"""A worker's view of the store: the same ports, each call done by the owner of the file."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NoReturn, Protocol

from event_platform.domain.deliveries import Settlement
from event_platform.domain.events.event import Envelope
from event_platform.domain.record.actions import BY_THE_PLATFORM, Action
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.domain.suspension import Count, Series
from event_platform.settings import Settings

from ..broker.queued import LaneKey, Queued, Taken, receipt_of
from ..store.current import CurrentSubscriptions
from .channel import Channel
from .sides import OwnerSide, WorkerSide

GATHERED_FOR_SECONDS = 0.002
"""The least time between two messages about taken deliveries, which are gathered meanwhile: each message
wakes the owner up. After a longer rest the first is sent at once."""


class Live(Protocol):
    """The worker's dispatcher."""

    @property
    def is_idle(self) -> bool: ...

    async def start(self) -> None: ...

    def put(self, queued: Sequence[Queued]) -> None: ...

    def read_more(self, keys: Sequence[LaneKey]) -> None: ...

    async def stop(self) -> None: ...


class RemoteStore:
    """`LaneQueue`, `SubscriptionLookup`, `Paces`, `SubscriptionChanges` and `SuccessCounts` of a worker."""

    def __init__(self, on_end: Callable[[], None], on_fault: Callable[[BaseException], None]) -> None:
        self.start: Callable[[], Awaitable[None]] = _unserved
        self.stop: Callable[[], Awaitable[None]] = _unserved
        self.put: Callable[[Sequence[Queued]], None] = _unserved
        self.read_more: Callable[[Sequence[LaneKey]], None] = _unserved
        served: WorkerSide = self
        self.channel = Channel(served, on_end=on_end, on_fault=on_fault)
        self._current = CurrentSubscriptions()
        self._loop = asyncio.get_running_loop()
        self._taken: list[Taken] = []
        """The deliveries that are gathered."""
        self._together: asyncio.Future[None] = self._loop.create_future()
        """The settlement of all that are gathered."""
        self._sent_at = -math.inf
        self._numbers = count()
        self._settling: dict[int, asyncio.Future[None]] = {}
        self.settings: asyncio.Future[Settings] = self._loop.create_future()
        self._live: Live | None = None
        self._is_served = asyncio.Event()

    def serve(self, live: Live, stop: Callable[[], Awaitable[None]]) -> None:
        """Serves the calls of the owner that are not about records."""
        self._live = live
        self.start, self.put, self.read_more, self.stop = live.start, live.put, live.read_more, stop
        self._is_served.set()

    async def configure(self, settings: Settings) -> None:
        """Has the worker built by these settings; answered when it may be started."""
        self.settings.set_result(settings)
        await self._is_served.wait()

    def answer(self) -> bool:
        """True if the worker is idle. Any answer shows that this process runs."""
        return self._live is not None and self._live.is_idle

    # LaneQueue

    async def lanes(self) -> Sequence[LaneKey]:
        return await self.channel.call(OwnerSide.lanes)

    async def waiting(self, key: LaneKey, after: int, limit: int, room: int) -> Sequence[Queued]:
        return await self.channel.call(OwnerSide.waiting, key, after, limit, room)

    async def envelope(self, event_no: int) -> Envelope:
        return await self.channel.call(OwnerSide.envelope, event_no)

    async def settle(self, settlement: Settlement) -> None:
        if settlement.is_delivered:
            await asyncio.shield(self.settle_soon(settlement))
        else:
            delivery = replace(settlement.delivery, body=b"")  # the owner has it
            await self.channel.call(
                OwnerSide.settle, replace(settlement, delivery=delivery, tried_under=None)
            )

    def settle_soon(self, settlement: Settlement) -> "asyncio.Future[None]":
        """Has the owner remove a taken delivery; the future is shared with those that travel with it."""
        delivery = settlement.delivery
        key, position, event_no = receipt_of(delivery)
        outcome = settlement.outcome
        row = (
            key.subscription_no, key.lane, position, event_no, delivery.subscription_id,
            delivery.waits_since.timestamp(), outcome and outcome.status, settlement.milliseconds,
        )  # fmt: skip
        self._taken.append(row)
        together = self._together
        if len(self._taken) == 1:
            seconds = self._sent_at + GATHERED_FOR_SECONDS - self._loop.time()
            if seconds > 0:
                self._loop.call_later(seconds, self._send_taken)
            else:
                self._send_taken()
        return together

    async def nack(self, queued: Queued) -> None:
        await self.channel.call(OwnerSide.nack, queued)

    async def dead_letter(self, queued: Queued, error: str) -> None:
        await self.channel.call(OwnerSide.dead_letter, queued, error)

    # The records

    async def current(self, subscription_id: str) -> Subscription | None:
        known = self._current.by_id.get(subscription_id)
        if known is not None:
            return known
        return await self._current.read(
            subscription_id, lambda: self.channel.call(OwnerSide.current, subscription_id)
        )

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        await self.channel.call(OwnerSide.change_pace, subscription_id, change)

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action = BY_THE_PLATFORM,
    ) -> Subscription:
        return await self.channel.call(
            OwnerSide.change_subscription, owner, subscriber_id, subscription_id, change, action
        )

    # SuccessCounts

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        await self.channel.call(OwnerSide.add, counts)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        return await self.channel.call(OwnerSide.since, series, minute)

    # Told by the owner

    def remember(self, subscriptions: Sequence[Subscription]) -> None:
        self._current.remember(subscriptions)

    def forget(self, ids: Sequence[str]) -> None:
        self._current.forget(ids)

    def settled(self, number: int) -> None:
        together = self._settling.pop(number)
        if not together.cancelled():
            together.set_result(None)

    def not_settled(self, number: int, error: BaseException) -> None:
        together = self._settling.pop(number)
        if not together.cancelled():
            together.set_exception(error)

    def _send_taken(self) -> None:
        number = next(self._numbers)
        self._settling[number] = self._together
        self.channel.send_now(OwnerSide.delivered, number, self._taken)
        self._taken, self._together = [], self._loop.create_future()
        self._sent_at = self._loop.time()


def _unserved(*arguments: object) -> NoReturn:
    raise AssertionError("the owner begins once `configure` was answered")
