"""A log of a million entries of one client on one machine: the time of a page, and of an entry."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from aep.store.database import Database
from aep.store.logs import SqliteLogs, put_entry
from aep.store.migrations import prepare
from aep.store.opening import FILE, connect
from aep.store.schema import LOG_KINDS, LOG_SCOPES, log_index
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.record.logs import (
    FAILED_DELIVERY,
    KEPT_FOR,
    LogEntry,
    LogQuery,
    LogType,
    Operation,
    Position,
)
from event_platform.domain.subscriptions import Owner

from ..figures import Figure, at_most, below, case, percentile
from ..measuring import Bench, Load
from ..platform import CLIENT
from ..tenants import put_pims, url_of

OWNER = Owner("https://pim.example.com", "erp")
SUBSCRIPTIONS = 400
"""The subscriptions that a PIM can have: 20 subscribers with 20 each."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LATER_ENTRIES = 20_000
PAGES_OF_EACH = 200
PER_COMMIT = 10_000
FEW_ENTRIES, FAILING = 50_000, 25
REASONS = tuple(Reason)


@case("logs", "pages of a log of a million entries, and what one costs")
def logs(bench: Bench) -> list[Figure]:
    entries = bench.options.log_entries
    with tempfile.TemporaryDirectory(prefix="aep-bench-", dir=bench.options.folder) as name:
        folder = Path(name)
        with closing(connect(folder / FILE)) as connection:
            prepare(connection)
            made = _drop_indexes(connection)
            _write(connection, range(entries - LATER_ENTRIES))
            without = _write(connection, range(entries - LATER_ENTRIES, entries))
            for statement in made:  # all rows at once, which is quicker than one by one
                connection.execute(statement)
            each = _write(connection, range(entries, entries + LATER_ENTRIES))
        pages = asyncio.run(_pages(folder, entries))
    return [
        *(
            Figure(
                f"{name}, p{percent}", percentile(taken, percent), "ms", below(50) if percent == 99 else None
            )
            for name, taken in pages.items()
            for percent in (50, 99)
        ),
        Figure("writing an entry", each * 1000, "ms"),
        Figure("the same without the 12 indexes of readers", without * 1000, "ms"),
    ]


@case("failures", "failing deliveries with an empty log and with a long one", by_default=False)
def failures(bench: Bench) -> list[Figure]:
    entries = bench.options.log_entries if bench.options.whole else FEW_ENTRIES
    empty, full = _cpu_ms_of_failures(bench, 0), _cpu_ms_of_failures(bench, entries)
    return [
        Figure("entries of the log", entries, ""),
        Figure("CPU per failing delivery", full, "ms"),
        Figure("the same with an empty log", empty, "ms"),
        Figure("ratio of the two", full / empty, "", at_most(1.2)),
    ]


def _cpu_ms_of_failures(bench: Bench, entries: int) -> float:
    """Returns what a delivery costs that is refused for good, of a client whose log has so many entries."""
    paths = [f"/status-400/{number}" for number in range(SUBSCRIPTIONS)]
    with bench.installed() as installation:
        data = installation.folder / "data"
        keys = put_pims(data, bench.endpoints(paths), pims=1, each=SUBSCRIPTIONS, busy=SUBSCRIPTIONS)
        with closing(connect(data / FILE)) as connection:
            made = _drop_indexes(connection)
            since = datetime.now(UTC) - KEPT_FOR / 2  # else they are removed meanwhile
            _write(
                connection, range(entries), Owner(url_of(0), CLIENT), since, KEPT_FOR / 2 / max(1, entries)
            )
            for statement in made:
                connection.execute(statement)
        with installation.running() as platform:
            bench.publish(platform, Load(1, connections=1, keys=keys), paths)  # makes an entry for each
            return bench.publish(platform, Load(FAILING, connections=1, keys=keys), paths).cpu_ms_per_delivery


async def _pages(folder: Path, entries: int) -> dict[str, list[float]]:
    """Returns the milliseconds of the pages of each kind of query."""
    middle = BEGIN + timedelta(seconds=entries // 2)
    queries = {
        "newest 50": LogQuery(),
        "50 from the middle on": LogQuery(after=Position(middle.timestamp(), "")),
        "errors of a subscription": LogQuery(log_type=LogType.ERROR, subscription_id="subscription-7"),
        "a reason, of a subscriber": LogQuery(error_reason=REASONS[3], subscriber_id="subscriber-7"),
        "100 drops of a span of time": LogQuery(
            operation=Operation.DROPPED, since=middle, before=middle + timedelta(days=1), limit=100
        ),
        "what does not exist": LogQuery(operation="subscriber_revoked_by_the_user"),
    }
    database = Database(folder)
    database.open()
    try:
        log = SqliteLogs(database)
        return {name: await _taken(log, query) for name, query in queries.items()}
    finally:
        await database.close()


async def _taken(log: SqliteLogs, query: LogQuery) -> list[float]:
    taken: list[float] = []
    for number in range(PAGES_OF_EACH):
        began = time.perf_counter()
        await log.entries(OWNER, replace(query, newest_first=number % 2 == 0))
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _drop_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drops the indexes of readers; returns the statements that make them again."""
    made: list[str] = []
    for scope, kind in product(LOG_SCOPES, LOG_KINDS):
        name = log_index(scope, kind)
        made += connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        connection.execute(f"DROP INDEX {name}")
    return made


def _write(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    owner: Owner = OWNER,
    since: datetime = BEGIN,
    step: timedelta = timedelta(seconds=1),
) -> float:
    """Writes the entries of these numbers; returns the seconds of each, commits included."""
    began = time.perf_counter()
    for start in range(0, len(numbers), PER_COMMIT):
        connection.execute("BEGIN")
        for number in numbers[start : start + PER_COMMIT]:
            put_entry(connection, replace(_entry(number), owner=owner, at=since + number * step))
        connection.execute("COMMIT")
    return (time.perf_counter() - began) / max(1, len(numbers))


def _entry(number: int) -> LogEntry:
    """Returns an end of a delivery, a dropped one, or, one in ten, an action; a second after the one
    before.
    """
    subscription = number * 7919 % SUBSCRIPTIONS
    entry = LogEntry(
        id=f"{number * 2654435761 % 2**32:08x}-{number:023}",
        owner=OWNER,
        log_type=LogType.ERROR,
        at=BEGIN + timedelta(seconds=number),
        operation=Operation.FAILED,
        subscriber_id=f"subscriber-{subscription % 20}",
        subscription_id=f"subscription-{subscription}",
        error_type=FAILED_DELIVERY,
        error_reason=REASONS[number % len(REASONS)],
        error_code=500,
        error_message="the endpoint did not answer",
    )
    if number % 10 == 0:
        return replace(
            entry,
            log_type=LogType.ACTION,
            operation="subscription_updated_by_the_user",
            error_type=None,
            error_reason=None,
            error_code=None,
            error_message=None,
        )
    return replace(entry, operation=Operation.DROPPED, error_reason=None) if number % 10 == 1 else entry
