"""Notifications in the SQLite file until they are sent: the port `Outbox`, and the writing of new ones."""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from event_platform.documents import notification_document, notification_of
from event_platform.domain.record.notifications import (
    HELD_FOR_ANOTHER,
    LONGEST_WAIT,
    Allowance,
    Notification,
    Pending,
    hour_of,
)
from event_platform.ports import Clock

from .database import Database

DUE_OF_SUBSCRIBER = 20
"""The most notifications of a subscriber that one reading brings: one with thousands leaves room for
others.
"""
SUBSCRIBERS_AT_ONCE = 400
"""The most subscribers that one reading looks at; the next one continues behind them."""
IS_DUE = """
    SELECT EXISTS (SELECT 1 FROM notifications WHERE due_at <= ?)
        OR EXISTS (SELECT 1 FROM notifications WHERE due_at > ?)
"""
NEXT_SUBSCRIBER = """
    SELECT tenant, client_id, subscriber_id, due_at FROM notifications
    WHERE (tenant, client_id, subscriber_id) > (?, ?, ?)
    ORDER BY tenant, client_id, subscriber_id, due_at LIMIT 1
"""
DUE = """
    SELECT due_at, id, document, mail_attempts, is_held FROM notifications
    WHERE tenant = ? AND client_id = ? AND subscriber_id = ? AND due_at > ? AND due_at <= ?
    ORDER BY due_at, id LIMIT ?
"""
HOURS_KEPT = 2


_Subscriber = tuple[str, str, str]
"""The tenant, the client id and the subscriber's id."""
_FIRST: _Subscriber = ("", "", "")


class SqliteOutbox:
    """The port `Outbox`.

    A notification is found by the time when it is due; its row goes when it was sent.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._last = _FIRST
        """The subscriber at which the last reading ended."""

    async def due(self, limit: int) -> Sequence[Pending]:
        """Reads what is due, owners in turn. The work is bounded, however much is due or waits.

        A reading that finds nothing goes on until it has looked at all subscribers.
        """
        now = self._clock.now()
        times = (now.timestamp(), (now + LONGEST_WAIT).timestamp())
        if not await self._database.read(lambda connection: connection.execute(IS_DUE, times).fetchone()[0]):
            return []
        ends_to_reach = 1 if self._last == _FIRST else 2
        while True:
            found, self._last = await self._database.read(
                partial(_due, times=times, limit=limit, after=self._last)
            )
            ends_to_reach -= self._last == _FIRST
            if found or ends_to_reach == 0:
                return found

    async def settle(
        self, pending: Pending, again_at: datetime | None, merged: Sequence[Pending] = ()
    ) -> None:
        def job(connection: sqlite3.Connection) -> None:
            if again_at is None:
                connection.executemany(
                    "DELETE FROM notifications WHERE id = ?",
                    [(each.notification.id,) for each in (pending, *merged)],
                )
                return
            attempts = pending.mail_attempts + 1
            others_at = (again_at + HELD_FOR_ANOTHER).timestamp()
            connection.executemany(
                "UPDATE notifications SET due_at = ?, mail_attempts = ? WHERE id = ?",
                [
                    (again_at.timestamp(), attempts, pending.notification.id),
                    *[(others_at, attempts, each.notification.id) for each in merged],
                ],
            )

        await self._database.write(job, needs_room=False)

    async def hold(self, pending: Pending, until: datetime, *, mail_attempts: int) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE notifications SET due_at = ?, mail_attempts = ?, is_held = 1 WHERE id = ?",
                (until.timestamp(), mail_attempts, pending.notification.id),
            )

        await self._database.write(job, needs_room=False)

    async def held(self, subscriber_id: str, limit: int) -> Sequence[Pending]:
        def job(connection: sqlite3.Connection) -> list[Pending]:
            rows = connection.execute(
                "SELECT document, mail_attempts, is_held FROM notifications"
                " WHERE subscriber_id = ? AND is_held ORDER BY id LIMIT ?",
                (subscriber_id, limit),
            )
            return [_pending(row) for row in rows]

        return await self._database.read(job)

    async def count(self, allowances: Sequence[Allowance]) -> bool:
        hour = hour_of(self._clock.now())

        def counted(connection: sqlite3.Connection, key: str) -> int:
            row = connection.execute(
                "SELECT count FROM notification_counts WHERE hour = ? AND key = ?", (hour, key)
            ).fetchone()
            return row[0] if row else 0

        def job(connection: sqlite3.Connection) -> bool:
            for each in allowances:
                if not each.is_left(counted(connection, each.own_key), counted(connection, each.shared_key)):
                    return False
            connection.executemany(
                "INSERT INTO notification_counts (hour, key, count) VALUES (?, ?, 1)"
                " ON CONFLICT DO UPDATE SET count = count + 1",
                [(hour, key) for each in allowances for key in (each.own_key, each.shared_key)],
            )
            connection.execute(
                "DELETE FROM notification_counts WHERE hour <= ? OR hour > ?", (hour - HOURS_KEPT, hour)
            )
            return True

        return await self._database.write(job, needs_room=False)


def _due(
    connection: sqlite3.Connection, *, times: tuple[float, float], limit: int, after: _Subscriber
) -> tuple[list[Pending], _Subscriber]:
    """Returns what is due of the next few subscribers, and after which one the next reading begins.

    No notification is due later than the second of the times, unless another clock has said so: then it
    counts as due, when it is the subscriber's first.
    """
    now, latest = times
    due: list[_Subscriber] = []
    for _ in range(min(limit, SUBSCRIBERS_AT_ONCE)):
        row = connection.execute(NEXT_SUBSCRIBER, after).fetchone()
        if row is None:
            after = _FIRST
            break
        after = row[:3]
        if row[3] <= now or row[3] > latest:
            due.append(after)
    each = min(DUE_OF_SUBSCRIBER, limit // max(1, len(due)))
    rows_of: defaultdict[tuple[str, str], list[tuple[Any, ...]]] = defaultdict(list)
    for subscriber in due:
        rows = connection.execute(DUE, (*subscriber, 0, now, each)).fetchall()
        rows = rows or connection.execute(DUE, (*subscriber, latest, math.inf, each)).fetchall()
        rows_of[subscriber[:2]] += rows
    in_turn = sorted((turn, row) for rows in rows_of.values() for turn, row in enumerate(sorted(rows)))
    return [_pending(row[2:]) for _, row in in_turn], after


def put_notifications(connection: sqlite3.Connection, notifications: Sequence[Notification]) -> None:
    """Writes notifications that are due at once, in the job of a change."""
    connection.executemany(
        "INSERT INTO notifications (id, due_at, mail_attempts, document, tenant, client_id, subscriber_id)"
        " VALUES (?, ?, 0, ?, ?, ?, ?)",
        [
            (
                notification.id,
                notification.at.timestamp(),
                orjson.dumps(notification_document(notification)).decode(),
                notification.owner.tenant,
                notification.owner.client_id,
                notification.subscriber_id,
            )
            for notification in notifications
        ],
    )


def _pending(row: Sequence[Any]) -> Pending:
    document, mail_attempts, is_held = row
    return Pending(notification_of(orjson.loads(document)), mail_attempts, bool(is_held))
