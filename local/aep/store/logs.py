"""The log in the SQLite file: the port `Logs`, and what writes and reads single entries."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from event_platform.domain.record.logs import (
    FAILED_DELIVERY,
    OFF_HTTP,
    LogEntry,
    LogQuery,
    LogType,
    merging_bounds,
)
from event_platform.domain.subscriptions import Owner

from .database import Database
from .schema import log_index

_COLUMNS = (
    "id, tenant, client_id, log_type, at, operation, subscriber_id, subscription_id, error_type, reason,"
    " status, message, excerpt, request, response, occurrences, events"
)
_COLUMN_OF = {"log_type": "log_type", "operation": "operation", "error_reason": "reason"}


class SqliteLogs:
    """The port `Logs`.

    Entries have the commit of the change that they report; refusals have one of their own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_refusal(self, entry: LogEntry) -> None:
        def job(connection: sqlite3.Connection) -> None:
            put_refusal(connection, entry)

        await self._database.write(job)

    async def entries(self, owner: Owner, query: LogQuery) -> Sequence[LogEntry]:
        def job(connection: sqlite3.Connection) -> list[LogEntry]:
            return read(connection, owner, query)

        return await self._database.read(job)


def put_entry(connection: sqlite3.Connection, entry: LogEntry) -> None:
    """Writes an entry of an action or a refusal."""
    connection.execute(
        "INSERT INTO log_entries (id, tenant, client_id, log_type, operation, subscriber_id, subscription_id,"
        " error_type, message, reason, status, request, response, occurrences, events, first_at, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', ?, ?)",
        (
            entry.id,
            entry.owner.tenant,
            entry.owner.client_id,
            entry.log_type,
            entry.operation,
            entry.subscriber_id,
            entry.subscription_id,
            entry.error_type,
            entry.error_message or "",
            entry.error_reason,
            entry.error_code,
            orjson.dumps(entry.request).decode(),
            orjson.dumps(entry.response).decode(),
            entry.occurrences,
            entry.at.timestamp(),
            entry.at.timestamp(),
        ),
    )


def put_refusal(connection: sqlite3.Connection, entry: LogEntry) -> None:
    """Writes the refusal, or counts it in an equal one that began within its `merged_within`."""
    began_after, began_before = merging_bounds(entry.at, entry.merged_within)
    counted = connection.execute(
        "UPDATE log_entries SET occurrences = occurrences + 1, at = max(at, ?), request = ?, response = ?"
        " WHERE id = (SELECT id FROM log_entries INDEXED BY log_entries_by_content"
        " WHERE subscription_id IS ? AND operation = ? AND message = ? AND first_at > ? AND first_at < ?"
        " AND tenant = ? AND client_id = ? AND subscriber_id IS ? ORDER BY first_at DESC LIMIT 1)",
        (
            entry.at.timestamp(),
            orjson.dumps(entry.request).decode(),
            orjson.dumps(entry.response).decode(),
            entry.subscription_id,
            entry.operation,
            entry.error_message or "",
            began_after.timestamp(),
            began_before.timestamp(),
            entry.owner.tenant,
            entry.owner.client_id,
            entry.subscriber_id,
        ),
    ).rowcount
    if not counted:
        put_entry(connection, entry)


def read(connection: sqlite3.Connection, owner: Owner | None, query: LogQuery) -> list[LogEntry]:
    """Reads the entries that the query asks for.

    Without `owner` these are entries of all owners, and the query must have no other filters.
    """
    try:
        statement, values = sql_of(owner, query)
    except ValueError:
        return []
    if query.subscriber_id and query.subscription_id:
        belongs_to = connection.execute(
            "SELECT subscriber_id FROM subscriptions WHERE id = ?", (query.subscription_id,)
        ).fetchone()
        if belongs_to and belongs_to[0] != query.subscriber_id:
            return []  # without a look at each of the subscription's entries
    return [entry_of_row(row) for row in connection.execute(statement, values)]


def sql_of(owner: Owner | None, query: LogQuery) -> tuple[str, list[Any]]:
    """Returns the statement and its values, for the index made for it.

    Raises ValueError when nothing can fit.
    """
    kind = query.kind()
    index = "log_entries_by_time"
    conditions: list[tuple[str, Any]] = []
    if owner is not None:
        scope = next((name for name in ("subscription_id", "subscriber_id") if getattr(query, name)), "")
        index = log_index(scope, _COLUMN_OF[kind[0]] if kind else "")
        conditions += [("tenant = ?", owner.tenant), ("client_id = ?", owner.client_id)]
    conditions += [(f"{_COLUMN_OF[kind[0]]} = ?", kind[1])] if kind else []
    for name in ("subscriber_id", "subscription_id"):
        if value := getattr(query, name):
            conditions.append((f"{name} = ?", value))
    if query.since is not None:
        conditions.append(("at >= ?", query.since.timestamp()))
    if query.before is not None:
        conditions.append(("at < ?", query.before.timestamp()))
    values = [value for _, value in conditions]
    where = [condition for condition, _ in conditions]
    direction, beyond = ("DESC", "<") if query.newest_first else ("ASC", ">")
    if query.after is not None:
        where.append(f"(at, id) {beyond} (?, ?)")
        values += [query.after.at, query.after.id]
    statement = (
        f"SELECT {_COLUMNS} FROM log_entries INDEXED BY {index}"  # noqa: S608 - constants, values are bound
        f" WHERE {' AND '.join(where) or 'true'} ORDER BY at {direction}, id {direction} LIMIT ?"
    )
    return statement, [*values, query.limit]


def entry_of_row(row: Sequence[Any]) -> LogEntry:
    """Reads a row of `_COLUMNS`."""
    (entry_id, tenant, client_id, log_type, at, operation, subscriber_id, subscription_id) = row[:8]
    (error_type, reason, status, message, excerpt, request, response, occurrences, events) = row[8:]
    is_error = log_type == LogType.ERROR
    answer = orjson.loads(response) if response else {}
    if error_type == FAILED_DELIVERY and status is not None:
        answer = {"status": status, "body": excerpt or ""}
    return LogEntry(
        id=entry_id,
        owner=Owner(tenant, client_id),
        log_type=LogType(log_type),
        at=datetime.fromtimestamp(0, UTC) + timedelta(seconds=at),
        operation=operation,
        subscriber_id=subscriber_id,
        subscription_id=subscription_id,
        error_type=error_type,
        error_reason=reason,
        error_code=(status or OFF_HTTP) if is_error else None,
        error_message=message if is_error else message or None,
        request=orjson.loads(request) if request else {},
        response=answer,
        occurrences=occurrences,
        events=tuple(orjson.loads(events)),
    )


def is_known(connection: sqlite3.Connection, subscription_id: str) -> bool:
    """True if there is, or was in the last 30 days, such a subscription."""
    return _owner_of(connection, subscription_id) is not None


def latest(
    connection: sqlite3.Connection,
    *,
    subscription_id: str | None,
    log_type: LogType | None,
    limit: int,
    changed_after: float | None,
) -> list[LogEntry]:
    """Reads the newest entries of all owners, oldest first, for the operator.

    `changed_after` is in unix seconds.
    """
    query = LogQuery(
        log_type=log_type,
        subscription_id=subscription_id,
        since=datetime.fromtimestamp(max(changed_after, 0), UTC) if changed_after is not None else None,
        limit=limit,
    )
    owner = _owner_of(connection, subscription_id) if subscription_id is not None else None
    return read(connection, owner, query)[::-1]


def _owner_of(connection: sqlite3.Connection, subscription_id: str) -> Owner | None:
    row = connection.execute(
        "SELECT tenant, json_extract(document, '$.client_id') FROM subscriptions WHERE id = ?",
        (subscription_id,),
    ).fetchone()
    return Owner(*row) if row else None
