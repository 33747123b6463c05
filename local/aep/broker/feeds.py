"""Runs the feeds of all PIMs that have one, each in a task of its own."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from event_platform.adapters.pim_rest import HttpsPimRest
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.events.catalog import Catalog
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.domain.tenants import Tenant, Way
from event_platform.feed import FeedReader, PimSession, WebhookMemory, event_types
from event_platform.ports import (
    Clock,
    FeedReplaced,
    FeedStore,
    IngestObserver,
    PimRest,
    Seal,
    TenantRegistry,
)

from ..runtime.meters import Meters
from ..runtime.tasks import WatchedTasks
from ..store import feeds
from ..store.database import Database

log = structlog.get_logger()

LOOK_SECONDS = 4.0
"""The time between two looks at the settings, so that a change is in force within 5 s."""
FAULT_SECONDS = 900.0
STORE_RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class _Running:
    """A feed that runs: its settings, its PIM as it was then, and its task."""

    feed: Feed
    tenant: Tenant
    task: "asyncio.Task[None]"


class Feeds:
    """Runs between `start` and `stop`. A feed that fails, also by a fault of ours, ends nothing else."""

    def __init__(
        self,
        database: Database,
        store: FeedStore,
        registry: TenantRegistry,
        seal: Seal,
        clock: Clock,
        *,
        catalog: Catalog,
        meters: Meters,
        observer: IngestObserver,
        on_fault: Callable[[BaseException], None],
        rest: PimRest | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._registry = registry
        self._seal = seal
        self._clock = clock
        self._catalog = catalog
        self._meters = meters
        self._observer = observer
        self._own_rest = HttpsPimRest() if rest is None else None
        self._rest: PimRest = rest or self._own_rest or HttpsPimRest()
        self._tasks = WatchedTasks(on_fault)
        self._looking: asyncio.Task[None] | None = None
        self._running: dict[str, _Running] = {}
        self._documents: Sequence[tuple[str, str]] = ()
        self._stored: Sequence[feeds.StoredFeed] = ()
        self.memory = WebhookMemory(clock.monotonic)

    async def start(self) -> None:
        """Begins the feeds that are set up. Raises StoreUnavailable."""
        await self._look()
        self._looking = self._tasks.start(self._look_periodically())

    async def stop(self) -> None:
        """Ends all feeds; they go on from what was committed."""
        await self._tasks.stop(self._looking, *(running.task for running in self._running.values()))
        self._running.clear()
        if self._own_rest is not None:
            await self._own_rest.close()

    async def _look_periodically(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except StoreUnavailable as error:
                log.warning("feed.store_unavailable", error=str(error))

    async def _look(self) -> None:
        """Begins and ends feeds as the settings and the registry say."""
        documents = await self._database.read(feeds.stored_feeds)
        if documents != self._documents:
            self._documents = documents
            self._stored = [feeds.opened(row, self._seal) for row in documents]
            for unreadable in [each.tenant for each in self._stored if each.feed is None]:
                log.error("feed.settings_unreadable", tenant=unreadable, fix=UNREADABLE_FIX)
        if not self._stored and not self._running:
            return
        tenants = {tenant.name: tenant for tenant in await self._registry.tenants()}
        wanted = {
            stored.tenant: (stored.feed, tenants[stored.tenant])
            for stored in self._stored
            if stored.feed is not None and not stored.feed.is_off and stored.tenant in tenants
        }
        self.memory.watch([name for name, (feed, _) in wanted.items() if feed.has_webhook_notes])
        for name, running in list(self._running.items()):
            if wanted.get(name) != (running.feed, running.tenant):
                del self._running[name]
                await self._tasks.cancel(running.task)
        self._meters.feeds_are(list(wanted))
        for name, (feed, tenant) in wanted.items():
            if name not in self._running:
                self._running[name] = _Running(feed, tenant, self._tasks.start(self._run(feed, tenant)))

    async def _run(self, feed: Feed, tenant: Tenant) -> None:
        log.info("feed.started", tenant=feed.tenant, every=feed.every, resources=list(feed.names))
        with contextlib.suppress(StoreUnavailable):  # the first round says so
            for resource, state in (await self._store.states(feed.tenant)).items():
                self._meters.feed_read(feed.tenant, resource, state, 0)
        await asyncio.to_thread(_prepare, self._catalog, feed)
        reader = FeedReader(
            feed,
            tenant,
            PimSession(self._rest, feed, self._clock),
            store=self._store,
            catalog=self._catalog,
            clock=self._clock,
            webhooks=self.memory,
            has_webhook=bool(tenant.events_api_secret),
            observer=self,
        )
        while True:
            await self._clock.sleep(await self._read(reader))

    async def _read(self, reader: FeedReader) -> float:
        """Makes a round; returns the seconds to the next one."""
        tenant = reader.feed.tenant
        try:
            return await reader.read_all()
        except StoreUnavailable as error:
            log.warning("feed.store_unavailable", tenant=tenant, error=str(error))
            return STORE_RETRY_SECONDS
        except FeedReplaced:  # the next look begins it anew
            return FAULT_SECONDS
        except Exception as error:
            self._meters.feed_failed(tenant, "", "fault")
            log.error("feed.faulted", tenant=tenant, exc_info=error)
            return FAULT_SECONDS

    def read(self, feed: Feed, resource: ResourceName, state: ResourceState, events: int) -> None:
        """Notes what a commit made of a resource, for /metrics and `aep pims list`."""
        self._meters.feed_read(feed.tenant, resource, state, events)
        if events:
            log.info("events.accepted", tenant=feed.tenant, way=Way.FEED, events=events)
            self._observer.taken(feed.tenant, Way.FEED, events)

    def failed(self, feed: Feed, resource: ResourceName, reason: str) -> None:
        """Counts a failure of a resource."""
        self._meters.feed_failed(feed.tenant, resource, reason)


UNREADABLE_FIX = "`aep pims feed URL --client-id … --username … --secret -` sets it up anew"


def _prepare(catalog: Catalog, feed: Feed) -> None:
    """Makes the validators of the event types, which would hold up the event loop at the first event."""
    for event_type in event_types(feed):
        catalog[event_type].problems_of({}, first_only=True)
