"""The console of a project: its pages over Google's emulators of Firestore and Pub/Sub."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from unittest import mock

import pytest

from aep.console import operations
from aep.console.app import Console, Shell
from aep.console.on_google import pages
from aep.console.on_google import records as on_google
from aep.console.on_google.links import lines
from aep.console.on_google.records import SORTS, ProjectRecords
from aep.console.on_google.serving import build, place_of
from aep.google import dead_letters, replaying
from aep.serving import server
from aep.store.listing import Sort
from contract.suites.retry_schedule import a_delivery
from event_platform.adapters.firestore import feeds, tenants
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.feeds import FirestoreFeedStore
from event_platform.adapters.firestore.replays import FirestoreReplays
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts
from event_platform.adapters.pubsub.publisher import PubSubPublisher
from event_platform.adapters.seal import AesGcmSeal, KeylessSeal
from event_platform.domain.feeds import ResourceName, ResourceState
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_message
from event_platform.domain.pace.rates import Limits
from event_platform.domain.record.logs import DeliveryEnd, LogQuery, Operation
from event_platform.domain.subscriptions import Subscription, suspend
from event_platform.domain.suspension import Count, minute_of, series_of
from event_platform.domain.tenants import Tenant
from event_platform.domain.timestamps import to_rfc3339
from event_platform.ports import FeedStep, Seal
from event_platform.push import Pushed, dead_letter
from support.browser import WIDTHS, watched
from support.clock import START, ManualClock
from support.console import Reader, signed_in, stranger
from support.feeding import a_feed
from support.pubsub_project import Project
from support.records import OWNER, subscribed

SEAL = AesGcmSeal(bytes(range(32)))
SECRETS = AesGcmSeal(b"k" * 32)
PIM = "https://new.example.com"
HOSTILE = "<script>alert(1)</script>"
DELIVERIES = "deliveries-0"

OPERATION = re.compile(r'<span class="status (?:bad)?">([a-z_]+)</span>')
OLDER = re.compile(r'class="paging"><a href="([^"]+)"')
Opens = Callable[..., AbstractAsyncContextManager[Reader]]


@asynccontextmanager
async def served(firestore: Firestore, seal: Seal | None = None) -> AsyncIterator[tuple[str, Console[Shell]]]:
    """The console of the project in this process, and its URL."""
    clock = ManualClock()
    records = ProjectRecords(firestore, clock, Limits(), seal=seal)
    with server.listen("127.0.0.1", 0) as listener:
        url = server.url_of(listener)
        console = build(records, place_of(listener), clock, "https://in.example.com/ingest")
        async with server.running_on(listener, console, by_address=False):
            yield url, console


@pytest.fixture
def opens(firestore: Firestore) -> Opens:
    """Opens the console in a browser that is signed in."""

    @asynccontextmanager
    async def opened(seal: Seal | None = None) -> AsyncIterator[Reader]:
        async with served(firestore, seal) as (url, console), signed_in(url, console) as reader:
            yield reader

    return opened


@pytest.fixture
async def two(firestore: Firestore) -> tuple[Subscription, Subscription]:
    """Two subscriptions; the second is suspended, the first has failed, succeeded, and waits."""
    clock = ManualClock()
    store = FirestoreSubscriptions(firestore, SECRETS, clock)
    first, second = await subscribed(store, 2)
    delivery = replace(a_delivery(), subscription_id=first.id, accepted_at=START)
    await FirestoreRetrySchedule(firestore, clock).schedule(delivery, START)
    ended = DeliveryEnd(Operation.FAILED, f"no more retries {HOSTILE}", START)
    await FirestoreEndLog(firestore, store, clock).record(delivery, ended)
    await FirestoreSuccessCounts(firestore).add({series_of(first): {minute_of(START): Count(3, 1)}})
    await store.change_subscription(
        second.owner, second.subscriber_id, second.id, lambda before: suspend(before, START)
    )
    return first, second


async def test_the_overview_counts_and_links_to_what_is_live(
    opens: Opens, two: tuple[Subscription, Subscription], project: str
) -> None:
    async with opens() as reader:
        page = await reader.get("/console")
        assert page.status == 200
        assert "Active subscriptions 1 Suspended 1 look at them Revoked 0 PIMs 0" in page.words
        for link in ("monitoring/dashboards?project=", "monitoring/alerting?project="):
            assert f'href="https://console.cloud.google.com/{link}{project}"' in page.text
        assert "ingest.refused" in page.text
        assert 'href="/console/help/operate#alerts"' in page.text
        assert (await reader.get("/console/help/operate")).status == 200
        assert "sse-connect" not in page.text


async def test_what_is_not_there_is_no_page_and_no_link(opens: Opens) -> None:
    async with opens() as reader:
        text = (await reader.get("/console")).text
        for path in ("/console/events", "/console/health", "/console/try"):
            assert f'href="{path}"' not in text
            assert (await reader.get(path)).status == 404


async def test_the_table_is_filtered_and_has_the_figures_of_a_project(
    opens: Opens, two: tuple[Subscription, Subscription]
) -> None:
    first, second = two
    async with opens() as reader:
        page = await reader.get("/console/subscriptions")
        assert (first.id in page.text, second.id in page.text) == (True, True)
        assert page.text.index(second.id) < page.text.index(first.id), "the newest is first"
        assert "no more retries &lt;script&gt;" in page.text
        assert HOSTILE not in page.text
        assert "Pub/Sub does not say" in page.text
        assert "sort=failed" not in page.text
        suspended = (await reader.get("/console/subscriptions?status=suspended")).text
        assert (first.id in suspended, second.id in suspended) == (False, True)
        found = (await reader.get(f"/console/subscriptions?q={first.id.upper()}")).text
        assert (first.id in found, second.id in found) == (True, False)
        part = await reader.get("/console/subscriptions?sort=status", headers={"HX-Request": "true"})
        assert "<html" not in part.text
        assert part.text.index(second.id) < part.text.index(first.id)


async def test_the_table_is_sorted_by_what_a_list_has(
    opens: Opens, two: tuple[Subscription, Subscription]
) -> None:
    first, second = two
    async with opens() as reader:
        for sort in Sort:
            texts = [
                (await reader.get(f"/console/subscriptions?sort={sort}{turned}")).text
                for turned in ("", "&turned=yes")
            ]
            assert all(first.id in text and second.id in text for text in texts)
            assert ["aria-sort=" in text for text in texts] == [sort in SORTS] * 2
        waiting, others = [
            (await reader.get(f"/console/subscriptions?sort=waiting{turned}")).text
            for turned in ("", "&turned=yes")
        ]

    assert waiting.index(first.id) < waiting.index(second.id)
    assert others.index(second.id) < others.index(first.id)


async def test_the_page_of_a_subscription_shows_all_but_secrets_and_no_dead_button(
    opens: Opens, two: tuple[Subscription, Subscription], project: str
) -> None:
    first, second = two
    async with opens() as reader:
        page = await reader.get(f"/console/subscriptions/{first.id}")
        assert page.status == 200
        assert (
            "Delivered 3 in the last hour Failed attempts 1 in the last hour Success rate 75 %" in page.words
        )
        assert "Waiting 1 retries alone" in page.words
        assert HOSTILE not in page.text
        assert "data-chart" in page.text
        assert lines(project, f'jsonPayload.subscription_id="{first.id}"') in page.text
        for act in ("test", "explain", "suspend", "retry", "delete", "url", "live"):
            assert f'"/console/subscriptions/{first.id}/{act}"' not in page.text
            assert (await reader.get(f"/console/subscriptions/{first.id}/{act}")).status == 404
        assert f"{second.id}/replay" not in (await reader.get(f"/console/subscriptions/{second.id}")).text
        assert (await reader.get("/console/subscriptions/nobody")).status == 404


async def test_the_log_is_of_all_clients_in_pages_or_of_one_subscription(
    opens: Opens,
    two: tuple[Subscription, Subscription],
    firestore: Firestore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operations, "LOG_PAGE", 1)
    async with opens() as reader:
        seen: list[str] = []
        path: str | None = "/console/log"
        while path:
            page = await reader.get(path)
            seen += OPERATION.findall(page.text)
            older = OLDER.search(page.text)
            path = None if older is None else unescape(older[1])
        every = await on_google.overview.entries(firestore, LogQuery(limit=99))
        assert seen == [each.operation for each in every]
        assert {"failed_to_deliver_event", "subscription_suspended_by_the_platform"} <= set(seen)
        of_first = await reader.get(f"/console/log?subscription={two[0].id}&type=error")
        assert "failed_to_deliver_event" in of_first.text.partition("<tbody>")[2]
        assert "No entry is like that" in (await reader.get("/console/log?subscription=nobody")).text


async def test_a_replay_is_started_as_the_operators(
    opens: Opens,
    two: tuple[Subscription, Subscription],
    firestore: Firestore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def a_day(project: str) -> int:
        return 86_400

    monkeypatch.setattr(replaying, "_kept_for", a_day)
    first, second = two
    await tenants.put(firestore, Tenant(url=OWNER.tenant), KeylessSeal())
    path = f"/console/subscriptions/{first.id}/replay"
    async with opens() as reader:
        assert "not stored which of them arrived" in (await reader.get(path)).text
        wrong = await reader.submit(path, {"from": "yesterday"})
        assert (wrong.status, "yesterday" in wrong.text) == (400, True)
        early = await reader.submit(path, {"from": "2020-01-01T00:00:00Z"})
        assert (early.status, "older is not kept" in early.text) == (400, True)
        hour = {"from": to_rfc3339(datetime.now(UTC) - timedelta(hours=1))}
        done = await reader.submit(path, hour)
        assert "The replay has started." in done.words
        assert "running" in done.text
        assert "by_the_operator" in (await reader.get("/console/log")).text.partition("<tbody>")[2]
        again = await reader.submit(path, hour)
        assert (again.status, "is running" in again.text) == (409, True)
        assert (await reader.submit(path.replace(first.id, second.id), hour)).status == 409
    subscriptions = FirestoreSubscriptions(firestore, SECRETS, ManualClock())
    (replay,) = await FirestoreReplays(firestore, subscriptions, ManualClock()).replays(first.id)
    assert replay.asked.which == "all"


async def test_a_pim_is_added_and_changed_and_its_secrets_are_shown_once(
    opens: Opens, firestore: Firestore
) -> None:
    async with opens(SEAL) as reader:
        added = await reader.submit("/console/pims/add", {"url": PIM, "auth": "platform-key"})
        assert "Ingest key, shown only now" in added.words
        assert "https://in.example.com/ingest/relay/" in added.text
        page = await reader.get(f"/console/pims/one?name={PIM}")
        assert "shown only now" not in page.text
        assert "Last event" not in page.text
        await reader.submit("/console/pims/one/rotate-ingest", {"name": PIM})
        issued = await reader.submit("/console/pims/one/issue", {"name": PIM, "client": "erp"})
        assert "X-PIM-TOKEN of erp" in issued.words
    (stored,) = [tenants.entry_of(each) for each in await tenants.stored_entries(firestore)]
    assert stored.name == PIM
    async with opens() as reader:  # without the key
        page = await reader.get(f"/console/pims/one?name={PIM}")
        assert "AEP_REGISTRY_KEY" in page.text
        assert "rotate-ingest" not in page.text
        refused = await reader.submit("/console/pims/one/rotate-ingest", {"name": PIM})
        assert (refused.status, "AEP_REGISTRY_KEY" in refused.text) == (400, True)
        assert (await reader.submit("/console/pims/add", {"url": "https://other.example.com"})).status == 400
        await reader.submit("/console/pims/one/revoke", {"name": PIM, "client": "erp"})
    async with opens(SEAL) as reader:
        assert "None is listed." in (await reader.get(f"/console/pims/one?name={PIM}")).text
        await feeds.put(firestore, a_feed(PIM), SEAL)
        state = ResourceState(cursor=START, stage="changes", sent=7, error=HOSTILE, succeeded_at=START)
        step = FeedStep(feed=a_feed(PIM), resource=ResourceName.PRODUCTS, state=state)
        await FirestoreFeedStore(firestore, mock.AsyncMock()).commit(step)
        page = await reader.get(f"/console/pims/one?name={PIM}")
        assert f" 7 {HOSTILE} " in page.words
        assert HOSTILE not in page.text
        await reader.submit("/console/pims/one/remove", {"name": PIM})
        assert await feeds.stored_feed(firestore, PIM, SEAL) is None
        assert "No PIM is known yet" in (await reader.get("/console/pims")).text


@pytest.fixture
async def pubsub(pubsub_host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Project]:
    """A topic of deliveries, and that of dead letters."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
    monkeypatch.setattr(dead_letters, "PULL_SECONDS", 0.2)
    opened = Project(pubsub_host, project)
    await opened.create_topic(DELIVERIES)
    await opened.create_topic(DEAD_LETTERS_TOPIC)
    yield opened
    await opened.close()


async def test_dead_letters_are_listed_and_go_back_to_their_topic(
    opens: Opens, pubsub: Project, project: str
) -> None:
    origin = f"projects/{project}/subscriptions/{DELIVERIES}"
    message = delivery_message(replace(a_delivery(), event_id=HOSTILE))
    letter = dead_letter(Pushed(message, "7", origin, 100), "KeyError 100 times")
    stray = replace(message, attributes={"dead_letter_reason": "no one knows"}, data=b"{")
    await PubSubPublisher(project, pubsub.client).publish(DEAD_LETTERS_TOPIC, [letter, stray])
    async with opens() as reader:
        page = await reader.get("/console/dead")
        assert ("KeyError 100 times" in page.text, HOSTILE in page.text) == (True, False)
        assert "/console/dead/drop" not in page.text
        ids = [each.partition('"')[0] for each in page.text.split('name="id" value="')[1:]]
        asked = await reader.get(f"/console/dead/replay?id={ids[0]}&id={ids[1]}")
        assert "Replay 2 dead letters" in asked.words
        done = await reader.submit("/console/dead/replay", {"ids": ",".join(ids)})
        assert "1 dead letter went back" in done.words
        assert "it does not say which push subscription it came from" in done.words
        assert (await reader.submit("/console/dead/replay", {"ids": "1" * 65})).status == 400
        assert (await reader.submit("/console/dead/replay", {"ids": "unknown"})).status == 404
    assert len(await pubsub.pull(DELIVERIES, 1)) == 1


async def test_what_google_refuses_is_said_on_the_page(
    opens: Opens, pubsub_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
    async with opens() as reader:
        page = await reader.get("/console/dead")
        missing = f"There is no subscription projects/{project}/subscriptions/{DEAD_LETTERS_TOPIC}"
        assert (page.status, missing in page.words) == (503, True)


async def test_the_way_in_is_that_of_one_machine(opens: Opens, project: str) -> None:
    async with opens() as reader:
        assert (await reader.get("/console", headers={"Host": "evil.example.com"})).status == 421
        assert (await reader.post("/console/pims/add", {"url": PIM})).status == 403
        policy = (await reader.get("/console")).headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        async with stranger(reader.url) as outside:
            page = await outside.get("/console")
            assert (page.status, f"aep console --google {project}" in page.text) == (401, True)


async def test_a_browser_is_in_two_consoles_at_once_and_a_session_is_of_one(firestore: Firestore) -> None:
    async with (
        served(firestore) as (url, console),
        served(firestore) as (other_url, other),
        signed_in(url, console) as reader,
    ):
        assert (await reader.get("/console")).status == 200
        elsewhere = Reader(other_url, reader.session)
        assert (await elsewhere.get("/console")).status == 401
        token = other.site.links.issue()
        assert (await elsewhere.post("/console/enter", {"token": token})).status == 200
        assert (await reader.get("/console")).status == 200
    _, cookie = console.site.sessions.begin()
    assert console.site.sessions.of_cookie(cookie) is not None
    assert other.site.sessions.of_cookie(cookie) is None, "the key is of one process"


async def test_an_entry_that_cannot_be_understood_is_named(opens: Opens, firestore: Firestore) -> None:
    await firestore.client.collection("tenants").document("x").set({"name": HOSTILE, "document": "{"})
    async with opens() as reader:
        page = await reader.get("/console")
        assert (f"The entry of {HOSTILE} cannot be understood" in page.words, HOSTILE in page.text) == (
            True,
            False,
        )


async def test_a_list_is_read_again_when_it_is_old(firestore: Firestore) -> None:
    clock = ManualClock()
    records = ProjectRecords(firestore, clock, Limits())
    assert sum((await records.by_status()).values()) == 0
    await subscribed(FirestoreSubscriptions(firestore, SECRETS, ManualClock()), 1)
    assert sum((await records.by_status()).values()) == 0
    await clock.advance(timedelta(seconds=on_google.FRESH_SECONDS).total_seconds())
    assert sum((await records.by_status()).values()) == 1


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_can_be_read_in_a_browser(
    firestore: Firestore, two: tuple[Subscription, Subscription], pubsub: Project, tmp_path: Path, scheme: str
) -> None:
    letter = Message(b"{", {"dead_letter_reason": HOSTILE})
    await PubSubPublisher(pubsub.name, pubsub.client).publish(DEAD_LETTERS_TOPIC, [letter])
    await tenants.put(firestore, Tenant(url=PIM), KeylessSeal())
    one = f"/console/subscriptions/{two[0].id}"
    dead = "/console/dead/replay?id=1"
    pim = f"/console/pims/one?name={PIM}"
    async with served(firestore) as (url, console), watched(tmp_path / "console") as browser:
        page = await browser.page(scheme=scheme)
        await page.goto(console.link())
        await page.get_by_role("button", name="Open the console").click()
        await page.wait_for_url("**/console")
        for number, path in enumerate([*pages.MENU, one, f"{one}/replay", dead, pim]):
            for width in WIDTHS:
                await page.set_viewport_size({"width": width, "height": 900})
                await page.goto(url + path)
                await browser.check(page, f"{number}-{width}-{scheme}")
