"""Notes of webhooks beside a feed pass their suite, on one machine and on Google Cloud."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from google.cloud.firestore_v1 import AsyncQuery
from structlog.testing import capture_logs

from aep.broker.feed_store import SqliteFeedStore
from aep.store import feeds as local_feeds
from contract.suites.webhook_agreement import (
    NOW,
    OTHER,
    PIM,
    PRODUCT,
    Accepted,
    WebhookAgreementContract,
)
from event_platform import data_model
from event_platform.adapters.firestore import feeds, webhook_notes
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.feeds import FirestoreFeedStore
from event_platform.adapters.firestore.tenants import FirestoreEntries
from event_platform.adapters.firestore.webhook_notes import FirestoreNoteLog, FirestoreWebhookNotes
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.seal import AesGcmSeal, KeylessSeal
from event_platform.domain.events import catalog
from event_platform.domain.feeds import Feed
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import events_of
from event_platform.feed import NotedWebhooks, WebhookMemory, noted
from event_platform.feed.changes import NOTHING_BROUGHT, Brought
from support.clock import START
from support.embedded import Embedded
from support.feeding import QuickClock, a_feed
from support.records import an_event

CATALOG = catalog.load()
SEAL = AesGcmSeal(b"\x01" * 32)


class LocalSide:
    def __init__(self, embedded: Embedded, clock: QuickClock) -> None:
        self.clock = clock
        self._embedded = embedded
        self.store = SqliteFeedStore(embedded.database, embedded.queue)
        self.notes = self.webhooks = WebhookMemory(clock.monotonic)
        self._fed: dict[str, Feed] = {}

    async def put(self, feed: Feed) -> None:
        await self._embedded.database.write(lambda connection: local_feeds.put(connection, feed, SEAL))
        self._fed[feed.tenant] = feed
        self.notes.watch([name for name, each in self._fed.items() if each.has_webhook_notes])

    async def remove(self, tenant: str) -> None:
        del self._fed[tenant]
        self.notes.watch(list(self._fed))

    async def accepted(self) -> Sequence[Accepted]:
        rows = await self._embedded.rows("SELECT type, identity, time FROM kept ORDER BY no")
        return [Accepted(kind, json.loads(identity)[0], time) for kind, identity, time in rows]

    async def kill(self) -> None:
        self.notes = self.webhooks = WebhookMemory(self.clock.monotonic)
        self.notes.watch(list(self._fed))


class TestOnOneMachine(WebhookAgreementContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[LocalSide]:
        clock = QuickClock()
        async with Embedded(tmp_path, time=clock) as embedded:
            await embedded.open()
            yield LocalSide(embedded, clock)


class Topic:
    """The port `Publisher`, which keeps what was published."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.messages += messages


class GoogleSide:
    def __init__(self, firestore: Firestore) -> None:
        self.clock = QuickClock()
        self.firestore = firestore
        self._topic = Topic()
        self.store = FirestoreFeedStore(firestore, PubSubIntake(self._topic, self.clock))
        self._entries = FirestoreEntries(firestore, reads_feeds=True)
        self._registry = PimRegistry(self._entries, KeylessSeal(), self.clock, allow_http=False)
        self.notes = FirestoreWebhookNotes(firestore, self._entries, self.clock)
        self.webhooks = self.another_instance()

    def another_instance(self) -> NotedWebhooks:
        return NotedWebhooks(FirestoreNoteLog(self.firestore), self.clock)

    async def put(self, feed: Feed) -> None:
        await feeds.put(self.firestore, feed, SEAL)
        await self._registry.reread()

    async def remove(self, tenant: str) -> None:
        await feeds.remove(self.firestore, tenant)
        await self._registry.reread()

    async def accepted(self) -> Sequence[Accepted]:
        found = [event for message in self._topic.messages for event in events_of(message, CATALOG)]
        return [Accepted(event.type, event.identity[0], event.time) for event in found]

    async def kill(self) -> None:
        self.webhooks = self.another_instance()

    async def brought(self, number: int) -> Brought:
        """Returns what is known of an entity after another call."""
        await self.webhooks.load(PIM, START)
        return self.webhooks.brought(PIM, f"{PRODUCT}.", an_event(number).identity)


class TestOnGoogleCloud(WebhookAgreementContract):
    @pytest.fixture
    async def world(self, firestore: Firestore) -> GoogleSide:
        return GoogleSide(firestore)

    async def test_a_webhook_is_one_document_that_expires(self, world: GoogleSide) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(number) for number in range(10)], [NOW] * 10)
        await world.notes.note(PIM, [an_event(11, event_type="order.placed")], [-1])
        notes = AsyncQuery(world.firestore.client.collection(data_model.FEED_NOTES))
        (found,) = await world.firestore.query(notes)
        assert (found.get(data_model.EXPIRES_AT) - START).total_seconds() == 7200
        assert len(found.get("entities")) == 160

    async def test_another_instance_knows_what_came(self, world: GoogleSide) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1)], [NOW])
        assert await world.brought(1) == Brought(NOW)
        world.webhooks = world.another_instance()
        assert await world.brought(1) == Brought(NOW)
        world.clock.pass_by(7201)
        world.webhooks = world.another_instance()
        assert await world.brought(1) == NOTHING_BROUGHT

    async def test_a_note_that_is_seen_late_is_read(self, world: GoogleSide) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1)], [NOW])
        world.clock.pass_by(20)
        assert await world.brought(1) == Brought(NOW)
        world.clock.pass_by(-15)  # of the instance that writes it
        await world.notes.note(PIM, [an_event(2)], [NOW])
        world.clock.pass_by(15)
        assert await world.brought(2) == Brought(NOW)

    async def test_what_an_earlier_round_needs_is_read_as_well(self, world: GoogleSide) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1)], [NOW])
        world.clock.pass_by(3600)
        await world.webhooks.load(PIM, world.clock.now())
        assert world.webhooks.brought(PIM, f"{PRODUCT}.", an_event(1).identity) == NOTHING_BROUGHT
        assert await world.brought(1) == Brought(NOW)

    @pytest.mark.provokes("feed.webhooks_not_read")
    async def test_many_notes_are_read_in_parts(
        self, world: GoogleSide, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(noted, "AT_ONCE", 2)
        monkeypatch.setattr(noted, "MOST_AT_ONCE", 4)
        await world.put(a_feed(PIM))
        for number in range(7):
            await world.notes.note(PIM, [an_event(number)], [NOW])
            world.clock.pass_by(1)
        world.clock.pass_by(60)
        with capture_logs() as lines:
            assert await world.brought(6) == NOTHING_BROUGHT
        assert await world.brought(6) == Brought(NOW)
        assert [(line["event"], line["tenant"], line["notes"]) for line in lines] == [
            ("feed.webhooks_not_read", PIM, 4)
        ]

    async def test_very_many_pims_are_not_all_remembered(
        self, world: GoogleSide, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(noted, "PIMS_KEPT", 1)
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1)], [NOW])
        assert await world.brought(1) == Brought(NOW)
        await world.webhooks.load(OTHER, START)
        assert world.webhooks.brought(PIM, f"{PRODUCT}.", an_event(1).identity) == NOTHING_BROUGHT
        assert await world.brought(1) == Brought(NOW)


@pytest.mark.provokes("feed.webhook_not_noted")
async def test_a_note_that_cannot_be_written_costs_no_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_notes, "PATIENCE_SECONDS", 0.05)
    firestore = connect("nobody", emulator="127.0.0.1:1")
    notes = FirestoreWebhookNotes(firestore, FirestoreEntries(firestore), QuickClock())
    with capture_logs() as lines:
        for _ in range(2):
            await notes.note(PIM, [an_event(1)], [NOW])
    assert [(line["event"], line["tenant"], line["times"]) for line in lines] == [
        ("feed.webhook_not_noted", PIM, 1)
    ]
    await firestore.close()
