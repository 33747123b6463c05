"""Each subscription with what the store knows of its deliveries, for the operator."""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .schema import log_index


@dataclass(frozen=True, slots=True)
class State:
    """A subscription. `ended` counts undelivered events of the last 30 days, `queued` what waits in lanes."""

    id: str
    subscriber_id: str
    tenant: str
    client_id: str
    url: str
    status: str
    queued: int
    retries: int
    ended: int
    last_error: str | None
    last_error_at: datetime | None


_STATES = f"""
SELECT s.id, s.subscriber_id, s.tenant, json_extract(s.document, '$.client_id'),
    json_extract(s.document, '$.config.url'), s.status,
    (SELECT count(*) FROM deliveries WHERE subscription_no = s.no), coalesce(r.waiting, 0),
    (SELECT coalesce(sum(occurrences), 0) FROM log_entries INDEXED BY log_entries_by_content
        WHERE subscription_id = s.id AND operation IN ('failed_to_deliver_event', 'deliveries_dropped')),
    l.message, l.at
FROM subscriptions s
LEFT JOIN (SELECT subscription_no, count(*) AS waiting FROM retries GROUP BY subscription_no) r
    ON r.subscription_no = s.no
LEFT JOIN log_entries l ON l.id = (
    SELECT id FROM log_entries INDEXED BY {log_index("subscription_id", "operation")}
    WHERE tenant = s.tenant AND client_id = json_extract(s.document, '$.client_id')
        AND subscription_id = s.id AND operation = 'failed_to_deliver_event'
    ORDER BY at DESC, id DESC LIMIT 1)
WHERE s.status <> 'deleted' ORDER BY s.no
"""  # noqa: S608 - the name of an index of ours


def states(connection: sqlite3.Connection) -> list[State]:
    """All but the deleted ones, oldest first. `deliveries` holds what is on its way too."""
    rows = connection.execute(_STATES).fetchall()
    return [State(*_with_moment(row)) for row in rows]


def _with_moment(row: tuple[Any, ...]) -> tuple[Any, ...]:
    at: float | None = row[-1]
    return *row[:-1], datetime.fromtimestamp(at, UTC) if at is not None else None
