"""Ticks of feeds: which feeds are read, for how long, and what one that fails does to others."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.domain.tenants import Tenant
from event_platform.feed import FeedReader
from event_platform.maintain import FeedLog, FeedTicks
from event_platform.ports import FeedReplaced, FeedStore
from support.clock import ManualClock
from support.feeding import a_feed

A, B = "https://a.example.com", "https://b.example.com"


class Schedule:
    """The port `FeedSchedule` in memory, in which the feeds stay due."""

    def __init__(self, *feeds: Feed, held: Sequence[str] = ()) -> None:
        self.feeds = list(feeds)
        self.held = set(held)
        self.next: dict[str, float] = {}

    async def due(self) -> Sequence[Feed]:
        return self.feeds

    async def set_due(self, feed: Feed, seconds: float) -> None:
        self.next[feed.tenant] = seconds

    async def lease(self, tenant: str, seconds: float) -> bool:
        return tenant not in self.held and not self.held.add(tenant)

    async def release(self, tenant: str) -> None:
        self.held.remove(tenant)


class Reader:
    """A reader whose round does what the test says."""

    def __init__(self, feed: Feed, read: Callable[[], Any]) -> None:
        self.feed = feed
        self._read = read
        self.rounds = 0

    async def read_all(self) -> float:
        self.rounds += 1
        result = self._read()
        return await result if asyncio.iscoroutine(result) else result


class Ticking:
    """Ticks over feeds; `reads` says what a round of a PIM does, 300 s until the next else."""

    def __init__(self, schedule: Schedule, clock: ManualClock, *, seconds: float = 50.0) -> None:
        self.schedule = schedule
        self.reads: dict[str, Callable[[], Any]] = {}
        self.readers: list[Reader] = []
        self.states_of: Mapping[ResourceName, ResourceState] = {}
        store = cast("FeedStore", self)
        self.ticks = FeedTicks(schedule, store, self, self._reader_of, clock, seconds=seconds)

    async def states(self, tenant: str) -> Mapping[ResourceName, ResourceState]:
        return self.states_of

    async def tenants(self) -> Sequence[Tenant]:
        return [Tenant.model_validate({"url": url}) for url in (A, B)]

    def _reader_of(self, feed: Feed, tenant: Tenant) -> FeedReader:
        reader = Reader(feed, self.reads.get(feed.tenant, lambda: 300.0))
        self.readers.append(reader)
        return cast("FeedReader", reader)


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> float:
        raise error

    return fail


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(a_feed(A), a_feed(B))


@pytest.fixture
def ticking(schedule: Schedule) -> Ticking:
    return Ticking(schedule, ManualClock())


async def test_feeds_that_are_due_are_read_and_due_again_later(ticking: Ticking) -> None:
    assert await ticking.ticks.tick() == 2
    assert ticking.schedule.next == {A: 300.0, B: 300.0}
    assert ticking.schedule.held == set()


async def test_a_reader_stays_until_the_settings_change(ticking: Ticking) -> None:
    await ticking.ticks.tick()
    await ticking.ticks.tick()
    assert [reader.rounds for reader in ticking.readers] == [2, 2]
    ticking.schedule.feeds[0] = a_feed(A, version="2")
    await ticking.ticks.tick()
    assert len(ticking.readers) == 3


async def test_a_feed_that_another_instance_reads_is_left(ticking: Ticking) -> None:
    ticking.schedule.held = {A}
    assert await ticking.ticks.tick() == 1
    assert ticking.schedule.next == {B: 300.0}
    assert ticking.schedule.held == {A}


async def test_a_feed_of_a_pim_that_is_not_registered_is_not_read(ticking: Ticking) -> None:
    ticking.schedule.feeds = [a_feed("https://gone.example.com")]
    assert await ticking.ticks.tick() == 0


@pytest.mark.provokes("feed.faulted")
async def test_a_fault_in_one_feed_ends_no_other(ticking: Ticking) -> None:
    ticking.reads[A] = failing(ZeroDivisionError())
    with capture_logs() as lines:
        assert await ticking.ticks.tick() == 2
    assert ticking.schedule.next == {A: 900.0, B: 300.0}
    assert [line["tenant"] for line in lines if line["event"] == "feed.faulted"] == [A]
    assert ticking.schedule.held == set()


@pytest.mark.provokes("feed.store_unavailable")
async def test_a_store_that_is_away_leaves_the_feed_due(ticking: Ticking) -> None:
    ticking.reads[A] = failing(StoreUnavailable("away"))
    with capture_logs() as lines:
        assert await ticking.ticks.tick() == 1
    assert ticking.schedule.next == {B: 300.0}
    assert [line["tenant"] for line in lines if line["event"] == "feed.store_unavailable"] == [A]
    assert ticking.schedule.held == set()


async def test_settings_that_change_in_a_round_begin_it_anew(ticking: Ticking) -> None:
    ticking.reads[A] = failing(FeedReplaced())
    await ticking.ticks.tick()
    assert ticking.schedule.next == {B: 300.0}
    await ticking.ticks.tick()
    assert len([reader for reader in ticking.readers if reader.feed.tenant == A]) == 2


async def test_a_round_that_does_not_end_is_cut_and_goes_on_in_the_next_tick(schedule: Schedule) -> None:
    ticking = Ticking(schedule, ManualClock(), seconds=0.05)
    ticking.reads[A] = ticking.reads[B] = asyncio.Event().wait
    while not ticking.readers:  # a slow machine may have no time left to begin one
        await ticking.ticks.tick()
    assert ticking.schedule.next == {reader.feed.tenant: 0.0 for reader in ticking.readers}
    assert ticking.schedule.held == set()


@pytest.mark.alerts("feed-behind")
@pytest.mark.provokes("feed.behind")
async def test_a_feed_that_is_behind_says_so(schedule: Schedule) -> None:
    clock = ManualClock()
    ticking = Ticking(schedule, clock)
    ticking.schedule.feeds = [a_feed(A)]
    now = clock.now()
    late, fresh = now - timedelta(seconds=901), now - timedelta(seconds=899)
    ticking.states_of = {
        ResourceName.PRODUCTS: ResourceState(succeeded_at=late),
        ResourceName.FAMILIES: ResourceState(succeeded_at=fresh),
    }
    with capture_logs() as lines:
        await ticking.ticks.tick()
    (line,) = [line for line in lines if line["event"] == "feed.behind"]
    assert (line["tenant"], line["resources"]) == (A, ["products"])


def test_accepted_events_of_a_feed_are_logged() -> None:
    with capture_logs() as lines:
        FeedLog().read(a_feed(A), ResourceName.PRODUCTS, ResourceState(), 3)
        FeedLog().read(a_feed(A), ResourceName.PRODUCTS, ResourceState(), 0)
    assert [(line["event"], line["way"], line["events"]) for line in lines] == [
        ("events.accepted", "feed", 3)
    ]
