"""Ends of deliveries in the log of the SQLite file, and the last failed attempts."""

import sqlite3
from collections.abc import Iterable

import orjson

from event_platform.domain.attempts.outcomes import Kind, LastFailure, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from event_platform.domain.record.logs import EVENTS_LISTED, FAILED_DELIVERY, DeliveryEnd, LogType

from .database import Database
from .times import moment_of


def note_failures(
    connection: sqlite3.Connection, settled: Iterable[tuple[int, Settlement]], now: float
) -> None:
    """Notes the last failed attempt of each subscription, by its number, of what was settled now."""
    failed: dict[int, Outcome] = {}
    for subscription_no, settlement in settled:
        if settlement.outcome is not None and not settlement.is_delivered:
            failed[subscription_no] = settlement.outcome
    rows = [(number, now, each.kind, each.reason, each.status) for number, each in failed.items()]
    connection.executemany("INSERT OR REPLACE INTO last_failures VALUES (?, ?, ?, ?, ?)", rows)


class SqliteFailedAttempts:
    """Port `FailedAttempts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_failure(self, subscription_id: str) -> LastFailure | None:
        return await self._database.read(lambda connection: last_failure_of(connection, subscription_id))


def last_failure_of(connection: sqlite3.Connection, subscription_id: str) -> LastFailure | None:
    """Reads the last failed attempt of a subscription, in a job; None if none failed."""
    row = connection.execute(
        "SELECT f.at, f.outcome, f.reason, f.status FROM subscriptions s"
        " JOIN last_failures f ON f.subscription_no = s.no WHERE s.id = ?",
        (subscription_id,),
    ).fetchone()
    if row is None:
        return None
    at, outcome, reason, status = row
    return LastFailure(
        moment_of(at), Outcome(Kind(outcome), None if reason is None else Reason(reason), status)
    )


def record_end(
    connection: sqlite3.Connection,
    end: DeliveryEnd,
    *,
    subscription_id: str,
    event_id: str,
    event_type: str,
    attempts: int,
    replay_id: str | None = None,
) -> None:
    """Counts the end in its log entry (contract/wire.md 13), which names the first events it stands for."""
    event: dict[str, object] = {"event_id": event_id, "type": event_type, "attempts": attempts}
    if replay_id is not None:
        event["replay_id"] = replay_id
    row = connection.execute(
        "SELECT id, first_at, events FROM log_entries WHERE subscription_id = ? AND operation = ?"
        " AND message = ? ORDER BY first_at DESC LIMIT 1",
        (subscription_id, end.operation, end.message),
    ).fetchone()
    if row is None or not end.joins(moment_of(row[1])):
        written = connection.execute(
            "INSERT INTO log_entries (id, tenant, client_id, log_type, error_type, subscriber_id,"
            " subscription_id, operation, message, reason, status, excerpt, occurrences, events, first_at,"
            " at)"
            " SELECT ?, tenant, json_extract(document, '$.client_id'), ?, ?, subscriber_id,"
            " id, ?, ?, ?, ?, ?, 1, ?, ?, ? FROM subscriptions WHERE id = ?",
            (
                end.entry_id(subscription_id),
                LogType.ERROR,
                FAILED_DELIVERY,
                end.operation,
                end.message,
                end.reason,
                end.status,
                end.excerpt,
                orjson.dumps([event]).decode(),
                end.at.timestamp(),
                end.at.timestamp(),
                subscription_id,
            ),
        ).rowcount
        if not written:
            raise LookupError(f"the end of a delivery for {subscription_id}, of which there is no record")
        return
    entry_id, _, listed = row
    events = orjson.loads(listed)
    if len(events) < EVENTS_LISTED:
        events.append(event)
    connection.execute(
        "UPDATE log_entries SET occurrences = occurrences + 1, events = ?, excerpt = ?, at = max(at, ?)"
        " WHERE id = ?",
        (orjson.dumps(events).decode(), end.excerpt, end.at.timestamp(), entry_id),
    )
