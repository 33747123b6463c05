"""The records of all owners on one machine, as the console reads and changes them."""

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial

from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.domain.errors import NotFound
from event_platform.domain.events.entities import Entity
from event_platform.domain.feeds import ResourceName, ResourceState
from event_platform.domain.kept_events import KeptPage, KeptQuery, KeptWithData
from event_platform.domain.record.logs import LogEntry, LogQuery, Position
from event_platform.domain.subscriptions import Owner, Status, Subscription
from event_platform.domain.suspension import HOUR_MINUTES, Count, first_minute, series_before, series_of
from event_platform.domain.tenants import Tenant
from event_platform.manage.identity import Caller
from event_platform.ports import Seal

from ..broker import dead_letters
from ..broker.dead_letters import DeadLetter
from ..store import courses, ended_sessions, feeds, kept, kept_search, listing, logs, tenants
from ..store.kept_search import STEPS, SqliteKeptEvents
from ..store.listing import Listed, ListPage, ListQuery
from ..store.ranking import Rankings
from ..store.success_counts import SqliteSuccessCounts
from ..store.times import moment_of
from ..wiring import Parts

DEAD_LISTED = 200
WORST = 5
LOG_STEP, LOG_LOOKED_AT = 250, 5_000
"""The entries of the log that one read has, and that one page looks at, where filters have no index."""


class Records:
    """The records in the file of the platform that runs. All methods raise StoreUnavailable."""

    can_seal = True
    """The key of the data folder is always known."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._database = parts.database
        self._limits = parts.settings.rate_limits()
        self.rankings = Rankings(parts.database, parts.clock, self._limits)
        self._counts = SqliteSuccessCounts(parts.database)
        self._kept = SqliteKeptEvents(parts.database, keeps=parts.settings.keep > 0)

    async def listed(self, query: ListQuery) -> ListPage:
        """Returns a page of the subscriptions."""
        now, limits = self._now(), self._limits
        if query.sort is None:
            self.rankings.prepare()
            return await self._database.read(partial(listing.page_of, query=query, now=now, limits=limits))
        ranked = await self.rankings.page(query, query.sort)
        page = await self._database.read(
            partial(listing.page_with, numbers=ranked.numbers, now=now, limits=limits)
        )
        return replace(page, age=ranked.age)

    async def worst(self) -> Sequence[Listed]:
        """Returns the subscriptions that failed most in the last hour."""
        return await self._database.read(
            partial(listing.worst, now=self._now(), limits=self._limits, number=WORST)
        )

    async def numbers_of(self, subscription_id: str) -> Listed:
        """Returns a subscription with its numbers. Raises NotFound."""
        found = await self._database.read(
            partial(listing.one, subscription_id=subscription_id, now=self._now(), limits=self._limits)
        )
        if found is None:
            raise NotFound(f"there is no subscription {subscription_id}, or it was deleted")
        return found

    async def by_status(self) -> Mapping[Status, int]:
        """Returns the number of subscriptions of each status."""
        return await self._database.read(listing.count_by_status)

    async def subscription(self, subscription_id: str) -> tuple[Subscription, Caller]:
        """Returns a subscription that is not deleted, and who may change it. Raises NotFound."""
        found = await self._parts.subscriptions.current(subscription_id)
        if found is None or found.status is Status.DELETED:
            raise NotFound(f"there is no subscription {subscription_id}, or it was deleted")
        return found, Caller(found.owner, found.subject, may_subscribe=True)

    async def minutes_of(self, subscription: Subscription) -> Mapping[int, Count]:
        """Returns the attempts of each minute of the last hour, by minutes since 1970."""
        total: dict[int, Count] = {}
        first = first_minute(self._now())
        series = series_of(subscription)
        for each in (series, *series_before(series)):
            for minute, count in (await self._counts.since(each, first)).items():
                total.setdefault(minute, Count()).add(count)
        return {minute: total.get(minute, Count()) for minute in range(first, first + HOUR_MINUTES)}

    async def log(self, owner: Owner | None, query: LogQuery) -> Sequence[LogEntry]:
        """Returns entries of an owner; of all owners without one, which only times and the page narrow."""
        return await self._database.read(partial(logs.read, owner=owner, query=query))

    async def log_of_all(self, query: LogQuery) -> tuple[Sequence[LogEntry], Position | None]:
        """Returns entries of all owners that fit, and where the next page begins, None if nothing is left.

        LOG_LOOKED_AT of them are looked at, so a page may have fewer than its limit and not be the last one.
        """
        found: list[LogEntry] = []
        everything = replace(query, log_type=None, operation=None, error_reason=None, limit=LOG_STEP)
        for _ in range(LOG_LOOKED_AT // LOG_STEP):
            entries = await self.log(None, everything)
            for entry in entries:
                if (
                    query.log_type in (None, entry.log_type)
                    and query.operation in (None, entry.operation)
                    and query.error_reason in (None, entry.error_reason)
                ):
                    found.append(entry)
                everything = replace(everything, after=Position(entry.at.timestamp(), entry.id))
                if len(found) == query.limit:
                    return found, everything.after
            if len(entries) < LOG_STEP:
                return found, None
        return found, everything.after

    async def kept(self, query: KeptQuery) -> KeptPage:
        """Returns kept events of all PIMs, with the courses of all deliveries. Raises Conflict."""
        self._kept.check_kept()
        search = await self._database.read(partial(kept_search.search_of_all, query=query))
        page = KeptPage([], search.below)
        for _ in range(STEPS):
            left = query.limit - len(page.events)
            more = await self._database.read(lambda connection, left=left: search.step(connection, left))
            page = KeptPage([*page.events, *more], search.below)
            if search.is_over(len(page.events)):
                break
        return page

    async def kept_since(self) -> datetime | None:
        """Returns since when all events are kept; None if none are."""
        since = await self._database.read(kept.since)
        return None if since is None else moment_of(since)

    async def kept_with_data(self, page: KeptPage) -> Sequence[KeptWithData]:
        """Returns the events of a page that are still kept, with their data."""
        return await self._kept.with_data(page.events)

    async def headings(self, numbers: Collection[int]) -> Mapping[int, tuple[str, str, Entity | None]]:
        """Returns id, type and entity of kept events, by the numbers that deliveries have of them."""
        kept_numbers = {number: courses.kept_number(number) for number in numbers}
        found = await self._database.read(partial(kept_search.headings, numbers=set(kept_numbers.values())))
        return {number: found[known] for number, known in kept_numbers.items() if known in found}

    async def subscriptions_of(self, tenant: str, limit: int) -> Sequence[Subscription]:
        """Returns the newest subscriptions of a PIM, at most so many."""
        ids = await self._database.read(partial(listing.ids_of, tenant=tenant, limit=limit))
        found = [await self._parts.subscriptions.current(each) for each in ids]
        return [each for each in found if each is not None]

    async def any_subscription(self, subscription_id: str) -> Subscription:
        """Returns a subscription, also one that was deleted. Raises NotFound."""
        found = await self._parts.subscriptions.current(subscription_id)
        if found is None:
            raise NotFound(f"there is no subscription {subscription_id}")
        return found

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """Returns the oldest dead letters, DEAD_LISTED of them at most."""
        return await self._database.read(partial(dead_letters.first, limit=DEAD_LISTED))

    async def replay_dead(self, ids: Sequence[int]) -> int:
        """Has dead letters sent again; returns how many there were."""
        now = self._now()
        moved = await self._database.write(partial(dead_letters.replay_some, ids=ids, now=now))
        self._parts.made_due(now.timestamp())
        return moved

    async def drop_dead(self, ids: Sequence[int]) -> int:
        """Gives dead letters up; returns how many there were."""
        return await self._database.write(partial(dead_letters.drop_some, ids=ids, now=self._now()))

    async def pims(self) -> Sequence[Tenant]:
        """Returns the PIMs that are in force."""
        return await self._parts.pims.tenants()

    async def stored_pim(self, name: str) -> Tenant | None:
        """Returns the entry of the data folder; None if there is none."""
        return await self._database.read(partial(_entry, name=name, seal=self._parts.seal))

    async def change_pim(self, name: str, change: Callable[[Tenant | None], Tenant]) -> Tenant:
        """Puts what `change` makes of the entry of the data folder. Raises what `change` raises."""

        def job(connection: sqlite3.Connection) -> Tenant:
            after = change(_entry(connection, name, self._parts.seal))
            tenants.check(after, allow_http=self._parts.settings.dev)
            tenants.put(connection, after, self._parts.seal)
            return after

        changed = await self._database.write(job)
        await self._parts.pims.reread()
        return changed

    async def remove_pim(self, name: str) -> None:
        """Removes an entry of the data folder. Raises NotFound."""
        if await self._database.read(partial(tenants.document_of, name=name)) is None:
            raise NotFound(f"{name} is not in the registry of the data folder")
        await self._database.write(partial(tenants.remove, name=name))
        await self._parts.pims.reread()

    async def feed(self, name: str) -> Mapping[ResourceName, ResourceState]:
        """Returns how far the feed of a PIM has come; nothing without one, or where it is off."""
        return (await self._database.read(feeds.running)).get(name, {})

    async def end_session(self, session_id: str, tenant: str, until: float) -> None:
        """Remembers that a session has ended, until its cookie is no longer good (unix seconds)."""
        now = self._parts.clock.wall().timestamp()
        await self._database.write(
            partial(ended_sessions.end, session_id=session_id, tenant=tenant, until=until, now=now)
        )

    async def is_ended(self, session_id: str) -> bool:
        """True for a session that was ended before its time."""
        return await self._database.read(partial(ended_sessions.is_ended, session_id=session_id))

    def _now(self) -> datetime:
        return self._parts.clock.now()


def _entry(connection: sqlite3.Connection, name: str, seal: Seal) -> Tenant | None:
    """Returns the entry of the data folder, None if there is none that can be understood."""
    document = tenants.document_of(connection, name)
    if document is None:
        return None
    with suppress(UnreadableEntry):
        return stored_tenant(document, seal)
    return None
