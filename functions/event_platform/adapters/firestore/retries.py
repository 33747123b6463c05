"""The retry schedule in Firestore: the port `RetrySchedule`."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import AsyncQuery
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...domain.deliveries import Delivery
from ...domain.messages.message import MalformedMessage, Message
from ...ports import Clock, Due
from .client import Firestore
from .leases import FirestoreLeases

MOST_SHARDS = 100
MOST_BODY_BYTES = 1_000_000
"""A document has at most 1,048,576 bytes; what stands beside the body takes less than the rest."""
_FIELDS = {
    "subscription_id": str,
    "event_id": str,
    "event_type": str,
    "accepted_at": datetime,
    "lane": int,
    "lanes": int,
    "epoch": int,
    "attempts": int,
    "failures": int,
    "first_attempt_at": datetime | None,
    "body": bytes,
    "receipt": str | None,
    "replay_id": str | None,
    "entered_at": datetime | None,
}
"""The fields of a delivery, and what each must be to be read."""
_TEXT_CHARACTERS = 256
"""The length of an event's id at most. No attribute of a message takes more than 1,024 bytes of UTF-8."""
_KEPT = timedelta(days=30)  # far beyond the greatest age of a delivery, which ends with a log entry


class FirestoreRetrySchedule:
    """Entries are found by `due`: their shard, then their time, as one text.

    An index of times alone would grow at one end, which is a hot spot; shards make it as many ends.
    """

    def __init__(self, firestore: Firestore, clock: Clock, *, shards: int = 8) -> None:
        if not 1 <= shards <= MOST_SHARDS:
            raise ValueError(f"the number of shards must be 1 to {MOST_SHARDS}, not {shards}")
        self.shards = shards
        self._firestore = firestore
        self._clock = clock
        self._retries = firestore.client.collection(data_model.RETRIES)
        self._leases = FirestoreLeases(firestore, clock)

    async def schedule(self, delivery: Delivery, due_at: datetime) -> None:
        if len(delivery.body) > MOST_BODY_BYTES:
            raise MalformedMessage(
                f"the body has {len(delivery.body)} bytes; the retry schedule takes {MOST_BODY_BYTES}"
            )
        entry = _entry_id(delivery)
        await self._firestore.set(
            self._retries.document(entry),
            {
                "due": _due(int(entry[:8], 16) % self.shards, due_at),
                "subscription_id": delivery.subscription_id,
                "event_id": delivery.event_id,
                "event_type": delivery.event_type,
                "accepted_at": delivery.accepted_at,
                "lane": delivery.lane,
                "lanes": delivery.lanes,
                "epoch": delivery.epoch,
                "attempts": delivery.attempts,
                "failures": delivery.failures,
                "first_attempt_at": delivery.first_attempt_at,
                "body": delivery.body,
                "receipt": delivery.receipt,  # the topic that it came from, and goes back to
                "replay_id": delivery.replay_id,
                "entered_at": delivery.entered_at,
                data_model.EXPIRES_AT: due_at + _KEPT,
            },
            merge=False,
        )

    async def lease(self, shard: int, seconds: float) -> bool:
        return await self._leases.take(f"{shard:02d}", seconds)

    async def release(self, shard: int) -> None:
        await self._leases.release(f"{shard:02d}")

    async def due(self, shard: int, limit: int, after: str = "") -> Sequence[Due]:
        due, _, entry = after.rpartition("/")
        query = (
            AsyncQuery(self._retries)
            .where(filter=FieldFilter("due", ">=", f"{shard:02d}|"))
            .where(filter=FieldFilter("due", "<=", _due(shard, self._clock.now())))
            .order_by("due")
            .order_by("__name__")
            .limit(limit)
        )
        if after:
            query = query.start_after({"due": due, "__name__": self._retries.document(entry)})
        return [
            _due_entry(snapshot.id, snapshot.to_dict() or {})
            for snapshot in await self._firestore.query(query)
        ]

    async def remove(self, entries: Sequence[str]) -> None:
        await self._firestore.delete([self._retries.document(entry) for entry in entries])


def _entry_id(delivery: Delivery) -> str:
    """Returns the id of the entry: the same for whoever settles this attempt, however often."""
    name = f"{delivery.subscription_id}\n{delivery.event_id}\n{delivery.attempts}"
    if delivery.replay_id is not None:
        name += f"\n{delivery.replay_id}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _due(shard: int, at: datetime) -> str:
    """Ordered as text by shard, then by time."""
    return f"{shard:02d}|{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _is_readable(value: object, kind: Any) -> bool:
    """True if the value is of the kind, and a message can carry it."""
    return isinstance(value, kind) and not (isinstance(value, str) and len(value) > _TEXT_CHARACTERS)


def _due_entry(entry: str, fields: dict[str, object]) -> Due:
    place = f"{fields['due']}/{entry}"  # the query finds only entries with this field
    if all(_is_readable(fields.get(name), kind) for name, kind in _FIELDS.items()):
        return Due(entry, place, Delivery(**{name: fields.get(name) for name in _FIELDS}))  # pyright: ignore[reportArgumentType] - checked
    body = fields.get("body")
    texts = {name: str(value)[:_TEXT_CHARACTERS] for name, value in fields.items() if name in _FIELDS}
    texts.pop("body", None)
    return Due(entry, place, None, Message(body if isinstance(body, bytes) else b"", texts))
