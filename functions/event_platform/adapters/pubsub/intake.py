"""Leaving events on a topic: the port `Intake` where fan-out is a function of its own."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from cachetools import TTLCache

from ...domain.errors import PublishFailed
from ...domain.events.event import Event
from ...domain.events.repetitions import RELAYED_SECONDS, REMEMBERED_SECONDS
from ...domain.messages.queue_messages import EVENTS_TOPIC, Accepted, events_messages
from ...domain.tenants import Way
from ...ports import Clock, Publisher

IDS_REMEMBERED = 200_000
"""About 40 MB of memory. Beyond it the oldest are forgotten, so that a repetition may fan out again."""

Key: TypeAlias = bytes
Failures: TypeAlias = Mapping[Key, PublishFailed]


class PubSubIntake:
    """The port `Intake`. The memory of ids is this instance's, as a write for each would cost too much.

    An id is remembered once its publish succeeded. Whoever brings an id that is being published waits for
    it and shares how it ends.
    """

    def __init__(
        self,
        publisher: Publisher,
        clock: Clock,
        *,
        topic: str = EVENTS_TOPIC,
        ids_remembered: int = IDS_REMEMBERED,
    ) -> None:
        self._publisher = publisher
        self._clock = clock
        self._topic = topic
        self._seen: TTLCache[Key, bool] = TTLCache(ids_remembered, REMEMBERED_SECONDS, clock.monotonic)
        self._relayed: TTLCache[Key, bool] = TTLCache(ids_remembered // 2, RELAYED_SECONDS, clock.monotonic)
        self._on_their_way: dict[Key, asyncio.Future[Failures]] = {}

    async def accept(self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS) -> None:
        """Port `Intake`. After PublishFailed a repetition publishes only what has not got there."""
        relayed = way is Way.RELAY
        if relayed:
            events = [event for event in events if _key(tenant, event.id) not in self._relayed]
        await self._accept(tenant, events)
        if relayed:
            self._relayed.update((_key(tenant, event.id), True) for event in events)

    async def _accept(self, tenant: str, events: Sequence[Event]) -> None:
        new: dict[Key, Event] = {}
        shared: dict[Key, asyncio.Future[Failures]] = {}
        for event in events:
            key = _key(tenant, event.id)
            if key in self._seen:
                continue
            if (other := self._on_their_way.get(key)) is not None:
                shared[key] = other
            else:
                new.setdefault(key, event)
        failures = list((await self._publish(tenant, new)).values()) if new else []
        for key, other in shared.items():
            ended = await asyncio.shield(other)  # who gives up waiting must not cancel it for the others
            failures += [error for failed, error in ended.items() if failed == key]
        if failures:
            raise PublishFailed(str(failures[0]), ())

    async def _publish(self, tenant: str, new: Mapping[Key, Event]) -> Failures:
        """Publishes and remembers the ids. Those who wait for the same id get its failure too."""
        ended: asyncio.Future[Failures] = asyncio.get_running_loop().create_future()
        self._on_their_way.update(dict.fromkeys(new, ended))
        interrupted = PublishFailed("the request that brought this id first was broken off", ())
        failures: Failures = dict.fromkeys(new, interrupted)
        try:
            failures = await self._publish_messages(tenant, new)
        finally:
            for key in new:
                del self._on_their_way[key]
            ended.set_result(failures)
        return failures

    async def _publish_messages(self, tenant: str, new: Mapping[Key, Event]) -> Failures:
        accepted = Accepted(tenant, self._clock.now(), list(new.values()))
        messages = list(events_messages(accepted))
        failed: tuple[int, ...] = ()
        failure: PublishFailed | None = None
        try:
            await self._publisher.publish(self._topic, [message for message, _ in messages])
        except PublishFailed as error:
            failed, failure = error.failed, error
        failures: dict[Key, PublishFailed] = {}
        for number, (_, events) in enumerate(messages):
            keys = [_key(tenant, event.id) for event in events]
            if failure is not None and number in failed:
                failures.update(dict.fromkeys(keys, failure))
            else:
                self._seen.update(dict.fromkeys(keys, True))
        return failures


def _key(tenant: str, event_id: str) -> Key:
    name = f"{tenant}\n{event_id}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=16).digest()
