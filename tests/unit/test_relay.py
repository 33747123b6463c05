"""What Akeneo's own Event Platform delivers, to be delivered on (contract/ingest.md 4)."""

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from event_platform.domain.attempts.signatures import PRIMARY_HEADER, SECONDARY_HEADER
from event_platform.domain.errors import Unauthenticated
from event_platform.domain.events import catalog
from event_platform.domain.events.event import MAX_EVENT_BYTES
from event_platform.domain.ingest_formats import relay
from event_platform.domain.ingest_formats.relay import Relayed
from support.clock import START
from support.processes import signature

UPDATED = "com.akeneo.pim.v1.product.updated"
UUID = "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"
DATA = {"product": {"uuid": UUID}, "author": {"identifier": "erp", "type": "api"}}
SECRET = "the relay secret"


def an_event(**attributes: Any) -> dict[str, Any]:
    """As it is delivered; None takes an attribute away."""
    event = {
        "specversion": "1.0",
        "id": "event-1",
        "source": "akeneo-event-platform",
        "type": UPDATED,
        "subject": "0197f0d3-0000-7000-8000-000000000000",
        "datacontenttype": "application/json",
        "dataschema": "https://example.com/schema.json",
        "time": "2026-01-31T12:00:00.123+01:00",
        "data": DATA,
    }
    return {name: value for name, value in (event | attributes).items() if value is not None}


def read(event: Any) -> Relayed:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return relay.read(body, catalog.load(), START)


def test_id_type_time_and_data_are_kept() -> None:
    relayed = read(an_event())
    assert relayed.warnings == []
    event = relayed.event
    assert event is not None
    assert (event.id, event.type, event.time) == ("event-1", UPDATED, "2026-01-31T11:00:00.123Z")
    assert event.data_json == json.dumps(DATA, separators=(",", ":")).encode()
    assert event.identity == (UUID,)


def test_an_event_that_fits_no_schema_is_kept_and_its_places_are_named() -> None:
    relayed = read(an_event(data={"product": {"uuid": "secret"}, "more": 1}))
    assert relayed.event is not None
    assert relayed.event.data_json == b'{"product":{"uuid":"secret"},"more":1}'
    assert set(relayed.warnings) == {
        "data does not fit the schema",
        "data.product.uuid does not fit the schema",
    }


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"9007199254740993", b"9007199254740992"),
        (b"123456789012345678901234567890", b"1.2345678901234568e+29"),
        (b"-9007199254740993", b"-9007199254740992"),
        (b"1e400", b"null"),
        (b"1.0", b"1"),
        (b'"\\ud800"', b'"\\ud800"'),
    ],
)
def test_values_are_written_as_javascript_does(sent: bytes, kept: bytes) -> None:
    body = json.dumps(an_event(data={**DATA, "n": 0})).encode().replace(b'"n": 0', b'"n": ' + sent)
    relayed = read(body)
    assert relayed.event is not None
    assert relayed.event.data_json.endswith(b'"n":' + kept + b"}")


def test_an_event_of_more_than_four_days_ago_is_stored_as_nothing_and_named() -> None:
    relayed = read(an_event(time=(START - timedelta(days=4, seconds=1)).isoformat()))
    assert (relayed.event, relayed.event_id) == (None, "event-1")
    assert relayed.warnings == ["its time 2026-01-27T11:59:59Z is more than 4 days ago"]
    assert read(an_event(time=(START - timedelta(days=4)).isoformat())).event is not None
    assert read(an_event(time=(START + timedelta(days=400)).isoformat())).event is not None


@pytest.mark.parametrize("time", [None, "yesterday", 7])
def test_without_a_time_it_is_now(time: Any) -> None:
    relayed = read(an_event(time=time))
    assert relayed.event is not None
    assert relayed.event.time == "2026-01-31T12:00:00.000Z"
    assert relayed.warnings == ["time is no RFC 3339 date-time, so it is now"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (an_event(type="com.akeneo.pim.v9.new"), "unknown event type 'com.akeneo.pim.v9.new'"),
        (an_event(type=None), "unknown event type 'None'"),
        (an_event(type=[]), "unknown event type"),
        (an_event(id=None), "id is no text"),
        (an_event(id=""), "id is no text"),
        (an_event(id="\ud800"), "id is no text"),
        (an_event(data=None), "data is no object"),
        (an_event(data={"text": "x" * MAX_EVENT_BYTES}), "bytes as it is delivered; at most 921600"),
        (an_event(data={"numbers": [1e20] * 50_000}), "bytes as it is delivered; at most 921600"),
        (an_event(data=[]), "data is no object"),
        ([an_event()], "the body is no JSON object"),
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8"),
        (b"[" * 300, "the body is nested deeper"),
        (an_event(data={"deep": [[[]]]}, id=None) | {"deep": "deep"}, "id is no text"),
    ],
)
def test_of_what_cannot_be_delivered_nothing_is_made(event: Any, reason: str) -> None:
    relayed = read(event)
    assert relayed.event is None
    assert reason in relayed.warnings[0]


DEEP = b"[" * 2000 + b"]" * 2000


@pytest.mark.parametrize("value", [DEEP, b'"\xff"', b'"\x01"', b"NaN"])
def test_what_is_not_kept_is_not_judged(value: bytes) -> None:
    body = json.dumps(an_event(more="more")).encode().replace(b'"more"}', value + b"}")
    relayed = read(body)
    assert (relayed.event_id, relayed.warnings) == ("event-1", [])
    assert relayed.event is not None
    assert relayed.event.data_json == json.dumps(DATA, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(an_event(data={"more": 7})).encode().replace(b"7", DEEP),
        json.dumps(an_event()).encode()[:-1],
        b'{"data": {"id": "another", "x": [1, {"id": "another"}, "id"]}, "x": "id", "id": "event-1", }',
        b' {"\\u0069d" : "event-1", "data": ' + b"[" * 100,
        b'{"id":"event-1","data":"' + b"x" * 10_000_000,
    ],
)
def test_the_id_of_what_cannot_be_read_is_named_where_it_can(body: bytes) -> None:
    relayed = read(body)
    assert (relayed.event, relayed.event_id) == (None, "event-1")
    assert relay.id_in(body) == "event-1"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"id":7', b'{"id":"', b'["id","x"]', b'{"id":"\\ud800"}', b'{"x":"id","y":"z"}', b"]" * 99],
)
def test_an_id_that_cannot_be_read_is_not_named(body: bytes) -> None:
    assert relay.id_in(body) is None


@pytest.mark.parametrize("header", [PRIMARY_HEADER, SECONDARY_HEADER])
def test_either_signature_by_either_secret_is_taken(header: str) -> None:
    headers = {PRIMARY_HEADER: "no", SECONDARY_HEADER: "no"} | {header: signature(SECRET, b"body")}
    relay.check(relay.signatures_of(headers), b"body", [SecretStr("next"), SecretStr(SECRET)])


@pytest.mark.parametrize(
    ("headers", "secrets"),
    [
        ({}, [SECRET]),
        ({PRIMARY_HEADER: ""}, [SECRET]),
        ({PRIMARY_HEADER: signature("another", b"body")}, [SECRET]),
        ({PRIMARY_HEADER: signature(SECRET, b"body ")}, [SECRET]),
        ({PRIMARY_HEADER: signature(SECRET, b"body")}, []),
        ({PRIMARY_HEADER: signature("", b"body")}, []),
        ({PRIMARY_HEADER: "é"}, [SECRET]),
    ],
)
def test_what_nobody_signed_is_refused(headers: dict[str, str], secrets: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        relay.check(relay.signatures_of(headers), b"body", [SecretStr(secret) for secret in secrets])
