"""Pages of a PIM's REST API: read in pieces, and nothing of them that is not needed is kept."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.adapters.pim_rest import PIECE_BYTES
from event_platform.feed.pages import Page, PageReader, UnusablePage, path_below_api

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def page_of(*items: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({"_links": {}, "_embedded": {"items": items}, **more})


def read(body: bytes, piece: int = PIECE_BYTES, **how: Any) -> Page:
    reader = PageReader(**how)
    for start in range(0, len(body), piece):
        reader.feed(body[start : start + piece])
    return reader.close()


def digest(item: dict[str, Any]) -> bytes:
    (found,) = read(page_of(item), is_hashed=True).items
    return found.digest


def test_what_is_needed_of_a_product_is_found() -> None:
    item = {
        "_links": {"self": {"href": "https://pim/x"}},
        "uuid": "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55",
        "values": {"sku": [{"locale": None, "scope": None, "data": "LMP-1"}], "code": [{"data": "no"}]},
        "created": "2026-01-01T00:00:00+01:00",
        "updated": "2026-07-01T00:00:00+02:00",
    }
    (found,) = read(page_of(item), piece=7, attribute="sku").items
    assert (found.uuid, found.identifier, found.code) == (item["uuid"], "LMP-1", "")
    assert found.created is not None
    assert found.updated is not None
    assert found.created.isoformat() == "2026-01-01T00:00:00+01:00"
    assert found.updated.utcoffset() is not None


@given(item=st.dictionaries(st.text(max_size=8), VALUE, max_size=5))
def test_the_hash_is_that_of_what_an_item_is_in_any_order(item: dict[str, Any]) -> None:
    turned = dict(reversed(item.items()))
    turned["_links"] = {"self": {"href": "http://another-host/api"}}
    item.pop("_links", None)
    assert digest(item) == digest(turned)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "1"}, {"a": 1}),
        ({"a": ["x", "y"]}, {"a": ["x,sy"]}),
        ({"a": ["x", "x"]}, {"a": ["x"]}),
        ({"a": []}, {"a": {}}),
        ({"a": None}, {"a": False}),
        ({"a": "x" * 100}, {"a": "x" * 101}),
        ({"a": {"b": 1}}, {"a": 1, "b": 1}),
    ],
)
def test_items_that_differ_have_other_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert digest({"code": "c", **one}) != digest({"code": "c", **other})


def test_the_order_of_a_list_is_no_change() -> None:
    assert digest({"attributes": ["sku", "name"]}) == digest({"attributes": ["name", "sku"]})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"<html>",
        b'{"_embedded":{}}',
        b'{"_embedded":{"items":[',
        page_of()[:-1] + b"x",
    ],
)
def test_what_is_no_page_is_said_so(body: bytes) -> None:
    with pytest.raises(UnusablePage):
        read(body)


def test_a_page_of_more_items_than_were_asked_for_is_refused() -> None:
    with pytest.raises(UnusablePage, match="more than 100 items"):
        read(page_of(*({"code": str(number)} for number in range(101))))


@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_anything_else_is_a_page_or_refused(text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    with pytest.raises(UnusablePage):
        read(body, is_hashed=True)


@given(value=VALUE)
def test_values_of_any_kind_in_place_of_names_and_dates_are_left_out(value: Any) -> None:
    item: dict[str, Any] = dict.fromkeys(
        ("uuid", "identifier", "code", "created", "updated", "type", "values"), value
    )
    for found in read(page_of(item), attribute="sku", is_hashed=True).items:
        assert len(found.code) <= 1024
        assert found.created is None or found.created.tzinfo is not None


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("https://pim.example.com/api/rest/v1/products?page=2&a=%7B", "products?page=2&a=%7B"),
        (
            "http://web:8080/api/rest/v1/asset-families/x/assets?after=a",
            "asset-families/x/assets?after=a",
        ),
        ("https://pim.example.com/pim/api/rest/v1/products", "products"),
        ("/api/rest/v1/families?page=3", "families?page=3"),
    ],
)
def test_of_a_link_path_and_query_below_the_api_count(href: str, path: str) -> None:
    assert path_below_api(href, "/pim") == path


@pytest.mark.parametrize(
    "href",
    [
        "https://pim.example.com/",
        "https://pim.example.com/api/rest/v1/../../oauth",
        "https://pim.example.com/api/rest/v2/products",
        "https://pim.example.com/other/api/rest/v1/products",
        "javascript:alert(1)",
        "https://pim.example.com/api/rest/v1/a\nHost: b",
        "https://pim.example.com/api/rest/v1/" + "a" * 9000,
        "",
    ],
)
def test_other_links_are_refused(href: str) -> None:
    with pytest.raises(UnusablePage):
        path_below_api(href, "/pim")


def test_a_piece_takes_little_of_the_event_loop_however_dense_it_is() -> None:
    dense = b'{"_embedded":{"items":[{"code":"a","values":[' + b"1," * (8 * PIECE_BYTES) + b"1]}]}}"
    assert longest_of(dense) < 0.1


def test_a_page_of_very_many_levels_is_refused_at_once() -> None:
    with pytest.raises(UnusablePage, match="levels"):
        read(b'{"_embedded":' + b"[" * (4 * PIECE_BYTES))


def longest_of(body: bytes) -> float:
    """Returns the CPU seconds of the piece that took most."""
    reader = PageReader(is_hashed=True)
    longest = 0.0
    for start in range(0, len(body), PIECE_BYTES):
        began = time.thread_time()
        reader.feed(body[start : start + PIECE_BYTES])
        longest = max(longest, time.thread_time() - began)
    return longest
