"""Each subscription with the store's numbers of its deliveries, for the operator.

It is read in pages, so that no reader keeps the write-ahead log from being checkpointed, nor all of a large
platform in memory.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from event_platform.documents import rate_of
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.subscriptions import PubSubConfig
from event_platform.domain.suspension import Series, first_minute, series_before

from . import bodies
from .schema import log_index

PAGE = 500


@dataclass(frozen=True, slots=True)
class State:
    """A subscription. `ended` counts undelivered events of the last 30 days, `queued` those in lanes, None
    where that is not known.

    `rate` is in deliveries a second, by the limits that were given. `attempts` and `success_rate` (0 to 1)
    are those of the last hour that a suspension would be judged by, `delivered` and `failed` all attempts of
    the last hour at this destination: as far as the platform has written them, and successes are up to 10 s
    late. `waiting_since` is when the oldest that is queued or waits for a retry was accepted, or was taken up
    by a replay. `last_error` is of the last event that was given up, `last_failure` of the last attempt that
    failed.
    """

    id: str
    subscriber_id: str
    subscriber_name: str
    tenant: str
    client_id: str
    destination: str
    events: tuple[str, ...]
    status: str
    rate: float
    lanes: int
    attempts: int
    success_rate: float | None
    delivered: int
    failed: int
    queued: int | None
    retries: int
    waiting_since: datetime | None
    ended: int
    last_error: str | None
    last_error_at: datetime | None
    last_failure: str | None
    last_failure_at: datetime | None


class _Waiting(NamedTuple):
    """Deliveries that wait: their number, their oldest event, and when the first of a replay entered."""

    number: int = 0
    event_no: int | None = None
    entered_at: float | None = None


_OLDEST = "count(*), min(CASE WHEN entered_at IS NULL THEN event_no END), min(entered_at)"
_STATES = f"""
SELECT s.no, s.document,
    (SELECT json_extract(document, '$.name') FROM subscribers WHERE id = s.subscriber_id),
    (SELECT coalesce(sum(occurrences), 0) FROM log_entries INDEXED BY log_entries_by_content
        WHERE subscription_id = s.id AND operation IN ('failed_to_deliver_event', 'deliveries_dropped')),
    l.message, l.at, f.outcome, f.status, f.reason, f.at
FROM subscriptions s
LEFT JOIN last_failures f ON f.subscription_no = s.no
LEFT JOIN log_entries l ON l.id = (
    SELECT id FROM log_entries INDEXED BY {log_index("subscription_id", "operation")}
    WHERE tenant = s.tenant AND client_id = json_extract(s.document, '$.client_id')
        AND subscription_id = s.id AND operation = 'failed_to_deliver_event'
    ORDER BY at DESC, id DESC LIMIT 1)
WHERE s.no > ? AND s.status <> 'deleted' ORDER BY s.no LIMIT ?
"""  # noqa: S608 - the name of an index of ours


def states(connection: sqlite3.Connection, now: datetime, limits: Limits) -> Iterator[State]:
    """Reads all but the deleted subscriptions, oldest first. `queued` includes deliveries on their way."""
    retries = {
        number: _Waiting(*figures)
        for number, *figures in connection.execute(
            f"SELECT subscription_no, {_OLDEST} FROM retries GROUP BY subscription_no"  # noqa: S608
        )
    }
    last = 0
    while page := connection.execute(_STATES, (last, PAGE)).fetchall():
        last = page[-1][0]
        for row in page:
            yield _state(connection, row, retries.get(row[0], _Waiting()), now, limits)


def _state(
    connection: sqlite3.Connection, row: Sequence[Any], retries: _Waiting, now: datetime, limits: Limits
) -> State:
    number, text, subscriber_name, ended, last_error, last_error_at, *failure, failed_at = row
    document = orjson.loads(text)
    destination = destination_of(document["config"])
    rate = rate_of(document) or Rate(datetime.fromisoformat(document["created_at"]))
    series = Series(document["id"], document["epoch"], destination)
    succeeded, failed = last_hour(connection, [series], now)
    delivered, all_failed = succeeded, failed
    if now - datetime.fromisoformat(document["updated_at"]) < timedelta(hours=1, minutes=1):
        delivered, all_failed = last_hour(connection, [series, *series_before(series)], now)
    queued = _queued(connection, number)
    return State(
        id=document["id"],
        subscriber_id=document["subscriber_id"],
        subscriber_name=subscriber_name or "",
        tenant=document["tenant"],
        client_id=document["client_id"],
        destination=destination,
        events=tuple(document["events"]),
        status=document["status"],
        rate=round(rate.at(now, limits), 1),
        lanes=document["lanes"],
        attempts=succeeded + failed,
        success_rate=round(succeeded / (succeeded + failed), 3) if succeeded + failed else None,
        delivered=delivered,
        failed=all_failed,
        queued=queued.number,
        retries=retries.number,
        waiting_since=_since(connection, queued, retries),
        ended=ended,
        last_error=last_error,
        last_error_at=_moment(last_error_at),
        last_failure=None if failed_at is None else failure_in_words(*failure),
        last_failure_at=_moment(failed_at),
    )


def _queued(connection: sqlite3.Connection, subscription_no: int) -> _Waiting:
    statement = f"SELECT {_OLDEST} FROM deliveries WHERE subscription_no = ?"  # noqa: S608 - constants
    return _Waiting(*connection.execute(statement, (subscription_no,)).fetchone())


def _since(connection: sqlite3.Connection, *waiting: _Waiting) -> datetime | None:
    """Returns when the oldest of those that wait was accepted or entered its lane; None when none waits."""
    moments = [each.entered_at for each in waiting if each.entered_at is not None]
    numbers = [each.event_no for each in waiting if each.event_no is not None]
    if numbers and (accepted_at := bodies.accepted_at(connection, min(numbers))) is not None:
        moments.append(accepted_at)
    return _moment(min(moments, default=None))


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def failure_in_words(outcome: str, status: int | None, reason: str | None) -> str:
    return f"{outcome}: {' '.join(str(each) for each in (status, reason) if each is not None)}"


def destination_of(config: Mapping[str, Any]) -> str:
    """Returns the destination in the words of notifications."""
    if "project_id" in config:
        return PubSubConfig(config["project_id"], config["topic_id"]).destination
    return config["topic"] if "topic" in config else config["url"]


def last_hour(connection: sqlite3.Connection, series: Sequence[Series], now: datetime) -> tuple[int, int]:
    """Returns the numbers of attempts that succeeded, and that failed."""
    marks = ", ".join("?" * len(series))
    statement = (
        "SELECT coalesce(sum(succeeded), 0), coalesce(sum(failed), 0) FROM success_counts"  # noqa: S608
        f" WHERE series IN ({marks}) AND minute >= ?"
    )
    return connection.execute(statement, (*(each.key for each in series), first_minute(now))).fetchone()
