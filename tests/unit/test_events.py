"""The bytes in which an event is delivered (contract/wire.md 9)."""

import json
from typing import Any

import pytest

from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event, envelope, without_identifier
from event_platform.domain.events.facts import IDENTIFIER_TYPES, Facts

PRODUCT = "com.akeneo.pim.v1.product."
UUID = "00000000-0000-4000-8000-000000000001"
SUBSCRIPTION = "019c1000-0000-7000-8000-000000000001"
SCHEMAS = "https://events.example.com/spec"
AUTHOR = {"identifier": "erp", "type": "api"}


def an_event(
    data: dict[str, Any], *, event_type: str = PRODUCT + "updated", event_id: str = "event-1"
) -> Event:
    data_json = json_form.stringify(data)
    return Event(
        event_id, event_type, "2026-01-31T12:00:00.120Z", Facts(event_type, data), data_json, (UUID,)
    )


def body_of(event: Event, *, with_identifier: bool = True) -> bytes:
    return envelope(event, SCHEMAS, with_identifier=with_identifier).addressed_to(SUBSCRIPTION)


def test_the_envelope_is_these_bytes() -> None:
    event = an_event({"product": {"uuid": UUID}, "author": {"identifier": "\u00e9/<&\u2028", "type": "api"}})
    assert body_of(event).decode() == (
        '{"specversion":"1.0","id":"event-1","source":"akeneo-event-platform",'
        '"type":"com.akeneo.pim.v1.product.updated","subject":"019c1000-0000-7000-8000-000000000001",'
        '"datacontenttype":"application/json",'
        '"dataschema":"https://events.example.com/spec/com.akeneo.pim.v1.product.updated.schema.json",'
        '"time":"2026-01-31T12:00:00.120Z",'
        '"data":{"product":{"uuid":"00000000-0000-4000-8000-000000000001"},'
        '"author":{"identifier":"\u00e9/<&\u2028","type":"api"}}}'
    )


@pytest.mark.parametrize(
    "event_id", ["a", 'quo"te', "back\\slash", "\u65e5\u672c \U0001f600", "\u2028\x7f\x00\n"]
)
def test_an_id_of_any_characters_is_delivered_as_it_is(event_id: str) -> None:
    body = body_of(an_event({"product": {"uuid": UUID}, "author": AUTHOR}, event_id=event_id))
    assert json.loads(body)["id"] == event_id
    assert json_form.stringify(json_form.parse(body)) == body


@pytest.mark.parametrize("name", sorted(catalog.load().types))
def test_every_types_body_is_what_javascript_would_write(name: str) -> None:
    event = an_event(catalog.load()[name].example, event_type=name)
    for with_identifier in (True, False):
        body = body_of(event, with_identifier=with_identifier)
        assert json_form.stringify(json_form.parse(body)) == body


def test_all_subscriptions_share_one_envelope() -> None:
    shared = envelope(an_event({"author": AUTHOR}), SCHEMAS, with_identifier=True)
    one, other = shared.addressed_to("one"), shared.addressed_to("other")
    assert one.replace(b'"subject":"one"', b'"subject":"other"') == other


@pytest.mark.parametrize(
    "action", ["created", "updated", "updated.delta", "deleted", "became-complete", "became-incomplete"]
)
def test_the_identifier_is_left_out_where_it_is_optional(action: str) -> None:
    data = {
        "10": "index",
        "product": {"uuid": UUID, "identifier": "SKU-1", "more": {"identifier": "stays"}},
        "author": AUTHOR,
        "identifier": "stays",
    }
    event = an_event(data, event_type=PRODUCT + action)
    assert event.facts.has_identifier
    assert without_identifier(event) == (
        b'{"10":"index","product":{"uuid":"%b","more":{"identifier":"stays"}},'
        b'"author":{"identifier":"erp","type":"api"},"identifier":"stays"}' % UUID.encode()
    )
    assert b"SKU-1" not in body_of(event, with_identifier=False)
    assert b'"identifier":"SKU-1"' in body_of(event, with_identifier=True)


@pytest.mark.parametrize(
    ("event_type", "data"),
    [
        (PRODUCT + "became-ready", {"product": {"uuid": UUID, "identifier": "SKU-1"}}),
        ("com.akeneo.pim.v1.product-model.updated", {"product": {"identifier": "SKU-1"}}),
        (PRODUCT + "updated", {"product": {"uuid": UUID}}),
        (PRODUCT + "updated", {"product": ["identifier"]}),
        (PRODUCT + "updated", {"product": None}),
        (PRODUCT + "updated", {"identifier": "SKU-1"}),
        (PRODUCT + "updated", {}),
    ],
)
def test_nothing_else_is_left_out(event_type: str, data: dict[str, Any]) -> None:
    event = an_event(data, event_type=event_type)
    assert not event.facts.has_identifier
    assert body_of(event, with_identifier=False) == body_of(event, with_identifier=True)


@pytest.mark.parametrize("identifier", [None, ""])
def test_an_empty_identifier_is_left_out_too(identifier: str | None) -> None:
    event = an_event({"product": {"uuid": UUID, "identifier": identifier}})
    assert without_identifier(event) == b'{"product":{"uuid":"%b"}}' % UUID.encode()


def test_the_types_with_an_optional_identifier_are_in_the_catalog() -> None:
    assert catalog.load().types.keys() >= IDENTIFIER_TYPES
    assert len(IDENTIFIER_TYPES) == 6
