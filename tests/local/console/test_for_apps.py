"""The console of who develops an app, on the public port."""

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path

import aiohttp
import orjson
import pytest

from aep.console.answers import HEADERS
from aep.console.first_page import with_app_console
from aep.serving import server
from event_platform.domain import front_door
from event_platform.domain.front_door import ADDRESS_BURST
from event_platform.domain.subscriptions import Owner
from event_platform.manage import trials
from support.console import FORM_TOKEN, ConsoleHere, Reader, console_here
from support.processes import free_port
from support.records import PIM, PRIMARY, UPDATED, an_event

KEY = "the-platform-key-of-the-tests"
CREATED = "com.akeneo.pim.v1.product.created"
TYPED = {"X-PIM-URL": PIM, "X-PIM-CLIENT-ID": "erp", "X-PIM-TOKEN": KEY}


@asynccontextmanager
async def platform(folder: Path) -> AsyncIterator[tuple[ConsoleHere, str]]:
    """A platform whose public port has the console for apps; its URL."""
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    clients = [{"client_id": each, "key_sha256": digest} for each in ("erp", "other")]
    listed = orjson.dumps([{"url": PIM, "auth": "platform-key", "clients": clients}]).decode()
    async with (
        console_here(folder, pims=listed) as here,
        server.running(with_app_console(here.platform.app, here.platform.parts)) as url,
    ):
        yield here, url


@pytest.fixture
async def public(tmp_path: Path) -> AsyncIterator[tuple[ConsoleHere, str]]:
    async with platform(tmp_path) as running:
        yield running


@asynccontextmanager
async def reader_of(url: str) -> AsyncIterator[Reader]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Reader(url, session)


async def test_who_signs_in_sees_what_is_theirs_and_nothing_else(public: tuple[ConsoleHere, str]) -> None:
    here, url = public
    (mine,) = await here.subscribe(1, Owner(PIM, "erp"), filter=None)
    (foreign,) = await here.subscribe(1, Owner(PIM, "other"), filter=None, url="https://other.example.com/x")
    await here.platform.parts.manage.intake.accept(PIM, [an_event(1)])
    async with reader_of(url) as reader:
        form = await reader.get("/console/app")
        entered = await reader.post("/console/app/enter", TYPED)
        one = await reader.get(f"/console/app/{mine.subscriber_id}/{mine.id}")
        pages = [
            entered,
            one,
            await reader.get("/console/app/log"),
            await reader.get("/console/app/events"),
            await reader.get("/console/app/events/one?id=event-1"),
        ]
        others = await reader.get(f"/console/app/{foreign.subscriber_id}/{foreign.id}")

    assert "Sign in" in form.words
    assert [page.status for page in pages] == [200] * 5
    assert mine.id in entered.words
    assert "https://erp.example.com/events" in one.words
    for page in pages:
        assert foreign.id not in page.text
        assert PRIMARY not in page.text
        assert KEY not in page.text
        assert {name: page.headers.get(name) for name in HEADERS} == dict(HEADERS)
    assert others.status == 404


@pytest.mark.parametrize("event_id", ["a/b", "<script>1", "50%41?x=#y", "an id", "\u00e9"])
async def test_an_event_of_any_id_is_shown(public: tuple[ConsoleHere, str], event_id: str) -> None:
    here, url = public
    await here.subscribe(1, Owner(PIM, "erp"), filter=None)
    await here.platform.parts.manage.intake.accept(PIM, [replace(an_event(1), id=event_id)])
    async with reader_of(url) as reader:
        await reader.post("/console/app/enter", TYPED)
        one = await reader.get("/console/app/events/one", params={"id": event_id})

    assert (one.status, event_id in one.words) == (200, True)


async def test_the_cookie_holds_nothing_that_can_be_read(public: tuple[ConsoleHere, str]) -> None:
    _, url = public
    async with reader_of(url) as reader:
        page = await reader.post("/console/app/enter", TYPED, allow_redirects=False)

    cookie = page.headers["Set-Cookie"]
    assert KEY not in cookie
    assert "erp" not in cookie.partition(";")[0]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))


async def test_wrong_credentials_are_bounded_as_those_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "ADDRESS_PER_SECOND", 0.001)  # however long the test takes
    async with platform(tmp_path) as (_, url), reader_of(url) as reader:
        statuses = [
            (await reader.post("/console/app/enter", TYPED | {"X-PIM-TOKEN": f"wrong-{number}"})).status
            for number in range(ADDRESS_BURST + 1)
        ]
        api = await reader.get("/api/v1/subscribers", headers=TYPED | {"X-PIM-TOKEN": "also wrong"})
        good = await reader.post("/console/app/enter", TYPED)

    assert statuses == [401] * ADDRESS_BURST + [429]
    assert api.status == 429
    assert good.status == 200


@pytest.mark.parametrize(
    "typed",
    [{}, {"X-PIM-URL": "x"}, TYPED | {"X-PIM-TOKEN": "ü\r\nX: y"}, TYPED | {"X-PIM-TOKEN": "x" * 2500}],
)
async def test_what_is_typed_wrongly_is_refused(
    public: tuple[ConsoleHere, str], typed: dict[str, str]
) -> None:
    _, url = public
    async with reader_of(url) as reader:
        page = await reader.post("/console/app/enter", typed)

    assert page.status in (401, 413)
    assert "Set-Cookie" not in page.headers or 'aep_app=""' in page.headers["Set-Cookie"]


async def test_a_form_of_a_stranger_is_short(public: tuple[ConsoleHere, str]) -> None:
    _, url = public
    async with reader_of(url) as reader:
        for path in ("enter", "leave"):
            page = await reader.post(f"/console/app/{path}", {"other": "x" * 20_000})
            assert (page.status, page.headers["X-Frame-Options"]) == (413 if path == "enter" else 401, "DENY")


async def test_forms_of_other_sites_do_nothing(
    public: tuple[ConsoleHere, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "SECONDS_BETWEEN_TESTS", 3600)
    here, url = public
    (mine,) = await here.subscribe(1, Owner(PIM, "erp"), url=f"http://127.0.0.1:{free_port()}/hook")
    path = f"/console/app/{mine.subscriber_id}/{mine.id}"
    async with reader_of(url) as reader:
        foreign = await reader.post("/console/app/enter", TYPED, headers={"Sec-Fetch-Site": "cross-site"})
        await reader.post("/console/app/enter", TYPED)
        refused = await reader.post(f"{path}/test", {"csrf": "x"})
        token = FORM_TOKEN.search((await reader.get(path)).text)
        assert token is not None
        tested = await reader.post(f"{path}/test", {"csrf": token[1], "type": UPDATED})
        again = await reader.post(f"{path}/test", {"csrf": token[1]})
        await reader.post("/console/app/leave", {"csrf": token[1]})
        left = await reader.get("/console/app/log")

    assert (foreign.status, refused.status, again.status, left.status) == (403, 403, 429, 401)
    assert "connection_refused" in tested.words
    assert f'"type":"{UPDATED}"' in tested.words


async def test_a_session_that_was_left_is_over_with_its_cookie(tmp_path: Path) -> None:
    async with platform(tmp_path) as (_, url), reader_of(url) as reader, reader_of(url) as thief:
        await reader.post("/console/app/enter", TYPED)
        (cookie,) = reader.session.cookie_jar
        stolen = {cookie.key: cookie.value}
        token = FORM_TOKEN.search((await reader.get("/console/app")).text)
        assert token is not None
        assert (await thief.get("/console/app/log", cookies=stolen)).status == 200
        await reader.post("/console/app/leave", {"csrf": token[1]})
        assert (await thief.get("/console/app/log", cookies=stolen)).status == 401
    async with platform(tmp_path) as (_, url), reader_of(url) as thief:
        assert (await thief.get("/console/app/log", cookies=stolen)).status == 401


async def test_the_lists_are_narrowed_as_the_api_does(public: tuple[ConsoleHere, str]) -> None:
    here, url = public
    (mine,) = await here.subscribe(1, Owner(PIM, "erp"), filter=None)
    await here.platform.parts.manage.intake.accept(PIM, [an_event(1)])
    one, shown = "/console/app/events/one?id=event-1", []
    async with reader_of(url) as reader:
        await reader.post("/console/app/enter", TYPED)
        for query in (
            f"type={UPDATED}",
            f"type={CREATED}",
            f"subscription_id={mine.id}&from=2020-01-01",
            "to=2020-01-01",
            "outcome=ended",
        ):
            page = await reader.get(f"/console/app/events?{query}")
            shown.append((page.status, one in page.text))
        by_id = await reader.get("/console/app/events?id=event-1")
        wrong = [
            await reader.get(f"/console/app/{path}")
            for path in ("events?from=yesterday", "events?entity=x", "log?to=yesterday", "log?cursor=x")
        ]
        log = [
            (await reader.get(f"/console/app/log?{query}")).text
            for query in (f"subscription_id={mine.id}", "log_type=error", "from=2999-01-01")
        ]

    assert shown == [(200, True), (200, False), (200, True), (200, False), (200, False)]
    assert by_id.url.endswith(one)
    assert [page.status for page in wrong] == [400] * 4
    assert "From: not an RFC 3339" in wrong[0].words
    assert 'value="yesterday"' in wrong[0].text
    assert [f'{mine.id}">' in text for text in log] == [True, False, False]


async def test_more_of_a_list_keeps_its_filters(public: tuple[ConsoleHere, str]) -> None:
    here, url = public
    await here.platform.parts.manage.intake.accept(PIM, [an_event(number) for number in range(1, 61)])
    async with reader_of(url) as reader:
        await reader.post("/console/app/enter", TYPED)
        first = await reader.get(f"/console/app/events?type={UPDATED}")
        older = re.search(r'class="paging"><a href="([^"]*)"', first.text)
        assert older is not None
        second = await reader.get(unescape(older[1]))

    assert f"type={UPDATED}" in older[1]
    assert (first.text.count("<tr>"), second.text.count("<tr>")) == (51, 11)


async def test_a_key_that_was_taken_away_ends_the_session(tmp_path: Path) -> None:
    async with platform(tmp_path) as (_, url), reader_of(url) as reader:
        page = await reader.post("/console/app/enter", TYPED, allow_redirects=False)
        cookie = page.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    async with console_here(tmp_path, pims="[]") as here:
        app = with_app_console(here.platform.app, here.platform.parts)
        async with server.running(app) as url, reader_of(url) as reader:
            gone = await reader.get("/console/app", cookies={"aep_app": cookie})

    assert (gone.status, "sign in again" in gone.words) == (401, True)


async def test_the_api_is_as_it_was_and_without_it_nothing_is_there(public: tuple[ConsoleHere, str]) -> None:
    here, url = public
    async with reader_of(url) as reader:
        assert (await reader.get("/health")).status == 200
        assert (await reader.get("/console")).status == 404
        assert (await reader.get("/console/apple")).status == 404
    async with server.running(here.platform.app) as url, reader_of(url) as reader:
        for path in ("/console", "/console/app", "/console/enter", "/console/static/x/y"):
            assert (await reader.get(path)).status == 404
