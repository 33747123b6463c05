"""Notifications in the SQLite file until they are told: the port `Outbox`, and what a change puts there."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import orjson

from event_platform.adapters.records import notification_document, notification_of
from event_platform.domain.notifications import (
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
"""One reading brings so many of a subscriber, so that one who has thousands leaves room for others."""
DUE = """
    WITH few AS (
        SELECT id, subscriber_id, due_at,
            row_number() OVER (PARTITION BY subscriber_id ORDER BY due_at, id) AS place
        FROM notifications WHERE due_at <= :now OR due_at > :latest
    ), turns AS (
        SELECT few.id, row_number() OVER (PARTITION BY tenant, client_id ORDER BY due_at, few.id) AS turn
        FROM few LEFT JOIN subscribers ON subscribers.id = subscriber_id WHERE place <= :of_subscriber
    )
    SELECT n.document, n.mail_attempts, n.is_held FROM notifications n JOIN turns USING (id)
    ORDER BY turn, n.due_at, n.id LIMIT :limit
"""
"""Owners take turns, so that one who has many subscribers leaves room for others, too. Later than `latest` no
notification is due, unless another clock has said so: it counts as due."""
HOURS_KEPT = 2


class SqliteOutbox:
    """What is due is found by its time; the row goes when the notification was told."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def due(self, limit: int) -> Sequence[Pending]:
        now = self._clock.now()
        values = {
            "now": now.timestamp(),
            "latest": (now + LONGEST_WAIT).timestamp(),
            "of_subscriber": DUE_OF_SUBSCRIBER,
            "limit": limit,
        }

        def job(connection: sqlite3.Connection) -> list[Pending]:
            return [_pending(row) for row in connection.execute(DUE, values)]

        return await self._database.read(job)

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

        await self._database.write(job)

    async def hold(self, pending: Pending, until: datetime, *, mail_attempts: int) -> None:
        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE notifications SET due_at = ?, mail_attempts = ?, is_held = 1 WHERE id = ?",
                (until.timestamp(), mail_attempts, pending.notification.id),
            )

        await self._database.write(job)

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

        return await self._database.write(job)


def put_notifications(connection: sqlite3.Connection, notifications: Sequence[Notification]) -> None:
    """For the job of a change: due at once."""
    connection.executemany(
        "INSERT INTO notifications (id, due_at, mail_attempts, document, subscriber_id)"
        " VALUES (?, ?, 0, ?, ?)",
        [
            (
                notification.id,
                notification.at.timestamp(),
                orjson.dumps(notification_document(notification)).decode(),
                notification.subscriber_id,
            )
            for notification in notifications
        ],
    )


def _pending(row: tuple[str, int, int]) -> Pending:
    document, mail_attempts, is_held = row
    return Pending(notification_of(orjson.loads(document)), mail_attempts, bool(is_held))
