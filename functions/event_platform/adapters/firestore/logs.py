"""The log in Firestore as clients read it, and the refused calls in it: the port `Logs`."""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from google.cloud.firestore_v1 import (
    AsyncCollectionReference,
    AsyncQuery,
    Increment,
    Maximum,
    Query,
)
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...domain.record.logs import KEPT_FOR, LogEntry, LogQuery, Position, window_start
from ...domain.subscriptions import Owner
from ...ports import Clock
from .client import ALREADY_EXISTS, Firestore
from .entries import PART_OF, entry_of, fields_of
from .sharing import SECONDS_BETWEEN_WRITES, SharedWrites

REFUSALS_HELD = 10_000
_IN_ONE_QUERY = 30
"""The most values of an `in`: https://cloud.google.com/firestore/quotas#queries"""


class FirestoreLogs:
    """A refusal has one document, which all instances count in, each once a second at most."""

    def __init__(
        self, firestore: Firestore, clock: Clock, *, seconds: float = SECONDS_BETWEEN_WRITES
    ) -> None:
        self._firestore = firestore
        self._entries = firestore.client.collection(data_model.LOG_ENTRIES)
        self._refusals = SharedWrites[LogEntry](clock, REFUSALS_HELD, seconds=seconds)

    async def add_refusal(self, entry: LogEntry) -> None:
        """Equal ones within a window that begins on the clock are one entry, under the id of the first."""
        name = _name_of(entry)
        await self._refusals.add(name, entry, lambda: partial(self._count, name))

    async def entries(self, owner: Owner, query: LogQuery) -> Sequence[LogEntry]:
        if await self._is_of_another_subscriber(query):
            return []  # without a look at each of the subscription's entries
        found: dict[str, LogEntry] = {}
        while len(found) < query.limit:
            try:
                asked = query_of(self._entries, owner, query)
            except ValueError:
                break
            documents = [snapshot.to_dict() or {} for snapshot in await self._firestore.query(asked)]
            for entry in await self._whole(documents):
                if query.subscriber_id in (None, entry.subscriber_id):
                    found.setdefault(entry.id, entry)
            if len(documents) < query.limit:
                break
            query = replace(query, after=Position(documents[-1]["at"], documents[-1]["id"]))
        return list(found.values())[: query.limit]

    async def _count(self, name: str, entries: Sequence[LogEntry]) -> None:
        first, last = entries[0], max(entries, key=lambda entry: entry.at)
        reference = self._entries.document(name)
        fields = fields_of(replace(last, id=first.id, occurrences=len(entries)))
        fields[data_model.EXPIRES_AT] = _window_of(first) + first.merged_within + KEPT_FOR
        growing = {
            "occurrences": Increment(len(entries)),
            "at": Maximum(fields["at"]),
            "request": fields["request"],
            "response": fields["response"],
        }

        async def job() -> None:
            batch = self._firestore.client.batch()
            batch.create(reference, fields)
            try:
                await self._firestore.commit(batch)
            except ALREADY_EXISTS:
                batch = self._firestore.client.batch()
                batch.update(reference, growing)
                await self._firestore.commit(batch)

        await self._firestore.run(job)

    async def _is_of_another_subscriber(self, query: LogQuery) -> bool:
        if query.subscriber_id is None or query.subscription_id is None:
            return False
        reference = self._firestore.document(data_model.SUBSCRIPTIONS, query.subscription_id)
        found = await self._firestore.read(reference)
        return found.exists and found.get("subscriber_id") != query.subscriber_id

    async def _whole(self, documents: Sequence[Mapping[str, Any]]) -> Sequence[LogEntry]:
        """The entries that stand where these documents do: one of parts stands where its latest part is."""
        parts = await self._parts([document["id"] for document in documents if PART_OF in document])
        entries: list[LogEntry] = []
        for document in documents:
            entry = entry_of(parts.get(document["id"], [document]))
            if entry.at.timestamp() == document["at"]:
                entries.append(entry)
        return entries

    async def _parts(self, ids: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Returns all parts of each of the entries."""
        wanted = list(dict.fromkeys(ids))
        groups = [wanted[start : start + _IN_ONE_QUERY] for start in range(0, len(wanted), _IN_ONE_QUERY)]
        answers = await asyncio.gather(*(self._firestore.query(self._of_parts(group)) for group in groups))
        parts: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for snapshot in (snapshot for answer in answers for snapshot in answer):
            parts[snapshot.get(PART_OF)].append(snapshot.to_dict() or {})
        return parts

    def _of_parts(self, ids: Sequence[str]) -> AsyncQuery:
        return AsyncQuery(self._entries).where(filter=FieldFilter(PART_OF, "in", ids))


def query_of(entries: AsyncCollectionReference, owner: Owner, query: LogQuery) -> AsyncQuery:
    """The query by the index made for it (`data_model.INDEXES`): what is equal, then the order.

    Times are bounds of the order, as the position is, so they need no filter. Of a subscriber and a
    subscription the latter is asked for. Raises ValueError when nothing can fit.
    """
    equal = {"tenant": owner.tenant, "client_id": owner.client_id}
    scope = next((name for name in ("subscription_id", "subscriber_id") if getattr(query, name)), None)
    if scope is not None:
        equal[scope] = getattr(query, scope)
    if (kind := query.kind()) is not None:
        equal[kind[0]] = kind[1]
    found = AsyncQuery(entries)
    for name, value in equal.items():
        found = found.where(filter=FieldFilter(name, "==", str(value)))
    direction = Query.DESCENDING if query.newest_first else Query.ASCENDING
    found = found.order_by("at", direction=direction).order_by("id", direction=direction)
    return _bounded(found, query).limit(query.limit)


def _bounded(found: AsyncQuery, query: LogQuery) -> AsyncQuery:
    since, before = (moment.timestamp() if moment else None for moment in (query.since, query.before))
    after = query.after
    if query.newest_first:
        if after and since is not None and after.at < since:
            raise ValueError("the position is beyond the end")
        found = found.end_at({"at": since}) if since is not None else found
        if after and (before is None or after.at < before):
            return found.start_after({"at": after.at, "id": after.id})
        return found.start_after({"at": before}) if before is not None else found
    if after and before is not None and after.at >= before:
        raise ValueError("the position is beyond the end")
    found = found.end_before({"at": before}) if before is not None else found
    if after and (since is None or after.at >= since):
        return found.start_after({"at": after.at, "id": after.id})
    return found.start_at({"at": since}) if since is not None else found


def _window_of(refusal: LogEntry) -> datetime:
    return window_start(refusal.at, refusal.merged_within)


def _name_of(refusal: LogEntry) -> str:
    """The name of the document that equal refusals of the same window share."""
    owner = refusal.owner
    content = (
        owner.tenant,
        owner.client_id,
        refusal.subscriber_id,
        refusal.subscription_id,
        refusal.operation,
        refusal.error_message,
        _window_of(refusal).isoformat(),
    )
    return hashlib.sha256(repr(content).encode()).hexdigest()[:32]
