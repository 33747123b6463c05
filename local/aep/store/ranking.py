"""The subscriptions in the order of a column, for the operator, as they were some seconds ago.

What counts as delivered, failed or waiting stands in rows that no index has in that order. So the figures are
copied into memory, in steps of a few milliseconds between which others read, and are gone by for a while.
Pages are sorted from the copy by SQLite, which holds up no other thread of Python.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson

from event_platform.documents import rate_of
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.suspension import Series, first_minute, series_before
from event_platform.ports import Clock

from .backlog import Job, Result
from .database import Database
from .listing import COUNTED_AT_MOST, ON_A_PAGE, ListQuery, Sort, fitting, retries_of_first

FRESH_SECONDS, STALE_SECONDS = 30.0, 300.0
"""The age from which a copy is made anew while pages are still sorted from it, and from which they wait."""
STEP = 500
"""The subscriptions, or series of attempts, that one read takes in: a few milliseconds."""
WAITING_STEP = 50
"""The subscriptions whose deliveries one statement counts, up to COUNTED_AT_MOST of each."""
STEP_SECONDS = 0.005

_ORDERS: Mapping[Sort, Sequence[str]] = {
    Sort.DESTINATION: ("destination COLLATE NOCASE",),
    Sort.PIM: ("tenant", "client_id"),
    Sort.SUBSCRIBER: ("subscriber COLLATE NOCASE",),
    Sort.TYPES: ("types",),
    Sort.STATUS: ("CASE status WHEN 'suspended' THEN 0 WHEN 'revoked' THEN 1 ELSE 2 END",),
    Sort.RATE: ("rate",),
    Sort.LANES: ("lanes",),
    Sort.DELIVERED: ("delivered",),
    Sort.FAILED: ("failed",),
    Sort.WAITING: ("waiting",),
    Sort.FAILURE: ("failed_at",),
}
_TABLE = (
    "CREATE TABLE ranked (no INTEGER PRIMARY KEY, destination TEXT, tenant TEXT, client_id TEXT,"
    " subscriber TEXT, types INTEGER, status TEXT, rate REAL, lanes INTEGER, delivered INTEGER,"
    " failed INTEGER, waiting INTEGER, failed_at REAL)"
)
_SUBSCRIPTIONS = (
    "SELECT s.no, s.id, s.tenant, s.status, json_extract(s.document, '$.client_id'),"
    " coalesce(json_extract(s.document, '$.config.url'),"
    " 'projects/' || json_extract(s.document, '$.config.project_id')"
    " || '/topics/' || json_extract(s.document, '$.config.topic_id'),"
    " json_extract(s.document, '$.config.topic'), ''),"
    " json_extract(s.document, '$.epoch'), json_array_length(s.document, '$.events'),"
    " json_extract(s.document, '$.lanes'), json_extract(s.document, '$.rate'),"
    " json_extract(s.document, '$.created_at'), json_extract(s.document, '$.updated_at'),"
    " json_extract(b.document, '$.name'), f.at"
    " FROM subscriptions s LEFT JOIN subscribers b ON b.id = s.subscriber_id"
    " LEFT JOIN last_failures f ON f.subscription_no = s.no"
    " WHERE s.no > ? AND s.status <> 'deleted' ORDER BY s.no LIMIT ?"
)
_COUNTS = (
    "SELECT series, sum(succeeded), sum(failed) FROM success_counts"
    " WHERE series > ? AND minute >= ? GROUP BY series ORDER BY series LIMIT ?"
)
_WAITING = (
    "WITH RECURSIVE numbers(no) AS ("  # noqa: S608 - constants
    "SELECT min(subscription_no) FROM deliveries WHERE subscription_no > ?"
    " UNION ALL SELECT (SELECT min(subscription_no) FROM deliveries WHERE subscription_no > no)"
    f" FROM numbers WHERE no IS NOT NULL LIMIT {WAITING_STEP})"
    " SELECT no, (SELECT count(*) FROM"
    f" (SELECT 1 FROM deliveries WHERE subscription_no = no LIMIT {COUNTED_AT_MOST}))"
    " FROM numbers WHERE no IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The numbers of the subscriptions of a page, one more than a page has if there is another.

    `age` is that of the figures, in seconds.
    """

    numbers: Sequence[int]
    age: float


class Rankings:
    """Sorts subscriptions from a copy in memory, which `close` frees. Used in one event loop only."""

    def __init__(self, database: Database, clock: Clock, limits: Limits) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self._copy: sqlite3.Connection | None = None
        self._copied_at = 0.0
        self._using = asyncio.Lock()
        self._making: asyncio.Task[None] | None = None
        self._freeing: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def page(self, query: ListQuery, sort: Sort) -> Ranked:
        """Returns a page in the order of a column. Raises StoreUnavailable."""
        wanted = await self._database.read(partial(fitting, query=query)) if query.is_narrowed else None
        self._free_later()
        if self._is_stale():
            await asyncio.shield(self._make_soon())
        elif self._age() > FRESH_SECONDS:
            self._make_soon()
        async with self._using:
            if self._copy is None:
                raise StoreUnavailable("the console is being stopped")
            numbers = await asyncio.to_thread(_page, self._copy, query, sort, wanted)
        return Ranked(numbers, self._age())

    def prepare(self) -> None:
        """Begins to copy if there is no copy that pages may be sorted from: somebody may ask for one."""
        if self._is_stale():
            self._free_later()
            self._make_soon()

    async def close(self) -> None:
        self._is_closed = True
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)
        if self._freeing is not None:
            self._freeing.cancel()
        await self._replace(None)

    def _age(self) -> float:
        return self._clock.monotonic() - self._copied_at

    def _is_stale(self) -> bool:
        return self._copy is None or self._age() > STALE_SECONDS

    def _make_soon(self) -> "asyncio.Task[None]":
        """Returns the task that copies. It is not cancelled, as its thread would go on in what was closed."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make())
            # What it raised is raised to the next page that has to wait.
            self._making.add_done_callback(lambda made: made.cancelled() or made.exception())
        return self._making

    async def _make(self) -> None:
        """Copies what subscriptions are sorted by."""
        began, now = self._clock.monotonic(), self._clock.now()
        copy = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        try:
            copy.execute(_TABLE)
            await self._fill(copy, now)
        except BaseException:
            copy.close()
            raise
        await self._replace(copy)
        self._copied_at = began

    async def _fill(self, copy: sqlite3.Connection, now: datetime) -> None:
        counts: dict[str, tuple[int, int]] = {}
        waiting = Counter(await self._read(retries_of_first))
        series, last = "", 0
        while rows := await self._read(partial(_counts, after=series, first=first_minute(now))):
            counts.update(rows)
            series = rows[-1][0]
        while found := await self._read(partial(_waiting, after=last)):
            waiting.update(dict(found))
            last = found[-1][0]
        step = partial(_copy, copy=copy, counts=counts, waiting=waiting, now=now, limits=self._limits)
        last = 0
        while highest := await self._read(partial(step, after=last)):
            last = highest

    async def _read(self, job: Job[Result]) -> Result:
        if self._is_closed:
            raise StoreUnavailable("the console is being stopped")
        return await self._database.read(job)

    async def _replace(self, copy: sqlite3.Connection | None) -> None:
        async with self._using:
            before, self._copy = self._copy, copy
            if before is not None:
                before.close()

    def _free_later(self) -> None:
        """Frees the copy once nobody has sorted for a while."""
        if self._freeing is not None:
            self._freeing.cancel()
        loop = asyncio.get_running_loop()
        self._freeing = loop.call_later(STALE_SECONDS, self._free)

    def _free(self) -> None:
        if self._copy is not None and not self._using.locked():
            self._copy.close()
            self._copy = None


def _page(copy: sqlite3.Connection, query: ListQuery, sort: Sort, wanted: str | None) -> list[int]:
    direction = "ASC" if query.ascending else "DESC"
    columns = ", ".join(f"{column} {direction} NULLS LAST" for column in _ORDERS[sort])
    where, values = (
        ("", []) if wanted is None else (" WHERE no IN (SELECT value FROM json_each(?))", [wanted])
    )
    found = copy.execute(
        f"SELECT no FROM ranked{where} ORDER BY {columns}, no DESC LIMIT ? OFFSET ?",  # noqa: S608 - constants
        [*values, ON_A_PAGE + 1, query.page * ON_A_PAGE],
    )
    return [number for (number,) in found]


def _counts(connection: sqlite3.Connection, after: str, first: int) -> list[tuple[str, tuple[int, int]]]:
    """Returns the attempts of the next series since a minute: how many succeeded, and how many failed."""
    rows = connection.execute(_COUNTS, (after, first, STEP))
    return [(series, (succeeded, failed)) for series, succeeded, failed in rows]


def _waiting(connection: sqlite3.Connection, after: int) -> list[tuple[int, int]]:
    """Returns the numbers of waiting deliveries of the next subscriptions that have some."""
    found: list[tuple[int, int]] = []
    until = time.monotonic() + STEP_SECONDS
    while time.monotonic() < until:
        rows = connection.execute(_WAITING, (found[-1][0] if found else after,)).fetchall()
        found += rows
        if len(rows) < WAITING_STEP:
            break
    return found


def _copy(
    connection: sqlite3.Connection,
    copy: sqlite3.Connection,
    after: int,
    counts: Mapping[str, tuple[int, int]],
    waiting: Mapping[int, int],
    now: datetime,
    limits: Limits,
) -> int | None:
    """Copies the next subscriptions; returns the number of the last one, None if none was left."""
    rows = connection.execute(_SUBSCRIPTIONS, (after, STEP)).fetchall()
    ranked = [_row(row, counts, waiting.get(row[0], 0), now, limits) for row in rows]
    with copy:
        copy.executemany("INSERT INTO ranked VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", ranked)
    return rows[-1][0] if rows else None


def _row(
    row: Sequence[Any],
    counts: Mapping[str, tuple[int, int]],
    waiting: int,
    now: datetime,
    limits: Limits,
) -> tuple[Any, ...]:
    (number, subscription_id, tenant, status, client_id, destination, epoch, types, lanes, *rest) = row
    rate_json, created_at, updated_at, subscriber, failed_at = rest
    rate = rate_of({"rate": None if rate_json is None else orjson.loads(rate_json)})
    delivered = failed = 0
    if counts:
        series = Series(subscription_id, epoch, destination)
        every = [series]
        if now - datetime.fromisoformat(updated_at) < timedelta(hours=1, minutes=1):
            every += series_before(series)
        for each in every:
            succeeded, without = counts.get(each.key, (0, 0))
            delivered, failed = delivered + succeeded, failed + without
    return (
        number,
        destination,
        tenant,
        client_id,
        subscriber,
        types,
        status,
        round((rate or Rate(datetime.fromisoformat(created_at))).at(now, limits), 1),
        lanes,
        delivered,
        failed,
        min(waiting, COUNTED_AT_MOST),
        failed_at,
    )
