"""Pages of the subscriptions of all owners, for the operator: filtered, sorted, with their numbers.

A page costs about the same however many subscriptions there are: numbers are read for those that it shows.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from event_platform.documents import rate_of
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.subscriptions import Status
from event_platform.domain.suspension import Series, first_minute, series_before

from .overview import destination_of, failure_in_words, last_hour
from .times import moment_of

ON_A_PAGE = 50
MOST_PAGES = 2_000
COUNTED_AT_MOST = 10_000
"""The deliveries of one subscription, and the retries of all, that are counted; of more it says that."""
FAILING_LOOKED_AT = 200
"""The subscriptions that failed last, among which the worst are looked for."""


class Sort(StrEnum):
    """The columns that a list is sorted by; without one the newest subscriptions come first."""

    DESTINATION = "destination"
    PIM = "pim"
    SUBSCRIBER = "subscriber"
    TYPES = "types"
    STATUS = "status"
    RATE = "rate"
    LANES = "lanes"
    DELIVERED = "delivered"
    FAILED = "failed"
    WAITING = "waiting"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The subscriptions that a reader asks for. `text` is a part of what a row shows; pages begin with 0."""

    text: str = ""
    status: Status | None = None
    tenant: str | None = None
    sort: Sort | None = None
    ascending: bool = False
    page: int = 0

    @property
    def is_narrowed(self) -> bool:
        """True if not all subscriptions are asked for."""
        return bool(self.text) or self.status is not None or self.tenant is not None


@dataclass(frozen=True, slots=True)
class Listed:
    """A subscription with the numbers of its deliveries; `delivered` and `failed` are of the last hour.

    `waiting` is at most COUNTED_AT_MOST.
    """

    id: str
    subscriber_id: str
    subscriber: str
    tenant: str
    client_id: str
    destination: str
    events: Sequence[str]
    status: Status
    rate: float
    lanes: int
    delivered: int
    failed: int
    waiting: int
    last_failure: str | None
    last_failure_at: datetime | None

    @property
    def success_rate(self) -> float | None:
        """The share of the last hour's attempts that succeeded, 0 to 1."""
        attempts = self.delivered + self.failed
        return self.delivered / attempts if attempts else None


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of the list. `total` counts all subscriptions that are not deleted, whatever the filter.

    `age` is how old the figures are that it is sorted by, in seconds; None if it is not sorted by any.
    """

    rows: Sequence[Listed]
    has_more: bool
    total: int
    age: float | None = None


def page_of(connection: sqlite3.Connection, query: ListQuery, now: datetime, limits: Limits) -> ListPage:
    """Reads a page of the subscriptions that are not deleted, newest first."""
    where, values = _where(query)
    statement = f"SELECT s.no FROM subscriptions s WHERE {where} ORDER BY s.no DESC LIMIT ? OFFSET ?"  # noqa: S608
    numbers = connection.execute(statement, [*values, ON_A_PAGE + 1, query.page * ON_A_PAGE])
    return page_with(connection, [no for (no,) in numbers], now, limits)


def page_with(
    connection: sqlite3.Connection, numbers: Sequence[int], now: datetime, limits: Limits
) -> ListPage:
    """Reads the page with these subscriptions; one more than it has room for says that there is another."""
    total = connection.execute("SELECT count(*) FROM subscriptions WHERE status <> 'deleted'").fetchone()[0]
    rows = _listed(connection, numbers[:ON_A_PAGE], now, limits)
    return ListPage(rows, len(numbers) > ON_A_PAGE, total)


def fitting(connection: sqlite3.Connection, query: ListQuery) -> str:
    """Reads the numbers of all subscriptions that a reader asks for, as JSON."""
    where, values = _where(query)
    statement = f"SELECT json_group_array(s.no) FROM subscriptions s WHERE {where}"  # noqa: S608 - constants
    return connection.execute(statement, values).fetchone()[0]


def _where(query: ListQuery) -> tuple[str, list[Any]]:
    where, values = ["s.status <> 'deleted'"], list[Any]()
    if query.status is not None:
        where.append("s.status = ?")
        values.append(query.status)
    if query.tenant is not None:
        where.append("s.tenant = ?")
        values.append(query.tenant)
    if query.text:
        where.append(_HAS_TEXT)
        values += [_pattern(query.text)] * _HAS_TEXT.count("?")
    return " AND ".join(where), values


def worst(connection: sqlite3.Connection, now: datetime, limits: Limits, number: int) -> list[Listed]:
    """Reads the subscriptions that failed most in the last hour, among those that failed last."""
    found = connection.execute(
        "SELECT f.subscription_no FROM last_failures f JOIN subscriptions s ON s.no = f.subscription_no"
        " WHERE s.status <> 'deleted' AND f.at >= ? ORDER BY f.at DESC LIMIT ?",
        (first_minute(now) * 60, FAILING_LOOKED_AT),
    )
    rows = _listed(connection, [no for (no,) in found], now, limits)
    return sorted(rows, key=lambda row: (row.success_rate or 0.0, -row.failed))[:number]


def one(connection: sqlite3.Connection, subscription_id: str, now: datetime, limits: Limits) -> Listed | None:
    """Reads one subscription with its numbers; None if there is none, or it is deleted."""
    row = connection.execute(
        "SELECT no FROM subscriptions WHERE id = ? AND status <> 'deleted'", (subscription_id,)
    ).fetchone()
    return None if row is None else next(iter(_listed(connection, row, now, limits)), None)


def ids_of(connection: sqlite3.Connection, tenant: str, limit: int) -> list[str]:
    """Returns the ids of the newest subscriptions of a PIM that are not deleted."""
    found = connection.execute(
        "SELECT id FROM subscriptions WHERE tenant = ? AND status <> 'deleted' ORDER BY no DESC LIMIT ?",
        (tenant, limit),
    )
    return [subscription_id for (subscription_id,) in found]


def count_by_status(connection: sqlite3.Connection) -> dict[Status, int]:
    """Returns the number of subscriptions of each status that some have."""
    found = connection.execute("SELECT status, count(*) FROM subscriptions GROUP BY status").fetchall()
    return {Status(status): number for status, number in found}


_TEXTS = (
    "id",
    "tenant",
    "json_extract(s.document, '$.client_id')",
    "json_extract(s.document, '$.config.url')",
    "json_extract(s.document, '$.config.topic')",
    "json_extract(s.document, '$.config.topic_id')",
    "json_extract(s.document, '$.events')",
)
_NAMED = "SELECT id FROM subscribers WHERE json_extract(document, '$.name') LIKE ? ESCAPE '\\'"
_HAS_TEXT = (
    # The whole document is looked at first, which is faster than its parts.
    "((s.document LIKE ? ESCAPE '\\' OR s.tenant LIKE ? ESCAPE '\\') AND ("
    + " OR ".join(f"{text} LIKE ? ESCAPE '\\'" for text in _TEXTS)
    + f") OR s.subscriber_id IN ({_NAMED}))"
)


_SHOWN = (
    "SELECT s.no, s.document, json_extract(b.document, '$.name'), f.outcome, f.status, f.reason, f.at"
    " FROM subscriptions s LEFT JOIN subscribers b ON b.id = s.subscriber_id"
    " LEFT JOIN last_failures f ON f.subscription_no = s.no"
)


def _pattern(text: str) -> str:
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def _listed(
    connection: sqlite3.Connection, numbers: Sequence[int], now: datetime, limits: Limits
) -> list[Listed]:
    marks = ", ".join("?" * len(numbers))
    rows = connection.execute(
        f"{_SHOWN} WHERE s.no IN ({marks})",
        numbers,
    ).fetchall()
    retries = retries_of_first(connection) if numbers else {}
    found = {row[0]: _row(connection, row, retries.get(row[0], 0), now, limits) for row in rows}
    return [found[number] for number in numbers if number in found]


def retries_of_first(connection: sqlite3.Connection) -> dict[int, int]:
    """Counts the retries of each subscription, among the first COUNTED_AT_MOST of all."""
    found = connection.execute(
        "SELECT subscription_no, count(*) FROM (SELECT subscription_no FROM retries LIMIT ?)"
        " GROUP BY subscription_no",
        (COUNTED_AT_MOST,),
    )
    return dict(found.fetchall())


def _row(
    connection: sqlite3.Connection, row: Sequence[Any], retries: int, now: datetime, limits: Limits
) -> Listed:
    number, text, subscriber, *failure, failed_at = row
    document = orjson.loads(text)
    (queued,) = connection.execute(
        "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE subscription_no = ? LIMIT ?)",
        (number, COUNTED_AT_MOST),
    ).fetchone()
    destination = destination_of(document["config"])
    series = Series(document["id"], document["epoch"], destination)
    delivered, failed = last_hour(connection, [series, *series_before(series)], now)
    rate = rate_of(document) or Rate(datetime.fromisoformat(document["created_at"]))
    return Listed(
        id=document["id"],
        subscriber_id=document["subscriber_id"],
        subscriber=subscriber or "",
        tenant=document["tenant"],
        client_id=document["client_id"],
        destination=destination,
        events=document["events"],
        status=Status(document["status"]),
        rate=round(rate.at(now, limits), 1),
        lanes=document["lanes"],
        delivered=delivered,
        failed=failed,
        waiting=min(queued + retries, COUNTED_AT_MOST),
        last_failure=None if failed_at is None else failure_in_words(*failure),
        last_failure_at=None if failed_at is None else moment_of(failed_at),
    )
