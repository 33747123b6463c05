"""The event catalog: what it knows, and what it says of data."""

from collections.abc import Callable
from typing import Any

import pytest

from event_platform.domain.events import catalog

CATALOG = catalog.load()
NAMES = sorted(CATALOG.types)
UPDATED = CATALOG["com.akeneo.pim.v1.product.updated"]
UUID = "00000000-0000-4000-8000-000000000001"
AUTHOR = {"identifier": "erp", "type": "api"}


def looked_up(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def test_the_catalog_has_the_45_known_types() -> None:
    assert len(NAMES) == 45
    assert all(name.startswith("com.akeneo.") for name in NAMES)
    assert {event_type.name for event_type in CATALOG.types.values()} == set(NAMES)
    assert "com.akeneo.pim.v1.product.updated" in CATALOG
    assert "com.akeneo.pim.v1.product.update" not in CATALOG


@pytest.mark.parametrize("name", NAMES)
def test_every_example_fits_its_schema(name: str) -> None:
    assert CATALOG[name].problems_of(CATALOG[name].example) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "com.akeneo.benchmark.v1.test"])
def test_no_type_takes_just_anything(name: str) -> None:
    assert CATALOG[name].problems_of({}) != []


@pytest.mark.parametrize("name", NAMES)
def test_additional_properties_are_taken(name: str) -> None:
    assert CATALOG[name].problems_of(CATALOG[name].example | {"new_since_yesterday": 1}) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_example_names_its_entity(name: str) -> None:
    event_type = CATALOG[name]
    expected = tuple(looked_up(event_type.example, path) for path in event_type.identity)
    assert event_type.identity_of(event_type.example) == expected
    assert all(isinstance(part, str) and part for part in expected)


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("com.akeneo.pim.v1.product.updated", (("product", "uuid"),)),
        ("com.akeneo.pim.v1.product.deleted", (("product", "uuid"),)),
        ("com.akeneo.pim.v1.product-model.updated", (("product_model", "code"),)),
        (
            "com.akeneo.pim.v1.attribute-option.updated",
            (("attribute_option", "attribute", "code"), ("attribute_option", "code")),
        ),
        ("com.akeneo.pim.v1.app.deleted", (("app", "client_id"),)),
    ],
)
def test_the_identity_of_a_type_is_pinned(name: str, identity: tuple[tuple[str, ...], ...]) -> None:
    assert CATALOG[name].identity == identity


@pytest.mark.parametrize(
    ("prefix", "key"),
    [("com.akeneo.pim.v1.product.", "product"), ("com.akeneo.pim.v1.product-model.", "product_model")],
)
def test_every_type_of_an_entity_names_it_alike(prefix: str, key: str) -> None:
    identities = {
        event_type.identity for name, event_type in CATALOG.types.items() if name.startswith(prefix)
    }
    assert len(identities) == 1
    assert {path[0] for path in identities.pop()} == {key}


@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_a_uuid_names_the_same_entity_in_any_case(change: Callable[[str], str]) -> None:
    lower = "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"
    assert UPDATED.identity_of({"product": {"uuid": change(lower)}}) == (lower,)


def test_the_case_of_what_is_no_uuid_stays() -> None:
    attribute = CATALOG["com.akeneo.pim.v1.attribute.updated"]
    assert attribute.identity_of({"attribute": {"code": "Main_Colour"}}) == ("Main_Colour",)
    assert UPDATED.identity_of({"product": {"uuid": "AB" * 18}}) == ("AB" * 18,)


@pytest.mark.parametrize(
    "data", [{}, {"product": {}}, {"product": None}, {"product": {"uuid": 1}}, {"product": []}]
)
def test_data_without_its_entity_has_no_identity(data: dict[str, Any]) -> None:
    assert UPDATED.identity_of(data) == ()


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ([], "", "must be an object"),
        ({"product": {"uuid": UUID}}, "", "author"),
        ({"product": {"uuid": "1"}, "author": AUTHOR}, "product.uuid", "must be a UUID"),
        ({"product": {"uuid": 1}, "author": AUTHOR}, "product.uuid", "must be a string"),
        ({"product": {}, "author": AUTHOR}, "product", "uuid"),
        (
            {"product": {"uuid": UUID}, "author": {"identifier": "erp", "type": "robot"}},
            "author.type",
            'must be one of "user", "api", ',
        ),
    ],
)
def test_a_problem_names_the_path_in_data(data: Any, path: str, message: str) -> None:
    ((found_path, found_message),) = UPDATED.problems_of(data)
    assert found_path == path
    assert message in found_message


def test_half_of_a_surrogate_pair_is_judged_like_another_character() -> None:
    assert UPDATED.problems_of({"product": {"uuid": UUID, "\ud800": "\ud800"}, "author": AUTHOR}) == []
    for first_only in (True, False):
        torn = {"product": {"uuid": "\ud800"}, "author": AUTHOR}
        ((path, _),) = UPDATED.problems_of(torn, first_only=first_only)
        assert path == "product.uuid"


def test_all_problems_are_named() -> None:
    problems = UPDATED.problems_of({"product": {"uuid": 1}, "author": {"identifier": 1, "type": "robot"}})
    assert sorted(path for path, _ in problems) == ["author.identifier", "author.type", "product.uuid"]


def test_a_problem_does_not_quote_the_value() -> None:
    ((_, message),) = UPDATED.problems_of({"product": {"uuid": "x" * 10_000}, "author": AUTHOR})
    assert message == "must be a UUID"


@pytest.mark.parametrize(
    ("unknown", "known"),
    [
        ("com.akeneo.pim.v1.product.update", "com.akeneo.pim.v1.product.updated"),
        ("com.akeneo.pim.v1.products.created", "com.akeneo.pim.v1.product.created"),
        ("product.updated", "com.akeneo.pim.v1.product.updated"),
        ("com.akeneo.pim.v1.product_model.deleted", "com.akeneo.pim.v1.product-model.deleted"),
    ],
)
def test_the_nearest_known_name_is_suggested(unknown: str, known: str) -> None:
    assert CATALOG.nearest(unknown) == known


@pytest.mark.parametrize("unknown", ["", "x", "\ud800", "日本"])
def test_some_name_is_suggested_for_anything(unknown: str) -> None:
    assert CATALOG.nearest(unknown) in CATALOG


def test_formats_are_asserted() -> None:
    entry = {
        "type": "t",
        "trigger": "",
        "identity": [],
        "data": {"properties": {"at": {"type": "string", "format": "date-time"}}},
        "example": {},
        "certainty": "documented",
    }
    event_type = catalog.of([entry])["t"]
    assert event_type.problems_of({"at": "2026-01-31T12:00:00.5+02:00"}) == []
    assert [path for path, _ in event_type.problems_of({"at": "yesterday"})] == ["at"]
