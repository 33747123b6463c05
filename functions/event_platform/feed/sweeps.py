"""Sweeps: which entities were listed before and are gone, each asked for by itself before it counts.

Once a day all identities of a resource are listed and compared with those of the sweep before.
"""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from ..domain.events.event import Event
from ..domain.feeds import Feed, ResourceName, ResourceState, Round, Sweep
from ..ports import FeedStep, Listed
from .changes import DELETED, Entity, entity_of, event_of
from .errors import SERVER_ERROR, Missing, NoRight, PimTrouble, ResourceError
from .reading import RoundReader
from .resources import IDENTIFIER_ROUTE, PAGE_LIMIT, RESOURCES, Resource
from .rounds import after_page, next_parent, path_of, with_smaller_pages
from .session import TooLargePage

log = structlog.get_logger()

BETWEEN = timedelta(days=1)
ASKED_AT_ONCE = 20
MOST_GONE = 1000
MOST_GONE_SHARE = 0.05


class Sweeper:
    """Makes the sweeps of one PIM, as far as they are due and rounds leave time for them."""

    def __init__(self, reader: RoundReader) -> None:
        self._reader = reader
        self._feed: Feed = reader.feed

    async def go_on(self, until: float) -> None:
        """Goes on with the sweeps that are due, until that time of the clock's monotonic seconds.

        Raises PimTrouble, FeedReplaced, StoreUnavailable.
        """
        states = await self._reader.store.states(self._feed.tenant)
        for name, state in states.items():
            if name in self._feed.names and state.stage == "changes" and not state.missing:
                try:
                    await self._sweep(RESOURCES[name], state, until)
                except PimTrouble as error:
                    if error.reason != SERVER_ERROR:
                        raise
                    # It may be this list alone that fails; it is asked again after the next round.

    async def _sweep(self, resource: Resource, state: ResourceState, until: float) -> None:
        while (sweep := self._begun(state.sweep)) is not None and self._reader.clock.monotonic() < until:
            state = state.model_copy(update={"sweep": sweep})
            try:
                state = await (
                    self._list(resource, state) if sweep.stage == "listing" else self._ask(resource, state)
                )
            except ResourceError as error:
                state = await self._end_early(resource, state, error)

    def _begun(self, sweep: Sweep) -> Sweep | None:
        """The sweep as it goes on now, or the next one; None if none is due."""
        now = self._reader.clock.now()
        if sweep.stage in ("listing", "asking"):
            return sweep
        confirmed = self._feed.confirmed_at
        if sweep.stage == "held" and sweep.held_at and confirmed is not None and confirmed > sweep.held_at:
            return sweep.model_copy(update={"stage": "asking"})
        if sweep.begun_at is not None and now - sweep.begun_at < BETWEEN:
            return None
        return Sweep(
            number=sweep.number + 1,
            stage="listing",
            begun_at=now,
            done_at=sweep.done_at,
            reading=Round(lower=None, emits=False, limit=PAGE_LIMIT),
        )

    async def _list(self, resource: Resource, state: ResourceState) -> ResourceState:
        """Reads a page of the list, and begins to ask when it was the last one."""
        reader, sweep = self._reader, state.sweep
        asked = sweep.reading or Round(lower=None, emits=False, limit=PAGE_LIMIT)
        if resource.parents is not None and asked.parents is None:
            asked = await reader.with_parents(asked, resource.parents)
            if asked.parent is None:
                return await self._listed(resource, state, [], sweep.listed)
        attribute = await reader.attribute() if resource.takes_local_time else None
        path = path_of(asked, state, resource, self._feed, attribute)
        try:
            page, _ = await reader.session.page(path, attribute=attribute)
        except TooLargePage:
            smaller = with_smaller_pages(asked, resource)
            return state.model_copy(update={"sweep": sweep.model_copy(update={"reading": smaller})})
        except Missing:
            if asked.parent is None:
                raise
            return await self._go_on(resource, state, next_parent(asked), [])  # the family is gone
        route = state.route or resource.routes[0]
        found = [entity_of(item, resource, route, asked.parent, self._feed.tenant) for item in page.items]
        listed = [Listed(entity.identity, entity.identifier) for entity in found if entity is not None]
        return await self._go_on(resource, state, after_page(asked, path, page, resource), listed)

    async def _go_on(
        self, resource: Resource, state: ResourceState, after: Round | None, listed: Sequence[Listed]
    ) -> ResourceState:
        """Notes what a page has listed, and goes on with the next one, or with what is gone."""
        number = state.sweep.listed + len(listed)
        if after is None:
            return await self._listed(resource, state, listed, number)
        sweep = state.sweep.model_copy(update={"reading": after, "listed": number})
        return await self._commit(resource, state, sweep, listed=listed)

    async def _listed(
        self, resource: Resource, state: ResourceState, listed: Sequence[Listed], number: int
    ) -> ResourceState:
        """Ends the list, and says what follows from it."""
        sweep = state.sweep.model_copy(update={"reading": None, "listed": number})
        state = await self._commit(resource, state, sweep, listed=listed)
        all_known, gone = await self._reader.store.listed(self._feed.tenant, resource.name, sweep.number)
        now = self._reader.clock.now()
        if sweep.done_at is None or gone == 0:  # the first sweep only learns
            done = sweep.model_copy(update={"stage": "idle", "done_at": now, "gone": 0})
            return await self._commit(resource, state, done)
        if gone > MOST_GONE or gone > MOST_GONE_SHARE * all_known:
            return await self._hold(resource, state, sweep, gone, f"{gone} of {all_known} are gone")
        return await self._commit(resource, state, sweep.model_copy(update={"stage": "asking", "gone": gone}))

    async def _ask(self, resource: Resource, state: ResourceState) -> ResourceState:
        """Asks for some of those that are gone: who is not there (404) is deleted, all others stay."""
        reader, sweep, tenant = self._reader, state.sweep, self._feed.tenant
        gone = await reader.store.gone(tenant, resource.name, sweep.number, ASKED_AT_ONCE)
        if not gone:
            done = sweep.model_copy(update={"stage": "idle", "done_at": reader.clock.now(), "gone": 0})
            return await self._commit(resource, state, done)
        still: list[Listed] = []
        unlisted: list[Listed] = []
        events: list[Event] = []
        route = state.route or resource.routes[0]
        for each in gone:
            if await self._exists(resource, route, each):
                still.append(each)
                continue
            unlisted.append(each)
            event = event_of(
                resource,
                DELETED,
                sweep.begun_at or reader.clock.now(),
                Entity(each.identity, each.identity[-1], each.identifier),
                tenant=tenant,
                catalog=reader.catalog,
            )
            if event is not None:
                events.append(event)
        return await self._commit(resource, state, sweep, listed=still, unlisted=unlisted, events=events)

    async def _exists(self, resource: Resource, route: str, listed: Listed) -> bool:
        known_as = listed.identity[-1]
        if resource.name is ResourceName.PRODUCTS and route == IDENTIFIER_ROUTE:
            known_as = listed.identifier or ""
        parent = listed.identity[0] if resource.parents is not None else None
        try:
            return await self._reader.session.exists(resource.item_path(route, known_as, parent))
        except NoRight:
            return True

    async def _end_early(
        self, resource: Resource, state: ResourceState, error: ResourceError
    ) -> ResourceState:
        """Holds back what is gone by a list that could not be read to its end."""
        sweep = state.sweep.model_copy(update={"reading": None})
        if sweep.done_at is None:  # nothing was learnt yet, so nothing can be gone
            return await self._commit(resource, state, sweep.model_copy(update={"stage": "idle"}))
        _, gone = await self._reader.store.listed(self._feed.tenant, resource.name, sweep.number)
        return await self._hold(resource, state, sweep, gone, f"the list ended early: {error}")

    async def _hold(
        self, resource: Resource, state: ResourceState, sweep: Sweep, gone: int, because: str
    ) -> ResourceState:
        held = sweep.model_copy(
            update={
                "stage": "held",
                "gone": gone,
                "held_at": self._reader.clock.now(),
                "held_because": because[:200],
            }
        )
        log.warning(
            "feed.deletions_held",
            tenant=self._feed.tenant,
            resource=resource.name,
            gone=gone,
            reason=because[:200],
        )
        return await self._commit(resource, state, held)

    async def _commit(
        self,
        resource: Resource,
        state: ResourceState,
        sweep: Sweep,
        *,
        listed: Sequence[Listed] = (),
        unlisted: Sequence[Listed] = (),
        events: Sequence[Event] = (),
    ) -> ResourceState:
        after = state.model_copy(update={"sweep": sweep, "sent": state.sent + len(events)})
        await self._reader.commit(
            FeedStep(
                feed=self._feed,
                resource=resource.name,
                state=after,
                events=events,
                listed=listed,
                sweep=sweep.number,
                unlisted=[*unlisted, *self._reader.removed(resource)],
            )
        )
        return after
