"""Webhook and feed of the same PIM: each change comes, beside a healthy webhook once, and never thrice."""

import hashlib
import hmac
import json
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from event_platform.domain.ingest_formats import events_api
from event_platform.domain.tenants import Tenant, Way
from event_platform.domain.webhook_notes import note_of
from event_platform.feed import WebhookMemory
from event_platform.feed.changes import NOTHING_BROUGHT, Brought
from support.fake_pim import Killed
from support.feeding import Feeding, feeding
from support.ingesting import ingesting
from support.records import an_event

PRODUCTS: dict[str, Any] = {"resources": ["products"]}
PIM = "https://pim.example.com"
UPDATED = "com.akeneo.pim.v1.product.updated"


async def begun(feed: Feeding, number: int) -> None:
    for each in range(number):
        feed.pim.add("products", f"p{each}")
    feed.clock.pass_by(3600)
    await feed.round()
    feed.clock.pass_by(300)


async def test_beside_a_healthy_webhook_the_feed_sends_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path, has_webhook=True, **PRODUCTS) as feed:
        await begun(feed, 30)
        for each in range(30):
            feed.pim.change("products", f"p{each}")
            await feed.webhook(f"p{each}")
            feed.clock.pass_by(7)
        feed.pim.add("products", "new")
        await feed.webhook("new", "product.created")
        for _ in range(4):
            feed.clock.pass_by(100)
            await feed.round()
        assert await feed.told() == []


async def test_a_change_whose_webhook_was_lost_comes_by_the_feed(tmp_path: Path) -> None:
    async with feeding(tmp_path, has_webhook=True, **PRODUCTS) as feed:
        await begun(feed, 2)
        feed.pim.change("products", "p0")
        await feed.webhook("p0")
        feed.clock.pass_by(5)
        feed.pim.change("products", "p0")
        feed.pim.add("products", "new")
        feed.clock.pass_by(5)
        feed.pim.change("products", "new")
        await feed.webhook("new")
        for _ in range(4):
            feed.clock.pass_by(100)
            await feed.round()
        assert sorted(await feed.told()) == [("product.created", "new"), ("product.updated", "p0")]


async def test_a_change_waits_for_its_webhook(tmp_path: Path) -> None:
    async with feeding(tmp_path, has_webhook=True, settle=60, **PRODUCTS) as feed:
        await begun(feed, 1)
        feed.pim.change("products", "p0")
        feed.clock.pass_by(50)
        await feed.round()
        assert await feed.told() == []
        feed.clock.pass_by(30)
        await feed.round()
        assert await feed.told() == [("product.updated", "p0")]


async def test_without_a_webhook_nothing_waits(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await begun(feed, 1)
        feed.pim.change("products", "p0")
        feed.clock.pass_by(2)
        await feed.round()
        assert await feed.told() == [("product.updated", "p0")]


def test_what_came_is_forgotten_after_two_hours() -> None:
    now = [0.0]
    memory = WebhookMemory(lambda: now[0])
    memory.watch([PIM])
    event = an_event(entity="u1")
    memory.add(PIM, note_of([event], [1000]))
    memory.add(PIM, note_of([event], [900]))
    assert memory.brought(PIM, UPDATED, ("u1",)) == Brought(1000, False)
    assert memory.brought(PIM, "com.akeneo.pim.v1.product.", ("u1",)) == Brought(1000, False)
    now[0] = 7201.0
    assert memory.brought(PIM, UPDATED, ("u1",)) == NOTHING_BROUGHT
    memory.add(PIM, note_of([an_event(entity="u2")], [1000]))
    assert len(memory) == 1


@pytest.mark.provokes("feed.webhooks_forgotten")
def test_what_is_remembered_is_bounded_and_one_pim_costs_no_other() -> None:
    memory = WebhookMemory(lambda: 0.0, most=100)
    memory.watch([PIM, "https://other.example.com"])
    memory.add(PIM, note_of([an_event(entity="mine")], [1]))
    for number in range(300):
        event = an_event(entity=f"u{number}")
        memory.add("https://other.example.com", note_of([event], [1]))
    assert len(memory) == 100
    assert memory.brought(PIM, UPDATED, ("mine",)) == Brought(1, False)
    memory.watch([PIM])
    assert len(memory) == 1


def test_a_pim_without_a_feed_is_not_remembered() -> None:
    memory = WebhookMemory(lambda: 0.0)
    assert not memory.wants(PIM)
    memory.add(PIM, note_of([an_event(entity="u1")], [1]))
    assert len(memory) == 0


async def test_a_busy_pim_with_lost_and_late_webhooks_and_two_kills_of_the_platform(tmp_path: Path) -> None:
    await busy(tmp_path, products=100, changes=1000)


@pytest.mark.full
async def test_the_same_of_the_whole_size(tmp_path: Path) -> None:
    await busy(tmp_path, products=1000, changes=10_000)


async def busy(folder: Path, *, products: int, changes: int) -> None:
    """Changes products for five minutes, every third webhook lost and some an hour late, with two kills."""
    chance = random.Random(26)
    async with feeding(folder, has_webhook=True, **PRODUCTS) as feed:
        await begun(feed, products)
        calls = len(feed.pim.calls)
        late: list[str] = []
        made: Counter[tuple[str, int]] = Counter()
        for number in range(changes):
            feed.clock.pass_by(300 / changes)
            code = f"p{chance.randrange(products)}"
            held = feed.pim.change("products", code)
            made[code, int(held.updated.timestamp())] += 1
            if number % 3 == 0:
                pass  # lost
            elif number % 50 == 1:
                late.append(code)
            else:
                await feed.webhook(code)
            if number in (changes // 3, 2 * changes // 3):
                await killed_in_a_round(feed)
        for _ in range(14):
            feed.clock.pass_by(300)
            await feed.round()
        for code in late:
            await feed.webhook(code)
        for _ in range(3):
            feed.clock.pass_by(300)
            await feed.round()
        assert len(feed.pim.calls) - calls < 300
        newest: dict[str, datetime] = {}
        of_feed: Counter[tuple[str, int]] = Counter()
        for event in await feed.events():
            at = datetime.fromisoformat(event.time)
            newest[event.identity] = max(at, newest.get(event.identity, at))
            of_feed[event.data["product"]["identifier"], int(at.timestamp())] += 1
        for event in await feed.events(Way.EVENTS_API):
            at = datetime.fromisoformat(event.time)
            newest[event.identity] = max(at, newest.get(event.identity, at))
        changed = {code for code, _ in made}
        for code in changed:
            held = feed.pim.lists["products"][code]
            assert newest[feed.pim.uuid_of(code)] >= held.updated, code
        # The webhook tells each change once, so the feed may tell it once beside it.
        assert max(of_feed.values()) == 1
        assert set(of_feed) <= set(made)


async def killed_in_a_round(feed: Feeding) -> None:
    """Makes a round, and ends the platform in the middle of it as a kill does."""
    feed.pim.kill_at_page()
    with pytest.raises(Killed):
        await feed.round()
    await feed.restart()


async def test_what_ingest_takes_by_the_webhook_is_noted_for_pims_with_a_feed(tmp_path: Path) -> None:
    async with feeding(tmp_path, has_webhook=True, **PRODUCTS) as feed:
        registry = OnePim(feed.tenant)
        feed.pim.add("products", "p0")
        body = json.dumps({"events": [feed.pim.said("p0", "product.created"), feed.pim.said("p0")]}).encode()
        async with ingesting(registry, feed.embedded.queue, feed.clock, webhooks=feed.memory) as ingest:
            headers = signed(body, feed)
            assert await ingest.post(f"/ingest/events-api/{feed.tenant.key}", body, headers) == 200
            identity = (feed.pim.uuid_of("p0"),)
            at = int(feed.pim.lists["products"]["p0"].updated.timestamp())
            assert feed.memory.brought(PIM, UPDATED, identity) == Brought(at, created=True)
            feed.memory.watch([])
            assert await ingest.post(f"/ingest/events-api/{feed.tenant.key}", body, headers) == 200
            assert len(feed.memory) == 0


class OnePim:
    """The port `TenantRegistry`, of one PIM."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def tenants(self) -> list[Tenant]:
        return [self._tenant]


def signed(body: bytes, feed: Feeding) -> dict[str, str]:
    timestamp = str(int(feed.clock.now().timestamp()))
    secret = feed.tenant.events_api_secret[0].get_secret_value().encode()
    value = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        events_api.SIGNATURE_HEADER: value,
        events_api.TIMESTAMP_HEADER: timestamp,
        "Content-Type": "application/json",
    }
