"""The store on Google Cloud passes the suites of the ports, on Google's emulator."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count, cycle
from typing import Any

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.cloud.firestore_v1 import DELETE_FIELD, AsyncQuery, AsyncWriteBatch
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.types import WriteResult
from pydantic import SecretStr

from contract.suites.feed_store import FEED, a_step
from contract.suites.judgement import JudgementContract, JudgementSide
from contract.suites.logs import LogsContract, LogsSide
from contract.suites.outbox import OutboxContract, OutboxSide
from contract.suites.paces import PacesContract, PacesSide
from contract.suites.registry import (
    PIM,
    RegistrySide,
    SteppingClock,
    StoredRegistryContract,
    a_tenant,
    ingest_keys,
)
from contract.suites.retry_schedule import RetryScheduleContract, ScheduleSide, a_delivery
from contract.suites.subscriptions import Store, SubscriptionsContract, anything
from contract.suites.success_counts import MINUTE, RESUMED, SERIES, SuccessCountsContract
from contract.suites.topic_claims import TopicClaimsContract
from event_platform import data_model
from event_platform.adapters.firestore import feeds, tenants
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.feeds import FirestoreFeedStore
from event_platform.adapters.firestore.logs import FirestoreLogs
from event_platform.adapters.firestore.missed import FirestoreMissedEvents
from event_platform.adapters.firestore.outbox import FirestoreOutbox
from event_platform.adapters.firestore.paces import FirestorePaces
from event_platform.adapters.firestore.replay_counts import FirestoreReplayCounts
from event_platform.adapters.firestore.replays import FirestoreReplays
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.success_counts import FIGURES_AT_ONCE, SHARES, FirestoreSuccessCounts
from event_platform.adapters.firestore.tenants import FirestoreEntries
from event_platform.adapters.firestore.webhook_notes import FirestoreWebhookNotes
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.seal import AesGcmSeal, KeylessSeal
from event_platform.adapters.settlements import QueueSettlements
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.deliveries import Delivery
from event_platform.domain.errors import Conflict, StoreUnavailable
from event_platform.domain.feeds import Mark
from event_platform.domain.pace.rates import Rate
from event_platform.domain.record.actions import BY_THE_PLATFORM
from event_platform.domain.record.logs import DeliveryEnd, LogEntry, LogQuery, LogType, Operation
from event_platform.domain.record.notifications import Allowance
from event_platform.domain.replays import Replay, ReplayRequest, Which
from event_platform.domain.subscriptions import (
    HttpsConfig,
    Status,
    Subscription,
    delete_subscriber,
    delete_subscription,
    suspend,
)
from event_platform.domain.suspension import Count, Series
from event_platform.domain.tenants import Tenant
from event_platform.ports import Listed, Logs, Seal, SuccessCounts
from support.clock import START, ManualClock
from support.records import OWNER, PUBSUB_CONFIG, a_subscriber, a_subscription, an_event
from support.tcp_proxy import TcpProxy

SECRETS = (
    "a primary secret of tests",
    "a secondary secret of tests",
    "a header value of tests",
    "a webhook secret of tests",
    "an ingest key of tests",
    "an Events API secret of tests",
    "a relay secret of tests",
)
SEAL = AesGcmSeal(b"\x01" * 32)
OTHER_SEAL = AesGcmSeal(b"\x02" * 32)
NOWHERE = "127.0.0.1:1"


class TestFirestoreOutbox(OutboxContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> OutboxSide:
        clock = ManualClock()
        outbox = FirestoreOutbox(firestore, clock)
        return OutboxSide(FirestoreSubscriptions(firestore, SEAL, clock), outbox, clock)

    async def test_what_was_published_is_due_no_more_and_still_pending(
        self, world: OutboxSide, firestore: Firestore
    ) -> None:
        outbox = FirestoreOutbox(firestore, world.clock)
        for subscription in await world.subscribed(2):
            await world.change(subscription, partial(suspend, now=START))
        first, second = await world.due()
        await outbox.published([first])
        assert await world.due() == [second]
        found = await outbox.pending(first.notification.id)
        assert found is not None
        assert found.notification == first.notification
        await outbox.settle(first, None)
        await outbox.published([first])
        assert await outbox.pending(first.notification.id) is None

    async def test_a_mail_put_off_meanwhile_stays_due(self, world: OutboxSide, firestore: Firestore) -> None:
        outbox = FirestoreOutbox(firestore, world.clock)
        (subscription,) = await world.subscribed()
        await world.change(subscription, partial(suspend, now=START))
        (read,) = await world.due()
        await outbox.settle(read, world.clock.now())
        await outbox.published([read])  # by a reader that knows nothing of it
        (again,) = await world.due()
        assert again.mail_attempts == 1


class TestFirestoreTopicClaims(TopicClaimsContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> OutboxSide:
        clock = ManualClock()
        subscriptions = FirestoreSubscriptions(firestore, SEAL, clock)
        return OutboxSide(subscriptions, FirestoreOutbox(firestore, clock), clock)

    @pytest.fixture
    def logs(self, firestore: Firestore) -> Logs:
        return FirestoreLogs(firestore, ManualClock(), seconds=0)


class TestFirestoreSubscriptions(SubscriptionsContract):
    @pytest.fixture
    def store(self, firestore: Firestore) -> Store:
        return FirestoreSubscriptions(firestore, SEAL, ManualClock())


async def test_a_function_without_a_key_changes_records_and_leaves_their_secrets_sealed(
    firestore: Firestore,
) -> None:
    """As fanout does, which revokes what belongs to a client that is gone."""
    store = FirestoreSubscriptions(firestore, SEAL, ManualClock())
    keyless = FirestoreSubscriptions(firestore, KeylessSeal(), ManualClock())
    subscriber = a_subscriber()
    subscription = a_subscription(subscriber)
    await store.add_subscriber(subscriber, limit=20)
    await store.add_subscription(subscription, anything, limit=20)
    (seen,) = await keyless.active(subscriber.owner.tenant)
    assert not set(SECRETS) & {secret.get_secret_value() for secret in signing_secrets(seen)}
    change = partial(suspend, now=START)
    await keyless.change_subscription(OWNER, subscriber.id, subscription.id, change)
    after = await store.subscription(OWNER, subscriber.id, subscription.id)
    assert signing_secrets(after) == signing_secrets(subscription)
    assert after.status is Status.SUSPENDED


def signing_secrets(subscription: Subscription) -> list[SecretStr]:
    config = subscription.config
    assert isinstance(config, HttpsConfig)
    return [config.primary_secret, *config.headers.values()]


async def test_without_the_registrys_key_entries_are_read_and_their_secrets_are_not(
    firestore: Firestore,
) -> None:
    await tenants.put(firestore, a_tenant(), OTHER_SEAL)
    (found,) = await registry_of(firestore, KeylessSeal()).tenants()
    assert (found.url, found.key, found.auth) == (PIM, a_tenant().key, a_tenant().auth)
    assert found.ingest_key != a_tenant().ingest_key


class TestManyBuckets(SubscriptionsContract):
    @pytest.fixture
    def store(self, firestore: Firestore) -> Store:
        return FirestoreSubscriptions(firestore, SEAL, ManualClock(), buckets=64)


class TestFirestoreSuccessCounts(SuccessCountsContract):
    @pytest.fixture
    def counts(self, firestore: Firestore) -> SuccessCounts:
        return Instances(firestore)


async def test_series_of_which_nothing_failed_share_documents(firestore: Firestore) -> None:
    counts = FirestoreSuccessCounts(firestore)
    healthy = [SERIES._replace(subscription_id=f"healthy-{number}") for number in range(700)]
    await counts.add({series: {MINUTE: Count(2), MINUTE + 40: Count(1)} for series in healthy})
    names = [each.id for each in await firestore.client.collection("success_counts").get()]
    assert len(names) <= 2 * SHARES  # by two hours
    for series in healthy[:3]:
        assert await counts.since(series, MINUTE) == {MINUTE: Count(2), MINUTE + 40: Count(1)}


async def test_a_commit_of_counts_is_bounded(firestore: Firestore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Firestore takes 500 figures for a document, and to write them down is work for the event loop."""
    committed: list[int] = []
    commit = Firestore.commit

    async def noted(self: Firestore, batch: AsyncWriteBatch) -> Sequence[WriteResult]:
        transforms = [len(write._pb.update_transforms) for write in batch._write_pbs]
        committed.append(sum(transforms))
        return await commit(self, batch)

    monkeypatch.setattr(Firestore, "commit", noted)
    counts = FirestoreSuccessCounts(firestore)
    many = [SERIES._replace(subscription_id=f"{number}") for number in range(700)]
    await counts.add({series: {MINUTE: Count(2)} for series in many})
    await counts.add({series: {MINUTE: Count(2, 1, 1000.0)} for series in many[:200]})
    assert sum(committed) == 700 + 3 * 200
    assert max(committed) <= FIGURES_AT_ONCE


async def test_where_a_shared_document_is_full_another_one_takes_what_comes(firestore: Firestore) -> None:
    counts, minutes = FirestoreSuccessCounts(firestore), {MINUTE: Count(2)}
    await counts.add({SERIES: minutes, RESUMED: minutes})
    for found in await firestore.client.collection("success_counts").get():
        await found.reference.set({"minutes": "x" * (2**20 - len(found.id) - 400)}, merge=True)
    for _ in range(2):
        await counts.add({SERIES: {MINUTE + 1: Count(1)}, RESUMED: {MINUTE: Count(1)}})
    assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(2), MINUTE + 1: Count(2)}
    assert await counts.since(RESUMED, MINUTE) == {MINUTE: Count(4)}


async def test_counts_are_read_from_the_documents_that_there_are(
    firestore: Firestore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that is not there costs a read, too."""
    counts, others = FirestoreSuccessCounts(firestore), [SERIES._replace(epoch=n) for n in range(40)]
    await counts.add({series: {MINUTE: Count(1)} for series in others})
    await counts.add({SERIES: {MINUTE: Count(1, 1, 1000.0)}})
    read: list[DocumentSnapshot] = []
    find = Firestore.find

    async def noted(self: Firestore, query: AsyncQuery) -> Sequence[DocumentSnapshot]:
        found = await find(self, query)
        read.extend(found)
        return found

    monkeypatch.setattr(Firestore, "find", noted)
    assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(2, 1, 1000.0)}
    assert sorted(len(each.id.split("-")[0]) for each in read) == [1, 32]
    (shared,) = [each.to_dict() for each in read if len(each.id.split("-")[0]) == 1]
    assert shared == {"successes": {SERIES.key: {f"m{MINUTE % 60}": 1}}}  # nothing of the others


class Instances:
    """Many of them, so that all parts of a document are written to."""

    def __init__(self, firestore: Firestore) -> None:
        self._all = [FirestoreSuccessCounts(firestore) for _ in range(20)]
        self._next = cycle(self._all)

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        await next(self._next).add(counts)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        return await next(self._next).since(series, minute)


class FirestoreJudgement:
    """The stores on Google; what would go back to a topic is no matter here."""

    def __init__(self, firestore: Firestore) -> None:
        self.clock = ManualClock()
        self.subscriptions = self.records = FirestoreSubscriptions(firestore, SEAL, self.clock)
        self.counts = Instances(firestore)
        nowhere: Any = None
        ends = FirestoreEndLog(firestore, self.subscriptions, self.clock, seconds=0)
        self.settlements = QueueSettlements(
            FirestoreRetrySchedule(firestore, self.clock),
            ends,
            nowhere,
            self.subscriptions,
            FirestoreMissedEvents(firestore, self.subscriptions, self.clock, seconds=0),
            nowhere,
        )
        self._firestore = firestore
        self._numbers = count(1)

    async def deliveries(self, subscription: Subscription, number: int) -> Sequence[Delivery]:
        return [
            replace(
                a_delivery(next(self._numbers)),
                subscription_id=subscription.id,
                accepted_at=self.clock.now(),
                epoch=subscription.epoch,
                attempts=0,
                failures=0,
                first_attempt_at=None,
            )
            for _ in range(number)
        ]

    async def ends(self) -> list[tuple[str, str, int]]:
        found = await self._log(LogType.ERROR)
        return [(entry.operation, entry.error_message or "", entry.occurrences) for entry in found]

    async def actions(self) -> list[tuple[str, str | None]]:
        return [
            (entry.operation, entry.error_message)
            for entry in await self._log(LogType.ACTION)
            if entry.operation.endswith("by_the_platform")
            and "created" not in entry.operation
            and "resumed" not in entry.operation
        ]

    async def _log(self, log_type: LogType) -> Sequence[LogEntry]:
        query = LogQuery(log_type=log_type, newest_first=False, limit=1000)
        return await FirestoreLogs(self._firestore, self.clock).entries(OWNER, query)


class TestFirestoreJudgement(JudgementContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> JudgementSide:
        return FirestoreJudgement(firestore)


class FirestorePaceKeepers:
    """Several instances of deliver, each with its own copies."""

    def __init__(self, firestore: Firestore) -> None:
        self.clock = ManualClock()
        self.records = FirestoreSubscriptions(firestore, SEAL, self.clock)
        self.instances = [
            FirestorePaces(firestore, FirestoreSubscriptions(firestore, SEAL, self.clock), self.clock)
            for _ in range(4)
        ]


class TestFirestorePaces(PacesContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> PacesSide:
        return FirestorePaceKeepers(firestore)


def registry_of(firestore: Firestore, seal: Seal = SEAL) -> PimRegistry:
    return PimRegistry(FirestoreEntries(firestore), seal, ManualClock(), allow_http=False)


class FirestoreRegistry:
    """Entries in Firestore, changed over another connection; spoiled by cutting the registry's own."""

    def __init__(self, beside: Firestore, own: Firestore, proxy: TcpProxy, *, allow_http: bool) -> None:
        self.clock = SteppingClock()
        self.registry = PimRegistry(FirestoreEntries(own), SEAL, self.clock, allow_http=allow_http)
        self.firestore = beside
        self._own = own
        self._proxy = proxy

    async def put(self, tenant: Tenant) -> None:
        await tenants.put(self.firestore, tenant, SEAL)

    async def remove(self, tenant: Tenant) -> None:
        await tenants.remove(self.firestore, tenant.name)

    async def spoil(self) -> None:
        await self._proxy.cut()

    async def mend(self) -> None:
        await self._proxy.mend()
        await self._own.read(self._own.client.document("any/document"), patience=30)

    async def spoil_entry(self, tenant: Tenant) -> None:
        await tenants.put(self.firestore, tenant, OTHER_SEAL)

    async def damage(self, tenant: Tenant, document: str) -> None:
        (stored,) = [
            snapshot.reference
            for snapshot in await tenants.stored_entries(self.firestore)
            if tenants.entry_of(snapshot).name == tenant.name
        ]
        await self.firestore.set(stored, {"document": document}, merge=True)

    async def reads_with_list(self, listed: Sequence[Tenant]) -> Sequence[Tenant]:
        entries = FirestoreEntries(self.firestore, listed=listed)
        return await PimRegistry(entries, SEAL, self.clock, allow_http=False).tenants()


@pytest.fixture
async def registry_world(
    firestore: Firestore, firestore_host: str, request: pytest.FixtureRequest
) -> AsyncIterator[FirestoreRegistry]:
    proxy = TcpProxy(firestore_host)
    await proxy.mend()
    own = connect(firestore.client.project, emulator=proxy.address, patience=2)
    yield FirestoreRegistry(firestore, own, proxy, allow_http="dev_world" in request.fixturenames)
    await own.close()
    await proxy.cut()


class TestFirestoreTenants(StoredRegistryContract):
    @pytest.fixture
    def world(self, registry_world: FirestoreRegistry) -> RegistrySide:
        return registry_world

    @pytest.fixture
    def dev_world(self, registry_world: FirestoreRegistry) -> RegistrySide:
        return registry_world

    async def test_a_registry_that_never_could_read_has_no_answer(self) -> None:
        away = connect("nobody", emulator=NOWHERE, patience=0.2)
        with pytest.raises(StoreUnavailable):
            await registry_of(away).tenants()
        await away.close()

    async def test_the_store_keeps_no_secret_in_clear(self, registry_world: FirestoreRegistry) -> None:
        await registry_world.put(a_tenant(ingest_key="an-ingest-key-of-tests"))
        assert await ingest_keys(registry_world) == ["an-ingest-key-of-tests"]
        database = registry_world.firestore
        (stored,) = await database.client.collection("tenants").get()
        assert PIM in str(stored.to_dict())
        assert "an-ingest-key-of-tests" not in str(stored.to_dict())


async def test_an_entry_is_replaced_only_as_it_was_seen(firestore: Firestore) -> None:
    new, newer = a_tenant(ingest_key="new"), a_tenant(ingest_key="newer")
    await tenants.put_over(firestore, a_tenant(), SEAL, None)
    (seen,) = await tenants.stored_entries(firestore)
    with pytest.raises(Conflict, match=f"{PIM} was changed by somebody else"):
        await tenants.put_over(firestore, new, SEAL, None)  # as by one who saw none
    await tenants.put_over(firestore, new, SEAL, seen)
    with pytest.raises(Conflict):
        await tenants.put_over(firestore, newer, SEAL, seen)
    await tenants.remove(firestore, PIM)
    with pytest.raises(Conflict):
        await tenants.put_over(firestore, newer, SEAL, seen)
    assert await tenants.stored_entries(firestore) == []


@dataclass(frozen=True, slots=True)
class LosingAnswers(Firestore):
    """Commits, and the answer to the first commit is lost."""

    lost: list[bool] = field(default_factory=list)

    async def commit(self, batch: AsyncWriteBatch) -> Sequence[WriteResult]:
        results = await Firestore.commit(self, batch)
        if not self.lost:
            self.lost.append(True)
            raise ServiceUnavailable("the answer is lost")
        return results


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_change_whose_answer_was_lost_is_made_once(firestore: Firestore, is_there: bool) -> None:
    seen = None
    if is_there:
        await tenants.put_over(firestore, a_tenant(ingest_key="old"), SEAL, None)
        (seen,) = await tenants.stored_entries(firestore)
    losing = LosingAnswers(firestore.client)
    await tenants.put_over(losing, a_tenant(ingest_key="new"), SEAL, seen)
    assert losing.lost
    (found,) = await registry_of(firestore).tenants()
    assert found == a_tenant(ingest_key="new")


class FirestoreSchedule:
    def __init__(self, firestore: Firestore) -> None:
        self.clock = ManualClock()
        self._firestore = firestore

    def schedule(self) -> FirestoreRetrySchedule:
        return FirestoreRetrySchedule(self._firestore, self.clock, shards=4)


class TestFirestoreRetrySchedule(RetryScheduleContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> ScheduleSide:
        return FirestoreSchedule(firestore)

    async def test_entries_are_spread_over_the_shards(self, firestore: Firestore) -> None:
        schedule = FirestoreRetrySchedule(firestore, ManualClock(), shards=4)
        for number in range(40):
            await schedule.schedule(a_delivery(number), START)
        counts = [len(await schedule.due(shard, 100)) for shard in range(4)]
        assert sum(counts) == 40
        assert min(counts) > 0

    async def test_more_than_a_batch_can_be_removed(self, firestore: Firestore) -> None:
        schedule = FirestoreRetrySchedule(firestore, ManualClock(), shards=1)
        await schedule.schedule(a_delivery(), START)
        (due,) = await schedule.due(0, 1)
        await schedule.remove([*(f"gone-{number}" for number in range(600)), due.entry])
        assert not await schedule.due(0, 1)

    @pytest.mark.parametrize("wrong", [{"lane": "three"}, {"body": DELETE_FIELD}, {"accepted_at": 7}])
    async def test_an_entry_that_cannot_be_read_is_handed_out_as_what_is_left(
        self, firestore: Firestore, wrong: dict[str, object]
    ) -> None:
        schedule = FirestoreRetrySchedule(firestore, ManualClock(), shards=1)
        await schedule.schedule(a_delivery(), START)
        (due,) = await schedule.due(0, 1)
        await firestore.client.collection("retries").document(due.entry).update(wrong)
        (due,) = await schedule.due(0, 1)
        assert due.delivery is None
        assert due.remnant is not None
        assert due.remnant.attributes["event_id"] == "event-1"
        await schedule.remove([due.entry])
        assert not await schedule.due(0, 1)

    async def test_a_store_that_is_away_is_said_to_be(self) -> None:
        away = connect("nobody", emulator=NOWHERE, patience=0.2)
        schedule = FirestoreRetrySchedule(away, ManualClock())
        for asked in (
            schedule.schedule(a_delivery(), START),
            schedule.lease(0, 60),
            schedule.due(0, 10),
            schedule.remove(["entry"]),
        ):
            with pytest.raises(StoreUnavailable):
                await asked
        await away.close()


FAILED = DeliveryEnd(
    Operation.FAILED, "no more retries", START, reason=Reason.DESTINATION_TIMEOUT, status=503, excerpt="busy"
)


class TestFirestoreLogs(LogsContract):
    @pytest.fixture
    def world(self, firestore: Firestore) -> LogsSide:
        subscriptions = FirestoreSubscriptions(firestore, SEAL, ManualClock())
        return LogsSide(FirestoreLogs(firestore, ManualClock(), seconds=0), subscriptions)


SEARCHED = {
    "subscribers": {"tenant", "client_id", "status"},
    "subscriptions": {"subscriber_id", "tenant", "client_id", "status"},
    "open_subscribers": set[str](),
    "paces": set[str](),
    "slots": {"group"},
    "topic_claims": set[str](),
    "versions": set[str](),
    "tenants": set[str](),
    "feeds": set[str](),
    "feed_states": set[str](),
    "feed_marks": {"place"},
    "feed_listed": {"place"},
    "feed_notes": set[str](),
    "replays": {"subscription_id", "kind", "created_at", "status", "open"},
    "retries": {"due"},
    "leases": set[str](),
    "log_entries": {"part_of"},
    "success_counts": set[str](),
    "notifications": {"due", "held_for"},
    "notification_counts": set[str](),
}
"""The fields with an index of their own."""


class NoPublisher:
    """The port `Publisher`, where nothing is published."""

    async def publish(self, topic: str, messages: Sequence[object]) -> None:
        raise AssertionError("nothing was to be published")


async def test_the_data_model_names_what_is_stored(firestore: Firestore) -> None:
    store = FirestoreSubscriptions(firestore, SEAL, ManualClock())
    kept, deleted = a_subscriber(), a_subscriber()
    for subscriber in (kept, deleted):
        await store.add_subscriber(subscriber, limit=20)
        await store.add_subscription(a_subscription(subscriber), anything, limit=20)
    await store.change_subscriber(
        OWNER,
        deleted.id,
        partial(delete_subscriber, now=START),
        and_subscriptions=partial(delete_subscription, now=START),
    )
    await store.add_subscription(a_subscription(kept, config=PUBSUB_CONFIG), anything, limit=20)
    throttled = a_subscription(kept)
    await store.add_subscription(throttled, anything, limit=20)
    await FirestorePaces(firestore, store, ManualClock()).change_pace(
        throttled.id, lambda before: replace(before, rate=Rate(START, 5, 9))
    )
    schedule = FirestoreRetrySchedule(firestore, ManualClock())
    await schedule.schedule(a_delivery(), START)
    await schedule.lease(0, 60)
    (subscription, *_) = await store.active(OWNER.tenant)
    delivery = replace(a_delivery(), subscription_id=subscription.id)
    await FirestoreEndLog(firestore, store, ManualClock()).record(delivery, FAILED)
    for counted in (Count(1), Count(1, 1, 1.0)):
        await FirestoreSuccessCounts(firestore).add({SERIES: {0: counted}})
    replays = FirestoreReplays(firestore, store, ManualClock(), keep=86400)
    asked = ReplayRequest(START, which=Which.ALL)
    replay = Replay("rid", subscription.id, asked, START)
    await replays.start(OWNER, subscription.subscriber_id, replay, action=BY_THE_PLATFORM)
    await replays.watch(replay.id, as_pushed=True)
    await FirestoreReplayCounts(firestore, ManualClock()).add(replay.id, events=3, delivered=1, ended=1)
    await tenants.put(firestore, a_tenant(), SEAL)
    await feeds.put(firestore, FEED, SEAL)
    found = FirestoreFeedStore(firestore, PubSubIntake(NoPublisher(), ManualClock()))
    marks = {b"one": Mark(created=1, updated=2, digest=b"3")}
    await found.commit(a_step(marks=marks, listed=[Listed(("a uuid",), "SKU-1")], sweep=1))
    await feeds.set_due(firestore, FEED, START)
    notes = FirestoreWebhookNotes(firestore, FirestoreEntries(firestore), ManualClock())
    await notes.note(FEED.tenant, [an_event()], [1])
    assert await FirestoreOutbox(firestore, ManualClock()).count([Allowance("own", "all", own=1, shared=1)])

    stored: dict[str, set[str]] = {}
    async for collection in firestore.client.collections():
        documents = [found.to_dict() or {} for found in await collection.get()]
        stored[collection.id] = {name for document in documents for name in document}
    assert stored.keys() == SEARCHED.keys() == data_model.UNINDEXED.keys()
    for name, fields in stored.items():
        assert fields - SEARCHED[name] == set(data_model.UNINDEXED[name]), name
        assert ("expires_at" in fields) == (name in data_model.EXPIRING), name
    for index in data_model.INDEXES:
        assert {field for field, _ in index.fields} <= stored[index.collection]


async def test_no_document_holds_a_secret(firestore_host: str, project: str) -> None:
    firestore = connect(project, emulator=firestore_host)
    store = FirestoreSubscriptions(firestore, SEAL, ManualClock())
    subscriber = a_subscriber()
    subscription = a_subscription(subscriber)
    await store.add_subscriber(subscriber, limit=20)
    await store.add_subscription(subscription, lambda _: None, limit=20)
    await store.change_subscription(
        OWNER, subscriber.id, subscription.id, lambda record: suspend(record, START)
    )
    *_, ingest_key, events_api_secret, relay_secret = map(SecretStr, SECRETS)
    pim = Tenant(
        url=PIM,
        ingest_key=(ingest_key,),
        events_api_secret=(events_api_secret,),
        relay_secret=(relay_secret,),
    )
    await tenants.put(firestore, pim, SEAL)
    assert list(await registry_of(firestore).tenants()) == [pim]
    stored = [
        (each.reference.path, str(each.to_dict()))
        async for collection in firestore.client.collections()
        for each in await collection.get()
    ]
    assert len(stored) >= 4
    assert [(path, secret) for path, text in stored for secret in SECRETS if secret in text] == []
    await firestore.close()
