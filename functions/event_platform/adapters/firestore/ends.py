"""The log of deliveries that ended undelivered, in Firestore: the port `EndLog`.

An end is written without a read, so an entry's window of time begins on the clock (every 5 minutes, every
hour) instead of with its first end.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ... import data_model
from ...domain.deliveries import Delivery
from ...domain.record.logs import (
    EVENTS_LISTED,
    FAILED_DELIVERY,
    KEPT_FOR,
    OFF_HTTP,
    DeliveryEnd,
    LogEntry,
    LogType,
    window_start,
)
from ...domain.subscriptions import Owner
from ...ports import Clock, SubscriptionLookup
from .client import ALREADY_EXISTS, PRECONDITION_FAILED, Firestore
from .entries import PART_OF, fields_of
from .sharing import SECONDS_BETWEEN_WRITES, SharedWrites

ENTRIES_HELD = 10_000
NOBODY = Owner("", "")
"""The owner of ends of a subscription whose record is gone."""


class FirestoreEndLog:
    """An entry has a part, a document of its own, for each instance that counts ends in it.

    So a document has one writer, which knows what is in it, and is written once a second at most.
    """

    def __init__(
        self,
        firestore: Firestore,
        subscriptions: SubscriptionLookup,
        clock: Clock,
        *,
        seconds: float = SECONDS_BETWEEN_WRITES,
    ) -> None:
        self._firestore = firestore
        self._subscriptions = subscriptions
        self._parts = SharedWrites[LogEntry](clock, ENTRIES_HELD, seconds=seconds)

    async def record(self, delivery: Delivery, end: DeliveryEnd) -> None:
        entry = await self._entry(delivery, end)
        expires_at = window_of(end) + end.merged_within + KEPT_FOR
        await self._parts.add(entry.id, entry, lambda: _Part(self._firestore, expires_at=expires_at).write)

    async def _entry(self, delivery: Delivery, end: DeliveryEnd) -> LogEntry:
        """The entry of this end alone; its event bears the time by which the first ones are found."""
        subscription = await self._subscriptions.current(delivery.subscription_id)
        event = {
            "event_id": delivery.event_id,
            "type": delivery.event_type,
            "attempts": delivery.attempts,
            "at": end.at.timestamp(),
            **({} if delivery.replay_id is None else {"replay_id": delivery.replay_id}),
        }
        return LogEntry(
            id=replace(end, at=window_of(end)).entry_id(delivery.subscription_id),
            owner=subscription.owner if subscription is not None else NOBODY,
            log_type=LogType.ERROR,
            at=end.at,
            operation=end.operation,
            subscriber_id=subscription.subscriber_id if subscription is not None else None,
            subscription_id=delivery.subscription_id,
            error_type=FAILED_DELIVERY,
            error_reason=end.reason,
            error_code=end.status or OFF_HTTP,
            error_message=end.message,
            response={"status": end.status, "body": end.excerpt or ""} if end.status is not None else {},
            events=(event,),
        )


class _Part:
    """A document that is always written as a whole, over what this instance wrote before and nothing else.

    So a try of which no answer came is neither counted twice nor able to undo what came after it.
    """

    def __init__(self, firestore: Firestore, *, expires_at: datetime) -> None:
        self._firestore = firestore
        self._expires_at = expires_at
        self._document = _Document()

    async def write(self, ends: Sequence[LogEntry]) -> None:
        """Durable when it returns. Raises StoreUnavailable."""
        document, self._document = self._document, _Document()  # unless it is known to be written
        merged = _merged([*document.entries, *ends])
        fields = fields_of(merged) | {PART_OF: merged.id, data_model.EXPIRES_AT: self._expires_at}
        tries = 0

        async def job() -> object | None:
            """Returns its update time; None when an earlier try succeeded after all."""
            nonlocal tries
            tries += 1
            try:
                return await self._put(document, fields)
            except (ALREADY_EXISTS, PRECONDITION_FAILED):
                if tries == 1:
                    raise
                return None

        updated_at = await self._firestore.run(job)
        if updated_at is not None:
            self._document = _Document(document.name, [merged], updated_at)

    async def _put(self, document: "_Document", fields: dict[str, Any]) -> object:
        reference = self._firestore.client.collection(data_model.LOG_ENTRIES).document(document.name)
        batch = self._firestore.client.batch()
        if document.updated_at is None:
            batch.create(reference, fields)
        else:
            same = self._firestore.client.write_option(last_update_time=document.updated_at)
            batch.update(reference, fields, option=same)
        return (await self._firestore.commit(batch))[0].update_time


@dataclass(frozen=True, slots=True)
class _Document:
    """Returns the content of a part's document, if it is there: at most one entry."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    entries: Sequence[LogEntry] = ()
    updated_at: object | None = None


def window_of(end: DeliveryEnd) -> datetime:
    """Returns when the window of time began in which an equal end is the same entry."""
    return window_start(end.at, end.merged_within)


def _merged(entries: Sequence[LogEntry]) -> LogEntry:
    """One entry of equal ones."""
    events = [event for entry in entries for event in entry.events]
    return replace(
        max(entries, key=lambda entry: entry.at),
        occurrences=sum(entry.occurrences for entry in entries),
        events=tuple(sorted(events, key=lambda event: event["at"])[:EVENTS_LISTED]),
    )
