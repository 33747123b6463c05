"""The rate and the lanes of subscriptions in Firestore: the ports `Paces` and `SubscriptionLookup`.

The lanes stand in the subscription's record, as fan-out needs them, and the rate in a document of its own: it
changes with every 429, and a change of a record has every instance read its tenant's records anew.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
from cachetools import LRUCache
from google.cloud.firestore_v1 import AsyncDocumentReference
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...documents import rate_document, rate_of_document
from ...domain.errors import StoreUnavailable
from ...domain.pace.rates import Rate
from ...domain.pace.turns import COPY_SECONDS
from ...domain.paced import with_pace_of
from ...domain.subscriptions import Subscription
from ...ports import Clock
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore
from .subscriptions import SUBSCRIPTIONS_HELD, FirestoreSubscriptions

log = structlog.get_logger()

WRITTEN_WITHIN = 3.0
READ_WITHIN = 2.0
"""Seconds: a delivery waits for its pace, but no longer than that."""
KEPT = timedelta(days=30)
"""The time after which a rate has grown to its maximum, so that it need not be stored."""


@dataclass(frozen=True, slots=True)
class _Copy:
    rate: Rate | None
    read_at: float  # by the clock's monotonic seconds


class FirestorePaces:
    """Subscriptions with their rates; those of receivers that never throttled cost no reading.

    The first 429 writes its rate into the record too. By the tenant's version every instance learns that
    there is a rate to read from now on.
    """

    def __init__(self, firestore: Firestore, subscriptions: FirestoreSubscriptions, clock: Clock) -> None:
        self._firestore = firestore
        self._subscriptions = subscriptions
        self._clock = clock
        self._copies: LRUCache[str, _Copy] = LRUCache(SUBSCRIPTIONS_HELD)
        self._reading: dict[str, asyncio.Task[Rate | None]] = {}

    async def current(self, subscription_id: str) -> Subscription | None:
        """Port `SubscriptionLookup`; the rate is 2 s old at most, older while the store is away."""
        subscription = await self._subscriptions.current(subscription_id)
        if subscription is None or subscription.rate is None:
            return subscription
        rate = await self._rate(subscription_id)
        return replace(subscription, rate=rate) if rate is not None else subscription

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        """Port `Paces`, within 3 s. Rate and lanes are written over what was read and nothing newer."""

        async def job() -> None:
            read_at = self._clock.monotonic()
            record, pace = await asyncio.gather(
                self._subscriptions.read(subscription_id), self._firestore.get(self._pace_at(subscription_id))
            )
            if record is None:
                return
            stored, _ = record
            before = replace(stored, rate=_rate_of(pace) or stored.rate)
            after = change(before)
            if after is not before:
                await self._write(record, pace, after)
            self._copies[subscription_id] = _Copy(after.rate, read_at)

        raced = [PRECONDITION_FAILED, ALREADY_EXISTS, MISSING]
        try:
            async with asyncio.timeout(WRITTEN_WITHIN):
                await self._firestore.run(job, raced=raced, patience=WRITTEN_WITHIN)
        except TimeoutError as error:
            raise StoreUnavailable(f"Firestore: no pace written within {WRITTEN_WITHIN:g} s") from error

    async def _write(
        self, record: tuple[Subscription, DocumentSnapshot], pace: DocumentSnapshot, after: Subscription
    ) -> None:
        stored, snapshot = record
        client = self._firestore.client
        batch = client.batch()
        known = _rate_of(pace)
        if after.rate is not None and after.rate != (known or stored.rate):
            fields = rate_document(after.rate) | {data_model.EXPIRES_AT: self._clock.now() + KEPT}
            if known is None:
                batch.create(pace.reference, fields)
            else:
                batch.update(
                    pace.reference, fields, option=client.write_option(last_update_time=pace.update_time)
                )
        in_record = replace(with_pace_of(stored, after), rate=stored.rate or after.rate)
        if in_record == stored:
            await self._firestore.commit(batch)
        else:
            await self._subscriptions.replace(batch, snapshot, in_record)

    async def _rate(self, subscription_id: str) -> Rate | None:
        copy = self._copies.get(subscription_id)
        if copy is not None and self._clock.monotonic() - copy.read_at < COPY_SECONDS:
            return copy.rate
        reading = self._reading.get(subscription_id)
        if reading is None:
            reading = self._reading[subscription_id] = asyncio.create_task(self._read(subscription_id))
        return await asyncio.shield(reading)  # one reading for all who ask at once

    async def _read(self, subscription_id: str) -> Rate | None:
        copy = self._copies.get(subscription_id)
        read_at = self._clock.monotonic()
        try:
            pace = await self._firestore.read(self._pace_at(subscription_id), patience=0, attempt=READ_WITHIN)
            rate = _rate_of(pace)
        except StoreUnavailable as error:
            log.warning("pace.not_read", subscription_id=subscription_id, error=str(error))
            rate, read_at = copy.rate if copy is not None else None, self._clock.monotonic()
        finally:
            del self._reading[subscription_id]
        if self._copies.get(subscription_id) is copy:  # else a change of our own came between
            self._copies[subscription_id] = _Copy(rate, read_at)
        return self._copies[subscription_id].rate

    def _pace_at(self, subscription_id: str) -> AsyncDocumentReference:
        return self._firestore.document(data_model.PACES, subscription_id)


def _rate_of(pace: DocumentSnapshot) -> Rate | None:
    return rate_of_document(pace.to_dict() or {}) if pace.exists else None
