"""Due retries back to their lanes: published first, then deleted, so that a crash repeats and never loses."""

import asyncio
import random
from collections.abc import Sequence

import structlog

from ..domain.errors import PublishFailed, StoreUnavailable, Unavailable
from ..domain.queue_messages import delivery_message
from ..ports import Clock, Due, Publisher, RetrySchedule

log = structlog.get_logger()

BEGINNING_SECONDS = 40.0
"""No page is begun later than this after the tick: a minute after it comes the next."""
LEASE_SECONDS = 180.0
"""Longer than BEGINNING_SECONDS and the patience of the calls of one page together."""
PAGE = 200


async def put_back(schedule: RetrySchedule, *, publisher: Publisher, clock: Clock) -> int:
    """One tick: how many deliveries went back to their lanes.

    A shard is worked off under its lease, so ticks that overlap never put one entry back twice. What fails in
    a shard is left for the next tick, and its first error is raised once the other shards are done.
    """
    end = clock.monotonic() + BEGINNING_SECONDS
    shards = list(range(schedule.shards))
    random.shuffle(shards)  # ticks that overlap then work beside each other
    returned = 0
    failure: Unavailable | None = None
    for shard in shards:
        if clock.monotonic() >= end:
            break
        try:
            returned += await _put_back_shard(shard, schedule, publisher, clock, end)
        except (StoreUnavailable, PublishFailed) as error:
            log.warning("retries.shard_failed", shard=shard, error=str(error))
            failure = failure or error
    log.info("retries.put_back", deliveries=returned)
    if failure is not None:
        raise failure
    return returned


async def _put_back_shard(
    shard: int, schedule: RetrySchedule, publisher: Publisher, clock: Clock, end: float
) -> int:
    if not await schedule.due(shard, 1):  # a read costs less than a lease, and most ticks find nothing
        return 0
    if not await schedule.lease(shard, LEASE_SECONDS):
        return 0
    returned = 0
    try:
        while clock.monotonic() < end:
            page = await schedule.due(shard, PAGE)
            await _put_back_page(page, schedule, publisher)
            returned += len(page)
            if len(page) < PAGE:
                break
    finally:
        await schedule.release(shard)
    return returned


async def _put_back_page(page: Sequence[Due], schedule: RetrySchedule, publisher: Publisher) -> None:
    """Each to the topic that it came from. Raises PublishFailed after deleting those that were taken."""
    by_topic: dict[str, list[Due]] = {}
    for due in page:
        by_topic.setdefault(str(due.delivery.receipt), []).append(due)
    parts = [_put_back_on(topic, entries, schedule, publisher) for topic, entries in by_topic.items()]
    for failure in await asyncio.gather(*parts):
        if failure is not None:
            raise failure


async def _put_back_on(
    topic: str, entries: Sequence[Due], schedule: RetrySchedule, publisher: Publisher
) -> PublishFailed | None:
    failure: PublishFailed | None = None
    try:
        await publisher.publish(topic, [delivery_message(due.delivery) for due in entries])
    except PublishFailed as error:
        failure = error
    failed = failure.failed if failure is not None else ()
    await schedule.remove([due.entry for place, due in enumerate(entries) if place not in failed])
    return failure
