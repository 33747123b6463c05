"""The feed of a PIM through the six functions as processes, on Google's emulators, beside its webhook."""

import asyncio
import base64
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.google.functions_on_emulators import GooglePlatform, running
from aep.sandbox.events import events
from aep.sandbox.ingest_requests import Format, post
from aep.sandbox.pim.connections import DEFAULT_CLIENT
from event_platform.adapters.firestore import feeds
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.seal import AesGcmSeal
from event_platform.data_model import LEASES
from event_platform.domain.feeds import Feed, ResourceName
from event_platform.domain.tenants import tenant_key
from support.feeding import a_feed
from support.main_path import IN_FORCE_SECONDS, until
from support.one_pim import CLIENT_KEY, INGEST_KEY, PRIMARY, entry, event
from support.processes import Client, http, received, send_events, server

pytestmark = pytest.mark.full

KEY = bytes(range(32))
SEAL = AesGcmSeal(KEY)
SECRET = "the-secret-of-the-events-api"
PRODUCT, FAMILY = "com.akeneo.pim.v1.product.updated", "com.akeneo.pim.v1.family.updated"
GROUP = 5


class Fed:
    """A platform that reads the feed of a simulated PIM, and takes in its webhook."""

    def __init__(self, platform: GooglePlatform, firestore: Firestore, feed: Feed, inbox: str) -> None:
        self.platform, self.firestore, self.feed, self._inbox = platform, firestore, feed, inbox

    async def tick(self) -> None:
        """Has maintain read the feed, as Cloud Scheduler does when it is due."""
        await feeds.set_due(self.firestore, self.feed, datetime.now(UTC))
        url = f"{self.platform.functions['maintain'].url}/feeds"
        answered = await asyncio.to_thread(http().post, url, timeout=60)
        assert answered.status_code == 200, answered.text

    async def read_up_to(self, seconds: float) -> None:
        """Ticks until all resources are complete up to a time."""

        async def is_read() -> bool:
            await self.tick()
            states = await feeds.states_of(self.firestore, self.feed.tenant)
            cursors = [states[name].cursor for name in self.feed.names if name in states]
            return len(cursors) == len(self.feed.names) and all(
                each is not None and each.timestamp() > seconds for each in cursors
            )

        await until(is_read, "all resources were read")

    async def kill_in_a_tick(self) -> None:
        """Kills maintain while it reads. The lease that it had ends at once, and not in two minutes."""
        lease = self.firestore.client.collection(LEASES).document(f"feed-{feeds.feed_key(self.feed.tenant)}")
        ticking = asyncio.create_task(self.tick())

        async def is_at_work() -> bool:
            return ticking.done() or (await self.firestore.read(lease)).exists

        await until(is_at_work, "maintain reads")
        self.platform.functions["maintain"].kill()
        await asyncio.gather(ticking, return_exceptions=True)
        await self.firestore.delete([lease])

    async def change(self, drawn: Sequence[Any], *, is_lost: bool) -> None:
        """Changes entities of the PIM, whose webhook comes in or is lost."""
        resources = await asyncio.to_thread(changed, self.feed.tenant, drawn)
        if is_lost:
            return
        shown = zip(drawn, resources, strict=True)
        webhook = post(drawn, Format.EVENTS_API, SECRET, {each["id"]: found for each, found in shown})
        url = f"{self.platform.functions['ingest'].url}/ingest/events-api/{tenant_key(self.feed.tenant)}"
        taken = await asyncio.to_thread(
            http().post, url, data=webhook.body, headers=webhook.headers, timeout=20
        )
        assert taken.json()["accepted"] == len(drawn)

    async def ids_by_entity(self, wanted: Set[str]) -> Mapping[str, Set[str]]:
        """Returns the ids of delivered events by entity, once there are some of all that are wanted."""

        async def found() -> Mapping[str, Set[str]] | None:
            ids: defaultdict[str, set[str]] = defaultdict(set)
            for each in await asyncio.to_thread(received, self._inbox, "/hook"):
                ids[entity_of(orjson.loads(each["body"]))].add(each["id"])
            return ids if ids.keys() >= wanted else None

        return await until(found, "all that was accepted is delivered")


def changed(pim: str, drawn: Sequence[Any]) -> Sequence[Any]:
    """Changes entities of the PIM; returns how its webhook shows them."""
    changes = {"events": [{"type": each["type"], "data": each["data"]} for each in drawn]}
    return http().post(f"{pim}/_sim/changes", json=changes, timeout=20).json()["resources"]


def entity_of(sent: Any) -> str:
    ((noun, entity),) = ((noun, each) for noun, each in sent["data"].items() if noun != "author")
    return f"{noun} {entity.get('uuid') or entity['code']}"


def unlike(event_type: str, number: int) -> list[Any]:
    """Events of as many entities."""
    drawn = {entity_of(each): each for each in events(event_type, 40 * number)}
    return list(drawn.values())[:number]


PRODUCTS, FAMILIES = unlike(PRODUCT, 8 * GROUP), unlike(FAMILY, 3)


@pytest.fixture
async def fed(pubsub_host: str, firestore_host: str, tmp_path: Path) -> AsyncIterator[Fed]:
    project = f"test-{uuid.uuid4().hex[:20]}"
    firestore = connect(project, emulator=firestore_host)
    with server(tmp_path, "sim") as pim, server(tmp_path, "inbox", "--quiet", "--secret", PRIMARY) as inbox:
        changed(pim.url, [*PRODUCTS, *FAMILIES])  # so that all of them exist before the feed begins
        who = DEFAULT_CLIENT
        feed = a_feed(
            pim.url,
            client_id=who.client_id,
            username=who.username,
            secret=who.secret,
            password=who.password,
            resources=(ResourceName.PRODUCTS, ResourceName.FAMILIES),
            settle=3,
        )
        await feeds.put(firestore, feed, SEAL)
        key = base64.b64encode(KEY).decode()
        known = entry(url=pim.url, events_api_secret=SECRET)
        settings = {"AEP_PIMS": orjson.dumps([known]).decode(), "AEP_FEED_KEY": key, "AEP_FEEDS": "1"}
        async with running(
            project, pubsub=pubsub_host, firestore=firestore_host, folder=tmp_path, settings=settings
        ) as platform:
            client = Client(platform.functions["manage"].url, pim.url, CLIENT_KEY, "erp")
            await asyncio.to_thread(subscribe, client, f"{inbox.url}/hook")
            await asyncio.sleep(IN_FORCE_SECONDS)
            yield Fed(platform, firestore, feed, inbox.url)
    await firestore.close()


def subscribe(client: Client, url: str) -> None:
    contact = {"technical_email": "ops@example.com"}
    subscriber = client.call("POST", "/subscribers", {"name": "Tests", "contact": contact}, expect=201)
    config = {"url": url, "secret": {"primary": PRIMARY}}
    wanted = {"events": [PRODUCT, FAMILY], "type": "https", "config": config}
    client.call("POST", f"/subscribers/{subscriber['id']}/subscriptions", wanted, expect=201)


async def test_what_webhooks_lost_comes_once_and_what_they_brought_does_not_come_again(fed: Fed) -> None:
    await fed.read_up_to(0)
    groups = [PRODUCTS[begin : begin + GROUP] for begin in range(0, len(PRODUCTS), GROUP)]
    brought = [each for group in groups[::2] for each in group]
    lost = [each for group in groups[1::2] for each in group]
    for number, group in enumerate(groups):
        if number in (2, 5):  # what comes while maintain is down is noted for it
            await fed.kill_in_a_tick()
        await fed.change(group, is_lost=number % 2 == 1)
        if number in (3, 6):
            await fed.platform.functions["maintain"].start()
    await fed.change(FAMILIES, is_lost=True)
    await fed.read_up_to(time.time())
    await fed.tick()
    wanted = {entity_of(each) for each in (*brought, *lost, *FAMILIES)}
    await fed.ids_by_entity(wanted)
    last = event()  # nothing of before is on its way any more when it has come
    url = fed.platform.functions["ingest"].url
    assert await asyncio.to_thread(send_events, url, INGEST_KEY, last) == 202
    ids = await fed.ids_by_entity({*wanted, entity_of(last)})
    assert {entity for entity, each in ids.items() if len(each) > 1} == set()
    assert {entity_of(each): {each["id"]} for each in brought}.items() <= ids.items()
