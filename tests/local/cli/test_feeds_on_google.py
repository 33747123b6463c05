"""`aep pims feed --google`: feeds in a project's Firestore, which maintain reads."""

import asyncio
import base64
import io
import sys
from collections.abc import AsyncIterator
from unittest import mock

import orjson
import pytest

from event_platform.adapters.firestore import feeds, tenants
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.domain.tenants import Tenant
from event_platform.ports import FeedStep
from support.aep_here import Ended, run
from support.clock import START, ManualClock

PIM = "https://pim.example.com"
KEY = bytes(range(64, 96))
SEAL = AesGcmSeal(KEY)
WHO = ("--client-id", "1_c", "--username", "feed_1", "--secret", "-")


@pytest.fixture
async def firestore(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Firestore]:
    """The project's own with one PIM, which commands reach by the variable of the emulator."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    opened = connect(project, emulator=firestore_host)
    await tenants.put(opened, Tenant(url=PIM), SEAL)
    yield opened
    await opened.close()


async def feed(firestore: Firestore, *words: str, has_key: bool = False, url: str = PIM) -> Ended:
    settings = {"AEP_FEED_KEY": base64.b64encode(KEY).decode()} if has_key else {}
    place = ("--google", firestore.client.project)
    with mock.patch.object(sys, "stdin", io.StringIO("the-secret\nthe-password\n")):
        return await asyncio.to_thread(run, "pims", "feed", url, *words, *place, settings=settings)


async def stored(firestore: Firestore) -> Feed:
    found = await feeds.stored_feed(firestore, PIM, SEAL)
    assert found is not None
    assert found.feed is not None
    return found.feed


async def test_a_feed_is_set_up_with_the_stacks_key_and_changed_without_it(firestore: Firestore) -> None:
    assert "has no feed" in (await feed(firestore)).err
    assert "AEP_FEED_KEY" in (await feed(firestore, *WHO)).err
    assert (
        "is not in the registry"
        in (await feed(firestore, *WHO, has_key=True, url="https://other.example.com")).err
    )
    ended = await feed(firestore, *WHO, "--resources", "products", has_key=True)
    assert ended.status == 0, ended.err
    first = await stored(firestore)
    assert first.password.get_secret_value() == "the-password"
    ended = await feed(firestore, "--every", "600", "--json")
    assert orjson.loads(ended.out)["every"] == 600
    assert "the-password" not in ended.out
    second = await stored(firestore)
    assert second.password == first.password
    assert second.version != first.version
    await feed(firestore, "--off")
    assert (await stored(firestore)).is_off


async def test_a_date_has_it_begin_anew_and_the_state_is_shown(firestore: Firestore) -> None:
    await feed(firestore, *WHO, "--resources", "products", has_key=True)
    nowhere = PubSubIntake(mock.AsyncMock(), ManualClock())
    state = ResourceState(cursor=START, stage="changes", found=7, succeeded_at=START)
    step = FeedStep(feed=await stored(firestore), resource=ResourceName.PRODUCTS, state=state)
    await feeds.FirestoreFeedStore(firestore, nowhere).commit(step)
    (shown,) = orjson.loads((await feed(firestore, "--json")).out)["resources"]
    assert (shown["found"], shown["complete_to"]) == (7, "2026-01-31T12:00:00Z")
    await feed(firestore, "--since", "2026-01-01")
    assert await feeds.states_of(firestore, PIM) == {}
    assert not (await stored(firestore)).is_off


async def test_a_pim_that_is_removed_takes_its_feed_along(firestore: Firestore) -> None:
    await feed(firestore, *WHO, has_key=True)
    place = ("--google", firestore.client.project)
    assert (await asyncio.to_thread(run, "pims", "remove", PIM, *place)).status == 0
    assert await feeds.stored_feed(firestore, PIM, SEAL) is None
