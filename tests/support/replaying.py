"""One machine's queue with real delivery to a receiver of the test, replays and catching up."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import uuid_utils

from aep.broker.replays import Replayer, SqliteReplays
from event_platform.deliver import deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.deliveries import DeliverPolicy
from event_platform.domain.record.actions import BY_THE_PLATFORM
from event_platform.domain.replays import Replay, ReplayRequest, Which
from event_platform.domain.subscriptions import Owner, Subscription, resume, suspend
from support.clock import START
from support.embedded import Broker
from support.records import OWNER
from support.senders import https_by

ROUNDS = 4_000
LEFT = ("accepted", "snapshots", "events", "event_uses", "deliveries", "retries")
RETRY_SECONDS = (3, 6, 12)


@dataclass(frozen=True, slots=True)
class Got:
    """A request that the receiver got."""

    subscription_id: str
    event_id: str
    replay_id: str | None
    body: dict[str, Any]


@dataclass
class Receiver:
    """The port `Sender`: notes what it gets, and answers by `answers`, 200 by default."""

    answers: Callable[[Got], int] = lambda got: 200
    got: list[Got] = field(default_factory=list[Got])
    taken: list[Got] = field(default_factory=list[Got])
    """The calls that were answered 200."""
    takes: int | None = None
    """The requests that are answered; the next ones have to wait for ever, unless it is None."""

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Answer:
        event = orjson.loads(body)
        got = Got(event["subject"], event["id"], dict(headers).get("X-Event-Platform-Replay"), event)
        self.got.append(got)
        if self.takes is not None and len(self.taken) >= self.takes:
            await asyncio.Event().wait()
        status = self.answers(got)
        if status == 200:
            self.taken.append(got)
        return Answer(status)

    def of(self, subscription: Subscription) -> list[str]:
        """The ids of events that were taken for the subscription, in their order."""
        return [got.event_id for got in self.taken if got.subscription_id == subscription.id]


class Replaying(Broker):
    """The queue of one machine, started by `run`, with replays and catching up."""

    def __init__(self, folder: Path, receiver: Receiver, *, max_age: timedelta = timedelta(days=3)) -> None:
        self.replayer: Replayer | None = None
        super().__init__(folder)
        self.receiver = receiver
        self._max_age = max_age

    async def run(self) -> "Replaying":
        policy = DeliverPolicy([timedelta(seconds=each) for each in RETRY_SECONDS], self._max_age, 5)
        handler = partial(
            deliver,
            subscriptions=self.subscriptions,
            senders=https_by(self.receiver),
            clock=self.clock,
            policy=policy,
            egress=Egress(),
        )
        await self.start(handler)
        replayer = self.replayer = Replayer(
            self.database, self.subscriptions, self.intake, self.clock, on_fault=self.faults.append
        )
        self.subscriptions.on_change.append(replayer.look)
        self.replays = SqliteReplays(
            self.database, self.subscriptions, self.intake, keeps=True, look=replayer.look
        )
        await replayer.start()
        return self

    async def run_again(self) -> None:
        """Ends as a crash does, and goes on with the same folder."""
        await self.close()
        self.receiver.takes = None
        self._open()
        await self.run()

    async def stop(self) -> None:
        if self.replayer is not None:
            await self.replayer.stop()
        await super().stop()

    async def until(self, condition: Callable[[], bool], step: float = 0.1) -> None:
        """Moves the clock until the condition is true."""
        for _ in range(ROUNDS):
            if condition():
                return
            await self.clock.advance(step)
        raise AssertionError("it did not become true")

    async def one(self, **more: Any) -> Subscription:
        """Adds a subscription."""
        (subscription,) = await self.subscribe(**more)
        return subscription

    async def change(
        self,
        subscription: Subscription,
        change: Callable[[Subscription], Subscription],
        *,
        catch_up: bool | None = None,
    ) -> Subscription:
        return await self.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, change, catch_up=catch_up
        )

    async def suspend(self, subscription: Subscription) -> None:
        await self.change(subscription, partial(suspend, now=self.clock.now()))

    async def resume(self, subscription: Subscription, *, catch_up: bool | None = None) -> None:
        await self.change(subscription, partial(resume, now=self.clock.now()), catch_up=catch_up)

    async def replay(
        self, subscription: Subscription, *, which: Which = Which.UNDELIVERED, **asked: Any
    ) -> str:
        """Starts a replay of all that is kept, or of what is asked; returns its id."""
        if "event_ids" not in asked:
            asked = {"since": START} | asked
        request = ReplayRequest(asked.pop("since", None), which=which, **asked)
        replay = Replay(str(uuid_utils.uuid7()), subscription.id, request, self.clock.now())
        await self.replays.start(OWNER, subscription.subscriber_id, replay, action=BY_THE_PLATFORM)
        return replay.id

    async def shown(self, subscription: Subscription, replay_id: str) -> tuple[str, int | None, int, int]:
        """Status, events, delivered and ended of a replay."""
        found = await self.replays.replay(subscription.id, replay_id)
        return found.status, found.events, found.delivered, found.ended

    async def ended(self, subscription: Subscription, replay_id: str) -> tuple[str, int | None, int, int]:
        """The same once it does not run any more."""
        for _ in range(ROUNDS):
            shown = await self.shown(subscription, replay_id)
            if shown[0] != "running":
                return shown
            await self.clock.advance(0.1)
        raise AssertionError("it still runs")

    async def is_catching_up(self) -> bool:
        return bool(await self.rows("SELECT 1 FROM replays WHERE kind = 'catch_up'"))

    async def caught_up(self) -> None:
        """Moves the clock until nothing catches up any more."""
        for _ in range(ROUNDS):
            if not await self.is_catching_up():
                return
            await self.clock.advance(0.1)
        raise AssertionError("it still catches up")

    async def settled(self) -> None:
        """Moves the clock until nothing of a delivery is left."""
        for _ in range(ROUNDS):
            if sum([await self.count(table) for table in LEFT]) == 0:
                return
            await self.clock.advance(0.1)
        raise AssertionError("something is left")

    async def log_entries(self) -> list[tuple[str, str, int]]:
        return await self.rows(
            "SELECT subscription_id, operation, occurrences FROM log_entries WHERE log_type = 'error'"
        )
