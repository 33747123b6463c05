"""Notifications in the SQLite file until they are told: the port `Outbox`, and what a change puts there."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import orjson

from event_platform.adapters.records import notification_document, notification_of
from event_platform.domain.notifications import Notification, Pending
from event_platform.ports import Clock

from .database import Database


class SqliteOutbox:
    """What is due is found by its time; the row goes when the notification was told."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def due(self, limit: int) -> Sequence[Pending]:
        now = self._clock.now().timestamp()

        def job(connection: sqlite3.Connection) -> list[Pending]:
            rows = connection.execute(
                "SELECT document, mail_attempts FROM notifications WHERE due_at <= ?"
                " ORDER BY due_at, id LIMIT ?",
                (now, limit),
            )
            return [Pending(notification_of(orjson.loads(document)), attempts) for document, attempts in rows]

        return await self._database.read(job)

    async def settle(self, pending: Pending, again_at: datetime | None) -> None:
        def job(connection: sqlite3.Connection) -> None:
            if again_at is None:
                connection.execute("DELETE FROM notifications WHERE id = ?", (pending.notification.id,))
            else:
                connection.execute(
                    "UPDATE notifications SET due_at = ?, mail_attempts = ? WHERE id = ?",
                    (again_at.timestamp(), pending.mail_attempts + 1, pending.notification.id),
                )

        await self._database.write(job)


def put_notifications(connection: sqlite3.Connection, notifications: Sequence[Notification]) -> None:
    """For the job of a change: due at once."""
    connection.executemany(
        "INSERT INTO notifications (id, due_at, mail_attempts, document) VALUES (?, ?, 0, ?)",
        [
            (
                notification.id,
                notification.at.timestamp(),
                orjson.dumps(notification_document(notification)).decode(),
            )
            for notification in notifications
        ],
    )
