"""Rounds of a feed: what a PIM's REST API shows as changed becomes events, each once."""

import uuid
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from event_platform.domain.feeds import ResourceName
from support.fake_pim import FakePim, Killed
from support.feeding import feeding

PRODUCTS: dict[str, Any] = {"resources": ["products"]}


async def test_the_first_round_begins_now_and_tells_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        for number in range(250):
            feed.pim.add("products", f"p{number}")
        feed.clock.pass_by(3600)
        await feed.round()
        assert await feed.told() == []
        state = await feed.state()
        assert state.cursor is not None
        assert feed.clock.now() - state.cursor < timedelta(seconds=2)
        assert state.stage == "changes"


async def test_what_is_created_and_updated_afterwards_is_told_once(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        feed.pim.add("products", "old")
        feed.clock.pass_by(3600)
        await feed.round()
        feed.clock.pass_by(100)
        feed.pim.add("products", "new")
        feed.pim.change("products", "old")
        for _ in range(4):
            feed.clock.pass_by(100)
            await feed.round()
        assert sorted(await feed.told()) == [("product.created", "new"), ("product.updated", "old")]
        event = next(each for each in await feed.events() if each.type == "product.updated")
        assert event.data["author"] == {"identifier": "unknown", "type": "unknown-user-type"}
        assert event.data["product"] == {"uuid": feed.pim.uuid_of("old"), "identifier": "old"}
        assert event.time.startswith("2026-01-31T13:01:4")


async def test_a_product_that_was_created_and_changed_since_gets_both(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        feed.pim.add("products", "old")
        await feed.round()
        feed.clock.pass_by(60)
        feed.pim.add("products", "new")
        feed.clock.pass_by(60)
        feed.pim.change("products", "new")
        feed.clock.pass_by(100)
        await feed.round()
        assert await feed.told() == [("product.created", "new"), ("product.updated", "new")]


async def test_calls_are_made_one_by_one_and_at_most_five_a_second(tmp_path: Path) -> None:
    async with feeding(tmp_path, since="2026-01-01T00:00:00Z", **PRODUCTS) as feed:
        for number in range(250):
            feed.pim.add("products", f"p{number}")
        feed.clock.pass_by(60)
        at: list[float] = []
        feed.pim.before_page = lambda path: at.append(feed.clock.monotonic())
        await feed.round()
        assert len(at) > 3
        assert min(later - before for before, later in pairwise(at)) > 0.199


async def test_the_id_of_a_change_is_that_of_pim_type_entity_and_date(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        feed.pim.add("products", "old")
        feed.clock.pass_by(3600)
        await feed.round()
        for _ in range(2):
            feed.clock.pass_by(200)
            feed.pim.change("products", "old")
            feed.clock.pass_by(200)
            await feed.round()
        events = await feed.events()
        namespace = uuid.uuid5(uuid.NAMESPACE_URL, feed.pim.url)
        names = [f'["com.akeneo.pim.v1.{each.type}","{each.identity}","{each.time}",""]' for each in events]
        assert [each.id for each in events] == [str(uuid.uuid5(namespace, name)) for name in names]
        assert len(set(names)) == 2


async def test_a_bulk_save_that_is_seen_30_s_late_is_told_once(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        for number in range(20):
            feed.pim.add("products", f"p{number}")
        feed.clock.pass_by(3600)
        await feed.round()
        feed.clock.pass_by(300)
        for number in range(20):
            feed.pim.change("products", f"p{number}", seen_after=30)
        feed.clock.pass_by(10)
        await feed.round()  # its upper bound is after the change, which nobody sees yet
        assert await feed.told() == []
        for _ in range(3):
            feed.clock.pass_by(60)
            await feed.round()
        assert len(await feed.told()) == 20


async def test_changes_behind_the_reader_are_told_by_the_next_round(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        for number in range(250):
            feed.pim.add("products", f"p{number}")
        feed.clock.pass_by(3600)
        await feed.round()
        feed.clock.pass_by(300)
        for number in range(250):
            feed.pim.change("products", f"p{number}")
        first = min(feed.pim.lists["products"], key=feed.pim.uuid_of)
        feed.clock.pass_by(10)

        def change_the_first(path: str) -> None:
            if "search_after=" in path:
                feed.pim.before_page = lambda path: None
                feed.clock.pass_by(5)
                feed.pim.change("products", first)

        feed.pim.before_page = change_the_first
        await feed.round()
        assert len(await feed.told()) == 250
        feed.clock.pass_by(60)
        await feed.round()
        assert (await feed.told())[250:] == [("product.updated", first)]


async def test_a_round_goes_on_after_a_kill(tmp_path: Path) -> None:
    async with feeding(tmp_path, **PRODUCTS) as feed:
        for number in range(250):
            feed.pim.add("products", f"p{number}")
        feed.clock.pass_by(3600)
        await feed.round()
        feed.clock.pass_by(300)
        for number in range(250):
            feed.pim.change("products", f"p{number}")
        feed.clock.pass_by(10)

        feed.pim.kill_at_page(lambda path: "search_after=" in path)
        with pytest.raises(Killed):
            await feed.round()
        await feed.restart()
        assert len(await feed.told()) == 100
        before = len(feed.pim.calls)
        await feed.round()
        assert len(await feed.told()) == 250
        assert len([each for each in feed.pim.calls[before:] if each.startswith("products")]) == 2


async def test_items_without_dates_are_told_by_what_they_are(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["families"]) as feed:
        for number in range(120):
            feed.pim.add("families", f"f{number}")
        await feed.round()
        feed.clock.pass_by(300)
        feed.pim.change("families", "f7")
        feed.pim.add("families", "new")
        for _ in range(3):
            feed.clock.pass_by(60)
            await feed.round()
        assert sorted(await feed.told()) == [("family.created", "new"), ("family.updated", "f7")]


async def test_a_category_is_created_where_its_code_was_never_seen(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["categories"]) as feed:
        feed.pim.add("categories", "old")
        await feed.round()
        feed.clock.pass_by(300)
        feed.pim.change("categories", "old")
        feed.pim.add("categories", "new")
        for _ in range(3):
            feed.clock.pass_by(60)
            await feed.round()
        assert sorted(await feed.told()) == [("category.created", "new"), ("category.updated", "old")]


async def test_every_resource_of_the_pim_is_read(tmp_path: Path) -> None:
    async with feeding(tmp_path) as feed:
        fill(feed.pim)
        await feed.round()
        feed.clock.pass_by(300)
        for route, held in feed.pim.lists.items():
            for code in held:
                feed.pim.change(route, code)
        feed.clock.pass_by(60)
        await feed.round()
        assert {kind for kind, _ in await feed.told()} == {
            f"{entity}.updated"
            for entity in (
                "product",
                "product-model",
                "attribute",
                "attribute-group",
                "family",
                "category",
                "asset",
                "reference-entity-record",
            )
        }
        asset = next(each for each in await feed.events() if each.type == "asset.updated")
        assert asset.data["asset"] == {"asset_family": {"code": "packshots"}, "code": "front"}


async def test_community_has_no_assets_and_records_which_is_asked_once(tmp_path: Path) -> None:
    async with feeding(tmp_path, pim={"edition": "ce"}) as feed:
        fill(feed.pim)
        await feed.round()
        await feed.round()
        assert feed.pim.calls.count("asset-families") == 1
        assert (await feed.state(ResourceName.ASSETS)).missing
        assert feed.observed.failures == []


async def test_a_pim_before_7_0_is_asked_by_identifier(tmp_path: Path) -> None:
    async with feeding(tmp_path, pim={"has_uuids": False}, **PRODUCTS) as feed:
        feed.pim.add("products", "old")
        await feed.round()
        feed.clock.pass_by(300)
        feed.pim.change("products", "old")
        feed.clock.pass_by(60)
        await feed.round()
        (event,) = await feed.events()
        assert event.data["product"]["identifier"] == "old"
        assert event.data["product"]["uuid"][14] == "5"


def fill(pim: FakePim) -> None:
    """One item of each resource."""
    for route in ("products", "product-models", "attributes", "attribute-groups", "families", "categories"):
        pim.add(route, "one")
    pim.add("asset-families", "packshots")
    pim.add("asset-families/packshots/assets", "front")
    pim.add("reference-entities", "brand")
    pim.add("reference-entities/brand/records", "acme")
