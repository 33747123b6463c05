"""The counts of attempts in Firestore: the port `SuccessCounts`.

Series of which nothing failed share documents, so that a healthy subscription costs no write of its own. What
is written with a failure goes into a document of its series. Both hold an hour, by minute. Adding is a write
without a read, so instances do not wait for each other; each writes to one of a few parts, as a document
takes only few writes a second.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import AsyncQuery, Increment, Minimum
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.field_path import FieldPath

from ... import data_model
from ...domain.suspension import HOUR_MINUTES, Count, Series
from .client import REFUSED, Firestore

PARTS = 8
"""The documents of a series and hour."""
SHARES = 16
"""The shares into which series fall by the first digit of their keys: each has documents of its own."""
SHARED_PARTS = 20
"""The documents of a share and hour, but for those that are full."""
FIGURES_AT_ONCE = 300
"""The figures of a commit, of which Firestore takes 500 for a document: they are 10 ms of CPU."""
PATIENCE_SECONDS = 1.0
"""A delivery waits for a commit no longer; what is not written is kept for the next time."""
_KEPT = timedelta(hours=3)  # from the beginning of the document's hour


@dataclass(frozen=True, slots=True)
class _Write:
    """The figures that are added to a document."""

    name: str
    is_shared: bool
    figures: int
    fields: Mapping[str, Any]


class FirestoreSuccessCounts:
    """A write of which no answer came is made again, so an attempt may count twice."""

    def __init__(self, firestore: Firestore) -> None:
        self._firestore = firestore
        self._documents = firestore.client.collection(data_model.SUCCESS_COUNTS)
        self._part = random.randrange(PARTS)  # noqa: S311 - no secret
        self._shared_part = random.randrange(SHARED_PARTS)  # noqa: S311 - no secret
        self._sheet = 0
        """The number of the shared documents that are written to: a higher one once some were full."""

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        some: list[_Write] = []
        figures = 0
        for write in self._writes(counts):
            if some and figures + write.figures > FIGURES_AT_ONCE:
                await self._commit(some)
                some, figures = [], 0
            some.append(write)
            figures += write.figures
        if some:
            await self._commit(some)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        hours = minute // HOUR_MINUTES, (minute + HOUR_MINUTES - 1) // HOUR_MINUTES
        path = FieldPath("successes", series.key).to_api_repr()
        own, shared = await asyncio.gather(
            self._between(series.key, hours), self._between(share_of(series), hours, fields=[path])
        )
        found: defaultdict[int, Count] = defaultdict(Count)
        for snapshot in own:
            for name, figures in (snapshot.to_dict() or {}).get("minutes", {}).items():
                found[int(name[1:])].add(Count(**figures))
        for snapshot in shared:
            first = int(snapshot.id.split("-")[1]) * HOUR_MINUTES
            minutes = (snapshot.to_dict() or {}).get("successes", {}).get(series.key, {})
            for name, succeeded in minutes.items():
                found[first + int(name[1:])].add(Count(succeeded))
        return {at: count for at, count in found.items() if minute <= at < minute + HOUR_MINUTES}

    def _writes(self, counts: Mapping[Series, Mapping[int, Count]]) -> Iterator[_Write]:
        shared: defaultdict[tuple[str, int], list[tuple[str, int, int]]] = defaultdict(list)
        for series, minutes in counts.items():
            if has_failures(minutes):
                yield from self._of_its_own(series, minutes)
                continue
            for minute, count in minutes.items():
                hour, of_hour = divmod(minute, HOUR_MINUTES)
                shared[share_of(series), hour].append((series.key, of_hour, count.succeeded))
        for (share, hour), figures in shared.items():
            for start in range(0, len(figures), FIGURES_AT_ONCE):
                some = figures[start : start + FIGURES_AT_ONCE]
                successes: defaultdict[str, dict[str, Any]] = defaultdict(dict)
                for key, of_hour, succeeded in some:
                    successes[key][f"m{of_hour}"] = Increment(succeeded)
                fields = {"successes": dict(successes), data_model.EXPIRES_AT: _expires_at(hour)}
                name = f"{share}-{hour}-{self._shared_part}"
                yield _Write(name, is_shared=True, figures=len(some), fields=fields)

    def _of_its_own(self, series: Series, minutes: Mapping[int, Count]) -> Iterator[_Write]:
        by_hour: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        for minute, count in minutes.items():
            by_hour[minute // HOUR_MINUTES][f"m{minute}"] = _fields(count)
        for hour, of_hour in by_hour.items():
            fields = {"minutes": of_hour, data_model.EXPIRES_AT: _expires_at(hour)}
            figures = sum(map(len, of_hour.values()))
            name = f"{series.key}-{hour}-{self._part}"
            yield _Write(name, is_shared=False, figures=figures, fields=fields)

    async def _commit(self, writes: Sequence[_Write]) -> None:
        sheet = self._sheet
        try:
            await self._firestore.run(lambda: self._set(writes, sheet), patience=PATIENCE_SECONDS)
        except REFUSED:  # a shared document is full
            self._sheet = max(self._sheet, sheet + 1)
            await self._firestore.run(lambda: self._set(writes, self._sheet), patience=PATIENCE_SECONDS)

    async def _set(self, writes: Sequence[_Write], sheet: int) -> None:
        batch = self._firestore.client.batch()
        for write in writes:
            name = f"{write.name}-{sheet}" if write.is_shared else write.name
            batch.set(self._documents.document(name), dict(write.fields), merge=True)
        await self._firestore.commit(batch)

    async def _between(
        self, name: str, hours: tuple[int, int], fields: Sequence[str] | None = None
    ) -> Sequence[DocumentSnapshot]:
        """Returns the documents of these hours that there are: a read of one that is not there costs, too."""
        first, last = (
            self._documents.document(each) for each in (f"{name}-{hours[0]}", f"{name}-{hours[1]}-~")
        )
        query = AsyncQuery(self._documents).order_by("__name__")
        query = query.start_at({"__name__": first}).end_at({"__name__": last})
        query = query if fields is None else query.select(fields)
        return await self._firestore.query(query, patience=PATIENCE_SECONDS)


def share_of(series: Series) -> str:
    """Returns the share that the series falls into."""
    return series.key[0]


def has_failures(minutes: Mapping[int, Count]) -> bool:
    """True if something failed, or is taken back, so that the series is written to a document of its own."""
    return any(count.failed or count.first_failed_at is not None for count in minutes.values())


def _expires_at(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * HOUR_MINUTES * 60, UTC) + _KEPT


def _fields(count: Count) -> dict[str, Any]:
    fields: dict[str, Any] = {"succeeded": Increment(count.succeeded), "failed": Increment(count.failed)}
    if count.first_failed_at is not None:
        fields["first_failed_at"] = Minimum(count.first_failed_at)
    return fields
