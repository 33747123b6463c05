"""Feeds in a project's Firestore, which maintain reads, as commands set them up and show them."""

import asyncio
import base64
import io
import sys
from collections.abc import AsyncIterator
from typing import Any
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
    await found(firestore, found=7)
    (shown,) = orjson.loads((await feed(firestore, "--json")).out)["resources"]
    assert (shown["found"], shown["complete_to"]) == (7, "2026-01-31T12:00:00Z")
    ended = await feed(firestore, "--since", "2026-01-01", "--json")
    assert [each["status"] for each in orjson.loads(ended.out)["resources"]] == ["not begun"]
    assert await feeds.states_of(firestore, PIM) == {}
    assert not (await stored(firestore)).is_off


async def command(firestore: Firestore, *words: str, **settings: str) -> Ended:
    """Runs a command on the project."""
    place = ("--google", firestore.client.project)
    return await asyncio.to_thread(run, *words, *place, settings=settings)


async def found(firestore: Firestore, **more: Any) -> None:
    """Commits that the feed has read products."""
    nowhere = PubSubIntake(mock.AsyncMock(), ManualClock())
    state = ResourceState(cursor=START, stage="changes", succeeded_at=START, **more)
    step = FeedStep(feed=await stored(firestore), resource=ResourceName.PRODUCTS, state=state)
    await feeds.FirestoreFeedStore(firestore, nowhere).commit(step)


async def test_doctor_and_list_show_feeds_and_what_fails(firestore: Firestore) -> None:
    assert "feeds" not in (await command(firestore, "doctor")).out
    await feed(firestore, *WHO, "--resources", "products", has_key=True)
    ended = await command(firestore, "doctor")
    assert ended.status == 0, ended.err
    assert "pims                 1 in Firestore" in ended.out
    assert "feeds                1 PIM; nothing was read yet" in ended.out
    await found(firestore)
    assert "read at 2026-01-31T12:00:00Z" in (await command(firestore, "pims", "list")).out
    await found(firestore, error="the PIM answered 503", reason="server_error")
    ended = await command(firestore, "doctor")
    assert ended.status == 1
    assert f"{PIM}, products: the PIM answered 503" in ended.out
    (listed,) = orjson.loads((await command(firestore, "pims", "list", "--json")).out)
    assert listed["feed"] == {"problems": {"products": "the PIM answered 503"}}
    await feed(firestore, "--off")
    assert "feeds" not in (await command(firestore, "doctor")).out
    (listed,) = orjson.loads((await command(firestore, "pims", "list", "--json")).out)
    assert "feed" not in listed


async def test_doctor_names_feeds_that_nobody_reads_and_entries_that_are_ignored(
    firestore: Firestore,
) -> None:
    await feed(firestore, *WHO, has_key=True)
    await feeds.set_due(firestore, await stored(firestore), START)
    ended = await command(firestore, "doctor")
    assert ended.status == 1
    assert "1 feed due for 15 minutes and not read: the stack needs a `feedKey`" in ended.out
    entry, *_ = await firestore.client.collection("tenants").get()
    await entry.reference.update({"document": "{}"})
    document, *_ = await firestore.client.collection("feeds").get()
    await document.reference.update({"document": "{}"})
    ended = await command(firestore, "doctor")
    assert f"the functions ignore {PIM}" in ended.out
    assert f"{PIM}: its settings cannot be understood" in ended.out


async def test_a_feed_of_a_pim_in_the_stacks_list_is_set_up(firestore: Firestore) -> None:
    listed = "https://listed.example.com"
    settings = {"AEP_FEED_KEY": base64.b64encode(KEY).decode(), "AEP_PIMS": f'[{{"url": "{listed}"}}]'}
    with mock.patch.object(sys, "stdin", io.StringIO("the-secret\nthe-password\n")):
        ended = await command(firestore, "pims", "feed", listed, *WHO, **settings)
    assert ended.status == 0, ended.err
    assert await feeds.stored_feed(firestore, listed, SEAL) is not None


async def test_a_pim_that_is_removed_takes_its_feed_along(firestore: Firestore) -> None:
    await feed(firestore, *WHO, has_key=True)
    place = ("--google", firestore.client.project)
    assert (await asyncio.to_thread(run, "pims", "remove", PIM, *place)).status == 0
    assert await feeds.stored_feed(firestore, PIM, SEAL) is None
