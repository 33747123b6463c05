"""The cost of a page of kept events in steps of SQLite: it grows with the segments, not with the events."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from aep.store import kept_index, kept_search
from aep.store.kept_index import Bounds
from aep.store.kept_search import KeptSearch
from aep.store.migrations import prepare
from event_platform.domain.events.entities import parse_entity
from event_platform.domain.kept_events import CourseStatus, KeptPage, KeptQuery
from support.clock import START
from support.records import PIM, UPDATED
from support.sqlite_steps import counted_steps

EVENTS = 20_000
SEGMENTS = EVENTS // kept_index.EVENTS_OF_SEGMENT
AT = START.timestamp()
IDS = {number: f"subscription-{number}" for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def store() -> Iterator[sqlite3.Connection]:
    """Events one second after each other, each with a course; one in 5,000 is of the second subscription."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO kept WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " SELECT 2 * i, ?, ? + i, 'cloudevents', 'event-' || i, ?, '2026-01-31T12:00:00Z',"
            " '[\"entity-' || (i % 1000) || '\"]', NULL, x'7b7d' FROM n",
            (EVENTS, PIM, AT, UPDATED),
        )
        connection.execute(
            "INSERT INTO courses (event_no, subscription_no, outcome)"
            " SELECT no, CASE WHEN no % 10000 THEN 1 ELSE 2 END, 'delivered' FROM kept"
        )
        while kept_index.write_segment(connection, AT + EVENTS, Bounds(86400 * 31, 1 << 40)):
            pass
        connection.execute("COMMIT")
        yield connection


def page(store: sqlite3.Connection, query: KeptQuery) -> tuple[KeptPage, int]:
    """Returns a page, and the steps of SQLite that it took."""
    return counted_steps(store, lambda: KeptSearch(PIM, IDS, query).page(store))


@pytest.mark.parametrize("number", [1, EVENTS // 2, EVENTS])
def test_an_id_costs_some_steps_for_each_segment(store: sqlite3.Connection, number: int) -> None:
    found, steps = page(store, KeptQuery(event_id=f"event-{number}", limit=10))
    assert [event.number for event in found.events] == [2 * number]
    assert steps < 100 * SEGMENTS + 40_000  # the head is read row by row


@pytest.mark.parametrize("until", [None, START + timedelta(seconds=EVENTS // 2)])
def test_a_page_by_time_costs_what_it_shows(store: sqlite3.Connection, until: datetime | None) -> None:
    found, steps = page(store, KeptQuery(until=until, limit=100))
    assert len(found.events) == 100
    assert found.below is not None
    assert steps < 50 * SEGMENTS + 30_000


def test_a_rare_subscription_is_found_by_its_own_entries(store: sqlite3.Connection) -> None:
    found, steps = page(store, KeptQuery(subscription_id=IDS[2], limit=100))
    assert [event.number for event in found.events] == [40_000, 30_000, 20_000, 10_000]
    assert found.below is None
    assert steps < 100 * SEGMENTS + 40_000  # the head is read row by row


def test_an_entity_is_found_by_its_own_entries(store: sqlite3.Connection) -> None:
    found, steps = page(store, KeptQuery(entity=parse_entity("product:entity-7"), limit=100))
    assert len(found.events) == EVENTS // 1000
    assert steps < 100 * SEGMENTS + 40_000  # the head is read row by row


def test_what_nothing_fits_ends_a_page_early_and_says_where_to_go_on(store: sqlite3.Connection) -> None:
    found, steps = page(store, KeptQuery(outcome=CourseStatus.ENDED, limit=100))
    assert found.events == []
    assert found.below is not None
    assert steps < 400_000
    pages, query = 1, KeptQuery(outcome=CourseStatus.ENDED, limit=100, below=found.below)
    while (found := page(store, query)[0]).below is not None:
        query = KeptQuery(outcome=CourseStatus.ENDED, limit=100, below=found.below)
        pages += 1
    assert pages <= EVENTS // 4000 + 1


def test_a_subscription_that_nothing_matched_costs_some_steps_for_each_segment(
    store: sqlite3.Connection,
) -> None:
    found, steps = page(store, KeptQuery(subscription_id=IDS[3], limit=100))
    assert (found.events, found.below) == ([], None)
    assert steps < 100 * SEGMENTS + 40_000  # the head is read row by row


@pytest.fixture
def wide() -> Iterator[sqlite3.Connection]:
    """Ten events, each with 3,000 deliveries, of which 2 wait and 1 ended."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        connection.executemany(
            "INSERT INTO kept VALUES (?, ?, ?, 'cloudevents', ?, ?, '2026-01-31T12:00:00Z', '[\"a\"]', NULL,"
            " x'7b7d')",
            [(2 * number, PIM, AT + number, f"event-{number}", UPDATED) for number in range(1, 11)],
        )
        connection.execute(
            "INSERT INTO courses (event_no, subscription_no, outcome)"
            " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " SELECT no, i, CASE WHEN i <= 2 THEN NULL WHEN i = 3 THEN 'ended' ELSE 'delivered' END"
            " FROM kept, n"
        )
        yield connection


def test_a_list_of_widely_delivered_events_counts_their_deliveries_and_reads_none(
    wide: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_search, "COURSES_A_STEP", 5_000)
    search = KeptSearch(None, {}, KeptQuery(courses_at_most=0))
    first, steps = counted_steps(wide, lambda: search.step(wide, 50))

    assert [event.number for event in first] == [20, 18], "a step ends once it has counted enough"
    assert steps < 20 * 2 * 3_000
    assert [event.number for event in search.page(wide).events] == [16, 14, 12, 10, 8, 6, 4, 2]
    assert first[0].courses == []
    assert first[0].deliveries == 3_000
    counts = [first[0].count(each) for each in CourseStatus]
    assert counts == [2_997, 2, 1, 0]


def test_of_many_deliveries_those_of_the_newest_subscriptions_are_read(wide: sqlite3.Connection) -> None:
    wide.execute("INSERT INTO subscriptions VALUES (3000, 'newest', 's', ?, 'active', 0, '{}')", (PIM,))
    query = KeptQuery(event_id="event-1", courses_at_most=2)
    (event,) = KeptSearch(None, {}, query).page(wide).events

    assert [course.subscription_id for course in event.courses] == ["newest", ""]
    assert event.deliveries == 3_000


@pytest.mark.parametrize(
    ("outcome", "number"),
    [(CourseStatus.DELIVERED, 10), (CourseStatus.ENDED, 10), (CourseStatus.UNMATCHED, 0)],
)
def test_an_outcome_is_looked_for_among_all_deliveries(
    wide: sqlite3.Connection, outcome: CourseStatus, number: int
) -> None:
    found = KeptSearch(None, {}, KeptQuery(outcome=outcome, courses_at_most=0)).page(wide)

    assert len(found.events) == number


def test_a_client_sees_the_deliveries_of_its_own_subscriptions(wide: sqlite3.Connection) -> None:
    query = KeptQuery(event_id="event-1")
    (event,) = KeptSearch(PIM, {1: "one", 3: "three"}, query).page(wide).events

    assert [(course.outcome, event.count(course.outcome)) for course in event.courses] == [
        (CourseStatus.WAITING, 1),
        (CourseStatus.ENDED, 1),
    ]
