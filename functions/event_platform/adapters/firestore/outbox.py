"""Notifications in Firestore until they are sent: the port `PublishedOutbox`, and how a change fills it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import orjson
import structlog
from google.cloud.firestore_v1 import DELETE_FIELD, AsyncDocumentReference, AsyncQuery, AsyncWriteBatch
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.types import WriteResult

from ... import data_model
from ...documents import notification_document, notification_of
from ...domain.errors import PublishFailed, StoreUnavailable
from ...domain.messages.queue_messages import NOTIFICATIONS_TOPIC, notification_message
from ...domain.record.notifications import HELD_FOR_ANOTHER, Allowance, Notification, Pending, hour_of
from ...ports import Clock, Publisher
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore

log = structlog.get_logger()

PUBLISHED_BY_OTHERS_AFTER = timedelta(minutes=2)
"""The time after which `maintain` publishes what the changer has not."""
PUBLISH_SECONDS = 3.0
"""The time that a management call waits for the topic."""
_KEPT = timedelta(days=30)
_COUNTS_KEPT = timedelta(hours=2)

Put: TypeAlias = tuple[int, Notification]
"""A notification and the place of its write in the batch."""


@dataclass(frozen=True, slots=True)
class _Stored(Pending):
    """A notification as it was read, with the document's update time, so that a later one is not undone."""

    written_at: Any = None


class FirestoreOutbox:
    """A document has `due` while it has to be published, and is deleted when the notification was sent."""

    def __init__(self, firestore: Firestore, clock: Clock) -> None:
        self._firestore = firestore
        self._clock = clock
        self._documents = firestore.client.collection(data_model.NOTIFICATIONS)

    async def due(self, limit: int) -> Sequence[Pending]:
        query = (
            AsyncQuery(self._documents)
            .where(filter=FieldFilter("due", "<=", self._clock.now()))
            .order_by("due")
            .limit(limit)
        )
        return [_stored(snapshot) for snapshot in await self._firestore.query(query)]

    async def pending(self, notification_id: str) -> Pending | None:
        snapshot = await self._firestore.read(self._at(notification_id))
        return _stored(snapshot) if snapshot.exists else None

    async def published(self, pending: Sequence[Pending]) -> None:
        await asyncio.gather(*map(self._published, pending))

    def put(self, batch: AsyncWriteBatch, notifications: Sequence[Notification]) -> Sequence[Put]:
        """Adds the notifications to the batch of the change."""
        put: list[Put] = []
        for notification in notifications:
            put.append((len(batch), notification))
            batch.create(
                self._at(notification.id),
                {
                    "document": orjson.dumps(notification_document(notification)).decode(),
                    "mail_attempts": 0,
                    "due": notification.at + PUBLISHED_BY_OTHERS_AFTER,
                    data_model.EXPIRES_AT: notification.at + _KEPT,
                },
            )
        return put

    async def announce(
        self, put: Sequence[Put], written: Sequence[WriteResult], publisher: Publisher
    ) -> None:
        """Publishes what was put into a batch that is committed; what fails is left to `maintain`."""
        if not put:
            return
        messages = [notification_message(notification.id) for _, notification in put]
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await publisher.publish(NOTIFICATIONS_TOPIC, messages)
                await self.published(
                    [
                        _Stored(notification, written_at=written[place].update_time)
                        for place, notification in put
                    ]
                )
        except (PublishFailed, StoreUnavailable, TimeoutError) as error:
            log.warning("notifications.left_to_maintain", error=str(error), notifications=len(put))

    async def settle(
        self, pending: Pending, again_at: datetime | None, merged: Sequence[Pending] = ()
    ) -> None:
        first, *others = [self._at(each.notification.id) for each in (pending, *merged)]
        if again_at is None:
            await self._firestore.delete([*others, first])
            return
        attempts = {"mail_attempts": pending.mail_attempts + 1}
        for reference in others:
            await self._update(reference, {"due": again_at + HELD_FOR_ANOTHER, **attempts})
        await self._update(first, {"due": again_at, **attempts})

    async def hold(self, pending: Pending, until: datetime, *, mail_attempts: int) -> None:
        fields = {
            "due": until,
            "mail_attempts": mail_attempts,
            "held_for": pending.notification.subscriber_id,
        }
        await self._update(self._at(pending.notification.id), fields)

    async def held(self, subscriber_id: str, limit: int) -> Sequence[Pending]:
        """Returns them in the order of the documents' names: ids grow with the time."""
        query = AsyncQuery(self._documents).where(filter=FieldFilter("held_for", "==", subscriber_id))
        return [_stored(snapshot) for snapshot in await self._firestore.query(query.limit(limit))]

    async def count(self, allowances: Sequence[Allowance]) -> bool:
        """Counts a notification if the allowance has room. Each write depends on what was read, so that two
        at once do not both take the last one. An address gets few an hour, so writes are rare; there are
        none once its allowance is used up."""
        now = self._clock.now()
        counts = self._firestore.client.collection(data_model.NOTIFICATION_COUNTS)
        keys = [key for each in allowances for key in (each.own_key, each.shared_key)]
        references = [counts.document(f"{hour_of(now)}-{key}") for key in keys]

        async def job() -> bool:
            found = await asyncio.gather(*map(self._firestore.get, references))
            numbers = [snapshot.get("count") if snapshot.exists else 0 for snapshot in found]
            if not all(map(Allowance.is_left, allowances, numbers[::2], numbers[1::2])):
                return False
            batch = self._firestore.client.batch()
            for reference, snapshot, number in zip(references, found, numbers, strict=True):
                if snapshot.exists:
                    option = self._firestore.client.write_option(last_update_time=snapshot.update_time)
                    batch.update(reference, {"count": number + 1}, option=option)
                else:
                    batch.create(reference, {"count": 1, data_model.EXPIRES_AT: now + _COUNTS_KEPT})
            await self._firestore.commit(batch)
            return True

        return await self._firestore.run(job, raced=(PRECONDITION_FAILED, ALREADY_EXISTS, MISSING))

    async def _published(self, pending: Pending) -> None:
        written_at = pending.written_at if isinstance(pending, _Stored) else None
        await self._update(self._at(pending.notification.id), {"due": DELETE_FIELD}, written_at=written_at)

    async def _update(
        self, reference: AsyncDocumentReference, fields: dict[str, Any], *, written_at: Any = None
    ) -> None:
        """Changes fields of a document that is there, and was written at that time if one is given."""
        client = self._firestore.client
        option = client.write_option(last_update_time=written_at) if written_at is not None else None

        async def job() -> None:
            batch = client.batch()
            batch.update(reference, fields, option=option)
            try:
                await self._firestore.commit(batch)
            except (PRECONDITION_FAILED, MISSING):
                return

        await self._firestore.run(job)

    def _at(self, notification_id: str) -> AsyncDocumentReference:
        return self._firestore.document(data_model.NOTIFICATIONS, notification_id)


def _stored(snapshot: DocumentSnapshot) -> Pending:
    fields = snapshot.to_dict() or {}
    notification = notification_of(orjson.loads(fields["document"]))
    return _Stored(notification, fields["mail_attempts"], "held_for" in fields, snapshot.update_time)
