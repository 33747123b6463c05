"""The console in Chromium, as a person uses it. Screenshots go to the folder `console` of each test."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from playwright.async_api import Page, Request, StorageState

from aep.console.first_page import with_app_console
from aep.serving import server
from event_platform.domain.subscriptions import Owner, Status
from event_platform.domain.tenants import Tenant
from support.browser import WIDTHS, watched
from support.console import ConsoleHere, console_here
from support.eventually import eventually
from support.records import PIM, an_event, with_data

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

KEY = "the-platform-key-of-the-tests"
HOSTILE = "<script>alert(1)</script>\u202e<img src=x onerror=alert(2)>"
PAGES = {
    "overview": "/console",
    "subscriptions": "/console/subscriptions",
    "events": "/console/events",
    "event": "/console/events/one?id=event-1",
    "pims": "/console/pims",
    "pim": "/console/pims/one?name=https%3A%2F%2Fpim.example.com",
    "dead": "/console/dead",
    "log": "/console/log",
    "health": "/console/health",
    "try": "/console/try",
    "sorted": "/console/subscriptions?sort=failed",
    "help": "/console/help",
    "what-to-do": "/console/help/run-on-one-server",
}
ACTS = ("test", "explain", "suspend", "replay", "url", "delete")


class Receiver:
    """A receiver that answers 503 at `/broken` and takes everything elsewhere."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Receiver"]:
        async def answer(request: web.Request) -> web.Response:
            await request.read()
            if request.path == "/broken":
                return web.Response(status=503, text=f"moved: {HOSTILE}")
            self.taken.append(request.path)
            return web.Response(status=204)

        application = web.Application()
        application.router.add_post("/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = "http://127.0.0.1:{1}".format(*runner.addresses[0])
        try:
            yield self
        finally:
            await runner.cleanup()


async def sign_in(here: ConsoleHere, page: Page) -> StorageState:
    """Opens the link that `aep console` prints; returns the cookies."""
    await page.goto(here.console.link().replace("localhost", "127.0.0.1"))
    await page.get_by_role("button", name="Open the console").click()
    await page.wait_for_url("**/console")
    return await page.context.storage_state()


async def add_pim(here: ConsoleHere) -> None:
    await here.console.site.records.change_pim(PIM, lambda before: Tenant.model_validate({"url": PIM}))


async def test_the_story_of_a_failing_subscription(tmp_path: Path) -> None:
    """An operator signs in, finds what fails, reads why, mends its URL, resumes it and sees it move."""
    async with (
        Receiver().serving() as receiver,
        console_here(tmp_path / "data") as here,
        watched(tmp_path / "console") as browser,
    ):
        await add_pim(here)
        await here.subscribe(url=f"{receiver.url}/good", filter=None)
        (broken,) = await here.subscribe(1, Owner(PIM, "dam"), url=f"{receiver.url}/broken", filter=None)
        intake = here.platform.parts.manage.intake
        await intake.accept(PIM, [an_event(1)])
        page = await browser.page()
        await sign_in(here, page)

        await eventually(lambda: here.platform.parts.meters.retries == 1)
        await page.reload()
        await browser.check(page, "story-1-overview")
        await page.get_by_role("link", name="/broken").click()
        await page.get_by_text("retryable: 503 destination_failure").first.wait_for()
        await browser.check(page, "story-2-why")

        await page.get_by_role("button", name="Suspend").click()
        await page.get_by_role("button", name="Suspend it").click()
        await page.get_by_text("It is suspended.").wait_for()
        await intake.accept(PIM, [an_event(2)])
        await page.get_by_role("button", name="Change the URL").click()
        await page.get_by_label("URL").fill(f"{receiver.url}/mended")
        await browser.check(page, "story-3-url")
        await page.get_by_role("button", name="Change it").click()
        await page.get_by_text("The URL is changed.").wait_for()
        await page.get_by_role("button", name="Resume").click()
        await page.get_by_label("is delivered first").check()
        await page.get_by_role("button", name="Resume it").click()
        await page.get_by_text("It is active again.").wait_for()

        await page.locator("#tail ~ div .delivered").first.wait_for()  # the live tail
        await eventually(lambda: receiver.taken.count("/mended") >= 1)
        await page.locator(".chart canvas").first.wait_for()
        await browser.check(page, "story-4-moves")
        mended = await here.platform.parts.subscriptions.current(broken.id)
        assert mended is not None
        assert mended.status is Status.ACTIVE


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_can_be_read(tmp_path: Path, scheme: str) -> None:
    """Each page in both schemes and three widths, with names and payloads of strangers who mean it ill."""
    async with (
        Receiver().serving() as receiver,
        console_here(tmp_path / "data") as here,
        watched(tmp_path / "console") as browser,
    ):
        await add_pim(here)
        (subscription,) = await here.subscribe(
            1, Owner(PIM, HOSTILE), url=f"{receiver.url}/broken", filter=None
        )
        data = {"product": {"uuid": HOSTILE}, "author": {"identifier": HOSTILE}, "big": "x" * 1_000_000}
        hostile = with_data(an_event(1, entity=HOSTILE), data)
        await here.platform.parts.manage.intake.accept(PIM, [hostile])
        await eventually(lambda: here.platform.parts.meters.retries == 1)
        one = f"/console/subscriptions/{subscription.id}"
        paths = {**PAGES, "subscription": one, **{f"act-{each}": f"{one}/{each}" for each in ACTS}}
        page = await browser.page(scheme=scheme)
        state = await sign_in(here, page)
        page.on("dialog", lambda dialog: browser.faults.append(f"a script ran: {dialog.message}"))
        for name, path in paths.items():
            await page.goto(here.url + path)
            await browser.check(page, f"{name}-{scheme}")
        for width in WIDTHS:
            narrow = await browser.page(scheme=scheme, width=width, state=state)
            for name, path in paths.items():
                await narrow.goto(here.url + path)
                too_wide = await narrow.evaluate("document.documentElement.scrollWidth > innerWidth")
                assert not too_wide, f"{name} at {width}"
            await narrow.screenshot(path=browser.folder / f"try-{width}-{scheme}.png")
            await narrow.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_for_apps_can_be_read(tmp_path: Path, scheme: str) -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    clients = [{"client_id": "erp", "key_sha256": digest}]
    listed = orjson.dumps([{"url": PIM, "auth": "platform-key", "clients": clients}]).decode()
    async with (
        console_here(tmp_path / "data", pims=listed) as here,
        server.running(with_app_console(here.platform.app, here.platform.parts)) as url,
        watched(tmp_path / "console") as browser,
    ):
        (subscription,) = await here.subscribe(1, Owner(PIM, "erp"), filter=None)
        data = {"product": {"uuid": HOSTILE}, "author": {"identifier": HOSTILE}}
        hostile = with_data(an_event(1, entity=HOSTILE), data)
        await here.platform.parts.manage.intake.accept(PIM, [hostile])
        for width in WIDTHS:
            page = await browser.page(scheme=scheme, width=width)
            await page.goto(f"{url}/console/app")
            await browser.check(page, f"app-enter-{width}-{scheme}")
            await page.get_by_label("PIM's URL").fill(PIM)
            await page.get_by_label("Client id").fill("erp")
            await page.get_by_label("Token").fill(KEY)
            await page.get_by_role("button", name="Sign in").click()
            await page.get_by_role("heading", name="Subscriptions").wait_for()
            await browser.check(page, f"app-overview-{width}-{scheme}")
            one = f"{subscription.subscriber_id}/{subscription.id}"
            for name, path in {
                "subscription": one,
                "events": "events",
                "event": "events/one?id=event-1",
                "log": "log",
            }.items():
                await page.goto(f"{url}/console/app/{path}")
                await browser.check(page, f"app-{name}-{width}-{scheme}")
            await page.context.close()


async def test_it_works_by_the_keyboard(tmp_path: Path) -> None:
    async with console_here(tmp_path / "data") as here, watched(tmp_path / "console") as browser:
        (subscription,) = await here.subscribe()
        page = await browser.page()
        await sign_in(here, page)
        await page.goto(f"{here.url}/console/subscriptions/{subscription.id}/suspend")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Enter")
        for _ in range(2):
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("It is suspended.").wait_for()


async def test_the_table_is_filtered_as_one_types(tmp_path: Path) -> None:
    async with console_here(tmp_path / "data") as here, watched(tmp_path / "console") as browser:
        await here.subscribe(2, url="https://shop.example.com/hook")
        await here.subscribe(2, Owner(PIM, "other"), url="https://erp.example.com/hook")
        page = await browser.page()
        await sign_in(here, page)
        await page.goto(f"{here.url}/console/subscriptions")
        assert await page.locator("tbody tr").count() == 4
        await page.get_by_label("Find").type("shop")
        await page.wait_for_url("**q=shop**")
        await page.wait_for_function("document.querySelectorAll('tbody tr').length == 2")


async def test_times_are_in_the_zone_of_the_reader(tmp_path: Path) -> None:
    async with console_here(tmp_path / "data") as here, watched(tmp_path / "console") as browser:
        (subscription,) = await here.subscribe()
        page = await browser.page(timezone="Asia/Tokyo")
        await sign_in(here, page)
        await page.goto(f"{here.url}/console/subscriptions/{subscription.id}")
        title = await page.locator("time").first.get_attribute("title")

    assert title is not None
    assert "GMT+9" in title


async def test_two_browsers_see_each_others_changes_and_one_leaves(tmp_path: Path) -> None:
    async with console_here(tmp_path / "data") as here, watched(tmp_path / "console") as browser:
        (subscription,) = await here.subscribe()
        first, second = await browser.page(), await browser.page()
        await sign_in(here, first)
        await sign_in(here, second)
        path = f"{here.url}/console/subscriptions/{subscription.id}"
        await second.goto(path)
        await first.goto(f"{path}/suspend")
        await first.get_by_role("button", name="Suspend it").click()
        await second.locator(".tiles .suspended").wait_for()  # without a reload
        browser.loses_connections = True  # a live page may see its stream end before the answer
        await first.get_by_role("button", name="Sign out").click()
        await first.goto(path)
        await first.get_by_text("Nobody is signed in").wait_for()
        await second.reload()
        await second.get_by_role("heading", name=subscription.config.destination).wait_for()


async def test_an_open_page_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with watched(tmp_path / "console") as browser:
        browser.loses_connections = True
        page = await browser.page()
        async with console_here(tmp_path / "data") as here:
            await sign_in(here, page)
            port = int(here.url.rpartition(":")[2])
        async with console_here(tmp_path / "data", port=port) as here:
            await eventually(lambda: here.console.site.streams.number == 1)
            here.platform.parts.meters.dead_letters = 7
            await page.get_by_text("look at them").wait_for()


async def test_a_page_is_small(tmp_path: Path) -> None:
    """At most 150 KB come over the network for a page."""
    async with console_here(tmp_path / "data") as here, watched(tmp_path / "console") as browser:
        fresh = await browser.page(state=await sign_in(here, await browser.page()))
        finished: list[Request] = []
        fresh.on("requestfinished", lambda request: finished.append(request))
        await fresh.goto(f"{here.url}/console", wait_until="load")
        sizes = [await request.sizes() for request in finished]
        asked = [request for request in finished if "/static/" in request.url]

    total = sum(each["responseBodySize"] + each["responseHeadersSize"] for each in sizes)
    assert len(asked) >= 6
    assert 40_000 < total <= 150_000, total
