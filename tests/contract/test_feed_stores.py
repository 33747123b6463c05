"""The stores of feeds, on one machine and on Google Cloud, pass the suite of `FeedStore`."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from aep.broker.feed_store import SqliteFeedStore
from aep.store import feeds as local_feeds
from contract.suites.feed_store import FEED, FeedStoreContract, a_step
from event_platform import data_model
from event_platform.adapters.firestore import feeds, tenants
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.feeds import FirestoreFeedSchedule, FirestoreFeedStore
from event_platform.adapters.firestore.leases import FirestoreLeases
from event_platform.adapters.firestore.tenants import FirestoreEntries
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.seal import AesGcmSeal, KeylessSeal
from event_platform.domain.errors import PublishFailed
from event_platform.domain.events import catalog
from event_platform.domain.feeds import Feed
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import events_of
from event_platform.domain.tenants import Tenant
from event_platform.feed import FeedReader, PimSession, WebhookMemory
from event_platform.maintain import FeedLog, FeedTicks
from event_platform.ports import FeedStore
from support.clock import ManualClock
from support.embedded import Embedded
from support.fake_pim import FakePim
from support.feeding import QuickClock, a_feed
from support.records import an_event

CATALOG = catalog.load()
SEAL = AesGcmSeal(b"\x01" * 32)


class SqliteSide:
    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded
        self.store: FeedStore = SqliteFeedStore(embedded.database, embedded.queue)

    async def put(self, feed: Feed) -> None:
        await self._embedded.database.write(lambda connection: local_feeds.put(connection, feed, SEAL))

    async def remove(self, tenant: str) -> None:
        await self._embedded.database.write(lambda connection: local_feeds.remove(connection, tenant))

    async def begin_again(self, tenant: str) -> None:
        await self._embedded.database.write(lambda connection: local_feeds.begin_again(connection, tenant))

    async def accepted(self) -> Sequence[str]:
        return [event for (event,) in await self._embedded.rows("SELECT id FROM kept ORDER BY no")]


class TestSqliteFeedStore(FeedStoreContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SqliteSide]:
        async with Embedded(tmp_path) as embedded:
            await embedded.open()
            yield SqliteSide(embedded)


class TopicOfEvents:
    """The port `Publisher`, which keeps what was published; `fails` makes it refuse."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.fails = False

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if self.fails:
            raise PublishFailed("the topic is away", tuple(range(len(messages))))
        self.messages += messages


class FirestoreSide:
    def __init__(self, firestore: Firestore) -> None:
        self.firestore = firestore
        self.topic = TopicOfEvents()
        self.store: FeedStore = FirestoreFeedStore(firestore, PubSubIntake(self.topic, ManualClock()))

    async def put(self, feed: Feed) -> None:
        await feeds.put(self.firestore, feed, SEAL)

    async def remove(self, tenant: str) -> None:
        await feeds.remove(self.firestore, tenant)

    async def begin_again(self, tenant: str) -> None:
        await feeds.begin_again(self.firestore, tenant)

    async def accepted(self) -> Sequence[str]:
        return [event.id for message in self.topic.messages for event in events_of(message, CATALOG)]


class TestFirestoreFeedStore(FeedStoreContract):
    @pytest.fixture
    async def world(self, firestore: Firestore) -> FirestoreSide:
        return FirestoreSide(firestore)

    async def test_a_step_whose_events_are_not_on_the_topic_is_not_committed(
        self, world: FirestoreSide
    ) -> None:
        await world.put(FEED)
        world.topic.fails = True
        with pytest.raises(PublishFailed):
            await world.store.commit(a_step(events=[an_event(1)]))
        assert await world.store.states(FEED.tenant) == {}
        world.topic.fails = False
        await world.store.commit(a_step(events=[an_event(1)]))
        assert len(await world.accepted()) == 1

    async def test_a_change_of_the_settings_between_events_and_commit_is_seen(
        self, world: FirestoreSide
    ) -> None:
        await world.put(FEED)

        class Replacing(TopicOfEvents):
            async def publish(self, topic: str, messages: Sequence[Message]) -> None:
                await world.put(FEED.model_copy(update={"version": "2"}))

        store = FirestoreFeedStore(world.firestore, PubSubIntake(Replacing(), ManualClock()))
        with pytest.raises(feeds.FeedReplaced):
            await store.commit(a_step(events=[an_event(1)]))
        assert await world.store.states(FEED.tenant) == {}

    async def test_settings_are_sealed_and_read_back(self, world: FirestoreSide) -> None:
        clock = ManualClock()
        feed = a_feed(every=600)
        await world.put(feed)
        found = await feeds.stored_feed(world.firestore, feed.tenant, SEAL)
        assert found is not None
        assert (found.feed, found.due_at) == (feed, None)
        stored = await world.firestore.client.collection(data_model.FEEDS).get()
        text = str([snapshot.to_dict() for snapshot in stored])
        assert feed.password.get_secret_value() not in text
        assert feed.secret.get_secret_value() not in text
        due_at = clock.now() + timedelta(seconds=600)
        await feeds.set_due(world.firestore, feed, due_at)
        (found,) = await feeds.stored_feeds(world.firestore, SEAL)
        assert found.due_at == due_at
        await feeds.set_due(world.firestore, feed.model_copy(update={"version": "0"}), clock.now())
        (found,) = await feeds.stored_feeds(world.firestore, SEAL)
        assert found.due_at == due_at

    async def test_settings_of_another_key_are_no_feed(self, world: FirestoreSide) -> None:
        await world.put(FEED)
        (found,) = await feeds.stored_feeds(world.firestore, AesGcmSeal(b"\x02" * 32))
        assert (found.tenant, found.feed) == (FEED.tenant, None)


async def test_a_lease_is_for_one_until_it_ends_or_is_given_back(firestore: Firestore) -> None:
    clock = ManualClock()
    first, second = (FirestoreLeases(firestore, clock) for _ in range(2))
    assert await first.take("feed-a", 60)
    assert not await second.take("feed-a", 60)
    assert await second.take("feed-b", 60)
    await first.release("feed-a")
    assert await second.take("feed-a", 60)
    await clock.advance(61)
    assert await first.take("feed-a", 60)


async def test_a_change_in_the_pim_is_on_the_topic_after_a_tick(firestore: Firestore) -> None:
    clock = QuickClock()
    pim = FakePim(clock)
    topic = TopicOfEvents()
    store = FirestoreFeedStore(firestore, PubSubIntake(topic, clock))
    tenant = Tenant.model_validate({"url": pim.url})
    await tenants.put(firestore, tenant, SEAL)
    await feeds.put(firestore, a_feed(pim.url, resources=("products",)), SEAL)

    def an_instance() -> FeedTicks:
        return FeedTicks(
            FirestoreFeedSchedule(firestore, SEAL, clock),
            store,
            PimRegistry(FirestoreEntries(firestore), KeylessSeal(), clock, allow_http=False),
            lambda feed, tenant: FeedReader(
                feed,
                tenant,
                PimSession(pim, feed, clock),
                store=store,
                catalog=CATALOG,
                clock=clock,
                webhooks=WebhookMemory(clock.monotonic),
                has_webhook=False,
                observer=FeedLog(),
            ),
            clock,
        )

    assert await an_instance().tick() == 1
    clock.pass_by(10)
    pim.add("products", "sku-1")
    assert await an_instance().tick() == 0  # it is not due yet
    clock.pass_by(400)
    assert await an_instance().tick() == 1
    found = [event.type for message in topic.messages for event in events_of(message, CATALOG)]
    assert found == ["com.akeneo.pim.v1.product.created"]
    clock.pass_by(400)
    assert await an_instance().tick() == 1
    assert len(topic.messages) == 1
