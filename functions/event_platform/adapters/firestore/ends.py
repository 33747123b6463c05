"""The log of deliveries that ended undelivered, in Firestore: the port `EndLog`.

An end is one write without a read, so an entry's window of time begins on the clock (every 5 minutes, every
hour) instead of with its first end.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from google.cloud.firestore_v1 import AsyncQuery, Increment, Maximum, Minimum, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...domain.deliveries import Delivery
from ...domain.logs import EVENTS_LISTED, KEPT_FOR, MERGED_WITHIN, DeliveryEnd, Operation
from ...domain.outcomes import Reason
from .client import Firestore

EVENTS_OF_PART = 64


@dataclass(frozen=True, slots=True)
class EndedEvent:
    """An event that an entry stands for."""

    event_id: str
    type: str
    attempts: int


@dataclass(frozen=True, slots=True)
class EndEntry:
    """An entry as it is read: the sum of its parts."""

    id: str
    subscription_id: str
    operation: Operation
    message: str
    reason: Reason | None
    status: int | None
    excerpt: str | None
    occurrences: int
    events: Sequence[EndedEvent]
    first_at: datetime
    at: datetime


class FirestoreEndLog:
    """An entry has one document for each of `parts` groups of lanes.

    A lane has one delivery at a time, so a part is written by few at once, where a single document would be
    written by all lanes of a destination that is down. In a part each event has a place by its id, of which
    there are `EVENTS_OF_PART`: the list is bounded without being read.
    """

    def __init__(self, firestore: Firestore, *, parts: int = 16) -> None:
        self._firestore = firestore
        self._parts = parts
        self._entries = firestore.client.collection(data_model.LOG_ENTRIES)

    async def record(self, delivery: Delivery, end: DeliveryEnd) -> None:
        begin = window_of(end)
        entry = replace(end, at=begin).entry_id(delivery.subscription_id)
        seconds = end.at.timestamp()
        place = f"e{zlib.crc32(delivery.event_id.encode()) % EVENTS_OF_PART:02d}"
        event = {
            "event_id": delivery.event_id,
            "type": delivery.event_type,
            "attempts": delivery.attempts,
            "at": seconds,
        }
        await self._firestore.set(
            self._entries.document(f"{entry}-{delivery.lane % self._parts:02d}"),
            {
                "entry": entry,
                "subscription_id": delivery.subscription_id,
                "operation": str(end.operation),
                "message": end.message,
                "reason": str(end.reason) if end.reason is not None else None,
                "status": end.status,
                "excerpt": end.excerpt,
                "occurrences": Increment(1),
                "events": {place: event},
                "first_at": Minimum(seconds),
                "at": Maximum(seconds),
                data_model.EXPIRES_AT: begin + MERGED_WITHIN[end.operation] + KEPT_FOR,
            },
            merge=True,
        )

    async def of_subscription(self, subscription_id: str, *, limit: int = 100) -> Sequence[EndEntry]:
        """The newest entries, the latest first. Raises StoreUnavailable."""
        query = (
            AsyncQuery(self._entries)
            .where(filter=FieldFilter("subscription_id", "==", subscription_id))
            .order_by("at", direction=Query.DESCENDING)
            .limit(limit * self._parts)
        )
        parts = [snapshot.to_dict() or {} for snapshot in await self._firestore.query(query)]
        parts.sort(key=lambda part: part["entry"])
        entries = [_entry_of(list(group)) for _, group in groupby(parts, key=lambda part: part["entry"])]
        return sorted(entries, key=lambda entry: entry.at, reverse=True)[:limit]


def window_of(end: DeliveryEnd) -> datetime:
    """When the window of time began in which an equal end is the same entry."""
    width = MERGED_WITHIN[end.operation] // timedelta(seconds=1)
    return datetime.fromtimestamp(end.at.timestamp() // width * width, UTC)


def _entry_of(parts: Sequence[dict[str, Any]]) -> EndEntry:
    last = max(parts, key=lambda part: part["at"])
    return EndEntry(
        id=last["entry"],
        subscription_id=last["subscription_id"],
        operation=Operation(last["operation"]),
        message=last["message"],
        reason=Reason(last["reason"]) if last["reason"] is not None else None,
        status=last["status"],
        excerpt=last["excerpt"],
        occurrences=sum(part["occurrences"] for part in parts),
        events=_first_events(event for part in parts for event in part["events"].values()),
        first_at=datetime.fromtimestamp(min(part["first_at"] for part in parts), UTC),
        at=datetime.fromtimestamp(last["at"], UTC),
    )


def _first_events(events: Iterable[dict[str, Any]]) -> Sequence[EndedEvent]:
    by_time = sorted(events, key=lambda event: event["at"])
    return [
        EndedEvent(event["event_id"], event["type"], event["attempts"]) for event in by_time[:EVENTS_LISTED]
    ]
