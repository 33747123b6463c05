"""The cost, in steps of SQLite, of a job that looks for the next events of a replay."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from aep.broker.replay_reader import AT_ONCE, NUMBERS_AT_ONCE, Found, find
from aep.store import kept_index
from aep.store.kept_index import Bounds
from aep.store.migrations import prepare
from aep.store.replays import REPLAY, RUNNING, Row
from support.clock import START
from support.records import CATEGORY, PIM, UPDATED
from support.sqlite_steps import counted_steps

EVENTS = 40_000
HEAD = EVENTS % kept_index.EVENTS_OF_SEGMENT
LAST = 2 * EVENTS
NUMBER = 1
"""The number of the subscription."""


@pytest.fixture(scope="module")
def store() -> Iterator[sqlite3.Connection]:
    """Kept events without courses, but for the latest in segments, and a subscription to two types."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO kept WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " SELECT 2 * i, ?, ? + i, 'cloudevents', 'event-' || i, ?, '2026-01-31T12:00:00Z',"
            " '[\"entity\"]', NULL, x'7b7d' FROM n",
            (EVENTS, PIM, START.timestamp(), UPDATED),
        )
        now = START.timestamp() + EVENTS
        while kept_index.write_segment(connection, now, Bounds(86400 * 31, 1 << 40)):
            pass
        connection.execute(
            "INSERT INTO subscriptions (no, id, tenant, subscriber_id, status, updated_at, document)"
            " VALUES (?, 'one', ?, 'app', 'active', 0, json_object('events', json_array(?, ?)))",
            (NUMBER, PIM, UPDATED, CATEGORY),
        )
        connection.execute("COMMIT")
        yield connection


def a_replay(**asked: Any) -> Row:
    asked = {"event_ids": [], "events": [], "which": "undelivered"} | asked
    return Row(1, "replay", NUMBER, REPLAY, RUNNING, asked, 0, LAST, 0, 0, 0, 0, None, 0, None)


def looked(store: sqlite3.Connection, row: Row) -> tuple[list[int], int, int]:
    """The numbers that are found from the first event to the last one, in how many jobs, and the most steps
    of SQLite that one of them took."""
    numbers: list[int] = []
    found, jobs, most = Found((), 0, is_end=False), 0, 0
    while not found.is_end:
        found, steps = counted_steps(store, partial(find, store, row, found.looked_to))
        numbers += found.numbers
        jobs, most = jobs + 1, max(most, steps)
    return numbers, jobs, most


def test_ids_are_looked_up_in_the_index(store: sqlite3.Connection) -> None:
    ids = ["event-1", f"event-{EVENTS // 2}", f"event-{EVENTS}", "unknown"]

    numbers, jobs, steps = looked(store, a_replay(event_ids=ids))

    assert numbers == [2, EVENTS, 2 * EVENTS]
    assert jobs == 2  # that of the index, and that of the head
    assert steps < 200 * EVENTS // kept_index.EVENTS_OF_SEGMENT + 20 * HEAD


def test_as_many_ids_as_may_be_asked_for_are_looked_up_in_bounded_jobs(store: sqlite3.Connection) -> None:
    wanted = range(1, EVENTS, EVENTS // 1000)

    numbers, jobs, steps = looked(store, a_replay(event_ids=[f"event-{each}" for each in wanted]))

    assert numbers == [2 * each for each in wanted]
    assert jobs <= len(wanted) // AT_ONCE + EVENTS // kept_index.EVENTS_OF_SEGMENT // 8 + 2
    assert steps < 100_000


def test_events_of_which_none_fits_are_gone_through_in_bounded_jobs(store: sqlite3.Connection) -> None:
    numbers, jobs, steps = looked(store, a_replay(events=[CATEGORY]))

    assert numbers == []
    assert jobs == -(-LAST // NUMBERS_AT_ONCE)
    assert steps < 20 * NUMBERS_AT_ONCE


def test_a_piece_has_a_bounded_number_of_candidates_however_rarely_a_filter_fits(
    store: sqlite3.Connection,
) -> None:
    found = find(store, a_replay(), 0)

    assert found.numbers == [2 * each for each in range(1, AT_ONCE + 1)]
    assert found.looked_to == 2 * AT_ONCE
