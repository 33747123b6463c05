"""Due retries back to their lanes: published first, then deleted, so that a crash repeats and never loses.

What cannot go back now stays on the schedule and is passed over, so that nothing waits behind it. What never
can becomes a dead letter: an entry that cannot be read, and one whose topic is gone.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from ..domain.errors import PublishFailed, StoreUnavailable, TopicMissing, Unavailable
from ..domain.messages.message import Message
from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_message
from ..ports import Clock, Due, Publisher, RetrySchedule
from ..push import Pushed, dead_letter

log = structlog.get_logger()

BEGINNING_SECONDS = 40.0
"""No page is begun later than this after the tick: a minute after it comes the next."""
LEASE_SECONDS = 180.0
"""Longer than BEGINNING_SECONDS and the patience of the calls of one page together."""
FIRST_PAGE = 32
MOST_OF_A_PAGE = 200
PAGE_BYTES = 32_000_000
"""Bytes of bodies that a page should hold; the page before shows how many entries that is."""
MOST_PASSED_OVER = 5000
"""Entries that could not go back, after which a tick leaves a shard: each of them is read at every tick."""


@dataclass(frozen=True, slots=True)
class _Page:
    """The result of a page: how many went back or were made dead letters, and what did not, and why."""

    returned: int
    passed_over: int
    failure: PublishFailed | None


async def requeue_due(schedule: RetrySchedule, *, publisher: Publisher, clock: Clock, project: str) -> int:
    """Runs one tick. Returns how many deliveries went back to their lanes.

    A shard is worked off under its lease, so ticks that overlap never put one entry back twice. What fails in
    a shard is left for the next tick, and its first error is raised once the other shards are done. `project`
    is Google's, for the dead letters.
    """
    end = clock.monotonic() + BEGINNING_SECONDS
    shards = list(range(schedule.shards))
    random.shuffle(shards)  # ticks that overlap then work beside each other
    tick = _Tick(schedule, publisher, clock, project, end)
    failure: Unavailable | None = None
    for shard in shards:
        if clock.monotonic() >= end:
            break
        try:
            await tick.requeue_shard(shard)
        except (StoreUnavailable, PublishFailed) as error:
            log.warning("retries.shard_failed", shard=shard, error=str(error))
            failure = failure or error
    log.info("retries.put_back", deliveries=tick.returned)
    if failure is not None:
        raise failure
    return tick.returned


@dataclass(slots=True)
class _Tick:
    """One run over the shards; `end` is by the monotonic clock."""

    schedule: RetrySchedule
    publisher: Publisher
    clock: Clock
    project: str
    end: float
    returned: int = 0

    async def requeue_shard(self, shard: int) -> None:
        """Raises the first PublishFailed once the shard is worked off, and StoreUnavailable at once."""
        # A read costs less than a lease, and most ticks find nothing.
        if not await self.schedule.due(shard, 1):
            return
        if not await self.schedule.lease(shard, LEASE_SECONDS):
            return
        failure: PublishFailed | None = None
        passed_over, limit, after = 0, FIRST_PAGE, ""
        try:
            while self.clock.monotonic() < self.end and passed_over < MOST_PASSED_OVER:
                found = await self.schedule.due(shard, limit, after)
                if found:
                    page = await self._requeue_page(found)
                    self.returned += page.returned
                    passed_over += page.passed_over
                    failure = failure or page.failure
                    after = found[-1].place
                if len(found) < limit:
                    break
                limit = _limit_after(found)
        finally:
            await self.schedule.release(shard)
        if failure is not None:
            raise failure

    async def _requeue_page(self, page: Sequence[Due]) -> _Page:
        """Publishes each entry to the topic that it came from."""
        by_topic: dict[str, list[Due]] = {}
        unreadable: list[Due] = []
        for due in page:
            if due.delivery is None:
                unreadable.append(due)
            else:
                by_topic.setdefault(str(due.delivery.receipt), []).append(due)
        parts = [self._requeue(topic, entries) for topic, entries in by_topic.items()]
        if unreadable:
            parts.append(self._dead_letter(unreadable, "the entry of the retry schedule cannot be read"))
        done = await asyncio.gather(*parts)
        return _Page(
            sum(part.returned for part in done),
            sum(part.passed_over for part in done),
            next((part.failure for part in done if part.failure is not None), None),
        )

    async def _requeue(self, topic: str, entries: Sequence[Due]) -> _Page:
        messages = [delivery_message(due.delivery) for due in entries if due.delivery is not None]
        try:
            await self.publisher.publish(topic, messages)
        except TopicMissing as error:
            return await self._dead_letter(entries, str(error))
        except PublishFailed as error:
            return await self._remove_published(entries, error)
        return await self._remove_published(entries, None)

    async def _dead_letter(self, entries: Sequence[Due], reason: str) -> _Page:
        letters = [self._letter(due, reason) for due in entries]
        try:
            await self.publisher.publish(DEAD_LETTERS_TOPIC, letters)
        except PublishFailed as error:
            return await self._remove_published(entries, error)
        for due in entries:
            log.error("message.dead_lettered", path="retries", message_id=due.entry, reason=reason)
        await self.schedule.remove([due.entry for due in entries])
        return _Page(0, 0, None)

    async def _remove_published(self, entries: Sequence[Due], failure: PublishFailed | None) -> _Page:
        failed = frozenset(failure.failed if failure is not None else ())
        published = [due.entry for place, due in enumerate(entries) if place not in failed]
        await self.schedule.remove(published)
        return _Page(len(published), len(failed), failure)

    def _letter(self, due: Due, reason: str) -> Message:
        """A push subscription has the name of its topic, so that a replay finds the way back."""
        if due.delivery is None:
            return dead_letter(Pushed(due.remnant or Message(b"", {}), due.entry, ""), reason)
        origin = f"projects/{self.project}/subscriptions/{due.delivery.receipt}"
        return dead_letter(Pushed(delivery_message(due.delivery), due.entry, origin), reason)


def _limit_after(page: Sequence[Due]) -> int:
    """Returns how many entries of the size of this page's the next one may hold."""
    size = sum(len(due.delivery.body) for due in page if due.delivery is not None)
    return min(MOST_OF_A_PAGE, max(1, PAGE_BYTES * len(page) // max(1, size)))
