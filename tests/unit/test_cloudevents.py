"""CloudEvents over HTTP, in three modes, as validated events (contract/ingest.md 2)."""

import json
from typing import Any

import pytest

from event_platform.domain.errors import Forbidden, InvalidRequest, TooLarge, UnsupportedMediaType
from event_platform.domain.events import catalog
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.ingest_formats import relay
from event_platform.domain.ingest_formats.cloudevents import BATCH, STRUCTURED, Context, read
from support.clock import START

PLAIN = "application/json"
UPDATED = "com.akeneo.pim.v1.product.updated"
UUID = "00000000-0000-4000-8000-000000000001"
DATA = {"product": {"uuid": UUID}, "author": {"identifier": "erp", "type": "api"}}
CONTEXT = Context("https://pim.example.com", catalog.load(), START)
KIB = 1024


def an_event(**attributes: Any) -> dict[str, Any]:
    """A valid event; None takes an attribute away."""
    event = {
        "specversion": "1.0",
        "id": "event-1",
        "type": UPDATED,
        "time": "2026-01-31T11:00:00Z",
        "data": DATA,
    }
    return {name: value for name, value in (event | attributes).items() if value is not None}


def read_json(value: Any, media_type: str = STRUCTURED) -> list[Event]:
    return read(media_type, {}, json.dumps(value).encode(), CONTEXT)


def problems_in(value: Any, media_type: str = STRUCTURED) -> list[tuple[str, str]]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(InvalidRequest) as raised:
        read(media_type, {}, body, CONTEXT)
    return [(problem.field, problem.message) for problem in raised.value.problems]


# --- the three modes ---------------------------------------------------------------------------------

EVENT = Event(
    "event-1",
    UPDATED,
    "2026-01-31T11:00:00Z",
    Facts(UPDATED, DATA),
    json.dumps(DATA, separators=(",", ":")).encode(),
    (UUID,),
)


@pytest.mark.parametrize("media_type", [STRUCTURED, PLAIN])
def test_structured_mode(media_type: str) -> None:
    assert read_json(an_event(), media_type) == [EVENT]


@pytest.mark.parametrize("media_type", [BATCH, PLAIN])
def test_batch_mode(media_type: str) -> None:
    events = read_json([an_event(id="a"), an_event(id="b")], media_type)
    assert [event.id for event in events] == ["a", "b"]
    assert read_json([], media_type) == []


def test_binary_mode() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "event-1",
        "ce-type": UPDATED,
        "ce-time": "2026-01-31T11:00:00Z",
        "x-other": "x",
    }
    assert read(PLAIN, headers, json.dumps(DATA).encode(), CONTEXT) == [EVENT]


def test_attributes_in_headers_may_be_quoted_strings() -> None:
    headers = {"ce-id": r'"with \"quotes\" and %C3%A9"', "ce-type": f'"{UPDATED}"'}
    (event,) = read(PLAIN, headers, json.dumps(DATA).encode(), CONTEXT)
    assert (event.id, event.type) == ('with "quotes" and é', UPDATED)


def test_attributes_in_headers_are_percent_encoded() -> None:
    headers = {
        "ce-id": "%E2%82%AC%20%22%25%20%F0%9F%98%80",
        "ce-type": UPDATED,
        "ce-time": "2026-01-31T12%3A00%3A00%2B01:00",
        "ce-pimurl": "https%3A//pim.example.com",
    }
    (event,) = read(PLAIN, headers, json.dumps(DATA).encode(), CONTEXT)
    assert (event.id, event.time) == ('\u20ac "% \U0001f600', "2026-01-31T11:00:00Z")


def test_headers_do_not_matter_to_a_structured_event() -> None:
    headers = {"ce-id": "other", "ce-type": "other"}
    assert read(STRUCTURED, headers, json.dumps(an_event()).encode(), CONTEXT) == [EVENT]


@pytest.mark.parametrize("header", ["ce-id", "ce-type", "ce-specversion"])
def test_in_binary_mode_the_body_is_the_data(header: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(PLAIN, {header: "1.0"}, json.dumps(an_event()).encode(), CONTEXT)
    assert "data.product" not in [problem.field for problem in raised.value.problems]
    assert {"id", "type"} - {header.removeprefix("ce-")} <= {
        problem.field for problem in raised.value.problems
    }


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/xml", "application/cloudevents+avro"])
def test_another_media_type_is_not_taken(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=r"application/cloudevents-batch\+json"):
        read(media_type, {}, json.dumps(an_event()).encode(), CONTEXT)


# --- what is kept ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-01-31T12:00:00+01:00", "2026-01-31T11:00:00Z"),
        ("2026-01-31T11:00:00.1230Z", "2026-01-31T11:00:00.1230Z"),
        (None, "2026-01-31T12:00:00.000Z"),
    ],
)
def test_time_is_kept_in_utc_and_is_now_when_absent(sent: str | None, kept: str) -> None:
    assert read_json(an_event(time=sent))[0].time == kept


def test_data_is_kept_with_what_the_schema_does_not_know_in_javascripts_form() -> None:
    author = '"author": {"identifier": "erp", "type": "api", "name": "E"}'
    data = f'{{"b": 1.0, "product": {{"uuid": "{UUID}", "2": "\\u00e9", "1": 1e21}}, {author}}}'
    body = f'{{"id": "event-1", "type": "{UPDATED}", "data": {data}}}'
    (event,) = read(STRUCTURED, {}, body.encode(), CONTEXT)
    assert event.data_json.decode() == (
        f'{{"b":1,"product":{{"1":1e+21,"2":"\u00e9","uuid":"{UUID}"}},'
        '"author":{"identifier":"erp","type":"api","name":"E"}}'
    )


def test_attributes_that_are_ours_to_set_are_not_kept() -> None:
    ours = {
        "source": "pim",
        "subject": "s",
        "dataschema": "d",
        "datacontenttype": "text/plain",
        "extension": 1,
    }
    assert read_json(an_event(**ours)) == [EVENT]


def test_an_event_may_leave_out_specversion() -> None:
    assert read_json(an_event(specversion=None)) == [EVENT]


def test_the_identity_is_that_of_the_type() -> None:
    data = {"attribute_option": {"code": "xl", "attribute": {"code": "size"}}, "author": DATA["author"]}
    (event,) = read_json(an_event(type="com.akeneo.pim.v1.attribute-option.updated", data=data))
    assert event.identity == ("size", "xl")


def test_a_lone_surrogate_in_data_is_kept_in_lower_case() -> None:
    body = json.dumps(an_event(data=DATA | {"note": "NOTE"})).replace("NOTE", r"a\uD83Db")
    (event,) = read(STRUCTURED, {}, body.encode(), CONTEXT)
    assert json.loads(event.data_json)["note"] == "a\ud83db"
    assert event.data_json.endswith(rb'"note":"a\ud83db"}')


def test_data_with_a_lone_surrogate_is_validated_all_the_same() -> None:
    author = {"identifier": "\ud83d", "type": "robot\udc00"}
    ((field, message),) = problems_in(an_event(data=DATA | {"author": author}))
    assert field == "data.author.type"
    assert message.startswith('must be one of "user", ')


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "field", "message"),
    [
        ({"id": None}, "id", "is required"),
        ({"id": ""}, "id", "must be a string that is not empty"),
        ({"id": 5}, "id", "must be a string that is not empty"),
        ({"id": "x" * 257}, "id", "must have at most 256 characters"),
        ({"id": "\ud800"}, "id", "must not hold half of a surrogate pair"),
        ({"type": None}, "type", "is required"),
        ({"type": ["x"]}, "type", "must be a string that is not empty"),
        ({"type": "\udfff"}, "type", "must not hold half of a surrogate pair"),
        (
            {"type": "com.akeneo.pim.v1.product.update"},
            "type",
            f"unknown event type 'com.akeneo.pim.v1.product.update'; did you mean {UPDATED!r}?",
        ),
        ({"specversion": "0.3"}, "specversion", "must be '1.0'"),
        ({"specversion": 1.0}, "specversion", "must be '1.0'"),
        ({"time": "yesterday"}, "time", "not an RFC 3339 date-time such as 2026-01-31T12:00:00Z"),
        ({"time": ""}, "time", "not an RFC 3339 date-time such as 2026-01-31T12:00:00Z"),
        ({"time": 1769860800}, "time", "not an RFC 3339 date-time such as 2026-01-31T12:00:00Z"),
        ({"data": None}, "data", "is required"),
        ({"data": []}, "data", "must be an object"),
        ({"data": "{}"}, "data", "must be an object"),
        ({"data_base64": "e30="}, "data_base64", "is not taken; send JSON in data"),
        ({"data": {"product": {"uuid": UUID}}}, "data", '"author" is required'),
        ({"data": DATA | {"product": {"uuid": "1"}}}, "data.product.uuid", "must be a UUID"),
    ],
)
def test_a_bad_event_is_refused_by_its_field(attributes: dict[str, Any], field: str, message: str) -> None:
    assert problems_in(an_event(**attributes)) == [(field, message)]
    assert problems_in([an_event(), an_event(**attributes)], BATCH) == [(f"[1].{field}", message)]


def test_every_bad_event_is_named_with_all_its_problems() -> None:
    batch = [an_event(), an_event(id=None, time="x"), 5, an_event(), an_event(type="x", data=None)]
    assert [field for field, _ in problems_in(batch, BATCH)] == [
        "[1].id",
        "[1].time",
        "[2]",
        "[4].type",
        "[4].data",
    ]


def test_an_id_of_256_characters_is_taken() -> None:
    assert read_json(an_event(id="\U0001f600" * 256))[0].id == "\U0001f600" * 256


def test_a_long_unknown_type_is_not_quoted_whole() -> None:
    ((_, message),) = problems_in(an_event(type="x" * 100_000))
    assert len(message) < 300


@pytest.mark.parametrize(
    ("body", "media_type", "problem"),
    [
        (b"", STRUCTURED, ("", "the body is empty; a CloudEvent is needed")),
        (b"", BATCH, ("", "the body is empty; a CloudEvent is needed")),
        (b"{", PLAIN, ("", "the body is not JSON at line 1, column 2: a name in double quotes is expected")),
        (b"\xff", PLAIN, ("", "the body is not UTF-8 from byte 0 on")),
        (b'{"data":9007199254740993}', PLAIN, ("", "the body holds the integer 9007199254740993, beyond")),
        (b"[" * 1000, PLAIN, ("", "the body is nested deeper than 200 levels")),
        (b"{}", BATCH, ("", "the body must be an array of CloudEvents")),
        (b"[]", STRUCTURED, ("", "must be a CloudEvent: a JSON object")),
        (b"null", PLAIN, ("", "must be a CloudEvent: a JSON object")),
        (b'"text"', PLAIN, ("", "must be a CloudEvent: a JSON object")),
        (b"[[]]", PLAIN, ("[0]", "must be a CloudEvent: a JSON object")),
    ],
)
def test_a_body_that_holds_no_event_is_refused(
    body: bytes, media_type: str, problem: tuple[str, str]
) -> None:
    ((field, message),) = problems_in(body, media_type)
    assert field == problem[0]
    assert message.startswith(problem[1])


# --- the PIM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["https://pim.example.com", "https://pim.example.com/", "HTTPS://PIM.Example.com:443", None]
)
def test_pimurl_may_repeat_whose_key_it_is(url: str | None) -> None:
    assert read_json(an_event(pimurl=url)) == [EVENT]


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.com",
        "http://pim.example.com",
        "https://pim.example.com/x",
        "pim",
        "",
        5,
        ["x"],
        "\ud800",
    ],
)
def test_an_event_that_claims_another_pim_is_forbidden(url: Any) -> None:
    with pytest.raises(Forbidden, match="pimurl names another PIM"):
        read_json([an_event(), an_event(pimurl=url)], BATCH)


# --- limits ------------------------------------------------------------------------------------------


def test_a_request_holds_at_most_1000_events() -> None:
    events = [an_event(id=f"event-{number}") for number in range(1001)]
    assert len(read_json(events[:1000], BATCH)) == 1000
    with pytest.raises(TooLarge, match="holds 1001 events; at most 1000"):
        read_json(events, BATCH)


def test_an_event_has_at_most_900_kib() -> None:
    room = 900 * KIB - len(EVENT.data_json) - len(',"note":""')
    assert len(read_json(an_event(data=DATA | {"note": "x" * room}))[0].data_json) == 900 * KIB
    with pytest.raises(TooLarge, match="event 1 is larger than 900 KiB"):
        read_json([an_event(), an_event(data=DATA | {"note": "x" * (room + 1)})], BATCH)


def test_the_size_of_an_event_is_that_of_its_delivered_form() -> None:
    note = r"\u00e9" * (300 * KIB)  # 1,800 KiB as sent, 600 KiB as delivered
    body = json.dumps(an_event(data=DATA | {"note": "NOTE"})).replace("NOTE", note)
    assert len(read(STRUCTURED, {}, body.encode(), CONTEXT)) == 1


# --- changes of a delta ------------------------------------------------------------------------------

DELTAS = [name for name in catalog.load().types if name.endswith(".delta")]


def without(value: Any, keys: tuple[str, ...]) -> Any:
    """Returns the JSON without these keys in what `changes` holds, at any depth."""
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    if isinstance(value, dict):
        return {name: without(member, keys) for name, member in value.items() if name not in keys}
    return value


@pytest.mark.parametrize("keys", [("previous",), ("new",), ("type",), ("previous", "new", "type")])
@pytest.mark.parametrize("name", DELTAS)
def test_a_change_needs_neither_previous_nor_new_nor_type(name: str, keys: tuple[str, ...]) -> None:
    example = catalog.load()[name].example
    data = {
        part: {key: without(value, keys) if key == "changes" else value for key, value in members.items()}
        for part, members in example.items()
    }
    assert data != example
    (event,) = read_json(an_event(type=name, data=data))
    assert json.loads(event.data_json) == data
    relayed = relay.read(json.dumps(an_event(type=name, data=data)).encode(), catalog.load(), START)
    assert relayed.event == event
    assert not relayed.warnings


def test_the_deltas_are_those_that_the_catalog_has() -> None:
    assert len(DELTAS) == 3


@pytest.mark.parametrize("name", ["specversion", "time", "data_base64", "pimurl", "subject", "traceparent"])
def test_an_optional_attribute_that_is_null_is_absent(name: str) -> None:
    absent = {key: value for key, value in an_event().items() if key != name}
    assert read_json(absent | {name: None}) == read_json(absent)
