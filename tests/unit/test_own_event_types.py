"""Event types that the operator adds to the catalog."""

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest

from event_platform.domain.events import catalog
from event_platform.domain.events.own_event_types import extended
from event_platform.settings import catalog_with
from support.records import ORDER, ORDER_TYPE, UPDATED


def entry(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(ORDER_TYPE), **changes}


def read(*entries: Any) -> catalog.Catalog:
    return extended(catalog.load(), orjson.dumps(entries))


def test_an_own_type_is_known_beside_the_catalogs() -> None:
    known = read(ORDER_TYPE)
    assert list(known.types) == [*catalog.load().types, ORDER]
    added = known[ORDER]
    assert added.problems_of({"order": {"number": "A-2"}}) == []
    assert added.problems_of({"order": {"number": 2}}) == [("order.number", "must be a string")]
    assert added.identity_of({"order": {"number": "A-2"}}) == ("A-2",)
    assert added.certainty == "defined by the operator"


def test_the_shipped_catalog_stays_as_it_is() -> None:
    read(ORDER_TYPE)
    assert ORDER not in catalog.load()


def test_an_entry_copied_from_the_catalogs_file_is_taken() -> None:
    copied = entry(data=ORDER_TYPE["schema"], entity="order", action="created", certainty="agreed")
    del copied["schema"]
    assert read(copied)[ORDER].certainty == "agreed"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[", "is not JSON"),
        (b"{}", "must be a JSON array of entries"),
        (b"[7]", r"entry 1: "),
        (orjson.dumps([{}] * 501), "has 501 entries; at most 500"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(text: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        extended(catalog.load(), text)


@pytest.mark.parametrize("field", ["type", "trigger", "identity", "schema", "example"])
def test_a_missing_field_is_named(field: str) -> None:
    lacking = entry()
    del lacking[field]
    with pytest.raises(ValueError, match=rf"^entry 2, {field}: is required"):
        read(ORDER_TYPE, lacking)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"type": "no/path"}, r"entry 1, type: must be words"),
        ({"type": "x" * 129}, r"entry 1, type: .*128"),
        ({"trigger": ""}, r"entry 1, trigger: "),
        ({"identity": "order.number"}, r"entry 1, identity: must be an array"),
        ({"identity": ["order..number"]}, r"entry 1, identity, entry 1: must be names"),
        ({"identity": ["order.id"]}, rf"entry 1, {ORDER}: identity must hold paths that lead to texts"),
        ({"schema": []}, r"entry 1, schema: must be an object"),
        ({"schema": {"type": "objct"}}, rf"entry 1, {ORDER}: schema must be a JSON Schema"),
        ({"schema": {"$ref": "https://example.com/other"}}, "schema must stand alone"),
        ({"schema": {"$ref": "#/$defs/none"}}, "schema must stand alone"),
        ({"example": "A-1"}, r"entry 1, example: must be an object"),
        ({"example": {}}, rf"entry 1, {ORDER}: example does not fit the schema: .*required"),
        ({"example": {"order": {"number": 1}}}, "example does not fit the schema at order.number"),
        ({"type": UPDATED}, rf"entry 1, {UPDATED}: the catalog has this type already"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read(entry(**changes))


def test_the_same_type_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=rf"entry 2, {ORDER}: the list has this type twice"):
        read(ORDER_TYPE, ORDER_TYPE)


def test_the_list_is_given_itself_or_by_its_path(tmp_path: Path) -> None:
    text = orjson.dumps([ORDER_TYPE])
    file = tmp_path / "types.json"
    file.write_bytes(text)
    assert ORDER in catalog_with(" " + text.decode())
    assert ORDER in catalog_with(str(file))


def test_a_file_that_cannot_be_read_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the list of event types cannot be read: No such file"):
        catalog_with(str(tmp_path / "none.json"))
