"""What several instances see of each other's changes in Firestore, with races and outages made on purpose."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from google.api_core.exceptions import PermissionDenied, ServiceUnavailable
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery, AsyncWriteBatch
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.types import WriteResult

from contract.suites.subscriptions import LATER, anything
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.versions import Versions
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.errors import Conflict, StoreUnavailable, TopicHeld
from event_platform.domain.subscriptions import (
    SHOWN_AFTER_DELETION,
    Owner,
    PubSubConfig,
    Status,
    Subscriber,
    Subscription,
    check_changeable,
    delete_subscriber,
    delete_subscription,
    resume,
    suspend,
)
from support.clock import ManualClock
from support.records import OWNER, PIM, PRIMARY, a_subscriber, a_subscription, subscribed
from support.tcp_proxy import TcpProxy

SEAL = AesGcmSeal(b"\x01" * 32)
SEEN_WITHIN = 5.0
KEPT = 60.0
ELSEWHERE = Owner("https://other.example.com", "erp")

Hook = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Watched(Firestore):
    """Counts readings by collection, and lets a test do something in the middle of an operation, once."""

    reads: Counter[str] = field(default_factory=Counter[str])
    before_commit: list[Hook] = field(default_factory=list[Hook])
    after_commit: list[Hook] = field(default_factory=list[Hook])
    after_read: dict[str, Hook] = field(default_factory=dict[str, Hook])

    async def get(
        self, reference: AsyncDocumentReference, *, attempt: float | None = None
    ) -> DocumentSnapshot:
        snapshot = await super().get(reference, attempt=attempt)
        await self._has_read(reference._path[0])
        return snapshot

    async def find(self, query: AsyncQuery) -> Sequence[DocumentSnapshot]:
        found = await super().find(query)
        await self._has_read(query._parent.id)
        return found

    async def commit(self, batch: AsyncWriteBatch) -> Sequence[WriteResult]:
        if self.before_commit:
            await self.before_commit.pop()()
        results = await super().commit(batch)
        if self.after_commit:
            await self.after_commit.pop()()
        return results

    async def _has_read(self, collection: str) -> None:
        self.reads[collection] += 1
        if hook := self.after_read.pop(collection, None):
            await hook()


async def lost() -> None:
    """For a hook: the answer gets lost."""
    raise ServiceUnavailable("the connection broke")


@dataclass(frozen=True)
class Race:
    """Two instances, A and B, on one database and one clock."""

    clock: ManualClock
    firestore: Watched
    a: FirestoreSubscriptions
    b: FirestoreSubscriptions
    firestore_a: Watched


@pytest.fixture
async def world(firestore: Firestore) -> Race:
    clock = ManualClock()
    watched_a, watched_b = Watched(firestore.client), Watched(firestore.client)
    a, b = (FirestoreSubscriptions(each, SEAL, clock) for each in (watched_a, watched_b))
    return Race(clock, watched_b, a, b, watched_a)


async def stored(world: Race, owner: Owner = OWNER) -> Subscription:
    """A subscription that A made."""
    (subscription,) = await subscribed(world.a, owner=owner)
    return subscription


async def change(store: FirestoreSubscriptions, subscription: Subscription, how: Any) -> Subscription:
    return await store.change_subscription(
        subscription.owner, subscription.subscriber_id, subscription.id, partial(how, now=LATER)
    )


async def delete_all(store: FirestoreSubscriptions, subscriber_id: str) -> Subscriber:
    return await store.change_subscriber(
        OWNER,
        subscriber_id,
        partial(delete_subscriber, now=LATER),
        and_subscriptions=partial(delete_subscription, now=LATER),
    )


def changeable(subscriber: Subscriber) -> None:
    check_changeable(subscriber, LATER)


# What another instance changed


async def test_another_instances_change_is_seen_within_5_seconds(world: Race) -> None:
    subscription = await stored(world)
    assert await world.b.active(PIM) == [subscription]
    assert await world.b.current(subscription.id) == subscription
    changed = await change(world.a, subscription, suspend)
    await world.clock.advance(SEEN_WITHIN)
    assert await world.b.active(PIM) == []
    assert await world.b.current(subscription.id) == changed


async def test_another_instances_first_subscription_is_seen_within_5_seconds(world: Race) -> None:
    assert await world.b.active(PIM) == []
    subscription = await stored(world)
    await world.clock.advance(SEEN_WITHIN)
    assert await world.b.active(PIM) == [subscription]


async def test_ones_own_change_is_seen_at_once(world: Race) -> None:
    subscription = await stored(world)
    assert await world.a.active(PIM) == [subscription]
    changed = await change(world.a, subscription, suspend)
    assert await world.a.active(PIM) == []
    assert await world.a.current(subscription.id) == changed


async def test_a_deletion_of_all_is_seen_within_5_seconds(world: Race) -> None:
    subscription = await stored(world)
    assert await world.b.active(PIM) == [subscription]
    await delete_all(world.a, subscription.subscriber_id)
    await world.clock.advance(SEEN_WITHIN)
    assert await world.b.active(PIM) == []


async def test_active_ones_are_those_of_the_tenant_oldest_first(world: Race) -> None:
    first = await stored(world)
    second = await stored(world)
    await stored(world, ELSEWHERE)
    suspended = await stored(world)
    await change(world.a, suspended, suspend)
    assert await world.b.active(PIM) == [first, second]


# How often is read


async def test_while_a_version_stands_no_record_is_read_and_its_bucket_every_4_seconds(world: Race) -> None:
    subscription = await stored(world)
    for _ in range(60):
        assert await world.b.active(PIM) == [subscription]
        assert await world.b.current(subscription.id) == subscription
        await world.clock.advance(1)
    assert world.firestore.reads == {"subscriptions": 2, "versions": 15}


async def test_a_change_of_another_tenant_reloads_nothing(world: Race) -> None:
    subscription = await stored(world)
    await world.b.active(PIM)
    await stored(world, ELSEWHERE)
    await world.clock.advance(SEEN_WITHIN)
    assert await world.b.active(PIM) == [subscription]
    assert world.firestore.reads["subscriptions"] == 1


async def test_those_who_ask_at_once_share_one_reading(world: Race) -> None:
    subscription = await stored(world)
    found = await asyncio.gather(*(world.b.active(PIM) for _ in range(50)))
    assert found == [[subscription]] * 50
    assert world.firestore.reads == {"subscriptions": 1, "versions": 1}


# Changes in the middle of a reading


@pytest.mark.parametrize("which", ["active", "current", "current again"])
async def test_a_change_during_a_reading_is_seen_within_5_seconds(world: Race, which: str) -> None:
    subscription = await stored(world)

    async def state() -> Status | None:
        if which == "active":
            return Status.ACTIVE if await world.b.active(PIM) else Status.SUSPENDED
        current = await world.b.current(subscription.id)
        return current.status if current else None

    if which == "current again":
        await state()
        await change(world.a, subscription, _touch)
        await world.clock.advance(SEEN_WITHIN)
    world.firestore.after_read["subscriptions"] = lambda: change(world.a, subscription, suspend)
    await state()
    assert "subscriptions" not in world.firestore.after_read
    await world.clock.advance(SEEN_WITHIN)
    assert await state() is Status.SUSPENDED


async def test_ones_own_change_during_a_reading_of_versions_is_seen(world: Race) -> None:
    subscription = await stored(world)
    assert await world.b.active(PIM) == [subscription]
    await world.clock.advance(SEEN_WITHIN)
    world.firestore.after_read["versions"] = lambda: change(world.b, subscription, suspend)
    await world.b.active(PIM)
    assert await world.b.active(PIM) == []


def _touch(subscription: Subscription, now: Any) -> Subscription:
    return replace(subscription, updated_at=now)


# Races of changes


async def test_a_subscription_added_to_a_subscriber_that_is_just_deleted_is_refused(world: Race) -> None:
    subscriber = a_subscriber()
    await world.a.add_subscriber(subscriber, limit=20)
    world.firestore.before_commit.append(lambda: delete_all(world.a, subscriber.id))
    subscription = a_subscription(subscriber)
    with pytest.raises(Conflict):
        await world.b.add_subscription(subscription, changeable, limit=20)
    assert await world.b.current(subscription.id) is None


async def test_a_subscription_added_to_a_subscriber_that_is_just_revoked_is_refused(world: Race) -> None:
    subscriber = a_subscriber()
    await world.a.add_subscriber(subscriber, limit=20)

    def revoke(before: Subscriber) -> Subscriber:
        return replace(before, status=Status.REVOKED)

    world.firestore.before_commit.append(lambda: world.a.change_subscriber(OWNER, subscriber.id, revoke))
    with pytest.raises(Conflict):
        await world.b.add_subscription(a_subscription(subscriber), changeable, limit=20)


async def test_a_subscription_added_while_its_subscriber_is_deleted_is_deleted_too(world: Race) -> None:
    subscriber = a_subscriber()
    await world.a.add_subscriber(subscriber, limit=20)
    subscription = a_subscription(subscriber)
    world.firestore.before_commit.append(lambda: world.a.add_subscription(subscription, changeable, limit=20))
    await delete_all(world.b, subscriber.id)
    current = await world.b.current(subscription.id)
    assert current is not None
    assert current.status is Status.DELETED
    assert await world.b.active(PIM) == []


async def test_a_change_over_one_just_made_keeps_both(world: Race) -> None:
    subscription = await stored(world)
    world.firestore.before_commit.append(lambda: change(world.a, subscription, suspend))
    changed = await change(world.b, subscription, _touch)
    assert (changed.status, changed.updated_at) == (Status.SUSPENDED, LATER)


async def test_a_limit_holds_for_creations_of_several_instances(world: Race) -> None:
    subscribers = [a_subscriber() for _ in range(30)]
    results = await asyncio.gather(
        *(
            store.add_subscriber(subscriber, limit=20)
            for store, subscriber in zip((world.a, world.b) * 15, subscribers, strict=True)
        ),
        return_exceptions=True,
    )
    assert [type(result) for result in results if result is not None] == [Conflict] * 10
    assert len(await world.a.subscribers(OWNER)) == 20


async def test_changes_of_several_instances_are_all_applied(world: Race) -> None:
    subscription = await stored(world)

    def longer(before: Subscription) -> Subscription:
        return replace(before, events=(*before.events, "one more"))

    await asyncio.gather(
        *(
            store.change_subscription(OWNER, subscription.subscriber_id, subscription.id, longer)
            for store in (world.a, world.b) * 5
        )
    )
    assert await world.a.current(subscription.id) == replace(
        subscription, events=(*subscription.events, *["one more"] * 10)
    )


# Topics that two clients name

TOPIC = PubSubConfig("their-project", "pim-events")


async def naming_it(store: FirestoreSubscriptions, owner: Owner, **how: Any) -> Subscription:
    """A subscription to the topic, of a new subscriber of the owner's."""
    subscriber = a_subscriber(owner)
    await store.add_subscriber(subscriber, limit=20)
    subscription = a_subscription(subscriber, config=TOPIC)
    await store.add_subscription(subscription, anything, limit=20, **how)
    return subscription


async def test_a_topic_that_is_just_claimed_is_not_claimed_again(world: Race) -> None:
    subscriber = a_subscriber(ELSEWHERE)
    await world.b.add_subscriber(subscriber, limit=20)
    world.firestore.before_commit.append(lambda: naming_it(world.a, OWNER))
    with pytest.raises(TopicHeld):
        await world.b.add_subscription(a_subscription(subscriber, config=TOPIC), anything, limit=20)


async def test_what_names_a_topic_while_it_is_taken_is_suspended_too(world: Race) -> None:
    first = await naming_it(world.a, OWNER)
    late: list[Subscription] = []

    async def one_more() -> None:
        late.append(await naming_it(world.a, OWNER))

    subscriber = a_subscriber(ELSEWHERE)
    await world.b.add_subscriber(subscriber, limit=20)
    taker = a_subscription(subscriber, config=TOPIC)
    world.firestore.before_commit.append(one_more)
    await world.b.add_subscription(taker, anything, limit=20, takes_topic=True)
    assert [each.id for each in await world.a.active(PIM)] == []
    assert [each.id for each in await world.a.active(ELSEWHERE.tenant)] == [taker.id]
    assert len(late) == 1
    with pytest.raises(TopicHeld):
        await change(world.a, first, resume)


async def test_what_names_a_topic_that_was_just_taken_is_refused(world: Race) -> None:
    await naming_it(world.a, OWNER)
    subscriber = a_subscriber(OWNER)
    await world.b.add_subscriber(subscriber, limit=20)
    world.firestore.before_commit.append(lambda: naming_it(world.a, ELSEWHERE, takes_topic=True))
    with pytest.raises(TopicHeld):
        await world.b.add_subscription(a_subscription(subscriber, config=TOPIC), anything, limit=20)


async def test_a_topic_named_while_its_last_subscription_is_deleted_stays_held(world: Race) -> None:
    first = await naming_it(world.a, OWNER)
    world.firestore.before_commit.append(lambda: naming_it(world.a, OWNER))
    await change(world.b, first, delete_subscription)
    with pytest.raises(TopicHeld):
        await naming_it(world.a, ELSEWHERE)


async def test_a_topic_whose_taking_got_no_answer_is_taken_once(world: Race) -> None:
    first = await naming_it(world.a, OWNER)
    subscriber = a_subscriber(ELSEWHERE)
    await world.b.add_subscriber(subscriber, limit=20)
    world.firestore.after_commit.append(lost)
    subscription = a_subscription(subscriber, config=TOPIC)
    await world.b.add_subscription(subscription, anything, limit=20, takes_topic=True)
    found = await world.b.subscription(OWNER, first.subscriber_id, first.id)
    assert (found.status, found.epoch) == (Status.SUSPENDED, 1)


async def test_what_is_imported_holds_its_topics_as_far_as_they_are_free(world: Race) -> None:
    families = [
        (subscriber, [a_subscription(subscriber, config=TOPIC)])
        for subscriber in map(a_subscriber, (OWNER, ELSEWHERE))
    ]
    for subscriber, subscriptions in families:
        assert await world.a.bring_in(subscriber, subscriptions) == 2
        assert await world.a.active(subscriber.owner.tenant) == subscriptions
    await naming_it(world.a, OWNER)
    with pytest.raises(TopicHeld):
        await naming_it(world.a, ELSEWHERE)


async def test_a_topic_that_nothing_names_leaves_no_document(world: Race) -> None:
    await change(world.a, await naming_it(world.a, OWNER), delete_subscription)
    assert await world.firestore.client.collection("topic_claims").get() == []


# Answers that get lost


async def test_a_creation_whose_answer_got_lost_is_made_once(world: Race) -> None:
    subscriber = a_subscriber()
    world.firestore.after_commit.append(lost)
    await world.b.add_subscriber(subscriber, limit=1)
    world.firestore.after_commit.append(lost)
    subscription = a_subscription(subscriber)
    await world.b.add_subscription(subscription, anything, limit=1)
    assert await world.b.subscribers(OWNER) == [subscriber]
    assert await world.b.subscriptions(OWNER, subscriber.id) == [subscription]


async def test_a_deletion_whose_answer_got_lost_is_no_conflict(world: Race) -> None:
    subscription = await stored(world)
    world.firestore.after_commit.append(lost)
    assert (await change(world.b, subscription, delete_subscription)).status is Status.DELETED
    world.firestore.after_commit.append(lost)
    assert (await delete_all(world.b, subscription.subscriber_id)).status is Status.DELETED


async def test_a_lease_whose_answer_got_lost_is_had(world: Race) -> None:
    schedule = FirestoreRetrySchedule(world.firestore, world.clock)
    world.firestore.after_commit.append(lost)
    assert await schedule.lease(0, 60)
    await schedule.release(0)
    assert await schedule.lease(0, 60)


async def test_a_write_that_failed_may_have_been_made_and_is_not_taken_from_the_cache(world: Race) -> None:
    subscription = await stored(world)
    impatient = Watched(world.firestore.client, patience=0)
    store = FirestoreSubscriptions(impatient, SEAL, world.clock)
    assert await store.active(PIM) == [subscription]
    impatient.after_commit.append(lost)
    with pytest.raises(StoreUnavailable):
        await change(store, subscription, suspend)
    assert await store.active(PIM) == []


async def test_after_a_write_that_was_refused_the_next_change_is_seen_within_5_seconds(world: Race) -> None:
    async def refuse() -> None:
        raise PermissionDenied("not now")

    subscription = await stored(world)
    assert await world.b.active(PIM) == [subscription]
    world.firestore.before_commit.append(refuse)
    with pytest.raises(PermissionDenied):
        await change(world.b, subscription, suspend)
    assert await world.b.active(PIM) == [subscription]
    await world.clock.advance(SEEN_WITHIN)
    await world.b.active(ELSEWHERE.tenant)  # reads the bucket of both
    await change(world.a, subscription, suspend)
    await world.clock.advance(SEEN_WITHIN)
    assert await world.b.active(PIM) == []


# Outages


@pytest.fixture
async def proxied(
    world: Race, firestore_host: str, project: str
) -> AsyncIterator[tuple[TcpProxy, Firestore]]:
    proxy = TcpProxy(firestore_host)
    await proxy.mend()
    firestore = connect(project, emulator=proxy.address, patience=0.3)
    yield proxy, firestore
    await firestore.close()
    await proxy.cut()


async def test_while_the_store_is_away_the_cache_answers_for_a_minute(
    world: Race, proxied: tuple[TcpProxy, Firestore]
) -> None:
    proxy, firestore = proxied
    store = FirestoreSubscriptions(firestore, SEAL, world.clock)
    subscription = await stored(world)
    assert await store.active(PIM) == [subscription]
    assert await store.current(subscription.id) == subscription
    await proxy.cut()
    for _ in range(12):
        await world.clock.advance(KEPT / 12)
        assert await store.active(PIM) == [subscription]
        assert await store.current(subscription.id) == subscription
    await world.clock.advance(0.1)
    for asked in (store.active(PIM), store.current(subscription.id), store.active(ELSEWHERE.tenant)):
        with pytest.raises(StoreUnavailable):
            await asked
    await proxy.mend()
    await firestore.read(firestore.client.document("any/document"), patience=30)
    assert await store.active(PIM) == [subscription]


async def test_what_was_never_read_has_no_answer_while_the_store_is_away(
    world: Race, proxied: tuple[TcpProxy, Firestore]
) -> None:
    proxy, firestore = proxied
    store = FirestoreSubscriptions(firestore, SEAL, world.clock)
    subscription = await stored(world)
    await store.active(ELSEWHERE.tenant)
    await proxy.cut()
    with pytest.raises(StoreUnavailable):
        await store.active(PIM)
    with pytest.raises(StoreUnavailable):
        await store.current(subscription.id)


async def test_every_method_says_that_the_store_is_away(world: Race) -> None:
    firestore = connect("nobody", emulator="127.0.0.1:1", patience=0.1)
    store = FirestoreSubscriptions(firestore, SEAL, world.clock)
    subscriber = a_subscriber()
    subscription = a_subscription(subscriber)
    for asked in (
        store.add_subscriber(subscriber, limit=20),
        store.subscriber(OWNER, subscriber.id),
        store.subscribers(OWNER),
        store.change_subscriber(OWNER, subscriber.id, lambda before: before),
        store.add_subscription(subscription, anything, limit=20),
        store.subscription(OWNER, subscriber.id, subscription.id),
        store.subscriptions(OWNER, subscriber.id),
        change(store, subscription, suspend),
        store.current(subscription.id),
        store.active(PIM),
    ):
        with pytest.raises(StoreUnavailable):
            await asked
    await firestore.close()


# Documents


async def test_what_is_deleted_gives_its_slot_back_and_expires(world: Race) -> None:
    subscription = await stored(world)
    database = world.firestore.client
    assert len(await database.collection("slots").get()) == 2
    await delete_all(world.a, subscription.subscriber_id)
    assert len(await database.collection("slots").get()) == 0
    assert len(await database.collection("open_subscribers").get()) == 0
    for collection in ("subscribers", "subscriptions"):
        (found,) = await database.collection(collection).get()
        assert found.get("expires_at") - LATER > SHOWN_AFTER_DELETION


async def test_no_document_has_a_secret_in_clear(world: Race) -> None:
    await stored(world)
    async for collection in world.firestore.client.collections():
        for found in await collection.get():
            assert PRIMARY not in str(found.to_dict())
            assert "of tests" not in str(found.to_dict())


async def test_tenants_are_spread_over_the_buckets(world: Race) -> None:
    versions = Versions(world.firestore, world.clock, buckets=4)
    tenants = [f"https://pim-{number}.example.com" for number in range(40)]
    for tenant in tenants:
        batch = world.firestore.client.batch()
        versions.bump(batch, tenant)
        await world.firestore.commit(batch)
    assert [await versions.of(tenant) for tenant in tenants] == [(1, 0)] * 40
    assert world.firestore.reads == {"versions": 4}
