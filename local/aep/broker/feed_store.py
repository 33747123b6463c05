"""The port `FeedStore` on the SQLite file: the events of a page and the feed's progress are one commit."""

import sqlite3
from collections.abc import Mapping, Sequence

from event_platform.domain.feeds import Mark, ResourceName, ResourceState
from event_platform.domain.tenants import Way
from event_platform.ports import FeedReplaced, FeedStep, Listed

from ..store import feeds
from ..store.database import Database
from .queue import DurableQueue


class SqliteFeedStore:
    """Keeps the progress of feeds, and what they found."""

    def __init__(self, database: Database, queue: DurableQueue) -> None:
        self._database = database
        self._queue = queue

    async def states(self, tenant: str) -> Mapping[ResourceName, ResourceState]:
        return await self._database.read(lambda connection: feeds.states(connection, tenant))

    async def known(self, tenant: str, resource: ResourceName, keys: Sequence[bytes]) -> Mapping[bytes, Mark]:
        if not keys:
            return {}
        return await self._database.read(lambda connection: feeds.marks(connection, tenant, resource, keys))

    async def listed(self, tenant: str, resource: ResourceName, sweep: int) -> tuple[int, int]:
        return await self._database.read(
            lambda connection: feeds.number_listed(connection, tenant, resource, sweep)
        )

    async def gone(self, tenant: str, resource: ResourceName, sweep: int, limit: int) -> Sequence[Listed]:
        return await self._database.read(
            lambda connection: feeds.gone(connection, tenant, resource, sweep, limit)
        )

    async def commit(self, step: FeedStep) -> None:
        tenant = step.feed.tenant

        def job(connection: sqlite3.Connection) -> None:
            if feeds.version(connection, tenant) != step.feed.version:
                raise FeedReplaced
            feeds.put_marks(connection, tenant, step.resource, step.marks)
            feeds.put_listed(connection, tenant, step.resource, step.listed, step.sweep)
            feeds.remove_listed(connection, tenant, step.resource, step.unlisted)
            feeds.put_state(connection, tenant, step.resource, step.state)

        await self._queue.accept_with(tenant, step.events, job, way=Way.FEED)
        if step.forget_before is not None:
            await self._forget(tenant, step.resource, step.forget_before)

    async def _forget(self, tenant: str, resource: ResourceName, before: int) -> None:
        """Forgets what was found long ago, in pieces that give way to all other work."""

        def job(connection: sqlite3.Connection, keys: Sequence[bytes]) -> list[bytes | None]:
            return [feeds.forget_marks(connection, tenant, resource, before, key) for key in keys]

        after: bytes | None = b""
        while after is not None:
            after = await self._database.write_jointly(
                job, after, gives_way=True, tenant=tenant, needs_room=False
            )
