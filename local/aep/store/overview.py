"""Each subscription with the store's numbers of its deliveries, for the operator."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from event_platform.documents import rate_of
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.subscriptions import PubSubConfig
from event_platform.domain.suspension import Series, first_minute

from .schema import log_index


@dataclass(frozen=True, slots=True)
class State:
    """A subscription. `ended` counts undelivered events of the last 30 days, `queued` those in lanes.

    `rate` is in deliveries a second, by the limits that were given. `attempts` and `success_rate` (0 to 1)
    are those of the last hour, as far as the platform has written them: successes are up to 10 s late.
    `last_error` is of the last event that was given up, `last_failure` of the last attempt that failed.
    """

    id: str
    subscriber_id: str
    tenant: str
    client_id: str
    destination: str
    status: str
    rate: float
    lanes: int
    attempts: int
    success_rate: float | None
    queued: int
    retries: int
    ended: int
    last_error: str | None
    last_error_at: datetime | None
    last_failure: str | None
    last_failure_at: datetime | None


_STATES = f"""
SELECT s.document,
    (SELECT count(*) FROM deliveries WHERE subscription_no = s.no), coalesce(r.waiting, 0),
    (SELECT coalesce(sum(occurrences), 0) FROM log_entries INDEXED BY log_entries_by_content
        WHERE subscription_id = s.id AND operation IN ('failed_to_deliver_event', 'deliveries_dropped')),
    l.message, l.at, f.outcome, f.status, f.reason, f.at
FROM subscriptions s
LEFT JOIN (SELECT subscription_no, count(*) AS waiting FROM retries GROUP BY subscription_no) r
    ON r.subscription_no = s.no
LEFT JOIN last_failures f ON f.subscription_no = s.no
LEFT JOIN log_entries l ON l.id = (
    SELECT id FROM log_entries INDEXED BY {log_index("subscription_id", "operation")}
    WHERE tenant = s.tenant AND client_id = json_extract(s.document, '$.client_id')
        AND subscription_id = s.id AND operation = 'failed_to_deliver_event'
    ORDER BY at DESC, id DESC LIMIT 1)
WHERE s.status <> 'deleted' ORDER BY s.no
"""  # noqa: S608 - the name of an index of ours


def states(connection: sqlite3.Connection, now: datetime, limits: Limits) -> list[State]:
    """Reads all but the deleted subscriptions, oldest first. `queued` includes deliveries on their way."""
    return [_state(connection, row, now, limits) for row in connection.execute(_STATES).fetchall()]


def _state(connection: sqlite3.Connection, row: Sequence[Any], now: datetime, limits: Limits) -> State:
    document = orjson.loads(row[0])
    queued, retries, ended, last_error, last_error_at, *failure, failed_at = row[1:]
    destination = _destination(document["config"])
    rate = rate_of(document) or Rate(datetime.fromisoformat(document["created_at"]))
    succeeded, attempts = _last_hour(connection, Series(document["id"], document["epoch"], destination), now)
    return State(
        id=document["id"],
        subscriber_id=document["subscriber_id"],
        tenant=document["tenant"],
        client_id=document["client_id"],
        destination=destination,
        status=document["status"],
        rate=round(rate.at(now, limits), 1),
        lanes=document["lanes"],
        attempts=attempts,
        success_rate=round(succeeded / attempts, 3) if attempts else None,
        queued=queued,
        retries=retries,
        ended=ended,
        last_error=last_error,
        last_error_at=datetime.fromtimestamp(last_error_at, UTC) if last_error_at is not None else None,
        last_failure=None if failed_at is None else _words(*failure),
        last_failure_at=None if failed_at is None else datetime.fromtimestamp(failed_at, UTC),
    )


def _words(outcome: str, status: int | None, reason: str | None) -> str:
    return f"{outcome}: {' '.join(str(each) for each in (status, reason) if each is not None)}"


def _destination(config: Mapping[str, Any]) -> str:
    """Returns the destination in the words of notifications."""
    if "project_id" in config:
        return PubSubConfig(config["project_id"], config["topic_id"]).destination
    return config["topic"] if "topic" in config else config["url"]


def _last_hour(connection: sqlite3.Connection, series: Series, now: datetime) -> tuple[int, int]:
    """Returns the numbers of attempts that succeeded, and of all attempts."""
    return connection.execute(
        "SELECT coalesce(sum(succeeded), 0), coalesce(sum(succeeded + failed), 0) FROM success_counts"
        " WHERE series = ? AND minute >= ?",
        (series.key, first_minute(now)),
    ).fetchone()
