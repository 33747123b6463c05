"""What a feed makes of a PIM that refuses, fails, hangs up or answers nonsense."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aep.broker.feed_store import SqliteFeedStore
from aep.broker.feeds import LOOK_SECONDS, Feeds
from aep.store import feeds
from event_platform.domain.events import catalog
from event_platform.domain.feeds import ResourceName
from event_platform.domain.tenants import Tenant
from event_platform.ports import FeedReplaced, PimAnswer
from support.clock import START, ManualClock
from support.embedded import SEAL, Embedded
from support.fake_pim import FakePim, html, unreachable
from support.feeding import Feeding, a_feed, feeding

PRODUCTS: dict[str, Any] = {"resources": ["products"]}


async def changed(feed: Feeding, number: int = 250) -> None:
    """Has the feed begun, and so many products changed since."""
    for each in range(number):
        feed.pim.add("products", f"p{each}")
    feed.clock.pass_by(3600)
    await feed.round()
    feed.clock.pass_by(300)
    for each in range(number):
        feed.pim.change("products", f"p{each}")
    feed.clock.pass_by(10)


def on_page(feed: Feeding, number: int, *answers: PimAnswer | Exception) -> None:
    """Has the page of that number, from 1 on, answered by these before the right answer comes."""
    pages = 0

    def count(path: str) -> None:
        nonlocal pages
        pages += 1
        if pages == number - 1:
            feed.pim.answers += answers

    feed.pim.before_page = count
    if number == 1:
        feed.pim.answers += answers


async def test_a_token_that_ends_in_the_middle_of_pages_is_renewed(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed)
        logins = feed.pim.logins
        on_page(feed, 2, PimAnswer(401, feed.pim.now))
        await feed.round()
        assert len(await feed.told()) == 250
        assert feed.pim.logins == logins + 1


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_what_passes_has_the_round_go_on_later(status: int, tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed)
        on_page(feed, 2, PimAnswer(status, feed.pim.now))
        assert await feed.round() == 15.0
        assert len(await feed.told()) == 100
        assert feed.observed.failures == [("products", "server_error")]
        await feed.round()
        assert len(await feed.told()) == 250


async def test_a_pim_that_is_asked_too_often_says_how_long_to_wait(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed)
        on_page(feed, 1, PimAnswer(429, feed.pim.now, retry_after=70.0))
        assert await feed.round() == 70.0
        assert feed.observed.failures == [("products", "throttled")]


async def test_pauses_double_up_to_15_minutes(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed, 1)
        feed.pim.answers += [unreachable() for _ in range(8)]
        assert [await feed.round() for _ in range(8)] == [15, 30, 60, 120, 240, 480, 900, 900]
        await feed.round()
        assert len(await feed.told()) == 1
        assert (await feed.state()).error is None


@pytest.mark.provokes("feed.failed", "feed.works_again")
async def test_a_resource_without_a_right_is_asked_again_in_an_hour(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["products", "families"]) as feed:
        feed.pim.denied.add("families")
        for _ in range(3):
            await feed.round()
            feed.clock.pass_by(60)
        assert len([path for path in feed.pim.calls if path.startswith("families")]) == 1
        assert (await feed.state(ResourceName.FAMILIES)).reason == "forbidden"
        assert (await feed.state()).error is None
        feed.pim.denied.clear()
        feed.clock.pass_by(3600)
        await feed.round()
        assert (await feed.state(ResourceName.FAMILIES)).error is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (html(), "not_json"),
        (PimAnswer(200, None, body=b'{"_embedded":{"items":[]}}'), "no_date"),
        (PimAnswer(422, START, body=b'{"message":"Unknown attribute"}'), "refused"),
        (PimAnswer(200, START, body=b'{"_embedded":{"items":[{"uuid":"'), "not_json"),
        (PimAnswer(200, START, body=b'{"code":200}'), "not_json"),
    ],
)
async def test_an_answer_that_is_no_page_costs_that_resource_a_while(
    answer: PimAnswer, reason: str, tmp_path: Path
) -> None:
    async with feeding(tmp_path, resources=["products", "families"]) as feed:
        await changed(feed, 3)
        feed.pim.add("families", "new")
        on_page(feed, 1, answer)
        await feed.round()
        assert (await feed.state()).reason == reason
        assert await feed.told() == [("family.created", "new")]
        feed.clock.pass_by(900)
        await feed.round()
        assert len(await feed.told()) == 4


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        on_page(feed, 1, PimAnswer(302, feed.pim.now))
        await feed.round()
        assert (await feed.state()).reason == "redirect"


async def test_wrong_credentials_are_named(tmp_path: Path) -> None:
    async with feeding(tmp_path, password="wrong", **PRODUCTS) as feed:
        await feed.round()
        state = await feed.state()
        assert state.reason == "credentials"
        assert "client id, secret, username and password" in (state.error or "")
        assert "wrong" not in (state.error or "")


def page(next_href: str, *codes: str) -> bytes:
    items = ",".join(
        f'{{"code":"{code}","created":"2026-01-31T13:00:00+00:00","updated":"2026-01-31T13:00:00+00:00"}}'
        for code in codes
    )
    return f'{{"_links":{{"next":{{"href":"{next_href}"}}}},"_embedded":{{"items":[{items}]}}}}'.encode()


@pytest.mark.parametrize(
    ("hrefs", "reason"),
    [
        (["https://elsewhere.example.com/evil"], "not_json"),
        (["https://pim.example.com/api/rest/v1/../../admin"], "not_json"),
        (["/api/rest/v1/product-models?search_after=a"] * 3, "endless"),
        ([f"/api/rest/v1/product-models?search_after={each}" for each in "abcabcabcabcabc"], "endless"),
    ],
)
async def test_links_that_lead_elsewhere_or_in_a_circle_end_the_round(
    hrefs: list[str], reason: str, tmp_path: Path
) -> None:
    async with feeding(tmp_path, resources=["product-models"]) as feed:
        await feed.round()
        feed.clock.pass_by(7200)
        feed.pim.answers += [PimAnswer(200, feed.pim.now, body=page(href, "one")) for href in hrefs]
        await feed.round()
        state = await feed.state(ResourceName.PRODUCT_MODELS)
        assert (state.reason, state.round) == (reason, None)


async def test_a_page_that_is_too_large_is_asked_for_with_half_the_limit(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed)
        feed.pim.limit_bytes = 20_000
        calls = len(feed.pim.calls)
        await feed.round()
        assert len(await feed.told()) == 250
        assert {path.partition("limit=")[2].partition("&")[0] for path in feed.pim.calls[calls:]} >= {
            "100",
            "50",
        }


async def test_a_numbered_list_that_shifts_is_read_again(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["families"]) as feed:
        for number in range(250):
            feed.pim.add("families", f"f{number:03}")
        await feed.round()
        feed.clock.pass_by(300)
        for number in range(250):
            feed.pim.change("families", f"f{number:03}")
        feed.clock.pass_by(10)

        def remove_the_first(path: str) -> None:
            if "page=2" in path:
                feed.pim.before_page = lambda path: None
                feed.pim.remove("families", "f000")

        feed.pim.before_page = remove_the_first
        await feed.round()
        told = await feed.told()
        assert len(told) == len(set(told)) == 250


async def test_hrefs_with_the_host_behind_a_proxy_are_followed_on_the_pims_own(tmp_path: Path) -> None:
    async with feeding(tmp_path, pim={"behind_proxy": True}, **PRODUCTS) as feed:
        await changed(feed)
        await feed.round()
        assert len(await feed.told()) == 250


async def test_an_item_without_a_name_costs_no_other(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed, 3)
        feed.pim.lists["products"]["p1"].body["uuid"] = "no-uuid"
        await feed.round()
        assert len(await feed.told()) == 2
        assert (await feed.state()).skipped == 1


class Registry:
    """The port `TenantRegistry`, of one PIM."""

    async def tenants(self) -> list[Tenant]:
        return [Tenant.model_validate({"url": "https://pim.example.com"})]


class NoCalls:
    """The port `IngestObserver`, which counts what was taken."""

    def __init__(self) -> None:
        self.events = 0

    def taken(self, tenant: str, way: object, events: int) -> None:
        self.events += events

    def refused(self, tenant: str, way: object, status: int, reason: str) -> None: ...


class Running:
    """All feeds of a platform, by a clock that the test moves."""

    def __init__(self, embedded: Embedded, clock: ManualClock, pim: FakePim) -> None:
        self.faults: list[BaseException] = []
        self.observer = NoCalls()
        self.feeds = Feeds(
            embedded.database,
            SqliteFeedStore(embedded.database, embedded.queue),
            Registry(),
            SEAL,
            clock,
            catalog=catalog.load(),
            meters=embedded.meters,
            observer=self.observer,
            on_fault=self.faults.append,
            rest=pim,
        )


@pytest.mark.provokes("feed.faulted", "feed.started")
async def test_a_fault_of_ours_in_a_feed_ends_nothing_else(tmp_path: Path) -> None:
    clock = ManualClock()
    pim = FakePim(clock)
    async with Embedded(tmp_path, time=clock) as embedded:
        await embedded.open()
        settings = a_feed(**PRODUCTS)
        await embedded.database.write(lambda connection: feeds.put(connection, settings, SEAL))
        running = Running(embedded, clock, pim)
        pim.answers.append(RuntimeError("a fault"))
        await running.feeds.start()
        assert running.feeds.memory.wants("https://pim.example.com")
        await moved_until(clock, lambda: longest_sleep(clock) > LOOK_SECONDS)
        assert len(pim.calls) == 1
        await clock.advance(longest_sleep(clock) - 1)
        assert len(pim.calls) == 1
        await moved_until(clock, lambda: len(pim.calls) > 1)
        assert running.faults == []
        await running.feeds.stop()


async def moved_until(clock: ManualClock, happened: Callable[[], object]) -> None:
    """Moves the clock on, little by little, until something has happened."""
    for _ in range(10_000):
        if happened():
            return
        await clock.advance(0.25)
    raise AssertionError("it did not happen in time")


def longest_sleep(clock: ManualClock) -> float:
    """Returns the seconds after which the last of those who sleep wakes."""
    return max(((due - clock.now()).total_seconds() for due, *_ in clock._sleepers), default=0.0)


async def test_settings_are_followed_while_the_feed_runs(tmp_path: Path) -> None:
    clock = ManualClock()
    pim = FakePim(clock)
    async with Embedded(tmp_path, time=clock) as embedded:
        await embedded.open()
        running = Running(embedded, clock, pim)
        await running.feeds.start()
        settings = a_feed(**PRODUCTS)
        await embedded.database.write(lambda connection: feeds.put(connection, settings, SEAL))
        await moved_until(clock, lambda: pim.calls)
        off = settings.model_copy(update={"is_off": True, "version": "2"})
        await embedded.database.write(lambda connection: feeds.put(connection, off, SEAL))
        await moved_until(clock, lambda: not running.feeds.memory.wants("https://pim.example.com"))
        await moved_until(clock, lambda: not running.feeds._running)
        await running.feeds._look()  # after the one that ends the feed
        calls = len(pim.calls)
        await clock.advance(1000)
        assert len(pim.calls) == calls
        await running.feeds.stop()
        assert running.faults == []


async def test_a_step_made_with_other_settings_is_not_written(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await changed(feed, 3)
        await feed.set(feed.feed.model_copy(update={"version": "2"}))
        with pytest.raises(FeedReplaced):
            await feed.round()
        assert await feed.told() == []
