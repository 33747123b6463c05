"""The records of a project as the console reads and changes them, by the operator's own credentials."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cachetools import TTLCache

from event_platform.adapters.seal import KeylessSeal
from event_platform.domain.errors import Conflict, StoreUnavailable
from event_platform.domain.feeds import ResourceName, ResourceState
from event_platform.domain.pace.rates import Limits
from event_platform.domain.record.logs import LogEntry, LogQuery, Position
from event_platform.domain.replays import Replay, ReplayRequest
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.tenants import SECRET_FIELDS, Tenant
from event_platform.ports import Clock, Seal

from ...errors import GoogleFailed, NoGooglePackages, WrongKey
from ...google import dead_letters, feeds, overview, registry, replaying
from ...google.connection import refusals_of
from ...google.dead_letters import Letter, Replayed
from ...google.overview import One, Records, Retries
from ...google.registry import StoredTenant
from ...store import tenants
from ...store.listing import ON_A_PAGE, Listed, ListPage, ListQuery, Sort
from ...store.overview import State

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore

FRESH_SECONDS = 15.0
"""The time for which a list of all subscriptions is gone by: reading 20,000 takes seconds."""
_BY_STATUS = {Status.SUSPENDED: 0, Status.REVOKED: 1}


class ProjectRecords:
    """The records of a project. All methods raise StoreUnavailable, also with what Google refuses.

    `buckets` is AEP_VERSION_BUCKETS of the functions. Without `seal` secrets of PIMs can neither be made nor
    entered.
    """

    def __init__(
        self,
        firestore: "Firestore",
        clock: Clock,
        limits: Limits,
        *,
        seal: Seal | None = None,
        buckets: int = 1,
    ) -> None:
        self._firestore = firestore
        self.project: str = firestore.client.project
        self.can_seal = seal is not None
        self.seal = seal or KeylessSeal()
        self._clock = clock
        self.limits = limits
        self._buckets = buckets
        self._listed: TTLCache[str, Records] = TTLCache(1, FRESH_SECONDS, clock.monotonic)
        self._listing = asyncio.Lock()
        self._pulling = asyncio.Lock()

    async def listed(self, query: ListQuery) -> ListPage:
        """Returns a page of the subscriptions, without what waits in lanes, which Pub/Sub does not say."""
        records = await self._records()
        found = await asyncio.to_thread(fitting, records, query, self.limits, self._clock.now())
        begin = query.page * ON_A_PAGE
        with self._said():
            states = await overview.states_of(
                self._firestore, records, found[begin : begin + ON_A_PAGE], self.limits, self._clock.now()
            )
        rows = [row_of(state) for state in states]
        return ListPage(rows, len(found) > begin + ON_A_PAGE, len(records.subscriptions))

    async def by_status(self) -> Counter[Status]:
        """Counts the subscriptions of each status."""
        return Counter(each.status for each in (await self._records()).subscriptions)

    async def one(self, subscription_id: str) -> One:
        """Returns a subscription with what its page shows. Raises NotFound."""
        retries = (await self._records()).retries.get(subscription_id, Retries())
        with self._said():
            return await overview.one(
                self._firestore, subscription_id, retries, self.limits, self._clock.now()
            )

    async def log(self, query: LogQuery) -> tuple[Sequence[LogEntry], Position | None]:
        """Returns entries, and where the next page begins, None if nothing is left. Raises NotFound."""
        with self._said():
            found = await overview.entries(self._firestore, query)
        last = found[-1] if len(found) == query.limit else None
        return found, None if last is None else Position(last.at.timestamp(), last.id)

    async def start_replay(self, subscription_id: str, asked: ReplayRequest) -> Replay:
        """Starts a replay. Raises NotFound, Conflict, InvalidRequest."""
        with self._said():
            _, replay = await replaying.start(self._firestore, subscription_id, asked, buckets=self._buckets)
            return replay

    async def dead_letters(self) -> Sequence[Letter]:
        """Returns the oldest dead letters. Pages wait for each other: a letter is with one reader at once."""
        with self._said():
            async with self._pulling, dead_letters.opened(self.project) as opened:
                return opened.letters

    async def replay_dead(self, ids: Sequence[str]) -> Replayed:
        """Has dead letters sent again. Raises NotFound."""
        with self._said():
            async with self._pulling, dead_letters.opened(self.project) as opened:
                return await opened.replay(opened.chosen(ids))

    async def registry(self) -> Sequence[StoredTenant]:
        """Returns the entries of the registry, also those that cannot be understood."""
        with self._said():
            return await registry.read_from(self._firestore, self.seal)

    async def pims(self) -> Sequence[Tenant]:
        """Returns the PIMs of the registry that can be understood."""
        return [each.tenant for each in await self.registry() if each.tenant is not None]

    async def stored_pim(self, name: str) -> Tenant | None:
        """Returns the entry of the registry; None if there is none."""
        return next((each for each in await self.pims() if each.name == name), None)

    async def change_pim(self, name: str, change: Callable[[Tenant | None], Tenant]) -> Tenant:
        """Puts what `change` makes of the entry; in force within 5 s.

        Raises Conflict, BadPims, and what `change` raises.
        """
        with self._said():
            from event_platform.adapters.firestore.tenants import put_over

            stored = await registry.read_from(self._firestore, self.seal)
            seen = next((each for each in stored if each.name == name), None)
            before = None if seen is None else seen.tenant
            after = change(before)
            tenants.check(after, allow_http=False)
            if not self.can_seal and _secrets(after) != _secrets(before):
                raise Conflict("new secrets are sealed with AEP_REGISTRY_KEY, which this console has not")
            await put_over(self._firestore, after, self.seal, None if seen is None else seen.snapshot)
        return after

    async def remove_pim(self, name: str) -> None:
        """Removes an entry; in force within 5 s."""
        with self._said():
            await registry.remove_from(self._firestore, name)

    async def feed(self, name: str) -> Mapping[ResourceName, ResourceState]:
        """Returns how far the feed of a PIM has come; nothing without one, or where it is off."""
        with self._said():
            found = (await feeds.read_all_from(self._firestore)).get(name)
        return found.states if found is not None and found.is_on else {}

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turns what Google or a key refuses into an error that a page shows."""
        try:
            with refusals_of(f"Firestore of {self.project}"):
                yield
        except (GoogleFailed, NoGooglePackages, WrongKey) as error:
            raise StoreUnavailable(str(error)) from error

    async def _records(self) -> Records:
        async with self._listing:
            known = self._listed.get(self.project)
            if known is None:
                with self._said():
                    known = self._listed[self.project] = await overview.listed(self._firestore)
            return known


def fitting(records: Records, query: ListQuery, limits: Limits, now: datetime) -> list[Subscription]:
    """Returns the subscriptions that a reader asks for, in their order."""
    text = query.text.casefold()
    found = [
        each
        for each in reversed(records.subscriptions)
        if query.status in (None, each.status)
        and query.tenant in (None, each.owner.tenant)
        and (not text or text in _words(each, records))
    ]
    if query.sort is not None:
        key = keys(records, limits, now)[query.sort]
        found.sort(key=key, reverse=not query.ascending)
    return found


def keys(records: Records, limits: Limits, now: datetime) -> Mapping[Sort, Callable[[Subscription], Any]]:
    """Returns the values that subscriptions are sorted by: what a list of them has, and nothing of a log."""
    return {
        Sort.DESTINATION: lambda each: each.config.destination.casefold(),
        Sort.PIM: lambda each: (each.owner.tenant, each.owner.client_id),
        Sort.SUBSCRIBER: lambda each: records.names.get(each.subscriber_id, "").casefold(),
        Sort.TYPES: lambda each: len(each.events),
        Sort.STATUS: lambda each: _BY_STATUS.get(each.status, 2),
        Sort.RATE: lambda each: each.current_rate.at(now, limits),
        Sort.LANES: lambda each: each.lanes,
        Sort.WAITING: lambda each: records.retries.get(each.id, Retries()).number,
    }


SORTS = frozenset(Sort) - {Sort.DELIVERED, Sort.FAILED, Sort.FAILURE}
"""The columns of a project's list that it is sorted by; the others take reads for each subscription."""


def row_of(state: State) -> Listed:
    """Returns a row of the table. What waits are retries; the last failure is the last event given up."""
    return Listed(
        id=state.id,
        subscriber_id=state.subscriber_id,
        subscriber=state.subscriber_name,
        tenant=state.tenant,
        client_id=state.client_id,
        destination=state.destination,
        events=state.events,
        status=Status(state.status),
        rate=state.rate,
        lanes=state.lanes,
        delivered=state.delivered,
        failed=state.failed,
        waiting=state.retries,
        last_failure=state.last_error,
        last_failure_at=state.last_error_at,
    )


def _words(subscription: Subscription, records: Records) -> str:
    """Returns what a row shows, in which a reader's text is looked for."""
    owner, name = subscription.owner, records.names.get(subscription.subscriber_id, "")
    shown = (subscription.id, subscription.config.destination, owner.tenant, owner.client_id, name)
    return "\n".join((*shown, *subscription.events)).casefold()


def _secrets(tenant: Tenant | None) -> list[object]:
    return [() if tenant is None else tuple(getattr(tenant, field)) for field in SECRET_FIELDS]
