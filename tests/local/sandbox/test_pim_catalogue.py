"""The catalogue of the simulated PIM over a real socket: its lists, their pages and its odd ends."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aep.sandbox.pim.catalogue import MOST_ENTITIES, Catalogue, CatalogueIsFull
from aep.sandbox.pim.kinds import ATTRIBUTE, CATEGORY, FAMILY, KINDS, PRODUCT, PRODUCT_MODEL, Edition
from aep.sandbox.pim.rest import PROXIED
from event_platform.domain.events import catalog
from support.simulated_pim import PimReader, simulated_pim

PARIS = ZoneInfo("Europe/Paris")
SEARCH_AFTER = {"pagination_type": "search_after", "limit": "7"}
LISTS = {
    "/products-uuid": "uuid",
    "/products": "identifier",
    "/product-models": "code",
    "/families": "code",
    "/families/lamps/variants": "code",
    "/attributes": "code",
    "/attributes/color_finish_1/options": "code",
    "/attribute-groups": "code",
    "/categories": "code",
    "/channels": "code",
    "/locales": "code",
    "/currencies": "code",
    "/association-types": "code",
}
ENTERPRISE_LISTS = {
    "/asset-families": "code",
    "/asset-families/packshots_1/assets": "code",
    "/reference-entities": "code",
    "/reference-entities/brand_1/records": "code",
}


@pytest.fixture
async def pim() -> AsyncIterator[PimReader]:
    async with simulated_pim() as reader:
        yield reader


def newer(than: str) -> dict[str, Any]:
    return {"updated": [{"operator": ">", "value": than}]}


@pytest.mark.parametrize(("path", "key"), (LISTS | ENTERPRISE_LISTS).items())
async def test_each_list_has_items_that_can_be_read_by_themselves(
    pim: PimReader, path: str, key: str
) -> None:
    page = await pim.get(path)
    assert page.status == 200
    item = page.items[0]
    href = item.pop("_links")["self"]["href"]
    assert href == f"{pim.url}/api/rest/v1{path}/{item[key]}"
    assert (await pim.get(href)).body == item
    missing = await pim.get(f"{path}/nowhere")
    assert (missing.status, missing.body["code"]) == (404, 404)
    assert '"nowhere" does not exist' in missing.body["message"]


async def test_products_are_read_by_cursors_that_end_with_a_page_that_is_not_full(pim: PimReader) -> None:
    pages = await pim.all_pages("/products-uuid", **SEARCH_AFTER)
    assert [len(page.items) for page in pages] == [7, 7, 6]
    uuids = [uuid for page in pages for uuid in page.codes("uuid")]
    assert uuids == sorted(uuids)
    assert pages[0].link("first") == pages[1].link("first")
    assert "items_count" not in pages[0].body


async def test_a_list_that_ends_with_a_full_page_has_an_empty_one_after_it(pim: PimReader) -> None:
    pages = await pim.all_pages("/products-uuid", pagination_type="search_after", limit="10")
    assert [len(page.items) for page in pages] == [10, 10, 0]


async def test_what_is_removed_behind_a_cursor_moves_nothing(pim: PimReader) -> None:
    everything = [uuid for page in await pim.all_pages("/products-uuid") for uuid in page.codes("uuid")]
    first = await pim.get("/products-uuid", **SEARCH_AFTER)
    pim.catalogue.remove(PRODUCT, first.codes("uuid")[0])
    second = await pim.get(first.link("next") or "")
    assert first.codes("uuid") + second.codes("uuid") == everything[:14]


async def test_families_are_read_by_pages_which_shift_when_one_is_removed(pim: PimReader) -> None:
    pages = await pim.all_pages("/families", limit="8", with_count="true")
    codes = [code for page in pages for code in page.codes()]
    assert codes == sorted(codes)
    assert [page.body["current_page"] for page in pages] == [1, 2, 3]
    assert {page.body["items_count"] for page in pages} == {len(codes)} == {21}
    assert (pages[0].link("previous"), pages[1].link("previous")) == (None, pages[0].link("self"))
    pim.catalogue.remove(FAMILY, codes[0])
    second = await pim.get("/families", limit="8", page="2", with_count="true")
    assert second.codes() == codes[9:17]
    assert second.body["items_count"] == 20


async def test_assets_and_records_come_in_pages_of_a_hundred_whatever_is_asked(pim: PimReader) -> None:
    for number in range(120):
        event = {"asset": {"asset_family": {"code": "manuals"}, "code": f"manual_{number:03}"}}
        pim.catalogue.apply("com.akeneo.pim.v1.asset.created", event)
    pages = await pim.all_pages("/asset-families/manuals/assets", limit="3")
    assert [len(page.items) for page in pages] == [100, 20]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": "101"}, "You cannot request more than 100 items."),
        ({"limit": "0"}, '"0" is not a valid limit number.'),
        ({"page": "x"}, '"x" is not a valid page number.'),
        ({"pagination_type": "scroll"}, "Pagination type does not exist."),
        ({"page": "101", "limit": "100"}, "You have reached the maximum number of pages"),
        ({"pagination_type": "search_after", "search_after": "x"}, "is not a valid search_after parameter"),
        ({"search": {"updated": []}}, 'Structure of filter "updated"'),
        ({"search": {"updated": [{"value": "x"}]}}, 'Operator is missing for the property "updated".'),
        ({"search": {"colour": [{"operator": "=", "value": 1}]}}, 'Filter on property "colour"'),
        ({"search": newer("2026-01-31T12:00:00Z")}, 'with the format "yyyy-mm-dd H:i:s" as data'),
        ({"search": newer("2026-02-31 12:00:00")}, "2026-02-31 12:00:00"),
    ],
)
async def test_a_wrong_request_is_422(pim: PimReader, parameters: dict[str, Any], message: str) -> None:
    answer = await pim.get("/products-uuid", **parameters)
    assert (answer.status, answer.body["code"]) == (422, 422)
    assert message in answer.body["message"]


async def test_a_search_that_is_no_json_is_400(pim: PimReader) -> None:
    answer = await pim.get("/families", search="{'updated'}")
    assert (answer.status, answer.body["message"]) == (400, "Search query parameter should be valid JSON.")


async def test_a_change_is_found_by_its_date(pim: PimReader) -> None:
    first = (await pim.get("/products-uuid")).codes("uuid")[0]
    assert (await pim.get("/products-uuid", search=newer("2026-01-31 11:59:59"))).items == []
    pim.catalogue.put(PRODUCT, first)
    page = await pim.get("/products-uuid", search=newer("2026-01-31 11:59:59"))
    assert page.codes("uuid") == [first]
    assert page.items[0]["updated"] == "2026-01-31T12:00:00+00:00"
    assert page.items[0]["created"] == "2026-01-01T12:00:00+00:00"
    assert (await pim.get("/products-uuid", search=newer("2026-01-31 12:00:00"))).items == []


@pytest.mark.parametrize(
    ("path", "kind", "dates"),
    [
        ("/families", FAMILY, set()),
        ("/attributes", ATTRIBUTE, set()),
        ("/categories", CATEGORY, {"updated"}),
        ("/product-models", PRODUCT_MODEL, {"created", "updated"}),
    ],
)
async def test_kinds_differ_in_their_dates(pim: PimReader, path: str, kind: Any, dates: set[str]) -> None:
    before = (await pim.get(path)).items[0]
    pim.catalogue.put(kind, before["code"])
    is_server_time = kind is PRODUCT_MODEL
    since = "2026-01-31 11:59:59" if is_server_time else "2026-01-31T12:59:59+01:00"
    page = await pim.get(path, search=newer(since))
    assert page.codes() == [before["code"]]
    assert dates == {"created", "updated"} & page.items[0].keys()
    assert page.items[0] != before


async def test_only_saas_dates_its_records() -> None:
    for edition, dates in ((Edition.ENTERPRISE, set[str]()), (Edition.SAAS, {"created", "updated"})):
        async with simulated_pim(edition=edition) as pim:
            page = await pim.get("/reference-entities/brand_1/records")
            assert dates == {"created", "updated"} & page.items[0].keys()


async def test_a_variant_comes_with_its_product_model_and_keeps_its_own_date(pim: PimReader) -> None:
    products = [item for page in await pim.all_pages("/products-uuid") for item in page.items]
    model = next(item["parent"] for item in products if item["parent"])
    pim.catalogue.put(PRODUCT_MODEL, model)
    page = await pim.get("/products-uuid", search=newer("2026-01-31 11:59:59"))
    assert page.codes("uuid") == [item["uuid"] for item in products if item["parent"] == model]
    assert {item["updated"] for item in page.items} == {"2026-01-01T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("moment", "shown", "least"),
    [
        # An item of winter shows the offset of winter in summer, and the filter is in the time of the server.
        (datetime(2026, 1, 15, 11, tzinfo=UTC), "2026-01-15T12:00:00+01:00", "2026-01-15 11:59:59"),
        (datetime(2026, 7, 15, 11, tzinfo=UTC), "2026-07-15T13:00:00+02:00", "2026-07-15 12:59:59"),
        # Of an hour that exists twice the filter means the first.
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "2026-10-25T02:30:00+02:00", "2026-10-25 02:29:59"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "2026-10-25T02:30:00+01:00", "2026-10-25 02:30:00"),
    ],
)
async def test_dates_are_those_of_the_servers_time_zone(moment: datetime, shown: str, least: str) -> None:
    async with simulated_pim(zone=PARIS) as pim:
        pim.clock.moment = moment
        await pim.log_in()
        first = (await pim.get("/products-uuid")).codes("uuid")[0]
        pim.catalogue.put(PRODUCT, first)
        page = await pim.get("/products-uuid", search=newer(least))
        assert (page.codes("uuid"), page.items[0]["updated"]) == ([first], shown)


async def test_a_search_finds_a_change_only_when_the_index_has_it(pim: PimReader) -> None:
    first = (await pim.get("/products-uuid")).codes("uuid")[0]
    late = timedelta(seconds=30)
    pim.catalogue.put(PRODUCT, first, found_after=late)
    pim.catalogue.put(PRODUCT, "b8a2fbc2-5a0c-4b7b-9d9c-6f9f6c1d2e3f", found_after=late)
    assert (await pim.get("/products-uuid", search=newer("2026-01-31 11:59:59"))).items == []
    pim.clock.moment += late
    assert len((await pim.get("/products-uuid", search=newer("2026-01-31 11:59:59"))).items) == 2


async def test_only_the_values_that_are_asked_for(pim: PimReader) -> None:
    page = await pim.get("/products-uuid", attributes="sku")
    assert {tuple(item["values"]) for item in page.items} == {("sku",)}
    assert page.link("self") == f"{pim.url}/api/rest/v1/products-uuid?page=1&attributes=sku&limit=10"


async def test_the_community_edition_has_no_assets_and_no_reference_entities() -> None:
    async with simulated_pim(edition=Edition.COMMUNITY) as pim:
        for path in ENTERPRISE_LISTS:
            answer = await pim.get(path)
            assert (answer.status, answer.body["code"]) == (404, 404)
            assert "No route found" in answer.body["message"]
        assert (await pim.get("/families")).status == 200


async def test_links_of_a_pim_behind_a_proxy_name_a_host_of_its_own() -> None:
    async with simulated_pim(is_behind_proxy=True) as pim:
        page = await pim.get("/families")
        assert (page.link("next") or "").startswith(f"{PROXIED}/api/rest/v1/families?")
        assert len(await pim.all_pages("/families")) == 3


async def test_every_nth_read_is_throttled() -> None:
    async with simulated_pim(throttle=3) as pim:
        answers = [await pim.get("/families") for _ in range(6)]
        assert [answer.status for answer in answers] == [200, 200, 429] * 2
        assert answers[2].headers["Retry-After"] == "1"


async def test_an_outage_may_last_for_so_many_calls_and_say_how_long(pim: PimReader) -> None:
    outage = {"status": 429, "retry_after": 7, "calls": 2}
    async with pim.session.post(f"{pim.url}/_sim/outage", json=outage) as ordered:
        assert ordered.status == 200
    answers = [await pim.get("/families") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"


async def test_a_missing_right_is_403_for_its_lists_only(pim: PimReader) -> None:
    pim.pim.connections.permit("erp", scopes=frozenset({"read_products"}))
    answer = await pim.get("/families")
    message = "Access forbidden. You are not allowed to list families."
    assert (answer.status, answer.body["message"]) == (403, message)
    assert (await pim.get("/products-uuid")).status == 200


async def test_an_answer_has_the_date_of_the_pims_clock_once(pim: PimReader) -> None:
    answer = await pim.get("/families")
    assert answer.headers.getall("Date") == ["Sat, 31 Jan 2026 12:00:00 GMT"]  # type: ignore[attr-defined]


async def test_events_change_what_apps_read(pim: PimReader) -> None:
    uuid = "b8a2fbc2-5a0c-4b7b-9d9c-6f9f6c1d2e3f"
    author = {"identifier": "someone", "type": "user"}

    async def change(action: str) -> Any:
        data = {"product": {"uuid": uuid, "identifier": "SKU-1"}, "author": author}
        body = {"events": [{"type": f"com.akeneo.pim.v1.product.{action}", "data": data}]}
        async with pim.session.post(f"{pim.url}/_sim/changes", json=body) as answer:
            assert answer.status == 200
            return (await answer.json())["resources"][0]

    assert (await change("created"))["created"] == "2026-01-31T12:00:00+00:00"
    pim.clock.moment += timedelta(minutes=5)
    changed = await change("updated")
    assert (changed["identifier"], changed["updated"]) == ("SKU-1", "2026-01-31T12:05:00+00:00")
    shown = await pim.get(f"/products-uuid/{uuid}")
    assert (shown.status, shown.body["updated"]) == (200, changed["updated"])
    assert (await pim.get("/products/SKU-1")).body["uuid"] == uuid
    assert await change("deleted") is None
    assert (await pim.get(f"/products-uuid/{uuid}")).status == 404


async def test_a_change_that_fits_no_schema_is_refused(pim: PimReader) -> None:
    body = {"events": [{"type": "com.akeneo.pim.v1.family.updated", "data": {"family": {}}}]}
    async with pim.session.post(f"{pim.url}/_sim/changes", json=body) as answer:
        assert answer.status == 422
        assert (await answer.json())["message"].startswith("events[0]: ")


async def test_an_event_of_a_type_of_ones_own_changes_nothing(pim: PimReader) -> None:
    body = {"events": [{"type": "com.example.stock.changed", "data": {"stock": 3}}]}
    async with pim.session.post(f"{pim.url}/_sim/changes", json=body) as answer:
        assert await answer.json() == {"resources": [None]}


@pytest.mark.parametrize("event_type", sorted(catalog.load().types))
def test_each_type_of_the_catalog_can_be_applied(event_type: str) -> None:
    catalogue = Catalogue(lambda: datetime(2026, 1, 31, tzinfo=UTC))
    entity = catalogue.apply(event_type, catalog.load()[event_type].example)
    name, _, action = event_type.removeprefix("com.akeneo.pim.v1.").partition(".")
    is_known = name in {kind.name for kind in KINDS}
    assert (entity is not None) == (is_known and action in {"created", "updated", "updated.delta"})


def test_the_catalogue_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ENTITIES == 200_000
    catalogue = Catalogue(lambda: datetime(2026, 1, 31, tzinfo=UTC))
    monkeypatch.setattr("aep.sandbox.pim.catalogue.MOST_ENTITIES", len(catalogue) + 1)
    catalogue.put(FAMILY, "one")
    with pytest.raises(CatalogueIsFull, match="entities"):
        catalogue.put(FAMILY, "two")
    catalogue.put(FAMILY, "one")
