"""The webhook of a PIM's own Events API, as validated events (contract/ingest.md 3)."""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from event_platform.domain.errors import InvalidRequest, TooLarge, Unauthenticated
from event_platform.domain.events import catalog
from event_platform.domain.ingest_formats import events_api
from event_platform.domain.ingest_formats.events_api import SIGNATURE_HEADER, TIMESTAMP_HEADER, Taken
from event_platform.domain.tenants import Tenant
from support.clock import START
from support.cpu import cpu_seconds
from support.processes import signature

PIM = "https://pim.example.com"
UUID = "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"
SECRET = "the secret that the PIM made"
TENANT = Tenant.model_validate(
    {"url": PIM, "clients": [{"client_id": "1_erp", "username": "erp_1234"}, {"client_id": "2_other"}]}
)
NOW = int(START.timestamp())


def php(value: Any) -> bytes:
    """As PHP's json_encode writes it by default: slashes and all that is not ASCII escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def an_event(action: str | None = "product.updated", resource: Any = None, **fields: Any) -> dict[str, Any]:
    """As the PIM sends it; None takes a field away."""
    event = {
        "action": action,
        "event_id": "9979c367-595d-42ad-9070-05f62f31f49b",
        "event_datetime": "2026-01-31T13:00:00+01:00",
        "author": "julia",
        "author_type": "ui",
        "pim_source": "http://localhost:8080/",
        "data": {"resource": resource or {"uuid": UUID, "identifier": "LMP/001 é", "family": "lamps"}},
    }
    return {name: value for name, value in (event | fields).items() if value is not None}


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def taken(*events: Any, tenant: Tenant = TENANT) -> Taken:
    return events_api.read(php({"events": events}), tenant, catalog.load())


def data_of(*events: Any, tenant: Tenant = TENANT) -> list[Any]:
    found = taken(*events, tenant=tenant)
    assert not found.problems
    return [json.loads(event.data_json) for event in found.events]


# --- what becomes of it ------------------------------------------------------------------------------


def test_an_event_is_mapped_and_the_rest_of_the_product_is_dropped() -> None:
    (event,) = taken(an_event()).events
    assert (event.id, event.type, event.time) == (
        "9979c367-595d-42ad-9070-05f62f31f49b",
        "com.akeneo.pim.v1.product.updated",
        "2026-01-31T12:00:00Z",
    )
    product = f'{{"uuid":"{UUID}","identifier":"LMP/001 é"}}'
    assert event.data_json.decode() == (
        f'{{"product":{product},"author":{{"identifier":"julia","type":"user"}}}}'
    )
    assert event.identity == (UUID,)


@pytest.mark.parametrize(
    ("action", "becomes"),
    [
        ("product.created", "product.created"),
        ("product.updated", "product.updated"),
        ("product.removed", "product.deleted"),
        ("product_model.created", "product-model.created"),
        ("product_model.updated", "product-model.updated"),
        ("product_model.removed", "product-model.deleted"),
    ],
)
def test_each_action_becomes_a_type_whose_schema_it_fits(action: str, becomes: str) -> None:
    resource = {"uuid": UUID, "identifier": "a", "code": "lamp"}
    (event,) = taken(an_event(action, resource)).events
    assert event.type == f"com.akeneo.pim.v1.{becomes}"
    assert catalog.load()[event.type].problems_of(json.loads(event.data_json)) == []
    expected = {"code": "lamp"} if "model" in action else {"uuid": UUID, "identifier": "a"}
    assert json.loads(event.data_json) == {
        action.partition(".")[0]: expected,
        "author": {"identifier": "julia", "type": "user"},
    }
    assert event.identity == (("lamp",) if "model" in action else (UUID,))


def test_a_product_before_7_0_gets_a_uuid_by_its_name() -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, PIM)
    (data,) = data_of(an_event(resource={"identifier": "Lampe é"}))
    assert data["product"] == {"uuid": str(uuid.uuid5(namespace, "Lampe é")), "identifier": "Lampe é"}
    # Written down, since receivers may keep it for years.
    assert events_api.made_up_uuid(PIM, "LMP-001") == "8b405685-1edb-57a7-a2f5-33e3dbd1f131"


@pytest.mark.parametrize("identifier", [None, "", 7, 1.5, True, [], {}, "x" * 1025, "\ud800"])
def test_a_product_without_a_usable_identifier_has_none(identifier: Any) -> None:
    (data,) = data_of(an_event(resource={"uuid": UUID, "identifier": identifier}))
    assert data["product"] == {"uuid": UUID}
    (data,) = data_of(an_event(resource={"uuid": UUID}))
    assert data["product"] == {"uuid": UUID}


@pytest.mark.parametrize("author", [None, "", 7, [], "x" * 1025, "\ud800"])
@pytest.mark.parametrize(
    ("author_type", "becomes"), [("ui", "user"), ("api", "api"), (None, "unknown-user-type")]
)
def test_an_event_without_a_usable_author_is_taken(author: Any, author_type: Any, becomes: str) -> None:
    event = an_event(author_type=author_type) | {"author": author}
    for one in (event, {name: value for name, value in event.items() if name != "author"}):
        (data,) = data_of(one)
        assert data["author"] == {"identifier": "unknown", "type": becomes}


@pytest.mark.parametrize(
    ("author", "author_type", "becomes"),
    [
        ("julia", "ui", ("julia", "user")),
        ("erp_1234", "api", ("1_erp", "api")),
        ("unlisted", "api", ("unlisted", "api")),
        ("erp_1234", "ui", ("erp_1234", "user")),
        ("system", "system", ("system", "system")),
        ("julia", "robot", ("julia", "unknown-user-type")),
        ("julia", None, ("julia", "unknown-user-type")),
        ("julia", ["ui"], ("julia", "unknown-user-type")),
    ],
)
def test_the_author_is_mapped(author: str, author_type: Any, becomes: tuple[str, str]) -> None:
    (data,) = data_of(an_event(author=author, author_type=author_type))
    assert tuple(data["author"].values()) == becomes


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00Z"),
        ("2020-01-01T00:00:00.123-0530", "2020-01-01T05:30:00.123Z"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
    ],
)
def test_the_time_is_kept_in_utc(sent: str, kept: str) -> None:
    assert taken(an_event(event_datetime=sent)).events[0].time == kept


def test_events_keep_their_order() -> None:
    events = [an_event(event_id=str(number)) for number in range(10)]
    assert [event.id for event in taken(*events).events] == [str(number) for number in range(10)]


def test_numbers_in_the_rest_of_a_product_do_not_matter() -> None:
    body = php({"events": [an_event()]}).replace(b'"lamps"', b"123456789012345678901234567890")
    assert len(events_api.read(body, TENANT, catalog.load()).events) == 1


UNREADABLE = {
    "half of a surrogate pair": b'"\\ud800"',
    "too large a number": b"1e400",
    "too long a number": b"1" * 5000,
    "2,000 levels": b"[" * 2000 + b"]" * 2000,
    "2,000 levels of objects": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "no number": b"NaN",
    "no UTF-8": b'"\xff"',
    "a control character": b'"\x01"',
    "brackets in a string": b'"[{\\"[\x01"',
}


@pytest.mark.parametrize("where", ["values", "deep", "event", "body"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_thrown_away_costs_nothing(kind: str, where: str) -> None:
    events = [an_event(event_id=str(number)) for number in range(10)]
    resource, marked = events[4]["data"]["resource"], "the unreadable value"
    body: dict[str, Any] = {"events": events}
    if where == "deep":
        resource["values"] = {"name": [{"data": [{"a": marked}, 1.5]}], "other": []}
    else:
        {"values": resource, "event": events[4], "body": body}[where]["values"] = marked
    text = php(body).replace(php(marked), UNREADABLE[kind])
    found = events_api.read(text, TENANT, catalog.load())
    assert [event.id for event in found.events] == [str(number) for number in range(10)]
    (as_ever,) = taken(an_event()).events
    assert {event.data_json for event in found.events} == {as_ever.data_json}
    assert events_api.read_if_body(text, TENANT, catalog.load()) == found


@pytest.mark.parametrize("broken", [b"{,}", b'{"a" 1}', b'{"a":}', b"{]"])
def test_an_event_that_is_no_json_costs_none_beside_it(broken: bytes) -> None:
    events = [an_event(event_id=str(number)) for number in range(3)]
    text = php({"events": events}).replace(php(events[1]), broken)
    found = events_api.read(text, TENANT, catalog.load())
    assert [event.id for event in found.events][:1] == ["0"]
    assert (found.malformed, len(found.events)) == (1, 2)
    assert str(found.problems[0]).startswith("events[1]: is not JSON at line 1, column ")


def test_what_is_needed_and_unreadable_costs_its_event_alone() -> None:
    events = [
        an_event(event_id=str(number), resource={"code": "a"}, action="product_model.updated")
        for number in range(3)
    ]
    text = php({"events": events}).replace(b'"code":"a"', b'"code":"\\ud800"', 1)
    found = events_api.read(text, TENANT, catalog.load())
    assert [event.id for event in found.events] == ["1", "2"]
    assert [problem.field for problem in found.problems] == ["events[0].data.resource.code"]


def test_reading_events_apart_takes_little_time() -> None:
    """Reads as much as the event loop does: up to 256 KiB of 40,000 values, which are no JSON together."""
    text = b'{"events":[{"data":[' + b"[]," * 20_000 + b"1],}]}"

    def refused() -> None:
        with pytest.raises(InvalidRequest, match="is not JSON"):
            events_api.read(text, TENANT, catalog.load())

    assert cpu_seconds(refused) < 0.1


# --- what becomes of what does not fit ---------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b'{"events":[]}'])
def test_the_test_button_and_an_empty_list_are_nothing(body: bytes) -> None:
    found = events_api.read(body, TENANT, catalog.load())
    assert (list(found.events), found.left_out()) == ([], {})


def test_unknown_actions_are_skipped_and_counted() -> None:
    found = taken(an_event("category.created"), an_event(), an_event("category.created"), an_event("x"))
    assert len(found.events) == 1
    assert found.skipped == {"category.created": 2, "x": 1}
    assert found.malformed == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_id": None}, "event_id"),
        ({"event_id": "x" * 257}, "event_id"),
        ({"event_id": 7}, "event_id"),
        ({"action": None}, "action"),
        ({"event_datetime": "yesterday"}, "event_datetime"),
        ({"event_datetime": None}, "event_datetime"),
        ({"resource": {"identifier": "\ud800"}}, "data.resource.identifier"),
        ({"event_id": "\ud800"}, "event_id"),
        ({"event_datetime": "2026-01-31T12:00:00+0100" + " " * 1024}, "event_datetime"),
        ({"resource": {"identifier": "x" * 1025}}, "data.resource.identifier"),
        ({"data": None}, "data"),
        ({"data": {"resource": []}}, "data.resource"),
        ({"resource": {"family": "lamps"}}, "data.resource.identifier"),
        ({"resource": {"identifier": 7}}, "data.resource.identifier"),
        ({"resource": {"uuid": "no-uuid", "identifier": "a"}}, "data.resource.uuid"),
        ({"resource": {"uuid": "\ud800", "identifier": "a"}}, "data.resource.uuid"),
        ({"resource": {"uuid": nested(500), "identifier": "a"}}, "data.resource.uuid"),
        ({"action": "product_model.created", "resource": {"uuid": UUID}}, "data.resource.code"),
    ],
)
def test_a_malformed_event_is_named_and_costs_none_beside_it(fields: dict[str, Any], field: str) -> None:
    bad = an_event(**fields)
    found = taken(an_event(event_id="good"), bad)
    assert [event.id for event in found.events] == ["good"]
    assert (found.malformed, found.skipped) == (1, {})
    assert f"events[1].{field}" in [problem.field for problem in found.problems]
    with pytest.raises(InvalidRequest):
        taken(bad)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"7", b'{"events":7}', b'{"event":[]}', b"\xff", b'{"events":[7]}']
)
def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        events_api.read(body, TENANT, catalog.load())


def test_more_than_1000_events_are_too_many() -> None:
    with pytest.raises(TooLarge):
        taken(*[an_event()] * 1001)


VALUES_WITH_SKU = {"name": [{"data": "Lamp"}], "sku": [{"locale": None, "scope": None, "data": "LMP-1"}]}
WITH_ATTRIBUTE = TENANT.model_copy(update={"identifier_attribute": "sku"})


@pytest.mark.parametrize(
    ("resource", "tenant", "product"),
    [
        ({"values": VALUES_WITH_SKU}, WITH_ATTRIBUTE, {"uuid": UUID, "identifier": "LMP-1"}),
        ({"values": VALUES_WITH_SKU, "identifier": "A"}, WITH_ATTRIBUTE, {"uuid": UUID, "identifier": "A"}),
        ({"values": VALUES_WITH_SKU}, TENANT, {"uuid": UUID}),
        *(
            ({"values": values}, WITH_ATTRIBUTE, {"uuid": UUID})
            for values in (None, [], {}, {"sku": None}, {"sku": []}, {"sku": [7]}, {"sku": [{"data": 7}]})
        ),
        ({"values": {"sku": [{"data": "\ud800"}]}}, WITH_ATTRIBUTE, {"uuid": UUID}),
    ],
)
def test_the_identifier_is_taken_from_the_values_where_the_attribute_is_known(
    resource: dict[str, Any], tenant: Tenant, product: dict[str, str]
) -> None:
    (data,) = data_of(an_event(resource={"uuid": UUID, **resource}), tenant=tenant)
    assert data["product"] == product


def test_the_identifier_is_taken_from_values_of_which_another_is_unreadable() -> None:
    values = VALUES_WITH_SKU | {"name": "here"}
    body = php({"events": [an_event(resource={"uuid": UUID, "values": values})]})
    for unreadable in (b"1e400", b'[{"data":"\\ud800"}]', b"[" * 2000 + b"]" * 2000):
        read = events_api.read(body.replace(b'"here"', unreadable), WITH_ATTRIBUTE, catalog.load())
        (event,) = read.events
        assert json.loads(event.data_json)["product"] == {"uuid": UUID, "identifier": "LMP-1"}


def test_the_first_pims_call_the_time_event_date() -> None:
    event = an_event(event_datetime=None, event_date="2026-01-31T13:00:00+01:00")
    assert taken(event).events[0].time == "2026-01-31T12:00:00Z"
    refused = taken(an_event(event_datetime=None, event_date="yesterday"), an_event())
    assert [problem.field for problem in refused.problems] == ["events[0].event_date"]


# --- whose it is -------------------------------------------------------------------------------------


def signed(body: bytes, timestamp: int | str = NOW, secret: str = SECRET) -> dict[str, str]:
    signed_bytes = f"{timestamp}.".encode() + body
    return {SIGNATURE_HEADER: signature(secret, signed_bytes), TIMESTAMP_HEADER: str(timestamp)}


def check(headers: dict[str, str], body: bytes, *secrets: str) -> None:
    events_api.call_of(headers, START).check(body, [SecretStr(secret) for secret in secrets])


@pytest.mark.parametrize("body", [b"", b'{"events":[]}'])
@pytest.mark.parametrize("age", [0, 300, -60])
def test_a_signature_of_the_time_and_the_raw_bytes_is_taken(body: bytes, age: int) -> None:
    check(signed(body, NOW - age), body, "the next secret", SECRET)


@pytest.mark.parametrize("timestamp", [NOW - 301, NOW + 61, "", "x", "-1", "1e9", f"{NOW}.5", "9" * 30, "²"])
def test_another_time_is_refused(timestamp: int | str) -> None:
    with pytest.raises(Unauthenticated):
        events_api.call_of(signed(b"", timestamp), START)


@pytest.mark.parametrize(
    ("headers", "body", "secrets"),
    [
        (signed(b"{}"), b"{} ", [SECRET]),
        (signed(b"{}"), b"{}", ["another"]),
        (signed(b"{}"), b"{}", []),
        (signed(b"{}", secret=""), b"{}", []),
        (signed(b"{}") | {TIMESTAMP_HEADER: str(NOW - 1)}, b"{}", [SECRET]),
        (signed(b"{}") | {SIGNATURE_HEADER: signed(b"{}")[SIGNATURE_HEADER].upper()}, b"{}", [SECRET]),
        ({SIGNATURE_HEADER: "é", TIMESTAMP_HEADER: str(NOW)}, b"{}", [SECRET]),
        ({TIMESTAMP_HEADER: str(NOW)}, b"{}", [SECRET]),
    ],
)
def test_what_does_not_fit_is_refused(headers: dict[str, str], body: bytes, secrets: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        check(headers, body, *secrets)


@pytest.mark.parametrize("days", [-10, 10])
def test_a_time_by_either_clock_is_taken_after_a_jump(days: int) -> None:
    jumped = START + timedelta(days=days)
    for clocks in ((START, jumped), (jumped, START)):
        events_api.call_of(signed(b"", NOW - 300), *clocks)
        events_api.call_of(signed(b"", NOW + 60), *clocks)
        for timestamp in (NOW - 301, NOW + 61):
            with pytest.raises(Unauthenticated, match="check the clocks"):
                events_api.call_of(signed(b"", timestamp), *clocks)


def test_the_refusal_of_an_old_call_says_so() -> None:
    with pytest.raises(Unauthenticated, match="360 s old"):
        events_api.call_of(signed(b"", int((START - timedelta(minutes=6)).timestamp())), START)


def test_an_upper_case_uuid_is_the_same_product_and_is_delivered_as_it_came() -> None:
    upper = "0E0F6B1C-8F2D-4B57-9A1C-2F6D0C1B7A55"
    (event,) = taken(an_event(resource={"uuid": upper})).events
    assert event.identity == (upper.lower(),)
    assert json.loads(event.data_json)["product"]["uuid"] == upper


def test_a_made_up_uuid_is_told_from_a_pims() -> None:
    made_up, own = taken(
        an_event(resource={"identifier": "a"}), an_event(resource={"identifier": "a", "uuid": UUID})
    ).events
    assert events_api.has_made_up_uuid(made_up, PIM)
    assert not events_api.has_made_up_uuid(made_up, "https://other.example.com")
    assert not events_api.has_made_up_uuid(own, PIM)
    (model,) = taken(an_event("product_model.created", {"code": "a"})).events
    assert not events_api.has_made_up_uuid(model, PIM)
