"""Millions of kept deliveries on one machine: the time of a page of events, and of what `aep trace` reads."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from aep.store import courses, kept, kept_index
from aep.store.database import Database
from aep.store.kept_index import Bounds
from aep.store.kept_search import SqliteKeptEvents, search_of_all
from aep.store.migrations import prepare
from aep.store.opening import FILE, connect
from event_platform.domain.events.entities import parse_entity
from event_platform.domain.kept_events import CourseStatus, KeptQuery
from event_platform.domain.subscriptions import Owner

from ..events import TYPE
from ..figures import Figure, at_most, case, percentile
from ..measuring import Bench

OWNER = Owner("https://pim-0.example.com", "erp")
PIMS, SUBSCRIPTIONS, ENTITIES, CATEGORIES = 20, 20, 100_000, 1000
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PER_COMMIT = 8192
BOUNDS = Bounds(31 * 86400, 20 * 1024**3)
PAGES_OF_EACH = 100
AIMED = [
    (query, 99)
    for query in (
        *("newest 50", "50 of an hour in the middle", "an id"),
        *("newest of an entity", "newest of a subscription", "aep trace of an id"),
    )
]
"""The figures with an aim: others have to read events that do not fit."""
CATEGORY = "com.akeneo.pim.v1.category.updated"
DATA = b'{"product":{"uuid":"00000000-0000-4000-8000-000000000000","identifier":"SKU-1"},"more":"%s"}' % (
    b"x" * 200
)


@case("trace", "pages of events among five million kept deliveries", by_default=False)
def trace(bench: Bench) -> list[Figure]:
    events = bench.options.kept
    with tempfile.TemporaryDirectory(prefix="aep-bench-", dir=bench.options.folder) as name:
        file = Path(name) / FILE
        with closing(connect(file)) as connection:
            _fill(connection, events)
            segments = connection.execute("SELECT count(*) FROM kept_segments").fetchone()[0]
        size = file.stat().st_size
        taken = asyncio.run(_pages(Path(name), events))
        with closing(connect(file)) as connection:
            taken |= {"aep trace of an id": _searches(connection, events)}
    return [
        Figure("kept deliveries", events, ""),
        Figure("segments of the index", segments, ""),
        Figure("size of the file", size / 1e9, "GB"),
        *(
            Figure(
                f"{query}, p{percent}",
                percentile(each, percent),
                "ms",
                at_most(50) if (query, percent) in AIMED else None,
            )
            for query, each in taken.items()
            for percent in (50, 99)
        ),
    ]


async def _pages(folder: Path, events: int) -> dict[str, list[float]]:
    """Returns the milliseconds of the pages of each kind of query."""

    def middle(number: int) -> datetime:
        return _at(events // 2 + number * 1000)

    queries: dict[str, Callable[[int], KeptQuery]] = {
        "newest 50": lambda number: KeptQuery(limit=50),
        "50 of an hour in the middle": lambda number: KeptQuery(
            since=middle(number), until=middle(number) + timedelta(hours=1), limit=50
        ),
        "an id": lambda number: KeptQuery(event_id=f"event-{number * 7919 % events * PIMS}", limit=50),
        "newest of an entity": lambda number: KeptQuery(
            entity=parse_entity(f"product:SKU-{number * 100}"), limit=50
        ),
        "newest of a type": lambda number: KeptQuery(event_type=CATEGORY, limit=50),
        "newest of a subscription": lambda number: KeptQuery(
            subscription_id=f"subscription-{number % SUBSCRIPTIONS}", limit=50
        ),
        "newest that ended undelivered": lambda number: KeptQuery(outcome=CourseStatus.ENDED, limit=50),
    }
    database = Database(folder)
    database.open()
    try:
        search = SqliteKeptEvents(database, keeps=True)
        return {
            name: [
                await _milliseconds(partial(search.page, OWNER, query(number)))
                for number in range(PAGES_OF_EACH)
            ]
            for name, query in queries.items()
        }
    finally:
        await database.close()


async def _milliseconds(read: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await read()
    return (time.perf_counter() - began) * 1000


def _searches(connection: sqlite3.Connection, events: int) -> list[float]:
    taken: list[float] = []
    for number in range(PAGES_OF_EACH):
        began = time.perf_counter()
        query = KeptQuery(event_id=f"event-{number * 104729 % events}", limit=50)
        search_of_all(connection, query).page(connection)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _at(number: int) -> datetime:
    return BEGIN + timedelta(seconds=number / 100)


def _fill(connection: sqlite3.Connection, events: int) -> None:
    """Writes as many events with a delivery each, of which one in a thousand ended undelivered."""
    prepare(connection)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "INSERT INTO subscribers VALUES ('s', ?, ?, 'active', 0, '{}')", (OWNER.tenant, OWNER.client_id)
    )
    connection.executemany(
        "INSERT INTO subscriptions VALUES (?, ?, 's', ?, 'active', 0, '{}')",
        [(number + 1, f"subscription-{number}", OWNER.tenant) for number in range(SUBSCRIPTIONS)],
    )
    for start in range(0, events, PER_COMMIT):
        connection.execute("BEGIN")
        _write(connection, range(start, min(events, start + PER_COMMIT)))
        while kept_index.write_segment(connection, _at(start).timestamp(), BOUNDS):
            pass
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _write(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    kept.put(connection, [_row(number) for number in numbers])
    keys = [(2 * number + 2, number // PIMS % SUBSCRIPTIONS + 1, 0) for number in numbers]
    courses.begin(connection, [(*key, None, 0) for key in keys])
    courses.end(
        connection,
        [
            (*key, courses.ENDED if number % 1000 == 0 else courses.DELIVERED, 200, None, None, 5, 0.0)
            for number, key in zip(numbers, keys, strict=True)
        ],
    )


def _row(number: int) -> kept.KeptRow:
    pim, of_pim = number % PIMS, number // PIMS
    entity = of_pim % ENTITIES
    return (
        2 * number + 2,
        f"https://pim-{pim}.example.com",
        _at(number).timestamp(),
        "cloudevents",
        f"event-{number}",
        CATEGORY if of_pim % CATEGORIES == 0 else TYPE,
        "2026-01-01T00:00:00Z",
        f'["00000000-0000-4000-8000-{entity:012}"]',
        b"SKU-%d" % entity,
        DATA,
    )
