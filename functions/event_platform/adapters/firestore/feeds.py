"""The settings of feeds in Firestore, how far they have come, and what they found: the port `FeedStore`."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...documents import DAMAGED, feed_document, feed_of
from ...domain.feeds import Feed, Mark, ResourceName, ResourceState, key_of
from ...domain.tenants import Way
from ...ports import Clock, FeedReplaced, FeedStep, Intake, Listed, Seal
from .client import MISSING, PRECONDITION_FAILED, Firestore
from .leases import FirestoreLeases
from .tenants import bump_version

log = structlog.get_logger()

UNREADABLE_FIX = "AEP_FEED_KEY must be the key that sealed them, or the feed is to be set up anew"
_AT_ONCE = 500
_AFTER_ALL = "~"
"""Comes after all that follows a separator in a place."""


@dataclass(frozen=True, slots=True)
class StoredFeed:
    """The settings of a feed, None if they cannot be understood, and when its next round is due.

    A feed that has made no round has no such time; `written_at` is when its document was written last.
    """

    tenant: str
    feed: Feed | None
    due_at: datetime | None
    written_at: datetime | None


async def stored_feeds(firestore: Firestore, seal: Seal) -> Sequence[StoredFeed]:
    """Returns the feeds of all PIMs. Raises StoreUnavailable."""
    found = await firestore.query(AsyncQuery(firestore.client.collection(data_model.FEEDS)))
    return [_stored(snapshot, seal) for snapshot in found]


async def stored_feed(firestore: Firestore, tenant: str, seal: Seal) -> StoredFeed | None:
    """Returns the feed of a PIM; None without one. Raises StoreUnavailable."""
    snapshot = await firestore.read(_feed_at(firestore, tenant))
    return _stored(snapshot, seal) if snapshot.exists else None


async def put(firestore: Firestore, feed: Feed, seal: Seal) -> None:
    """Adds or replaces the settings of a feed, which is due at once.

    Ingest notes what the webhook brings within 5 s. Raises StoreUnavailable.
    """
    batch = firestore.client.batch()
    fields = {
        "tenant": feed.tenant,
        "version": feed.version,
        "document": orjson.dumps(feed_document(feed, seal)).decode(),
        "has_notes": feed.has_webhook_notes,
    }
    batch.set(_feed_at(firestore, feed.tenant), fields)
    bump_version(firestore, batch)
    await firestore.run(lambda: firestore.commit(batch))


async def remove(firestore: Firestore, tenant: str) -> None:
    """Removes a feed and all that it knows. Raises StoreUnavailable."""
    batch = firestore.client.batch()
    batch.delete(_feed_at(firestore, tenant))
    bump_version(firestore, batch)
    await firestore.run(lambda: firestore.commit(batch))
    await begin_again(firestore, tenant)


async def begin_again(firestore: Firestore, tenant: str) -> None:
    """Forgets how far a feed has come, and what it found. Raises StoreUnavailable."""
    key = feed_key(tenant)
    await firestore.delete([_state_at(firestore, key, resource) for resource in ResourceName])
    for collection in (data_model.FEED_MARKS, data_model.FEED_LISTED):
        await _delete_between(firestore, collection, f"{key}|", f"{key}|{_AFTER_ALL}")


async def states_of(firestore: Firestore, tenant: str) -> Mapping[ResourceName, ResourceState]:
    """Returns how far each resource has come. Raises StoreUnavailable."""
    key = feed_key(tenant)
    names = {_state_at(firestore, key, name).id: name for name in ResourceName}
    found = await _existing(firestore, [_state_at(firestore, key, name) for name in ResourceName])
    return {names[each.id]: ResourceState.model_validate_json(each.get("state")) for each in found}


async def all_states(firestore: Firestore) -> Mapping[str, Mapping[ResourceName, ResourceState]]:
    """Returns how far the resources of all feeds have come, by the feed's key. Raises StoreUnavailable."""
    found = await firestore.query(AsyncQuery(firestore.client.collection(data_model.FEED_STATES)))
    states: dict[str, dict[ResourceName, ResourceState]] = {}
    for each in found:
        key, _, name = each.id.partition("-")
        states.setdefault(key, {})[ResourceName(name)] = ResourceState.model_validate_json(each.get("state"))
    return states


async def set_due(firestore: Firestore, feed: Feed, due_at: datetime) -> None:
    """Sets when the next round is due, unless the settings have gone. Raises StoreUnavailable."""
    reference = _feed_at(firestore, feed.tenant)

    async def job() -> None:
        snapshot = await firestore.get(reference)
        if (snapshot.to_dict() or {}).get("version") != feed.version:
            return
        batch = firestore.client.batch()
        same = firestore.client.write_option(last_update_time=snapshot.update_time)
        batch.update(reference, {"due_at": due_at}, option=same)
        await firestore.commit(batch)

    await firestore.run(job, raced=[PRECONDITION_FAILED, MISSING])


class FirestoreFeedSchedule:
    """The port `FeedSchedule`: the time when a feed is due is in the document with its settings."""

    def __init__(self, firestore: Firestore, seal: Seal, clock: Clock) -> None:
        self._firestore = firestore
        self._seal = seal
        self._clock = clock
        self._leases = FirestoreLeases(firestore, clock)
        self._unreadable: frozenset[str] = frozenset()

    async def due(self) -> Sequence[Feed]:
        stored, now = await stored_feeds(self._firestore, self._seal), self._clock.now()
        unreadable = frozenset(each.tenant for each in stored if each.feed is None)
        for tenant in unreadable - self._unreadable:
            log.error("feed.settings_unreadable", tenant=tenant, fix=UNREADABLE_FIX)
        self._unreadable = unreadable
        return [
            each.feed
            for each in stored
            if each.feed is not None and not each.feed.is_off and (each.due_at is None or each.due_at <= now)
        ]

    async def set_due(self, feed: Feed, seconds: float) -> None:
        await set_due(self._firestore, feed, self._clock.now() + timedelta(seconds=seconds))

    async def lease(self, tenant: str, seconds: float) -> bool:
        return await self._leases.take(_lease_of(tenant), seconds)

    async def release(self, tenant: str) -> None:
        await self._leases.release(_lease_of(tenant))


class FirestoreFeedStore:
    """Keeps the progress of feeds, and what they found.

    A step's events are on the topic before the step is committed. An end in between brings them again, with
    the same ids. It is for one instance at a time, the one that has the lease of the PIM's feed.
    """

    def __init__(self, firestore: Firestore, intake: Intake) -> None:
        self._firestore = firestore
        self._intake = intake
        self._marks = firestore.client.collection(data_model.FEED_MARKS)
        self._listed = firestore.client.collection(data_model.FEED_LISTED)

    async def states(self, tenant: str) -> Mapping[ResourceName, ResourceState]:
        return await states_of(self._firestore, tenant)

    async def known(self, tenant: str, resource: ResourceName, keys: Sequence[bytes]) -> Mapping[bytes, Mark]:
        prefix = _prefix(tenant, resource)
        by_id = {_id_of(prefix, key): key for key in keys}
        found = await _existing(self._firestore, [self._marks.document(name) for name in by_id])
        return {by_id[snapshot.id]: _mark_of(snapshot) for snapshot in found}

    async def listed(self, tenant: str, resource: ResourceName, sweep: int) -> tuple[int, int]:
        prefix = _prefix(tenant, resource)
        return (
            await self._count(_between(self._listed, prefix, f"{prefix}{_AFTER_ALL}")),
            await self._count(_between(self._listed, prefix, f"{prefix}{sweep:012d}")),
        )

    async def gone(self, tenant: str, resource: ResourceName, sweep: int, limit: int) -> Sequence[Listed]:
        prefix = _prefix(tenant, resource)
        query = _between(self._listed, prefix, f"{prefix}{sweep:012d}").limit(limit)
        return [_listed_of(snapshot) for snapshot in await self._firestore.query(query)]

    async def commit(self, step: FeedStep) -> None:
        """Port `FeedStore`. Raises PublishFailed, too, where the events did not get to their topic."""
        tenant = step.feed.tenant
        reference = _feed_at(self._firestore, tenant)
        seen = _of_version(await self._firestore.read(reference), step.feed.version)
        if step.events:
            await self._intake.accept(tenant, step.events, way=Way.FEED)

        async def job() -> None:
            nonlocal seen
            if seen is None:
                seen = _of_version(await self._firestore.get(reference), step.feed.version)
            same = self._firestore.client.write_option(last_update_time=seen.update_time)
            seen = None  # a try that gets no answer may have been made
            batch = self._firestore.client.batch()
            batch.update(reference, {"step": uuid.uuid4().hex}, option=same)
            for document, fields in self._changes(step):
                if fields is None:
                    batch.delete(document)
                else:
                    batch.set(document, dict(fields))
            await self._firestore.commit(batch)

        await self._firestore.run(job, raced=[PRECONDITION_FAILED, MISSING])
        if step.forget_before is not None:
            prefix = _prefix(tenant, step.resource)
            await _delete_between(
                self._firestore, self._marks.id, f"{prefix}0", f"{prefix}{max(0, step.forget_before):012d}"
            )

    def _changes(self, step: FeedStep) -> Sequence[tuple[AsyncDocumentReference, Mapping[str, Any] | None]]:
        """Returns the documents of a step and their fields, None for those that are deleted."""
        prefix = _prefix(step.feed.tenant, step.resource)
        changes: dict[str, tuple[AsyncDocumentReference, Mapping[str, Any] | None]] = {}

        def put(document: AsyncDocumentReference, fields: Mapping[str, Any] | None) -> None:
            changes[f"{document.parent.id}/{document.id}"] = document, fields

        for key, mark in step.marks.items():
            put(self._marks.document(_id_of(prefix, key)), _mark_fields(prefix, mark))
        for each in step.listed:
            text = orjson.dumps(each.identity)
            fields = {"place": f"{prefix}{step.sweep:012d}", "identity": text.decode()}
            if each.identifier is not None:
                fields["identifier"] = each.identifier
            put(self._listed.document(_id_of(prefix, text)), fields)
        for each in step.unlisted:
            put(self._listed.document(_id_of(prefix, orjson.dumps(each.identity))), None)
            put(self._marks.document(_id_of(prefix, key_of(each.identity))), None)
        state = {"state": step.state.model_dump_json(exclude_defaults=True)}
        put(_state_at(self._firestore, feed_key(step.feed.tenant), step.resource), state)
        return list(changes.values())

    async def _count(self, query: AsyncQuery) -> int:
        async def job() -> int:
            found = await query.count().get(retry=None, timeout=self._firestore.attempt)
            return int(found[0][0].value)

        return await self._firestore.run(job)


def feed_key(tenant: str) -> str:
    """Returns the id of the document of a PIM's feed."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:32]


async def _existing(
    firestore: Firestore, references: Sequence[AsyncDocumentReference]
) -> Sequence[DocumentSnapshot]:
    """Returns those of the documents that exist."""
    if not references:
        return ()

    async def job() -> Sequence[DocumentSnapshot]:
        found = firestore.client.get_all(list(references), retry=None, timeout=firestore.attempt)
        return [snapshot async for snapshot in found if snapshot.exists]

    return await firestore.run(job)


def _lease_of(tenant: str) -> str:
    return f"feed-{feed_key(tenant)}"


def _feed_at(firestore: Firestore, tenant: str) -> AsyncDocumentReference:
    return firestore.client.collection(data_model.FEEDS).document(feed_key(tenant))


def _state_at(firestore: Firestore, key: str, resource: ResourceName) -> AsyncDocumentReference:
    return firestore.client.collection(data_model.FEED_STATES).document(f"{key}-{resource}")


def _stored(snapshot: DocumentSnapshot, seal: Seal) -> StoredFeed:
    fields = snapshot.to_dict() or {}
    tenant = str(fields.get("tenant") or snapshot.id)
    try:
        feed = feed_of(orjson.loads(fields.get("document", "")), seal)
    except DAMAGED:
        feed = None
    due_at = fields.get("due_at")
    return StoredFeed(tenant, feed, due_at if isinstance(due_at, datetime) else None, snapshot.update_time)


def _of_version(snapshot: DocumentSnapshot, version: str) -> DocumentSnapshot:
    """Returns the document of a feed. Raises FeedReplaced if its settings are other ones."""
    if (snapshot.to_dict() or {}).get("version") != version:
        raise FeedReplaced
    return snapshot


def _prefix(tenant: str, resource: ResourceName) -> str:
    return f"{feed_key(tenant)}|{resource}|"


def _id_of(prefix: str, key: bytes) -> str:
    return hashlib.sha256(prefix.encode() + key).hexdigest()[:32]


def _mark_fields(prefix: str, mark: Mark) -> Mapping[str, Any]:
    """A mark without a date has a place before all that are forgotten by theirs."""
    place = "-" if mark.updated is None else f"{max(0, mark.updated):012d}"
    return {"place": f"{prefix}{place}", **mark.model_dump(exclude_none=True)}


def _mark_of(snapshot: DocumentSnapshot) -> Mark:
    fields = snapshot.to_dict() or {}
    return Mark(**{name: fields.get(name) for name in Mark.model_fields})


def _listed_of(snapshot: DocumentSnapshot) -> Listed:
    fields = snapshot.to_dict() or {}
    return Listed(tuple(orjson.loads(fields["identity"])), fields.get("identifier"))


def _between(collection: Any, first: str, last: str) -> AsyncQuery:
    """The documents whose place is from the first to before the last, in that order."""
    return (
        AsyncQuery(collection)
        .where(filter=FieldFilter("place", ">=", first))
        .where(filter=FieldFilter("place", "<", last))
        .order_by("place")
    )


async def _delete_between(firestore: Firestore, collection: str, first: str, last: str) -> None:
    query = _between(firestore.client.collection(collection), first, last).select([]).limit(_AT_ONCE)
    while found := await firestore.query(query):
        await firestore.delete([snapshot.reference for snapshot in found])
