"""Subscribers and subscriptions in Firestore: `Subscriptions`, `SubscriptionLookup`, `ActiveSubscriptions`.

No transaction and no document that all writers read and write: limits are slots that are created with their
record, changes are written only over what they were made from, and whoever loses a race begins again.
"""

import hashlib
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
from cachetools import LRUCache
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery, AsyncWriteBatch, Increment
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...documents import subscriber_document, subscriber_of, subscription_document, subscription_of
from ...domain.errors import Conflict, NotFound
from ...domain.paced import with_pace_of
from ...domain.record.actions import BY_THE_PLATFORM, Action, entry_of
from ...domain.record.notifications import Change, notifications_of
from ...domain.subscriptions import (
    SHOWN_AFTER_DELETION,
    SUBSCRIBERS_PER_PIM,
    SUBSCRIPTIONS_PER_SUBSCRIBER,
    Owner,
    PubSubConfig,
    Status,
    Subscriber,
    Subscription,
    suspend,
)
from ...domain.topic_claims import LOST, is_named_by, topic_named, topic_to_claim, topic_to_release
from ...ports import Clock, Publisher, Seal
from ..suspension_lines import log_suspensions
from .catch_ups import FirestoreCatchUps
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore, document_id
from .entries import fields_of
from .outbox import FirestoreOutbox
from .topic_claims import TopicClaims
from .versions import VersionedCache, Versions

SUBSCRIPTIONS_HELD = 20_000
TENANTS_HELD = 1_000

_SHOWN = [status for status in Status if status is not Status.DELETED]
_OPEN = frozenset({Status.ACTIVE, Status.SUSPENDED})  # what subscriptions can be added to
_SUBSCRIBERS, _SUBSCRIPTIONS = ("the PIM", "subscribers"), ("the subscriber", "subscriptions")
_KEPT = SHOWN_AFTER_DELETION + timedelta(days=1)

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _ByStatus:
    """A tenant's subscriptions, oldest first."""

    active: Sequence[Subscription]
    suspended: Sequence[Subscription]


class FirestoreSubscriptions:
    """The records, and two caches of them for readers: single ones by id, and the active ones by tenant.

    Notifications of a change are published by `publisher`, or without one by `maintain`.
    """

    def __init__(
        self,
        firestore: Firestore,
        seal: Seal,
        clock: Clock,
        *,
        buckets: int = 1,
        publisher: Publisher | None = None,
        catch_ups: FirestoreCatchUps | None = None,
    ) -> None:
        self._firestore = firestore
        self._catch_ups = catch_ups or FirestoreCatchUps(firestore)
        self._seal = seal
        self._outbox = FirestoreOutbox(firestore, clock)
        self._publisher = publisher
        self._claims = TopicClaims(firestore, self._naming)
        self._versions = Versions(firestore, clock, buckets=buckets)
        self._current: VersionedCache[Subscription | None] = VersionedCache(
            self._versions, SUBSCRIPTIONS_HELD
        )
        self._by_status: VersionedCache[_ByStatus] = VersionedCache(self._versions, TENANTS_HELD)
        self._tenants: LRUCache[str, str] = LRUCache(SUBSCRIPTIONS_HELD)  # of subscriptions, by their ids

    # Subscribers

    async def add_subscriber(
        self, subscriber: Subscriber, *, limit: int, action: Action = BY_THE_PLATFORM
    ) -> None:
        tenant = subscriber.owner.tenant
        group = _group_of_tenant(tenant)

        async def job() -> None:
            taken = await self._taken(group)
            if subscriber.id in taken.values():
                return  # by an earlier try of which no answer came
            (slot,) = _free_slots(group, taken, limit, *_SUBSCRIBERS)
            batch = self._firestore.client.batch()
            self._take(batch, slot, group, subscriber.id)
            batch.create(self._subscriber_at(subscriber.id), self._subscriber_fields(subscriber, slot))
            batch.create(self._open_at(subscriber.id), {"changes": 0})
            self._log(batch, None, subscriber, action)
            await self._commit(batch, tenant)

        await self._firestore.run(job, raced=[ALREADY_EXISTS])

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        snapshot = await self._firestore.read(self._subscriber_at(subscriber_id))
        return self._subscriber_of(snapshot, owner, subscriber_id)

    async def subscribers(self, owner: Owner) -> Sequence[Subscriber]:
        found = await self._firestore.query(
            self._where(data_model.SUBSCRIBERS, tenant=owner.tenant, client_id=owner.client_id, status=_SHOWN)
        )
        return [subscriber_of(_document(snapshot), self._seal) for snapshot in _oldest_first(found)]

    async def change_subscriber(
        self,
        owner: Owner,
        subscriber_id: str,
        change: Callable[[Subscriber], Subscriber],
        *,
        and_subscriptions: Callable[[Subscription], Subscription] | None = None,
        action: Action = BY_THE_PLATFORM,
    ) -> Subscriber:
        written: dict[str, Subscriber] = {}

        async def job() -> Subscriber:
            # Read before the subscriptions: one that is added after this makes the write fail.
            opened = await self._firestore.get(self._open_at(subscriber_id)) if and_subscriptions else None
            snapshot = await self._firestore.get(self._subscriber_at(subscriber_id))
            before = self._subscriber_of(snapshot, owner, subscriber_id)
            if done := written.get(snapshot.get("change")):
                return done  # by an earlier try of which no answer came
            after = change(before)
            batch = self._firestore.client.batch()
            changes: list[Change] = [(before, after)]
            if after is not before:
                fields = self._subscriber_fields(after, snapshot.get("slot"))
                written[fields["change"]] = after
                self._replace(batch, snapshot, fields)
                self._log(batch, before, after, action)
            if and_subscriptions is not None:
                rest = await self._firestore.find(
                    self._where(data_model.SUBSCRIPTIONS, subscriber_id=subscriber_id, status=_SHOWN)
                )
                changed = [self._change(batch, each, and_subscriptions, action)[:2] for each in rest]
                await self._release_topics(batch, changed)
                changes += changed
            if len(batch):
                self._change_open(batch, opened, before, after)
                await self._commit(batch, owner.tenant, changes, action)
            return after

        return await self._firestore.run(job, raced=[PRECONDITION_FAILED, ALREADY_EXISTS, MISSING])

    # Subscriptions

    async def add_subscription(
        self,
        subscription: Subscription,
        check: Callable[[Subscriber], None],
        *,
        limit: int,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
    ) -> None:
        subscriber_id = subscription.subscriber_id
        group = _group_of_subscriber(subscriber_id)

        async def job() -> None:
            taken = await self._taken(group)
            if subscription.id in taken.values():
                return  # by an earlier try of which no answer came
            check(
                self._subscriber_of(
                    await self._firestore.get(self._subscriber_at(subscriber_id)),
                    subscription.owner,
                    subscriber_id,
                )
            )
            (slot,) = _free_slots(group, taken, limit, *_SUBSCRIPTIONS)
            batch = self._firestore.client.batch()
            self._take(batch, slot, group, subscription.id)
            batch.create(
                self._subscription_at(subscription.id), self._subscription_fields(subscription, slot)
            )
            # Fails when the subscriber was deleted or revoked meanwhile.
            batch.update(self._open_at(subscriber_id), {"changes": Increment(1)})
            self._log(batch, None, subscription, action)
            lost = await self._claim_topic(batch, None, subscription, takes_topic=takes_topic)
            await self._commit(batch, subscription.owner.tenant, lost=lost)

        await self._firestore.run(job, raced=[PRECONDITION_FAILED, ALREADY_EXISTS, MISSING])

    async def subscription(self, owner: Owner, subscriber_id: str, subscription_id: str) -> Subscription:
        snapshot = await self._firestore.read(self._subscription_at(subscription_id))
        return self._subscription_of(snapshot, owner, subscriber_id, subscription_id)

    async def subscriptions(self, owner: Owner, subscriber_id: str) -> Sequence[Subscription]:
        await self.subscriber(owner, subscriber_id)
        found = await self._firestore.query(
            self._where(data_model.SUBSCRIPTIONS, subscriber_id=subscriber_id, status=_SHOWN)
        )
        return [subscription_of(_document(snapshot), self._seal) for snapshot in _oldest_first(found)]

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
        catch_up: bool | None = None,
    ) -> Subscription:
        written: dict[str, tuple[Subscription, Subscription, Sequence[Change]]] = {}

        async def job() -> Subscription:
            snapshot = await self._firestore.get(self._subscription_at(subscription_id))
            self._subscription_of(snapshot, owner, subscriber_id, subscription_id)
            if done := written.get(snapshot.get("change")):
                before, after, lost = done  # by an earlier try of which no answer came
                log_suspensions([(before, after)], action)
                log_suspensions(lost, LOST)
                return after
            batch = self._firestore.client.batch()
            before, after, token = self._change(batch, snapshot, change, action, catch_up)
            if len(batch):
                await self._catch_ups.put(batch, before, after, catch_up)
                lost = await self._claim_topic(batch, before, after, takes_topic=takes_topic)
                await self._release_topics(batch, [(before, after)])
                written[token] = before, after, lost
                await self._commit(batch, owner.tenant, [(before, after)], action, lost=lost)
            return after

        return await self._firestore.run(job, raced=[PRECONDITION_FAILED, ALREADY_EXISTS, MISSING])

    # Records of another store

    async def check_in(
        self, tenant: str, families: Sequence[tuple[Subscriber, Sequence[Subscription]]]
    ) -> None:
        """Raises Conflict when a tenant's subscribers, each with its subscriptions, cannot all be brought in.

        What is here must be the same, but for the pace, and there must be room for the others.
        """
        new = 0
        for subscriber, subscriptions in families:
            _, new_subscribers, _ = await self._firestore.run(
                lambda pair=(subscriber, subscriptions): self._bring_in(*pair)
            )
            new += new_subscribers
        group = _group_of_tenant(tenant)
        taken = await self._firestore.run(lambda: self._taken(group))
        _free_slots(group, taken, SUBSCRIBERS_PER_PIM, *_SUBSCRIBERS, new)

    async def bring_in(self, subscriber: Subscriber, subscriptions: Sequence[Subscription]) -> int:
        """Creates all that are not here yet, in one batch; returns how many. Raises Conflict as `check_in`.

        They keep ids, times, status and epoch. Nothing is logged and no owner is notified: for them nothing
        has happened.
        """

        async def job() -> int:
            batch, new_subscribers, new_subscriptions = await self._bring_in(subscriber, subscriptions)
            if len(batch):
                await self._commit(batch, subscriber.owner.tenant)
            return new_subscribers + new_subscriptions

        return await self._firestore.run(job, raced=[PRECONDITION_FAILED, ALREADY_EXISTS, MISSING])

    async def _bring_in(
        self, subscriber: Subscriber, subscriptions: Sequence[Subscription]
    ) -> tuple[AsyncWriteBatch, int, int]:
        """The writes that create what is missing; of how many subscribers and subscriptions. One try."""
        references = [
            self._subscriber_at(subscriber.id),
            *(self._subscription_at(subscription.id) for subscription in subscriptions),
        ]
        found = self._firestore.client.get_all(references, retry=None, timeout=self._firestore.attempt)
        here = {snapshot.id: snapshot async for snapshot in found if snapshot.exists}
        batch = self._firestore.client.batch()
        is_open, is_here = subscriber.status in _OPEN, subscriber.id in here
        if is_here:
            if subscriber_of(_document(here[subscriber.id]), self._seal) != subscriber:
                raise Conflict(f"subscriber {subscriber.id} is here already and differs")
        else:
            group = _group_of_tenant(subscriber.owner.tenant)
            taken = await self._taken(group)
            (slot,) = _free_slots(group, taken, SUBSCRIBERS_PER_PIM, *_SUBSCRIBERS)
            self._take(batch, slot, group, subscriber.id)
            batch.create(self._subscriber_at(subscriber.id), self._subscriber_fields(subscriber, slot))
            if is_open:
                batch.create(self._open_at(subscriber.id), {"changes": 0})
        new: list[Subscription] = []
        for each in subscriptions:
            if each.id not in here:
                new.append(each)
            elif with_pace_of(subscription_of(_document(here[each.id]), self._seal), each) != each:
                raise Conflict(f"subscription {each.id} is here already and differs")
        if new:
            group = _group_of_subscriber(subscriber.id)
            taken = await self._taken(group)
            slots = _free_slots(group, taken, SUBSCRIPTIONS_PER_SUBSCRIBER, *_SUBSCRIPTIONS, len(new))
            for each, slot in zip(new, slots, strict=True):
                self._take(batch, slot, group, each.id)
                batch.create(self._subscription_at(each.id), self._subscription_fields(each, slot))
            named = [topic for each in new if (topic := topic_named(each)) is not None]
            for topic in {topic.destination: topic for topic in named}.values():
                await self._claims.claim_if_free(batch, topic, subscriber.owner)
            if is_open and is_here:  # fails when it was deleted or revoked meanwhile
                batch.update(self._open_at(subscriber.id), {"changes": Increment(1)})
        return batch, 0 if is_here else 1, len(new)

    # Readers of events and deliveries

    async def current(self, subscription_id: str) -> Subscription | None:
        tenant = self._tenants.get(subscription_id)
        if tenant is not None and (held := self._current.cached(subscription_id, tenant)) is not None:
            return held

        async def load() -> Subscription | None:
            snapshot = await self._firestore.read(self._subscription_at(subscription_id))
            return subscription_of(_document(snapshot), self._seal) if snapshot.exists else None

        if tenant is None:  # only the record names it
            mark = self._versions.learned
            loaded = await load()
            if loaded is None:
                return None
            tenant = self._tenants[subscription_id] = loaded.owner.tenant
            if await self._current.hold(subscription_id, tenant, loaded, mark):
                return loaded
        return await self._current.get(subscription_id, tenant, load)

    async def active(self, tenant: str) -> Sequence[Subscription]:
        return (await self._of_tenant(tenant)).active

    async def suspended(self, tenant: str) -> Sequence[Subscription]:
        return (await self._of_tenant(tenant)).suspended

    async def _of_tenant(self, tenant: str) -> "_ByStatus":
        async def load() -> _ByStatus:
            found = await self._firestore.query(
                self._where(data_model.SUBSCRIPTIONS, tenant=tenant, status=sorted(_OPEN))
            )
            records = [subscription_of(_document(snapshot), self._seal) for snapshot in _oldest_first(found)]
            return _ByStatus(
                [each for each in records if each.status is Status.ACTIVE],
                [each for each in records if each.status is Status.SUSPENDED],
            )

        return await self._by_status.get(tenant, tenant, load)

    # The pace, which `FirestorePaces` keeps

    async def read(self, subscription_id: str) -> tuple[Subscription, DocumentSnapshot] | None:
        """The record and what it was read as. One try, for a job."""
        snapshot = await self._firestore.get(self._subscription_at(subscription_id))
        return (subscription_of(_document(snapshot), self._seal), snapshot) if snapshot.exists else None

    async def replace(
        self, batch: AsyncWriteBatch, snapshot: DocumentSnapshot, subscription: Subscription
    ) -> None:
        """Commits the batch with the record, over `snapshot` and nothing newer. One try, for a job."""
        self._replace(batch, snapshot, self._subscription_fields(subscription, snapshot.get("slot")))
        await self._commit(batch, subscription.owner.tenant)

    # Writing

    def _change(
        self,
        batch: AsyncWriteBatch,
        snapshot: DocumentSnapshot,
        change: Callable[[Subscription], Subscription],
        action: Action,
        catch_up: bool | None = None,
    ) -> tuple[Subscription, Subscription, str]:
        """The subscription before and after, and the token of the write that was put into the batch."""
        before = subscription_of(_document(snapshot), self._seal)
        after = self._catch_ups.noted(before, change(before), catch_up)
        if after is before:
            return before, after, ""
        fields = self._subscription_fields(after, snapshot.get("slot"))
        self._replace(batch, snapshot, fields)
        self._log(batch, before, after, action)
        return before, after, fields["change"]

    def _log(
        self,
        batch: AsyncWriteBatch,
        before: Subscriber | Subscription | None,
        after: Subscriber | Subscription,
        action: Action,
    ) -> None:
        entry = entry_of(before, after, action)
        if entry is not None:
            entries = self._firestore.client.collection(data_model.LOG_ENTRIES)
            batch.create(entries.document(entry.id), fields_of(entry))

    def _replace(self, batch: AsyncWriteBatch, snapshot: DocumentSnapshot, fields: dict[str, Any]) -> None:
        """Over what was read and nothing newer; the deletion of a record gives its slot back."""
        client = self._firestore.client
        same = client.write_option(last_update_time=snapshot.update_time)
        batch.update(snapshot.reference, fields, option=same)
        if fields["status"] == Status.DELETED and snapshot.get("status") != Status.DELETED:
            batch.delete(client.collection(data_model.SLOTS).document(snapshot.get("slot")))

    def _change_open(
        self, batch: AsyncWriteBatch, opened: DocumentSnapshot | None, before: Subscriber, after: Subscriber
    ) -> None:
        """Keeps `open_subscribers` true; `opened` is its document as it was read before the subscriptions."""
        client = self._firestore.client
        reference = self._open_at(after.id)
        same = (
            client.write_option(last_update_time=opened.update_time)
            if opened is not None and opened.exists
            else None
        )
        was_open, is_open = before.status in _OPEN, after.status in _OPEN
        if was_open and not is_open:
            batch.delete(reference, option=same)
        elif is_open and not was_open:
            batch.set(reference, {"changes": 0})
        elif same is not None:
            batch.update(reference, {"changes": Increment(1)}, option=same)

    def _take(self, batch: AsyncWriteBatch, slot: str, group: str, record: str) -> None:
        number = int(slot.rpartition("-")[2])
        reference = self._firestore.client.collection(data_model.SLOTS).document(slot)
        batch.create(reference, {"group": group, "number": number, "record": record})

    async def _taken(self, group: str) -> Mapping[int, str]:
        """The records of a group by the numbers of their slots."""
        found = await self._firestore.find(self._where(data_model.SLOTS, group=group))
        return {snapshot.get("number"): snapshot.get("record") for snapshot in found}

    async def _commit(
        self,
        batch: AsyncWriteBatch,
        tenant: str,
        changes: Sequence[Change] = (),
        action: Action = BY_THE_PLATFORM,
        *,
        lost: Sequence[Change] = (),
    ) -> None:
        """`lost` are the changes of another client, whose topic is taken."""
        notifications = [*notifications_of(changes, action), *notifications_of(lost, LOST)]
        put = self._outbox.put(batch, notifications)
        tenants = {tenant, *(after.owner.tenant for _, after in lost)}
        for each in tenants:
            self._versions.bump(batch, each)
        try:
            written = await self._firestore.commit(batch)
        finally:  # also when no answer came: it may have been written
            for each in tenants:
                self._versions.changed(each)
        log_suspensions(changes, action)
        log_suspensions(lost, LOST)
        if self._publisher is not None:
            await self._outbox.announce(put, written, self._publisher)

    # Topics

    async def _claim_topic(
        self,
        batch: AsyncWriteBatch,
        before: Subscription | None,
        after: Subscription,
        *,
        takes_topic: bool,
    ) -> Sequence[Change]:
        """Lets the owner hold the topic that the change needs. Returns the changes of those who lose it."""
        topic = topic_to_claim(before, after)
        if topic is None:
            return ()
        others = await self._claims.claim(batch, topic, after.owner, takes_topic=takes_topic)
        suspended = partial(suspend, now=after.updated_at)
        return [self._change(batch, snapshot, suspended, LOST)[:2] for snapshot in others]

    async def _release_topics(
        self, batch: AsyncWriteBatch, changes: Sequence[tuple[Subscription, Subscription]]
    ) -> None:
        """Frees the topics that nothing of the owner names any more after its changes."""
        leaving: dict[str, list[str]] = {}
        released: dict[str, PubSubConfig] = {}
        for before, after in changes:
            if (topic := topic_to_release(before, after)) is not None:
                leaving.setdefault(topic.destination, []).append(after.id)
                released[topic.destination] = topic
        for destination, topic in released.items():
            await self._claims.release(batch, topic, changes[0][1].owner, leaving[destination])

    async def _naming(self, owner: Owner, topic: PubSubConfig) -> Sequence[DocumentSnapshot]:
        """The open subscriptions of the owner that name the topic. One try, for a job."""
        found = await self._firestore.find(
            self._where(data_model.SUBSCRIPTIONS, tenant=owner.tenant, status=sorted(_OPEN))
        )
        return [
            snapshot
            for snapshot in found
            if _owner(snapshot) == owner
            and is_named_by(subscription_of(_document(snapshot), self._seal), topic)
        ]

    # Documents

    def _subscriber_at(self, subscriber_id: str) -> AsyncDocumentReference:
        return self._firestore.document(data_model.SUBSCRIBERS, subscriber_id)

    def _subscription_at(self, subscription_id: str) -> AsyncDocumentReference:
        return self._firestore.document(data_model.SUBSCRIPTIONS, subscription_id)

    def _open_at(self, subscriber_id: str) -> AsyncDocumentReference:
        return self._firestore.document(data_model.OPEN_SUBSCRIBERS, subscriber_id)

    def _where(self, collection: str, **fields: str | Sequence[str]) -> AsyncQuery:
        """Returns the filter for documents that equal all the fields, or one of a field's list."""
        query = AsyncQuery(self._firestore.client.collection(collection))
        for name, value in fields.items():
            query = query.where(filter=FieldFilter(name, "==" if isinstance(value, str) else "in", value))
        return query

    def _subscriber_fields(self, subscriber: Subscriber, slot: str) -> dict[str, Any]:
        return _fields(subscriber, subscriber_document(subscriber, self._seal), slot)

    def _subscription_fields(self, subscription: Subscription, slot: str) -> dict[str, Any]:
        fields = _fields(subscription, subscription_document(subscription, self._seal), slot)
        return fields | {"subscriber_id": subscription.subscriber_id}

    def _subscriber_of(self, snapshot: DocumentSnapshot, owner: Owner, subscriber_id: str) -> Subscriber:
        if not snapshot.exists or _owner(snapshot) != owner:
            raise NotFound(f"subscriber {subscriber_id} is unknown")
        return subscriber_of(_document(snapshot), self._seal)

    def _subscription_of(
        self, snapshot: DocumentSnapshot, owner: Owner, subscriber_id: str, subscription_id: str
    ) -> Subscription:
        if not snapshot.exists or _owner(snapshot) != owner or snapshot.get("subscriber_id") != subscriber_id:
            raise NotFound(f"subscription {subscription_id} is unknown")
        return subscription_of(_document(snapshot), self._seal)


def _fields(record: Subscriber | Subscription, document: Fields, slot: str) -> dict[str, Any]:
    """The document as one text, quicker to read than Firestore's own maps, and what queries ask for.

    `change` names this write, so that a try of which no answer came is recognised.
    """
    fields: dict[str, Any] = {
        "document": orjson.dumps(document).decode(),
        "tenant": record.owner.tenant,
        "client_id": record.owner.client_id,
        "status": str(record.status),
        "slot": slot,
        "change": uuid.uuid4().hex,
    }
    if record.status is Status.DELETED:
        fields[data_model.EXPIRES_AT] = record.updated_at + _KEPT
    return fields


def _document(snapshot: DocumentSnapshot) -> dict[str, Any]:
    return orjson.loads(snapshot.get("document"))


def _owner(snapshot: DocumentSnapshot) -> Owner:
    return Owner(snapshot.get("tenant"), snapshot.get("client_id"))


def _oldest_first(snapshots: Sequence[DocumentSnapshot]) -> Sequence[DocumentSnapshot]:
    """The ids are UUIDs of version 7, which begin with the time."""
    return sorted(snapshots, key=lambda snapshot: snapshot.id)


def _group_of_tenant(tenant: str) -> str:
    return "subscribers-" + hashlib.sha256(tenant.encode()).hexdigest()[:32]


def _group_of_subscriber(subscriber_id: str) -> str:
    return f"subscriptions-{document_id(subscriber_id)}"


def _free_slots(
    group: str, taken: Mapping[int, str], limit: int, who: str, what: str, number: int = 1
) -> Sequence[str]:
    """Any free ones, so that those who create at once seldom choose the same. Raises Conflict."""
    free = [slot for slot in range(limit) if slot not in taken]
    if len(taken) + number > limit or len(free) < number:
        more = f" and would get {number} more" if number > 1 else ""
        raise Conflict(f"{who} has {len(taken)} {what}{more}; at most {limit} are allowed")
    return [f"{group}-{chosen}" for chosen in random.sample(free, number)]
