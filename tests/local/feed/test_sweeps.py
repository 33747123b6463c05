"""Sweeps: what is deleted in a PIM is told, and nothing that only looks so."""

from pathlib import Path
from typing import Any

import pytest

from event_platform.domain.feeds import ResourceName
from event_platform.feed import sweeps
from event_platform.ports import PimAnswer
from support.fake_pim import Killed
from support.feeding import Feeding, feeding

DAY = 86_400
PRODUCTS: dict[str, Any] = {"resources": ["products"], "sweep": "daily"}


async def learnt(feed: Feeding, number: int, route: str = "products") -> None:
    """Has the feed list so many items for the first time."""
    for each in range(number):
        feed.pim.add(route, f"p{each:03}")
    feed.clock.pass_by(3600)
    await feed.round()


async def days(feed: Feeding, number: int = 1) -> None:
    for _ in range(number):
        feed.clock.pass_by(DAY)
        await feed.round()


async def test_the_first_sweep_only_learns_and_later_ones_tell_what_is_gone(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 250)
        feed.pim.remove("products", "p007")
        feed.clock.pass_by(600)
        await feed.round()
        assert await feed.told() == []
        await days(feed, 3)
        assert await feed.told() == [("product.deleted", "p007")]
        (event,) = await feed.events()
        assert event.data["product"] == {"uuid": feed.pim.uuid_of("p007"), "identifier": "p007"}


async def test_what_is_listed_no_more_and_is_still_there_is_not_deleted(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 50)
        hidden = feed.pim.lists["products"]["p007"]
        later = hidden.seen_from.replace(year=2030)
        hidden.seen_from = later
        await days(feed, 3)
        assert await feed.told() == []


async def test_a_sweep_off_lists_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["products"]) as feed:
        await learnt(feed, 10)
        feed.pim.remove("products", "p007")
        await days(feed, 2)
        assert await feed.told() == []
        assert all("search=" in path for path in feed.pim.calls[2:])


@pytest.mark.provokes("feed.deletions_held")
async def test_many_deletions_wait_for_a_word(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 100)
        for each in range(6):
            feed.pim.remove("products", f"p{each:03}")
        await days(feed, 1)
        state = await feed.state()
        assert (state.sweep.stage, state.sweep.gone) == ("held", 6)
        assert await feed.told() == []
        confirmed = feed.feed.model_copy(update={"confirmed_at": feed.clock.now(), "version": "2"})
        await feed.change(confirmed)
        feed.clock.pass_by(300)
        await feed.round()
        assert await feed.told() == []  # what was confirmed is older than what is held
        await feed.change(confirmed.model_copy(update={"confirmed_at": feed.clock.now(), "version": "3"}))
        feed.clock.pass_by(300)
        await feed.round()
        assert len(await feed.told()) == 6
        assert (await feed.state()).sweep.stage == "idle"


async def test_more_than_a_thousand_wait_whatever_the_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweeps.MOST_GONE == 1000
    monkeypatch.setattr(sweeps, "MOST_GONE", 2)
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 100)
        for each in range(3):
            feed.pim.remove("products", f"p{each:03}")
        await days(feed, 1)
        assert (await feed.state()).sweep.held_because == "3 of 100 are gone"
        assert await feed.told() == []


async def test_five_of_a_hundred_do_not_wait(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 100)
        for each in range(5):
            feed.pim.remove("products", f"p{each:03}")
        await days(feed, 1)
        assert len(await feed.told()) == 5


async def test_a_list_that_ends_early_tells_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 250)
        feed.clock.pass_by(DAY)
        pages = 0

        def break_off(path: str) -> None:
            nonlocal pages
            pages += "search=" not in path
            if pages == 1:
                feed.pim.before_page = lambda path: None
                feed.pim.answers.append(PimAnswer(200, feed.pim.now, body=b"{}"))

        feed.pim.before_page = break_off
        await feed.round()
        state = await feed.state()
        assert state.sweep.stage == "held"
        assert "ended early" in state.sweep.held_because
        assert await feed.told() == []
        await days(feed, 1)
        assert (await feed.state()).sweep.stage == "idle"
        assert await feed.told() == []


async def test_what_the_webhook_said_is_removed_is_not_told_again(tmp_path: Path) -> None:
    async with feeding(tmp_path, has_webhook=True, **PRODUCTS) as feed:
        await learnt(feed, 50)
        await feed.webhook("p007", "product.removed")
        feed.pim.remove("products", "p007")
        await days(feed, 2)
        assert await feed.told() == []


async def test_a_family_that_comes_back_is_created(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["families"], sweep="daily") as feed:
        await learnt(feed, 50, "families")
        feed.pim.remove("families", "p007")
        await days(feed, 1)
        feed.pim.add("families", "p007")
        await days(feed, 1)
        assert await feed.told() == [("family.deleted", "p007"), ("family.created", "p007")]


async def test_assets_of_a_family_that_is_gone_are_deleted(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["assets"], sweep="daily") as feed:
        for family in ("packshots", "manuals"):
            feed.pim.add("asset-families", family)
        for each in range(60):
            feed.pim.add("asset-families/packshots/assets", f"a{each}")
        feed.pim.add("asset-families/manuals/assets", "m0")
        feed.clock.pass_by(3600)
        await feed.round()
        feed.pim.remove("asset-families", "manuals")
        await days(feed, 1)
        (event,) = await feed.events()
        assert (event.type, event.identity) == ("asset.deleted", "manuals/m0")


async def test_a_sweep_goes_on_after_a_kill_and_tells_each_once(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        await learnt(feed, 300)
        for each in range(15):
            feed.pim.remove("products", f"p{each:03}")
        feed.clock.pass_by(DAY)

        for until in ("search_after", "products-uuid/"):
            feed.pim.kill_at_page(lambda path, until=until: until in path and "search=" not in path)
            with pytest.raises(Killed):
                await feed.round()
            await feed.restart()
        await feed.round()
        told = await feed.told()
        assert len(told) == len(set(told)) == 15


async def test_rounds_come_on_time_while_a_long_list_is_read(tmp_path: Path) -> None:
    async with feeding(tmp_path, every=60, **PRODUCTS) as feed:
        await learnt(feed, 10)
        for each in range(400):
            feed.pim.add("products", f"n{each}")
        feed.clock.pass_by(DAY)

        def slowly(path: str) -> None:
            feed.clock.pass_by(25 if "search=" not in path else 0)

        feed.pim.before_page = slowly
        assert await feed.round() == 0
        assert (await feed.state()).sweep.stage == "listing"
        feed.pim.add("products", "new")
        await feed.round()
        assert ("product.created", "new") in await feed.told()
        for _ in range(3):
            await feed.round()
        assert (await feed.state(ResourceName.PRODUCTS)).sweep.stage == "idle"
