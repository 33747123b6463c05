"""The feed at PIMs of each version and edition, as Akeneo's public API reference describes them."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from event_platform.domain.feeds import ResourceName
from event_platform.feed import rounds
from support.recorded_pim import EDITIONS, VERSIONS, RecordedPim
from support.recording import Recording, recording

LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Log in</title></head><body><form/></body></html>"
PLURALS = {
    "products": "product",
    "product-models": "product-model",
    "attributes": "attribute",
    "attribute-groups": "attribute-group",
    "families": "family",
    "categories": "category",
    "assets": "asset",
    "records": "reference-entity-record",
}
ENTERPRISE = ("assets", "records")


def expected(version: str, edition: str) -> list[str]:
    """The resources of which a PIM can show what has changed."""
    without = ENTERPRISE if edition == "community" else ()
    has_no_filter = ("categories",) if version in ("4.0", "5.0") else ()
    return [name for name in PLURALS if name not in (*without, *has_no_filter)]


PIMS = [
    pytest.param(version, edition, marks=[pytest.mark.full] if (first + second) % 2 else [])
    for first, version in enumerate(VERSIONS)
    for second, edition in enumerate(EDITIONS)
]


@pytest.mark.parametrize(("version", "edition"), PIMS)
async def test_each_version_and_edition_tells_each_change_once(
    tmp_path: Path, version: str, edition: str
) -> None:
    async with recording(tmp_path, version, edition) as feed:
        pim = feed.recorded
        assert await feed.types() == []
        names = expected(version, edition)
        for resource in PLURALS:
            pim.change(resource, f"{resource.replace('-', '_')}_001")
            pim.add(resource, f"{resource.replace('-', '_')}_new")
        await feed.rounds(3)
        assert sorted(await feed.types()) == sorted(
            f"{PLURALS[name]}.{action}" for name in names for action in ("created", "updated")
        )
        for name in PLURALS:
            state = await feed.state(ResourceName(name))
            if name in names:
                assert (state.error, state.skipped) == (None, 0), name
            elif name == "categories":
                assert "does not support operator" in (state.error or "")
            else:
                assert state.missing
        products = {
            event.data["product"]["identifier"]
            for event in await feed.events()
            if event.type.startswith("product.")
        }
        assert products == {"products_001", "products_new"}
        uuids = {
            event.data["product"]["uuid"]
            for event in await feed.events()
            if event.type.startswith("product.")
        }
        own = {each.uuid for each in pim.entities["products"].values()}
        assert (uuids <= own) == (version in ("7.0", "SaaS"))


async def test_long_lists_are_read_to_their_ends(tmp_path: Path) -> None:
    async with recording(tmp_path) as feed:
        for resource in PLURALS:
            for number in range(201):
                feed.recorded.add(resource, f"more_{number:03}")
        await feed.rounds(3)
        assert Counter(await feed.types()) == {f"{name}.created": 201 for name in PLURALS.values()}


def said(status: int, message: str, **headers: str) -> Callable[[RecordedPim], Callable[[Request], Response]]:
    return lambda pim: lambda _: pim.error(status, message, **headers)


def html(status: int) -> Callable[[RecordedPim], Callable[[Request], Response]]:
    return lambda pim: lambda _: pim.text(LOGIN_PAGE, status, "text/html")


def cut(pim: RecordedPim) -> Callable[[Request], Response]:
    return lambda _: pim.text('{"_links":{},"_embedded":{"items":[{"uuid":"', 200, "application/json")


def link_to(href: str) -> Callable[[RecordedPim], Callable[[Request], Response]]:
    """Answers a page whose link to the next leads elsewhere."""
    return lambda pim: (
        lambda request: pim.page(request, "products-uuid", "products-uuid", next={"href": href})
    )


def undated(pim: RecordedPim) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        page = pim.page(request, "products-uuid", "products-uuid")
        del page.headers["date"]
        return page

    return answer


TROUBLES = {
    "422": (said(422, 'Property "updated" expects another format.'), "refused", False),
    "429": (said(429, "Too many requests", Retry_After="700"), "throttled", True),
    "429 without a time": (said(429, "Too many requests"), "throttled", True),
    "408": (said(408, "Request timeout"), "server_error", False),
    "503": (said(503, "Service unavailable"), "server_error", False),
    "503 in HTML": (html(503), "server_error", False),
    "HTML in place of JSON": (html(200), "not_json", False),
    "an answer that is cut": (cut, "not_json", False),
    "a link to another API": (link_to("https://elsewhere/api/rest/v2/products"), "not_json", False),
    "a link with dots": (link_to("https://x/api/rest/v1/../../../admin"), "not_json", False),
    "a redirect": (said(301, "Moved", Location="https://elsewhere.example.com/"), "redirect", True),
    "no date": (undated, "no_date", False),
    "403": (said(403, "Access forbidden. You are not allowed to list products."), "forbidden", False),
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_trouble_is_noted_and_loses_nothing(tmp_path: Path, name: str) -> None:
    answer, reason, ends_the_round = TROUBLES[name]
    async with recording(tmp_path) as feed:
        change_all(feed)
        feed.recorded.trouble(answer(feed.recorded))
        wait = await feed.round()
        state = await feed.state()
        assert (state.reason, await told_of_products(feed)) == (reason, [])
        others = [each for each in await feed.types() if not each.startswith("product.")]
        assert (others == []) == ends_the_round
        if name == "429":
            assert wait == 700
        feed.clock.pass_by(3600)
        await feed.rounds(2)
        assert await told_of_products(feed) == ["product.updated"] * 3
        assert (await feed.state()).error is None


def change_all(feed: Recording) -> None:
    """Changes an entity of each kind, and each product."""
    for resource in PLURALS:
        feed.recorded.change(resource, f"{resource.replace('-', '_')}_000")
    for number in (1, 2):
        feed.recorded.change("products", f"products_{number:03}")


async def told_of_products(feed: Recording) -> list[str]:
    return [each for each in await feed.types() if each.startswith("product.")]


async def test_a_token_that_ends_in_the_middle_of_pages_is_renewed(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products"]) as feed:
        for number in range(250):
            feed.recorded.add("products", f"more_{number:03}")

        def revoked(request: Request) -> Response:
            feed.recorded.revoke()
            return feed.recorded.error(401, "The access token provided has expired.")

        feed.recorded.trouble(revoked, after=1)
        await feed.rounds(1)
        assert Counter(await feed.types()) == {"product.created": 250}
        assert (await feed.state()).error is None


async def test_a_cursor_that_comes_twice_ends_the_round(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products"]) as feed:
        for number in range(250):
            feed.recorded.add("products", f"more_{number:03}")

        def again(request: Request) -> Response:
            return feed.recorded.page(
                request, "products-uuid", "products-uuid", next={"href": str(request.url)}
            )

        feed.recorded.trouble(again, after=1)
        await feed.round()
        assert (await feed.state()).reason == "endless"
        feed.clock.pass_by(3600)
        await feed.rounds(1)
        assert Counter(await feed.types()) == {"product.created": 250}


async def test_pages_that_never_end_do_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MAX_PAGES", 20)
    async with recording(tmp_path, resources=["products"]) as feed:
        feed.recorded.change("products", "products_000")

        def endless(request: Request) -> Response:
            number = len(feed.recorded.requests)
            href = f"{request.base_url}api/rest/v1/products-uuid?limit=100&search_after={number}"
            return feed.recorded.page(
                request.__class__({**request.scope, "query_string": b"limit=3"}),
                "products-uuid",
                "products-uuid",
                next={"href": href},
            )

        feed.recorded.trouble(endless, times=100)
        before = len(feed.recorded.requests)
        await feed.round()
        assert (await feed.state()).reason == "endless"
        assert len(feed.recorded.requests) - before <= 25
        feed.recorded.troubles.clear()
        feed.clock.pass_by(3600)
        await feed.rounds(1)
        assert await feed.types() == ["product.updated"]


async def test_a_link_with_the_host_of_another_is_followed_at_the_pim(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products"]) as feed:
        for number in range(150):
            feed.recorded.add("products", f"more_{number:03}")

        def behind_a_proxy(request: Request) -> Response:
            headers = [(name, value) for name, value in request.headers.raw if name != b"host"]
            scope: Any = {**request.scope, "headers": [(b"host", b"pim.internal:8080"), *headers]}
            return feed.recorded.page(Request(scope), "products-uuid", "products-uuid")

        feed.recorded.trouble(behind_a_proxy)
        await feed.rounds(1)
        assert Counter(await feed.types()) == {"product.created": 150}


async def test_a_variant_that_comes_with_its_product_model_was_not_changed(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products", "product-models"]) as feed:
        feed.recorded.entities["products"]["products_000"].model = "product_models_001"
        feed.recorded.change("product-models", "product_models_001")
        await feed.rounds(2)
        assert await feed.types() == ["product-model.updated"]


@pytest.mark.parametrize("version", ["7.0", "SaaS"])
async def test_a_product_without_an_identifier_has_its_uuid(tmp_path: Path, version: str) -> None:
    async with recording(tmp_path, version, resources=["products"]) as feed:
        product = feed.recorded.add("products", "nameless")
        product.is_named = False
        await feed.rounds(1)
        (event,) = await feed.events()
        assert (event.type, event.data["product"]) == ("product.created", {"uuid": product.uuid})


async def test_credentials_that_ended_are_said_and_work_again(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products"]) as feed:
        feed.recorded.change("products", "products_000")
        feed.recorded.is_closed = True
        feed.recorded.revoke()
        await feed.round()
        assert (await feed.state()).reason == "credentials"
        feed.recorded.is_closed = False
        feed.clock.pass_by(3600)
        await feed.rounds(1)
        assert await feed.types() == ["product.updated"]


async def test_a_pim_that_throttles_before_a_round_is_complete_shows_all(tmp_path: Path) -> None:
    async with recording(tmp_path) as feed:
        change_all(feed)
        feed.recorded.trouble(lambda _: feed.recorded.error(429, "Too many requests"), every=6)
        await feed.rounds(8)
        assert {each.partition(".")[0] for each in await feed.types()} == set(PLURALS.values())


async def test_a_list_that_always_fails_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    async with recording(tmp_path) as feed:
        change_all(feed)
        feed.recorded.broken.add("product-models")
        await feed.rounds(8)
        told = {each.partition(".")[0] for each in await feed.types()}
        assert told == set(PLURALS.values()) - {"product-model"}


@pytest.mark.parametrize("name", ["422", "503", "HTML in place of JSON", "403"])
async def test_a_trouble_with_the_attributes_leaves_no_identifier_out_for_good(
    tmp_path: Path, name: str
) -> None:
    answer, _, _ = TROUBLES[name]

    async with recording(tmp_path, prepare=lambda pim: pim.trouble(answer(pim))) as feed:
        feed.clock.pass_by(3600)
        await feed.rounds(1)
        feed.recorded.change("products", "products_001")
        await feed.rounds(1)
        (event,) = await feed.events()
        assert event.data["product"]["identifier"] == "products_001"


async def test_the_clock_of_the_pim_is_what_counts(tmp_path: Path) -> None:
    def late(pim: RecordedPim) -> None:
        own = pim.now
        pim.now = lambda: own() - timedelta(hours=5)

    async with recording(tmp_path, prepare=late) as feed:
        for number in range(3):
            for resource in ("products", "families", "categories"):
                feed.recorded.change(resource, f"{resource}_{number:03}")
            await feed.rounds(1)
        await feed.rounds(1)
        told = {"product.updated": 3, "family.updated": 3, "category.updated": 3}
        assert Counter(await feed.types()) == told


async def test_a_list_that_shifts_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["families"]) as feed:
        for number in range(250):
            feed.recorded.add("families", f"more_{number:03}")

        def and_then_shift(request: Request) -> Response:
            answer = feed.recorded.page(request, "families", "families")
            del feed.recorded.entities["families"]["more_000"]
            return answer

        feed.recorded.trouble(and_then_shift)
        await feed.rounds(1)
        assert Counter(await feed.types()) == {"family.created": 250}


async def test_codes_of_any_kind_are_read_to_the_end(tmp_path: Path) -> None:
    async with recording(tmp_path) as feed:
        for number in range(110):
            feed.recorded.add("products", f"SKU-{number:03}" if number % 2 else f"sku_{number:03}")
            feed.recorded.add("assets", f"Pic_{number:03}" if number % 2 else f"pic_{number:03}")
            feed.recorded.add("categories", f"a {number:03}/é&?#")
        await feed.rounds(2)
        told = {"product.created": 110, "asset.created": 110, "category.created": 110}
        assert Counter(await feed.types()) == told


def many(pim: RecordedPim) -> None:
    """Fills each list, so that one of its entities is less than what a sweep holds back."""
    for resource in PLURALS:
        for number in range(40):
            pim.add(resource, f"listed {number:02}/é")


async def days(feed: Recording, number: int) -> None:
    for _ in range(number):
        feed.clock.pass_by(86_400)
        await feed.rounds(2)


def delete_one_of_each(feed: Recording) -> None:
    for resource in PLURALS:
        del feed.recorded.entities[resource]["listed 07/é"]


@pytest.mark.parametrize(("version", "edition"), PIMS)
async def test_a_sweep_of_each_version_and_edition_finds_what_was_deleted(
    tmp_path: Path, version: str, edition: str
) -> None:
    async with recording(tmp_path, version, edition, prepare=many, sweep="daily") as feed:
        await days(feed, 1)
        delete_one_of_each(feed)
        await days(feed, 1)
        without = ENTERPRISE if edition == "community" else ()
        told = [f"{kind}.deleted" for name, kind in PLURALS.items() if name not in without]
        assert sorted(await feed.types()) == sorted(told)


async def test_a_404_of_a_proxy_is_no_deletion(tmp_path: Path) -> None:
    async with recording(tmp_path, prepare=many, sweep="daily", resources=["products"]) as feed:
        await days(feed, 1)
        del feed.recorded.entities["products"]["listed 07/é"]
        feed.recorded.hidden.add("products-uuid")
        await days(feed, 1)
        assert await feed.types() == []
        feed.recorded.hidden.clear()
        await days(feed, 2)
        assert await feed.types() == ["product.deleted"]


async def test_a_404_of_a_proxy_ends_no_resource(tmp_path: Path) -> None:
    async with recording(tmp_path, resources=["products", "families"]) as feed:
        feed.recorded.trouble(lambda _: feed.recorded.text(LOGIN_PAGE, 404, "text/html"), times=3)
        await feed.rounds(1)
        feed.clock.pass_by(3600)
        feed.recorded.change("products", "products_001")
        feed.recorded.change("families", "families_001")
        await feed.rounds(2)
        assert sorted(await feed.types()) == ["family.updated", "product.updated"]


async def test_a_list_that_always_fails_keeps_no_other_from_being_swept(tmp_path: Path) -> None:
    async with recording(tmp_path, prepare=many, sweep="daily") as feed:
        await days(feed, 1)
        delete_one_of_each(feed)
        feed.recorded.broken.add("product-models")
        await feed.rounds(4)
        await days(feed, 1)
        told = {f"{kind}.deleted": 1 for name, kind in PLURALS.items() if name != "product-models"}
        assert Counter(await feed.types()) == told


async def test_a_pim_whose_lists_all_fail_is_asked_less_and_less_often(tmp_path: Path) -> None:
    async with recording(tmp_path) as feed:
        feed.recorded.broken |= set(feed.recorded.lists)
        before = len(feed.recorded.requests)
        assert [await feed.round() for _ in range(8)] == [15, 30, 60, 120, 240, 480, 900, 900]
        assert len(feed.recorded.requests) - before == 16
