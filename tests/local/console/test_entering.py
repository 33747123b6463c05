"""Entering the console, and the headers of every answer."""

import time
from pathlib import Path

import pytest
import structlog
from starlette.requests import Request

from aep.console.address import Address
from aep.console.answers import FORM_BYTES, HEADERS, read_form
from aep.serving.server import Tls
from event_platform.domain import front_door
from event_platform.domain.front_door import ADDRESS_BURST
from support.console import ConsoleHere, console_here

PAGES = ["/console", "/console/subscriptions", "/console/live/overview"]


@pytest.mark.parametrize("path", PAGES)
async def test_whoever_is_not_signed_in_sees_how_to(here: ConsoleHere, path: str) -> None:
    async with here.stranger() as stranger:
        page = await stranger.get(path)

    assert page.status == 401
    assert "aep console" in page.words
    assert "Subscriptions" not in page.words


async def test_looking_at_a_link_does_not_use_it_up(here: ConsoleHere) -> None:
    token = here.console.site.links.issue()
    async with here.stranger() as prefetcher, here.stranger() as reader:
        for _ in range(2):
            shown = await prefetcher.get(f"/console/enter?token={token}")
            assert (shown.status, "Open the console" in shown.words) == (200, True)
            assert not prefetcher.session.cookie_jar.filter_cookies(shown.url)  # type: ignore[arg-type]
        entered = await reader.post("/console/enter", {"token": token})
        again = await prefetcher.post("/console/enter", {"token": token})

    assert (entered.status, entered.url) == (200, f"{here.url}/console")
    assert (again.status, "used already" in again.words) == (401, True)


async def test_the_cookie_is_kept_from_scripts_and_from_other_sites(here: ConsoleHere) -> None:
    token = here.console.site.links.issue()
    async with here.stranger() as reader:
        page = await reader.post("/console/enter", {"token": token}, allow_redirects=False)

    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("aep_console=")
    assert {"HttpOnly", "SameSite=strict", "Max-Age=43200", "Path=/"} <= set(cookie.split("; "))


async def test_over_tls_the_cookie_is_bound_to_its_host(tmp_path: Path) -> None:
    async with console_here(tmp_path, url="https://console.example.com") as here, here.stranger() as reader:
        token = here.console.site.links.issue()
        page = await reader.post("/console/enter", {"token": token}, allow_redirects=False)

    assert page.headers["Set-Cookie"].startswith("__Host-aep_console=")
    assert "Secure" in page.headers["Set-Cookie"]
    assert page.headers["Strict-Transport-Security"]
    assert here.console.link().startswith("https://console.example.com/console/enter?token=")


@pytest.mark.parametrize("path", ["/console/enter", "/console", "/console/static/x/y", "/nothing"])
async def test_every_answer_has_the_headers(here: ConsoleHere, path: str) -> None:
    async with here.stranger() as reader:
        page = await reader.get(path)

    assert {name: page.headers.get(name) for name in HEADERS} == dict(HEADERS)
    assert "unsafe" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example.com", 421),
        ("127.0.0.1.evil.example.com", 421),
        ("", 421),
        ("[::1", 421),
        ("localhost:9999", 401),
        ("127.0.0.1", 401),
        ("[::1]:8090", 401),
    ],
)
async def test_the_console_answers_to_its_own_names(here: ConsoleHere, host: str, status: int) -> None:
    async with here.stranger() as reader:
        page = await reader.get("/console", headers={"Host": host})

    assert page.status in (status, 400 if not host else status)


async def test_a_form_of_another_page_changes_nothing(here: ConsoleHere) -> None:
    async with here.reader() as reader, here.reader() as other:
        foreign = await other.form_token()
        for token in ("", "x", foreign):
            page = await reader.post("/console/leave", {"csrf": token})
            assert page.status == 403
        assert (await reader.get("/console")).status == 200


@pytest.mark.parametrize("other", ['prefs={"a":1}', "x[y]=1", "a b=1", 'n="', "=", "é=1"])
async def test_cookies_of_other_servers_on_the_host_keep_nobody_out(here: ConsoleHere, other: str) -> None:
    async with here.reader() as reader, here.stranger() as plain:
        (cookie,) = reader.session.cookie_jar
        header = f"{other}; {cookie.key}={cookie.value}"
        assert (await plain.get("/console", headers={"Cookie": header})).status == 200


async def test_a_session_that_was_left_is_over_with_its_cookie(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        kept = {each.key: each.value for each in reader.session.cookie_jar}
        await reader.submit("/console/leave")
        async with here.stranger() as thief:
            thief.session.cookie_jar.update_cookies(kept)
            assert (await thief.get("/console", cookies=kept)).status == 401
        assert (await reader.get("/console")).status == 401


async def test_a_session_that_was_left_is_over_after_a_restart_too(tmp_path: Path) -> None:
    async with console_here(tmp_path) as here, here.reader() as reader, here.reader() as other:
        left, stays = ({each.key: each.value for each in one.session.cookie_jar} for one in (reader, other))
        await reader.submit("/console/leave")
    async with console_here(tmp_path) as here, here.stranger() as thief:
        assert (await thief.get("/console", cookies=left)).status == 401
        assert (await thief.get("/console", cookies=stays)).status == 200


async def test_a_session_outlives_a_restart(tmp_path: Path) -> None:
    async with console_here(tmp_path) as here, here.reader() as reader:
        cookies = {each.key: each.value for each in reader.session.cookie_jar}
    async with console_here(tmp_path) as here, here.stranger() as reader:
        assert (await reader.get("/console", cookies=cookies)).status == 200


@pytest.mark.provokes("console.link_refused")
async def test_wrong_links_and_sessions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "ADDRESS_PER_SECOND", 0.001)  # however long the test takes
    async with console_here(tmp_path) as here, here.stranger() as stranger, here.reader() as reader:
        statuses = [
            (await stranger.post("/console/enter", {"token": f"wrong-{number}"})).status
            for number in range(ADDRESS_BURST + 1)
        ]
        cookie = {"aep_console": "wrong"}
        refused = await stranger.get("/console", cookies=cookie)
        assert (await reader.get("/console")).status == 200  # who has a session is not kept out
        good = await stranger.post("/console/enter", {"token": here.console.site.links.issue()})

    assert statuses == [401] * ADDRESS_BURST + [429]
    assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (429, True)
    assert good.status == 200


async def test_no_token_is_logged(here: ConsoleHere) -> None:
    token = here.console.site.links.issue()
    with structlog.testing.capture_logs() as lines:
        async with here.stranger() as reader:
            await reader.get(f"/console/enter?token={token}")
            await reader.post("/console/enter", {"token": token})
            await reader.post("/console/enter", {"token": token})

    assert {line["event"] for line in lines} == {"console.entered", "console.link_refused"}
    assert token not in repr(lines)


async def test_a_page_that_is_none_and_a_form_that_is_none(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        missing = await reader.get("/console/nothing")
        method = await reader.submit("/console/subscriptions")
        no_form = await reader._ask("POST", "/console/leave", json={"csrf": "x"})

    assert (missing.status, "There is no such page." in missing.words) == (404, True)
    assert method.status == 405
    assert no_form.status == 415


async def test_a_long_form_holds_up_nobody() -> None:
    body = b"event=" + b"%" * (FORM_BYTES - 6)
    headers = [(b"content-type", b"application/x-www-form-urlencoded")]

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    began = time.thread_time()
    form = await read_form(request)

    assert len(form["event"]) == FORM_BYTES - 6
    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize(
    ("address", "is_good"),
    [
        (Address("127.0.0.1", 8090), True),
        (Address("::1", 8090), True),
        (Address("localhost", 8090), True),
        (Address("0.0.0.0", 0), True),  # noqa: S104
        (Address("0.0.0.0", 8090), False),  # noqa: S104
        (Address("0.0.0.0", 8090, Tls(Path("cert"), Path("key"))), False),  # noqa: S104 - it has no name then
        (Address("::", 8090, Tls(Path("cert"), Path("key"))), False),
        (Address("::", 8090, Tls(Path("cert"), Path("key")), "https://console.example.com"), True),
        (Address("192.0.2.1", 8090, Tls(Path("cert"), Path("key"))), True),
        (Address("192.0.2.1", 8090, Tls(Path("cert"), Path("key")), "http://console.example.com"), False),
        (Address("192.0.2.1", 8090, url="http://console.example.com"), False),
        (Address("192.0.2.1", 8090, url="https://console.example.com"), True),
    ],
)
def test_other_machines_need_tls(address: Address, is_good: bool) -> None:
    assert (address.problem() is None) == is_good
