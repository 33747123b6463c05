"""Notes of what webhooks brought, in Firestore: one for each webhook of a PIM that has a feed.

Ingest writes them, and maintain reads them in rounds of the feed.

The id of a note is that of the PIM's feed and the time, so notes of a PIM lie in the order of their time, and
no index is needed.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog
from google.api_core.exceptions import GoogleAPIError
from google.cloud.firestore_v1 import AsyncQuery
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from ... import data_model
from ...domain.errors import StoreUnavailable
from ...domain.events.event import Event
from ...domain.line_limit import LineLimit
from ...domain.webhook_notes import KEPT_SECONDS, note_of, packed, unpacked
from ...ports import Clock, StoredNote
from .client import ALREADY_EXISTS, Firestore
from .feeds import feed_key
from .tenants import FirestoreEntries

log = structlog.get_logger()

PATIENCE_SECONDS = 1.0
"""The longest time that a PIM waits for a note. It hangs up after half a second, which costs nothing."""


class FirestoreWebhookNotes:
    """The port `WebhookNotes`. The registry's entries, which are in memory, say which PIMs have a feed."""

    def __init__(self, firestore: Firestore, entries: FirestoreEntries, clock: Clock) -> None:
        self._firestore = firestore
        self._entries = entries
        self._clock = clock
        self._lines = LineLimit(clock.monotonic)

    def wants(self, tenant: str) -> bool:
        return tenant in self._entries.fed

    async def note(self, tenant: str, events: Sequence[Event], updated: Sequence[int]) -> None:
        note = note_of(events, updated)
        if not note.entities and not note.removed:
            return
        now = self._clock.now()
        entities, removed = packed(note)
        fields = {
            "entities": entities,
            "removed": removed,
            data_model.EXPIRES_AT: now + timedelta(seconds=KEPT_SECONDS),
        }
        name = f"{_id_from(tenant, now)}-{secrets.token_hex(4)}"
        reference = self._firestore.client.collection(data_model.FEED_NOTES).document(name)

        async def job() -> None:
            await reference.create(fields, retry=None, timeout=PATIENCE_SECONDS)

        try:
            await self._firestore.run(job, patience=PATIENCE_SECONDS)
        except ALREADY_EXISTS:  # an earlier try, of which no answer came
            return
        except (StoreUnavailable, GoogleAPIError) as error:
            # The events are on their topic, and the PIM sends nothing twice.
            if times := self._lines.count(tenant):
                log.warning("feed.webhook_not_noted", tenant=tenant, error=str(error)[:300], times=times)


class FirestoreNoteLog:
    """The port `WebhookNoteLog`."""

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore
        self._notes = firestore.client.collection(data_model.FEED_NOTES)

    async def read(
        self, tenant: str, begin: datetime, end: datetime | None, *, after: str | None, limit: int
    ) -> Sequence[StoredNote]:
        last = f"{feed_key(tenant)}-~" if end is None else _id_from(tenant, end)
        query = (
            AsyncQuery(self._notes)
            .where(filter=self._ids(">=" if after is None else ">", after or _id_from(tenant, begin)))
            .where(filter=self._ids("<", last))
            .order_by("__name__")
            .limit(limit)
        )
        return [_stored(snapshot) for snapshot in await self._firestore.query(query)]

    def _ids(self, operator: str, name: str) -> FieldFilter:
        return FieldFilter(FieldPath.document_id(), operator, self._notes.document(name))


def _stored(snapshot: DocumentSnapshot) -> StoredNote:
    at = datetime.fromtimestamp(int(snapshot.id.split("-")[1]) / 1000, UTC)
    return StoredNote(snapshot.id, at, unpacked(snapshot.get("entities"), snapshot.get("removed")))


def _id_from(tenant: str, at: datetime) -> str:
    """Returns the beginning of the ids of a PIM's notes of that time. Those of later ones come after it."""
    return f"{feed_key(tenant)}-{int(at.timestamp() * 1000):013d}"
