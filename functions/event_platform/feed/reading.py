"""Reads the feed of one PIM: each resource page by page, and each page in one commit."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from ..domain.events.catalog import Catalog
from ..domain.events.event import Event
from ..domain.feeds import Feed, Mark, ResourceName, ResourceState, Round, Shape
from ..domain.tenants import Tenant
from ..ports import Clock, FeedStep, FeedStore, Listed
from .changes import Brought, Entity, changes_of, entity_of, event_of
from .errors import SERVER_ERROR, Missing, NoRight, PimTrouble, ResourceError
from .pages import Item, Page
from .resources import RESOURCES, Resource
from .rounds import (
    after_page,
    begin,
    completed,
    next_parent,
    path_of,
    shape_of,
    with_offset,
    with_smaller_pages,
)
from .session import PimSession, TooLargePage

log = structlog.get_logger()

IDENTIFIER_TYPE = "pim_catalog_identifier"
FORBIDDEN_SECONDS = 3600.0
KNOWN_AFTER = 3
"""The failures in a row after which a list that fails alone is no reason to ask the whole PIM less often."""
FIRST_BACKOFF, LONGEST_BACKOFF = 15.0, 900.0
"""Seconds until the next try after a trouble, which double from the first to the longest."""
MAX_PARENTS = 10_000
MAX_PARENTS_BYTES = 400_000
"""Their bytes as JSON. A round and a sweep have such a list each, and a state is below 1 MB."""
ITEMS_AT_ONCE = 10
"""The items that become events before others have their turn in the event loop."""
ERROR_CHARACTERS = 500


class Webhooks(Protocol):
    """Says what the webhook brought lately."""

    async def load(self, tenant: str, since: datetime) -> None:
        """Makes what came since then known to the other methods. Raises StoreUnavailable."""
        ...

    def brought(self, tenant: str, event_type: str, identity: tuple[str, ...]) -> Brought:
        """Returns what came of an entity; `event_type` is one of its types."""
        ...

    def take_removed(self, tenant: str, kind: str) -> Sequence[tuple[str, ...]]:
        """Returns identities that were removed and no call has returned. `kind` is a type without action."""
        ...


class FeedObserver(Protocol):
    """Notes what comes of the rounds of feeds. No method waits."""

    def read(self, feed: Feed, resource: ResourceName, state: ResourceState, events: int) -> None:
        """Notes what a commit made of a resource, and how many events it had."""
        ...

    def failed(self, feed: Feed, resource: ResourceName, reason: str) -> None: ...


class RoundReader:
    """Makes the rounds of one PIM. It belongs to one set of settings."""

    def __init__(
        self,
        feed: Feed,
        tenant: Tenant,
        session: PimSession,
        *,
        store: FeedStore,
        catalog: Catalog,
        clock: Clock,
        webhooks: Webhooks,
        has_webhook: bool,
        observer: FeedObserver,
    ) -> None:
        self.feed = feed
        self.session = session
        self.store = store
        self.catalog = catalog
        self.clock = clock
        self.webhooks = webhooks
        self._observer = observer
        self._has_webhook = has_webhook
        self._attribute = tenant.identifier_attribute
        self._knows_attribute = tenant.identifier_attribute is not None
        self._attribute_again_at = 0.0
        self._missing: set[ResourceName] = set()
        # The one that was asked for longest ago comes first: a trouble at one keeps no other from being read.
        self._names = list(feed.names)

    async def read_all(self) -> None:
        """Makes a round of each resource. Raises PimTrouble, FeedReplaced, StoreUnavailable.

        A list that answers 5xx keeps no other from being read; a second one that does ends it. One that keeps
        failing while others work is their concern no more.
        """
        states = await self.store.states(self.feed.tenant)
        failed: PimTrouble | None = None
        is_known, has_worked = False, False
        for name in tuple(self._names):
            state = states.get(name) or ResourceState()
            if not self._is_due(name, state):
                continue
            self._names.remove(name)
            self._names.append(name)
            try:
                await self._read(RESOURCES[name], state)
                has_worked = True
            except PimTrouble as error:
                if error.reason != SERVER_ERROR or failed is not None:
                    raise
                failed, is_known = error, state.failures >= KNOWN_AFTER
        if failed is not None and not (is_known and has_worked):
            raise failed

    def _is_due(self, name: ResourceName, state: ResourceState) -> bool:
        again_at = state.asked_again_at
        return name not in self._missing and (again_at is None or again_at <= self.clock.now())

    async def _read(self, resource: Resource, state: ResourceState) -> None:
        """Makes a round of a resource. Its own fault is noted; raises PimTrouble."""
        reader = _ResourceReader(self, resource, state)
        try:
            await reader.run()
        except ResourceError as error:
            if isinstance(error, Missing):
                self._missing.add(resource.name)
            await self._note_failure(resource, reader.state.model_copy(update={"round": None}), error)
        except PimTrouble as error:
            await self._note_failure(resource, reader.state, error)
            raise

    async def _note_failure(
        self, resource: Resource, state: ResourceState, error: ResourceError | PimTrouble
    ) -> None:
        now = self.clock.now()
        failures = state.failures + 1
        again: datetime | None = None
        if isinstance(error, NoRight):
            again = now + timedelta(seconds=FORBIDDEN_SECONDS)
        elif isinstance(error, ResourceError):
            again = now + timedelta(seconds=min(FIRST_BACKOFF * 2 ** min(failures, 10), LONGEST_BACKOFF))
        is_first = state.reason != error.reason
        is_missing = isinstance(error, Missing)
        after = state.model_copy(
            update={
                "missing": is_missing,
                "error": str(error)[:ERROR_CHARACTERS],
                "reason": error.reason,
                "failed_since": state.failed_since or now,
                "failures": failures,
                "asked_again_at": again,
            }
        )
        about = {"tenant": self.feed.tenant, "resource": resource.name, "reason": error.reason}
        if is_missing:
            if is_first:
                log.info("feed.resource_missing", **about)
        else:
            self._observer.failed(self.feed, resource.name, error.reason)
            if is_first:
                log.warning("feed.failed", **about, error=after.error)
        await self.commit(FeedStep(feed=self.feed, resource=resource.name, state=after))

    async def commit(self, step: FeedStep) -> None:
        await self.store.commit(step)
        self._observer.read(self.feed, step.resource, step.state, len(step.events))

    async def attribute(self) -> str | None:
        """Returns the code of the PIM's identifier attribute; None if it has none, or shows no attributes.

        Raises the errors of a feed: an answer that is wrong once must not decide for good.
        """
        if self._knows_attribute or self.clock.monotonic() < self._attribute_again_at:
            return self._attribute
        path: str | None = RESOURCES[ResourceName.ATTRIBUTES].first_page(
            "attributes", None, limit=100, updated_after=None, attribute=None
        )
        found: list[Item] = []
        try:
            for _ in range(100):
                if path is None or any(item.is_main_identifier for item in found):
                    break
                page, _ = await self.session.page(path)
                found += [item for item in page.items if item.type == IDENTIFIER_TYPE]
                path = page.next if page.items else None
        except (NoRight, Missing) as error:
            log.info("feed.no_identifier_attribute", tenant=self.feed.tenant, reason=error.reason)
            self._attribute_again_at = self.clock.monotonic() + FORBIDDEN_SECONDS
            return None
        main = [item for item in found if item.is_main_identifier] or found
        self._attribute, self._knows_attribute = (main[0].code if main else None), True
        return self._attribute

    async def with_parents(self, asked: Round, route: str) -> Round:
        """Returns the round with all lists that it goes through."""
        codes: list[str] = []
        path: str | None = route
        seen: set[str] = set()
        size = 0
        while path is not None:
            if path in seen or len(codes) > MAX_PARENTS or size > MAX_PARENTS_BYTES:
                raise ResourceError(f"the list of {route} does not end", "endless")
            seen.add(path)
            page, date = await self.session.page(path)
            if asked.upper is None:
                asked = asked.model_copy(update={"upper": date})
            found = [item.code for item in page.items if item.code]
            size += len(json.dumps(found))
            codes += found
            path = page.next if page.items else None
        ordered = dict.fromkeys(codes)
        asked = asked.model_copy(update={"parents": tuple(ordered)})
        return next_parent(asked) or asked

    def removed(self, resource: Resource) -> Sequence[Listed]:
        """Returns entities that the webhook said are removed and no call has returned."""
        if not resource.has_webhook or self.feed.sweep == "off":
            return ()
        kind = resource.type_of("").rstrip(".")
        return [Listed(identity) for identity in self.webhooks.take_removed(self.feed.tenant, kind)]

    def settle(self, resource: Resource) -> timedelta:
        """Returns the time that the webhook of a change of the resource has to come."""
        comes_by_webhook = self._has_webhook and resource.has_webhook
        return timedelta(seconds=self.feed.settle if comes_by_webhook else 0)

    def add_found(
        self,
        found: "FoundInPage",
        resource: Resource,
        route: str,
        asked: Round,
        upper: datetime,
        items: Sequence[Item],
        known: dict[bytes, Mark],
    ) -> None:
        """Adds the events and marks of items. `known` is what is remembered of them, by key."""
        for item, entity in self.entities(resource, route, asked.parent, items):
            if entity is None:
                found.unreadable += 1
                continue
            key = entity.key
            came = self.webhooks.brought(self.feed.tenant, resource.type_of(""), entity.identity)
            changes = changes_of(item, known.get(key), came, asked, upper)
            if changes.mark is not None:
                known[key] = found.marks[key] = changes.mark
                found.number += asked.emits
            for action, at in changes.actions:
                event = event_of(
                    resource,
                    action,
                    at,
                    entity,
                    tenant=self.feed.tenant,
                    catalog=self.catalog,
                    digest=b"" if item.updated is not None else item.digest,
                )
                if event is None:
                    found.unreadable += 1
                else:
                    found.events.append(event)

    def entities(
        self, resource: Resource, route: str, parent: str | None, items: Sequence[Item]
    ) -> Sequence[tuple[Item, Entity | None]]:
        tenant = self.feed.tenant
        return [(item, entity_of(item, resource, route, parent, tenant)) for item in items]


class FoundInPage:
    """The events and marks of a page."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.marks: dict[bytes, Mark] = {}
        self.number = 0
        self.unreadable = 0


class _ResourceReader:
    """One resource in one round. `state` is as it was committed last."""

    def __init__(self, reader: RoundReader, resource: Resource, state: ResourceState) -> None:
        self._reader = reader
        self._resource = resource
        self._feed = reader.feed
        self.state = state

    async def run(self) -> None:
        """Makes the round that is begun, or the next one, and after learning the rounds that follow."""
        while True:
            stage = self.state.stage
            await self._round()
            if self.state.stage == stage or self._feed.since is None:
                return

    async def _round(self) -> None:
        asked: Round | None = self.state.round or begin(self.state, self._feed)
        resource = self._resource
        attribute = await self._reader.attribute() if resource.takes_local_time else None
        if resource.parents is not None and asked.parents is None:
            asked = await self._reader.with_parents(asked, resource.parents)
            if asked.parent is None:
                await self._complete(asked, FoundInPage())
                return
        while asked is not None:
            asked = await self._page(asked, attribute)

    async def _page(self, asked: Round, attribute: str | None) -> Round | None:
        """Reads a page and commits it. Returns the round after it, None at its end."""
        resource = self._resource
        path = path_of(asked, self.state, resource, self._feed, attribute)
        try:
            page, date = await self._reader.session.page(
                path, attribute=attribute, is_hashed=not resource.takes_local_time
            )
        except TooLargePage:
            return with_smaller_pages(asked, resource)
        except Missing:
            return await self._without_list(asked)
        upper = asked.upper or date - self._reader.settle(resource)
        asked = asked.model_copy(update={"upper": upper})
        cursor = self.state.cursor
        if self.state.stage == "changes" and cursor is not None and upper <= cursor:
            await self._commit(self.state, FoundInPage(), is_done=True)  # it was asked again too early
            return None
        self._learn_from(page)
        if resource.has_webhook and asked.lower is not None:
            await self._reader.webhooks.load(self._feed.tenant, asked.lower)
        after = after_page(asked, path, page, resource)
        if self.state.stage == "learning" and self.state.shape is Shape.DATED:
            await self._complete(asked, FoundInPage())
            return None
        found = await self._found(asked, upper, page)
        if after is None:
            await self._complete(asked, found)
            return None
        after = after.model_copy(update={"found": asked.found + found.number})
        await self._commit(self.state.model_copy(update={"round": after}), found)
        return after

    async def _found(self, asked: Round, upper: datetime, page: Page) -> FoundInPage:
        route = self.state.route or self._resource.routes[0]
        entities = self._reader.entities(self._resource, route, asked.parent, page.items)
        keys = [entity.key for _, entity in entities if entity is not None]
        known = dict(await self._reader.store.known(self._feed.tenant, self._resource.name, keys))
        found = FoundInPage()
        for start in range(0, len(page.items), ITEMS_AT_ONCE):
            items = page.items[start : start + ITEMS_AT_ONCE]
            self._reader.add_found(found, self._resource, route, asked, upper, items, known)
            await asyncio.sleep(0)
        return found

    def _learn_from(self, page: Page) -> None:
        state = self.state
        for item in page.items:
            state = with_offset(state, item)
        if state.shape is None and page.items:
            state = state.model_copy(update={"shape": shape_of(page.items[0])})
        self.state = state

    async def _without_list(self, asked: Round) -> Round | None:
        """Goes on without a list that the PIM does not have. Raises Missing if that is the resource."""
        resource = self._resource
        if asked.parent is not None:  # its family was deleted meanwhile
            after = next_parent(asked)
            if after is None:
                await self._complete(asked, FoundInPage())
            return after
        routes = resource.routes
        route = self.state.route or routes[0]
        if asked.pages or route == routes[-1]:
            raise Missing(f"the PIM has no {resource.name}", "missing")
        self.state = self.state.model_copy(update={"route": routes[routes.index(route) + 1]})
        return asked

    async def _complete(self, asked: Round, found: FoundInPage) -> None:
        await self._commit(completed(self.state, asked, self._feed), found, is_done=True)

    async def _commit(self, state: ResourceState, found: FoundInPage, *, is_done: bool = False) -> None:
        update: dict[str, object] = {
            "found": state.found + found.number,
            "sent": state.sent + len(found.events),
            "skipped": state.skipped + found.unreadable,
        }
        forget: int | None = None
        if is_done:
            if state.error is not None and not state.missing:
                log.info("feed.works_again", tenant=self._feed.tenant, resource=self._resource.name)
            update |= {
                "succeeded_at": self._reader.clock.now(),
                "error": None,
                "reason": None,
                "failed_since": None,
                "failures": 0,
                "missing": False,
                "asked_again_at": None,
            }
            if state.shape is Shape.DATED and state.cursor is not None:
                forget = int(state.cursor.timestamp()) - self._feed.overlap
        after = state.model_copy(update=update)
        await self._reader.commit(
            FeedStep(
                feed=self._feed,
                resource=self._resource.name,
                state=after,
                events=found.events,
                marks=found.marks,
                forget_before=forget,
                unlisted=self._reader.removed(self._resource) if is_done else (),
            )
        )
        self.state = after
