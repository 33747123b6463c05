"""The suite of every implementation of the port `FeedStore`. A subclass gives the fixture `world`."""

from collections.abc import Sequence
from typing import Any, Protocol

import pytest

from event_platform.domain.feeds import Feed, Mark, ResourceName, ResourceState, key_of
from event_platform.ports import FeedReplaced, FeedStep, FeedStore, Listed
from support.clock import START
from support.feeding import a_feed
from support.records import an_event

PRODUCTS, FAMILIES = ResourceName.PRODUCTS, ResourceName.FAMILIES
FEED = a_feed("https://pim.example.com")
OTHER = a_feed("https://other.example.com")
UUID = "f0000000-0000-4000-8000-000000000001"
KEY = key_of((UUID,))


class FeedStoreSide(Protocol):
    """A store, and its settings and events beside it."""

    @property
    def store(self) -> FeedStore: ...

    async def put(self, feed: Feed) -> None:
        """Sets up a feed, or changes its settings."""
        ...

    async def remove(self, tenant: str) -> None:
        """Removes a feed and all that it knows."""
        ...

    async def begin_again(self, tenant: str) -> None:
        """Forgets how far a feed has come."""
        ...

    async def accepted(self) -> Sequence[str]:
        """Returns the ids of accepted events, in their order."""
        ...


def a_step(feed: Feed = FEED, resource: ResourceName = PRODUCTS, **more: Any) -> FeedStep:
    state = more.pop("state", ResourceState(cursor=START, stage="changes", found=7))
    return FeedStep(feed=feed, resource=resource, state=state, **more)


class FeedStoreContract:
    """The suite; see the module."""

    @pytest.fixture
    async def world(self) -> FeedStoreSide:
        raise AssertionError("a subclass gives the world")

    async def test_a_feed_knows_nothing_at_first(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        store, tenant = world.store, FEED.tenant
        assert await store.states(tenant) == {}
        assert await store.known(tenant, PRODUCTS, []) == {}
        assert await store.known(tenant, PRODUCTS, [KEY]) == {}
        assert await store.listed(tenant, PRODUCTS, 1) == (0, 0)
        assert await store.gone(tenant, PRODUCTS, 1, 10) == []

    async def test_a_step_is_committed_with_its_events(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        events = [an_event(1), an_event(2)]
        marks = {KEY: Mark(created=1, updated=2), key_of(("shoes", "x" * 300)): Mark(digest=b"\x00\xff")}
        step = a_step(events=events, marks=marks)
        await world.store.commit(step)
        assert await world.store.states(FEED.tenant) == {PRODUCTS: step.state}
        assert await world.store.known(FEED.tenant, PRODUCTS, [*marks, b"unknown"]) == marks
        assert await world.accepted() == [event.id for event in events]

    async def test_a_later_step_replaces_what_an_earlier_one_wrote(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        await world.store.commit(a_step(marks={KEY: Mark(created=1, updated=2)}))
        later = ResourceState(cursor=START, stage="changes", found=8)
        await world.store.commit(a_step(state=later, marks={KEY: Mark(updated=3)}))
        assert await world.store.states(FEED.tenant) == {PRODUCTS: later}
        assert await world.store.known(FEED.tenant, PRODUCTS, [KEY]) == {KEY: Mark(updated=3)}

    async def test_a_step_that_is_repeated_tells_its_events_once(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        step = a_step(events=[an_event(1)])
        await world.store.commit(step)
        await world.store.commit(step)
        assert len(await world.accepted()) == 1

    async def test_resources_and_pims_are_apart(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        await world.put(OTHER)
        listed = [Listed((UUID,))]
        await world.store.commit(a_step(marks={KEY: Mark(updated=1)}, listed=listed, sweep=1))
        for tenant, resource in [(FEED.tenant, FAMILIES), (OTHER.tenant, PRODUCTS)]:
            assert await world.store.known(tenant, resource, [KEY]) == {}
            assert await world.store.listed(tenant, resource, 2) == (0, 0)
            assert resource not in await world.store.states(tenant)

    async def test_a_step_of_other_settings_changes_nothing(self, world: FeedStoreSide) -> None:
        await world.put(FEED.model_copy(update={"version": "2"}))
        with pytest.raises(FeedReplaced):
            await world.store.commit(a_step(events=[an_event(1)], marks={KEY: Mark(updated=1)}))
        assert await world.store.states(FEED.tenant) == {}
        assert await world.store.known(FEED.tenant, PRODUCTS, [KEY]) == {}
        assert await world.accepted() == []

    async def test_old_marks_are_forgotten_and_those_without_a_date_stay(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        found = {b"old": Mark(updated=99), b"new": Mark(updated=100), b"none": Mark(digest=b"1")}
        await world.store.commit(a_step(marks=found))
        await world.store.commit(a_step(resource=ResourceName.PRODUCT_MODELS, marks={b"old": found[b"old"]}))
        await world.store.commit(a_step(forget_before=100))
        del found[b"old"]
        known = await world.store.known(FEED.tenant, PRODUCTS, [b"old", b"new", b"none"])
        assert known == found
        assert await world.store.known(FEED.tenant, ResourceName.PRODUCT_MODELS, [b"old"])

    async def test_a_sweep_shows_what_it_did_not_list(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        here, gone = Listed(("shoes", "a")), Listed(("shoes", "b"), "sku-b")
        await world.store.commit(a_step(listed=[here, gone], sweep=9, marks={key_of(gone.identity): Mark()}))
        await world.store.commit(a_step(listed=[here], sweep=10))
        assert await world.store.listed(FEED.tenant, PRODUCTS, 10) == (2, 1)
        assert await world.store.gone(FEED.tenant, PRODUCTS, 10, 5) == [gone]
        await world.store.commit(a_step(events=[an_event(1)], unlisted=[gone]))
        assert await world.store.listed(FEED.tenant, PRODUCTS, 10) == (1, 0)
        assert await world.store.gone(FEED.tenant, PRODUCTS, 10, 5) == []
        assert await world.store.known(FEED.tenant, PRODUCTS, [key_of(gone.identity)]) == {}

    async def test_only_some_of_those_gone_are_shown(self, world: FeedStoreSide) -> None:
        await world.put(FEED)
        listed = [Listed((f"family-{number}",)) for number in range(5)]
        await world.store.commit(a_step(resource=FAMILIES, listed=listed, sweep=1))
        assert len(await world.store.gone(FEED.tenant, FAMILIES, 2, 3)) == 3

    @pytest.mark.parametrize("is_removed", [True, False])
    async def test_a_feed_that_begins_again_or_is_removed_knows_nothing(
        self, world: FeedStoreSide, is_removed: bool
    ) -> None:
        await world.put(FEED)
        await world.put(OTHER)
        for feed in (FEED, OTHER):
            marks = {KEY: Mark(updated=1), b"none": Mark(digest=b"1")}
            await world.store.commit(a_step(feed, marks=marks, listed=[Listed((UUID,))], sweep=1))
        await (world.remove if is_removed else world.begin_again)(FEED.tenant)
        assert await world.store.states(FEED.tenant) == {}
        assert await world.store.known(FEED.tenant, PRODUCTS, [KEY, b"none"]) == {}
        assert await world.store.listed(FEED.tenant, PRODUCTS, 2) == (0, 0)
        assert len(await world.store.known(OTHER.tenant, PRODUCTS, [KEY, b"none"])) == 2
        if is_removed:
            with pytest.raises(FeedReplaced):
                await world.store.commit(a_step())
