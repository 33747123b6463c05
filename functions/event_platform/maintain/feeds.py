"""Feeds where each tick reads those that are due, under a lease for each PIM."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import structlog
from cachetools import LRUCache

from ..domain.errors import Unavailable
from ..domain.feeds import Feed, ResourceName, ResourceState, is_behind
from ..domain.tenants import Tenant, Way
from ..ports import Clock, FeedReplaced, FeedSchedule, FeedStore, TenantRegistry

if TYPE_CHECKING:  # it is loaded where there is a key of feeds only
    from ..feed import FeedReader

log = structlog.get_logger()

TICK_SECONDS = 50.0
"""The longest time of a tick: a minute after it comes the next. A round that takes longer goes on then."""
LEASE_SECONDS = 120.0
"""Longer than a tick and the patience of the store's calls at its end."""
AT_ONCE = 4
"""The PIMs that are read at once. A page has 32 MiB at most, of which a few fields are kept."""
READERS_KEPT = 1000
FAULT_SECONDS = 900.0

ReaderOf: TypeAlias = "Callable[[Feed, Tenant], FeedReader]"


class FeedLog:
    """The port `FeedObserver`, which writes lines."""

    def read(self, feed: Feed, resource: ResourceName, state: ResourceState, events: int) -> None:
        if events:
            log.info("events.accepted", tenant=feed.tenant, way=Way.FEED, events=events)

    def failed(self, feed: Feed, resource: ResourceName, reason: str) -> None:
        """Needs no line of its own, as the reader writes one for each new reason."""


class FeedTicks:
    """Reads the feeds that are due. A feed that fails, also by a fault of ours, ends no other.

    The readers stay while the instance does, with their tokens and what they know of failures in a row.
    """

    def __init__(
        self,
        schedule: FeedSchedule,
        store: FeedStore,
        registry: TenantRegistry,
        reader_of: ReaderOf,
        clock: Clock,
        *,
        seconds: float = TICK_SECONDS,
    ) -> None:
        self._schedule = schedule
        self._store = store
        self._registry = registry
        self._reader_of = reader_of
        self._clock = clock
        self._seconds = seconds
        self._readers: LRUCache[str, tuple[Feed, Tenant, FeedReader]] = LRUCache(READERS_KEPT)

    async def tick(self) -> int:
        """Returns how many feeds were read. Raises StoreUnavailable and UnusableList."""
        end = asyncio.get_running_loop().time() + self._seconds
        due = list(await self._schedule.due())
        if not due:
            return 0
        tenants = {tenant.name: tenant for tenant in await self._registry.tenants()}
        waiting = deque((feed, tenants[feed.tenant]) for feed in due if feed.tenant in tenants)
        random.shuffle(waiting)  # where a tick cannot read all, the next one begins with others
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work_off(waiting, end)) for _ in range(AT_ONCE)]
        return sum(worker.result() for worker in workers)

    async def _work_off(self, waiting: deque[tuple[Feed, Tenant]], end: float) -> int:
        number = 0
        while waiting and asyncio.get_running_loop().time() < end:
            feed, tenant = waiting.popleft()
            try:
                number += await self._read_alone(feed, tenant, end)
            except Unavailable as error:
                log.warning("feed.store_unavailable", tenant=feed.tenant, error=str(error))
        return number

    async def _read_alone(self, feed: Feed, tenant: Tenant, end: float) -> bool:
        if not await self._schedule.lease(feed.tenant, LEASE_SECONDS):
            return False
        try:
            seconds = await self._read(self._reader(feed, tenant), end)
            if seconds is not None:
                await self._schedule.set_due(feed, seconds)
            await self._log_if_behind(feed)
        finally:
            await self._schedule.release(feed.tenant)
        return True

    async def _read(self, reader: "FeedReader", end: float) -> float | None:
        """Returns the seconds to the next round; None if the settings have changed."""
        tenant = reader.feed.tenant
        limit = asyncio.timeout_at(end)
        try:
            async with limit:
                return await reader.read_all()
        except TimeoutError:
            if limit.expired():
                return 0.0
            raise
        except FeedReplaced:
            self._readers.pop(tenant, None)
            return None
        except Unavailable:
            raise
        except Exception as error:
            self._readers.pop(tenant, None)
            log.error("feed.faulted", tenant=tenant, exc_info=error)
            return FAULT_SECONDS

    def _reader(self, feed: Feed, tenant: Tenant) -> "FeedReader":
        kept = self._readers.get(feed.tenant)
        if kept is not None and kept[:2] == (feed, tenant):
            return kept[2]
        log.info("feed.started", tenant=feed.tenant, every=feed.every, resources=list(feed.names))
        reader = self._reader_of(feed, tenant)
        self._readers[feed.tenant] = feed, tenant, reader
        return reader

    async def _log_if_behind(self, feed: Feed) -> None:
        now, states = self._clock.now(), await self._store.states(feed.tenant)
        if behind := [name for name in feed.names if name in states and is_behind(states[name], feed, now)]:
            log.warning("feed.behind", tenant=feed.tenant, resources=behind)
