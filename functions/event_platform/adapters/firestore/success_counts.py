"""The counts of attempts in Firestore: the port `SuccessCounts`.

A document holds an hour of a series, one field for each minute. Adding is a write without a read, so
instances do not wait for each other; each writes to one of a few parts, as a document takes only few writes
a second.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from google.cloud.firestore_v1 import AsyncDocumentReference, Increment, Minimum
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...domain.suspension import HOUR_MINUTES, Count, Series
from .client import Firestore

PARTS = 8
DOCUMENTS_AT_ONCE = 100
PATIENCE_SECONDS = 1.0
"""A delivery waits for its counts no longer; what is not written is kept for the next time."""
_KEPT = timedelta(hours=3)  # from the beginning of the document's hour


class FirestoreSuccessCounts:
    """A write of which no answer came is made again, so an attempt may count twice."""

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore
        self._documents = firestore.client.collection(data_model.SUCCESS_COUNTS)
        self._part = random.randrange(PARTS)  # noqa: S311 - no secret

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        documents = self._by_document(counts)
        while part := list(islice(documents, DOCUMENTS_AT_ONCE)):
            await self._firestore.run(lambda part=part: self._commit(part), patience=PATIENCE_SECONDS)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        hours = {minute // HOUR_MINUTES, (minute + HOUR_MINUTES - 1) // HOUR_MINUTES}
        references = [self._at(series, hour, part) for hour in hours for part in range(PARTS)]
        found: dict[int, Count] = {}
        for snapshot in await self._firestore.run(lambda: self._get(references), patience=PATIENCE_SECONDS):
            for name, figures in (snapshot.to_dict() or {}).get("minutes", {}).items():
                at = int(name[1:])
                if minute <= at < minute + HOUR_MINUTES:
                    found.setdefault(at, Count()).add(Count(**figures))
        return found

    def _by_document(
        self, counts: Mapping[Series, Mapping[int, Count]]
    ) -> Iterator[tuple[AsyncDocumentReference, dict[str, Any]]]:
        for series, minutes in counts.items():
            for hour in sorted({minute // HOUR_MINUTES for minute in minutes}):
                of_hour = {
                    f"m{minute}": _fields(count)
                    for minute, count in minutes.items()
                    if minute // HOUR_MINUTES == hour
                }
                expires_at = datetime.fromtimestamp(hour * 3600, UTC) + _KEPT
                yield (
                    self._at(series, hour, self._part),
                    {"minutes": of_hour, data_model.EXPIRES_AT: expires_at},
                )

    async def _commit(self, documents: Sequence[tuple[AsyncDocumentReference, dict[str, Any]]]) -> None:
        batch = self._firestore.client.batch()
        for reference, fields in documents:
            batch.set(reference, fields, merge=True)
        await self._firestore.commit(batch)

    async def _get(self, references: Sequence[AsyncDocumentReference]) -> Sequence[DocumentSnapshot]:
        found = self._firestore.client.get_all(list(references), retry=None, timeout=self._firestore.attempt)
        return [snapshot async for snapshot in found]

    def _at(self, series: Series, hour: int, part: int) -> AsyncDocumentReference:
        return self._documents.document(f"{series.key}-{hour}-{part}")


def _fields(count: Count) -> dict[str, Any]:
    fields: dict[str, Any] = {"succeeded": Increment(count.succeeded), "failed": Increment(count.failed)}
    if count.first_failed_at is not None:
        fields["first_failed_at"] = Minimum(count.first_failed_at)
    return fields
