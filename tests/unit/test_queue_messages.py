"""What the topics between the functions carry, there and back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from event_platform.domain.deliveries import Delivery
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event, without_identifier
from event_platform.domain.events.facts import Facts
from event_platform.domain.messages.message import MalformedMessage, Message
from event_platform.domain.messages.queue_messages import (
    TENANT_KEY,
    Accepted,
    deliveries_topic,
    delivery_message,
    delivery_of,
    events_messages,
    events_of,
)
from event_platform.domain.tenants import tenant_key
from support.clock import START
from support.records import PIM, UPDATED, accepted_of, an_event, with_data

CATALOG = catalog.load()
MAX_ATTRIBUTE_BYTES = 1024

# Any character, and any as Pub/Sub can hold it.
text = st.text(st.characters(codec=None), min_size=1, max_size=256)
utf8 = st.text(st.characters(codec="utf-8"), min_size=1, max_size=50)
moments = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, 2**53)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.just("7"), inner),
    max_leaves=15,
)


def javascript_form(data: Any) -> bytes:
    """As a relay writes data: integers that a double cannot hold are rounded."""
    parsed = json_form.parse(json_form.stringify(data), round_integers=True)
    return json_form.stringify(parsed)


@st.composite
def events(draw: st.DrawFn) -> Event:
    data_json = javascript_form({"product": {"uuid": draw(st.text(max_size=5))}, "more": draw(json_values)})
    data = json_form.parse(data_json, round_integers=True)
    assert isinstance(data, dict)
    event_type = draw(st.sampled_from([UPDATED, "com.akeneo.pim.v1.category.updated"]))
    identity = CATALOG[event_type].identity_of(data)
    return Event(
        draw(text), event_type, "2026-01-31T11:00:00.5Z", Facts(event_type, data), data_json, identity
    )


deliveries = st.builds(
    Delivery,
    subscription_id=utf8,
    event_id=text,
    event_type=utf8,
    accepted_at=moments,
    lane=st.integers(0, 15),
    lanes=st.integers(16, 64),
    epoch=counts,
    body=st.binary(max_size=50),
    attempts=counts,
    failures=counts,
    first_attempt_at=st.none() | moments,
)


# --- accepted events -----------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), max_size=5), moments, st.integers(1, 400))
def test_accepted_events_come_back_byte_for_byte(sent: list[Event], at: datetime, max_bytes: int) -> None:
    messages = list(events_messages(Accepted(PIM, at, sent), max_bytes=max_bytes))
    read = [accepted_of(message, CATALOG) for message, _ in messages]
    assert all((part.tenant, part.accepted_at) == (PIM, at) for part in read)
    assert [event for part in read for event in part.events] == sent
    assert [event.data_json for part in read for event in part.events] == [event.data_json for event in sent]
    assert [list(part.events) for part in read] == [list(held) for _, held in messages]


@pytest.mark.parametrize(
    "data",
    [b'{"a":1e+30,"b":12345678901234567000}', b'{"a":null}', b'{"2":1,"10":2,"a":"\\ud800"}', b'{"a":0.1}'],
)
def test_numbers_and_keys_of_javascript_stay_as_they_are(data: bytes) -> None:
    value = json_form.parse(data, round_integers=True)
    assert isinstance(value, dict)
    event = Event("1", UPDATED, "2026-01-31T11:00:00Z", Facts(UPDATED, value), data, ())
    ((message, _),) = events_messages(Accepted(PIM, START, [event]))
    assert accepted_of(message, CATALOG).events[0].data_json == data


def test_a_filter_finds_the_events_of_a_tenant_whatever_its_url() -> None:
    url = f"https://{'a' * 60}.example.com/{'b' * 900}"
    ((message, _),) = events_messages(Accepted(url, START, [an_event()]))
    assert message.attributes[TENANT_KEY] == tenant_key(url)
    assert len(f'attributes.{TENANT_KEY} = "{message.attributes[TENANT_KEY]}"'.encode()) <= 256


def test_data_as_deep_as_they_are_taken_in_pass() -> None:
    depth = json_form.MAX_DEPTH - 1
    data = json_form.parse(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
    assert isinstance(data, dict)
    event = replace(with_data(an_event(), data), identity=())
    ((message, _),) = events_messages(Accepted(PIM, START, [event]))
    assert accepted_of(message, CATALOG).events == [event]


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events(), min_size=1, max_size=8), st.integers(300, 2000))
def test_a_message_is_over_the_limit_only_for_one_large_event(sent: list[Event], max_bytes: int) -> None:
    for message, held in events_messages(Accepted(PIM, START, sent), max_bytes=max_bytes):
        assert len(message.data) <= max_bytes or len(held) == 1


def test_a_full_request_of_large_events_is_split_below_pubsubs_limit() -> None:
    data = {"product": {"uuid": "1"}, "more": "x" * 900_000}
    large = with_data(an_event(), data)
    messages = list(events_messages(Accepted(PIM, START, [large] * 25)))
    assert [len(held) for _, held in messages] == [9, 9, 7]
    assert all(len(message.data) < 9_000_000 for message, _ in messages)


def test_large_data_are_not_parsed_for_their_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {f"attribute-{number}": [{"scope": "print", "new": "x" * 20}] for number in range(1000)}
    delta = f"{UPDATED}.delta"
    product = {"uuid": "\ud800", "identifier": '","data":{', "changes": {"values": values}}
    large = replace(with_data(replace(an_event(), type=delta), {"product": product}), identity=("\ud800",))
    ((message, _),) = events_messages(Accepted(PIM, START, [an_event(2), large, an_event(3)]))
    parsed: list[int] = []
    parse = json_form.parse

    def noted(text: bytes, **options: Any) -> Any:
        parsed.append(len(text))
        return parse(text, **options)

    monkeypatch.setattr(json_form, "parse", noted)
    read = accepted_of(message, CATALOG).events
    assert read == [an_event(2), large, an_event(3)]
    assert (read[1].identity, read[1].facts.attribute) == (("\ud800",), frozenset(values))
    assert read[1].facts.part("product")["identifier"] == product["identifier"]
    assert without_identifier(read[1]) == without_identifier(large)
    assert max(parsed) < len(large.data_json) / 2, "only the facts were"


def test_a_message_is_read_event_by_event() -> None:
    ((message, _),) = events_messages(Accepted(PIM, START, [an_event(number) for number in range(3)]))
    broken = Message(message.data.replace(b"event-2", b"\xff"), message.attributes)
    events = events_of(broken, CATALOG)
    assert [next(events), next(events)] == [an_event(0), an_event(1)]
    with pytest.raises(MalformedMessage, match="not UTF-8"):
        next(events)


def test_a_message_of_an_older_version_is_read_too() -> None:
    sent = [an_event(number) for number in range(3)]
    ((message, _),) = events_messages(Accepted(PIM, START, sent))
    older = Message(message.data.replace(b",\n", b","), message.attributes)
    assert accepted_of(older, CATALOG).events == sent


def test_no_events_make_no_message() -> None:
    assert list(events_messages(Accepted(PIM, START, []))) == []


GOOD = {"tenant": PIM, "accepted_at": "2026-01-31T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("data", "attributes", "told"),
    [
        (b"[]", {"accepted_at": GOOD["accepted_at"]}, "tenant"),
        (b"[]", {"tenant": PIM}, "accepted_at"),
        (b"[]", GOOD | {"accepted_at": "yesterday"}, "accepted_at"),
        (b"[]", GOOD | {"accepted_at": "2026-01-31T12:00:00"}, "accepted_at"),
        (b"[]", GOOD | {"accepted_at": "0001-01-01T00:00:00+14:00"}, "accepted_at"),
        (b"", GOOD, "not JSON"),
        (b"\xff", GOOD, "not UTF-8"),
        (b"{}", GOOD, "array"),
        (b"[1]", GOOD, "event 0"),
        (b'[{"type":"%b","time":"","data":{}}]' % UPDATED.encode(), GOOD, "id of event 0"),
        (b'[{"id":"1","type":"com.example","time":"","data":{}}]', GOOD, "type of event 0"),
        (b'[{"id":"1","type":"%b","time":"","data":[]}]' % UPDATED.encode(), GOOD, "data of event 0"),
    ],
)
def test_what_is_no_batch_of_ours_is_malformed(data: bytes, attributes: dict[str, str], told: str) -> None:
    with pytest.raises(MalformedMessage, match=told):
        accepted_of(Message(data, attributes), CATALOG)


# --- deliveries ----------------------------------------------------------------------------------------

DELIVERY = Delivery(
    subscription_id="0190-1",
    event_id="event-1",
    event_type=UPDATED,
    accepted_at=START,
    lane=3,
    lanes=16,
    epoch=2,
    body=b"{}",
    attempts=1,
    failures=1,
    first_attempt_at=START + timedelta(seconds=1),
)


@given(deliveries)
@example(replace(DELIVERY, event_id="\ud800" * 256))
@example(replace(DELIVERY, event_id="%" * 256))
@example(replace(DELIVERY, event_id="\U0010ffff" * 256))
@example(replace(DELIVERY, event_id="\ud83d\ude00 %25 \0"))
def test_a_delivery_comes_back_and_fits_pubsubs_attributes(delivery: Delivery) -> None:
    message = delivery_message(delivery)
    assert delivery_of(message) == delivery
    assert all(len(value.encode("utf-8")) <= MAX_ATTRIBUTE_BYTES for value in message.attributes.values())


def test_a_replayed_delivery_comes_back_and_has_a_lane_beside_that_of_new_events() -> None:
    replayed = replace(DELIVERY, replay_id="0190-2", entered_at=START + timedelta(hours=1))
    message = delivery_message(replayed)
    assert delivery_of(message) == replayed
    assert message.ordering_key == f"{delivery_message(DELIVERY).ordering_key}/0190-2"


def test_a_delivery_is_ordered_by_subscription_epoch_and_lane() -> None:
    message = delivery_message(replace(DELIVERY, epoch=2))
    assert message.ordering_key == "0190-1/2/3"
    assert message.data == b"{}"
    assert message.attributes["event_id"] == "event-1"
    assert "receipt" not in message.attributes


def test_moments_of_other_offsets_are_the_same_moments() -> None:
    elsewhere = START.astimezone(timezone(timedelta(hours=5)))
    assert delivery_of(delivery_message(replace(DELIVERY, accepted_at=elsewhere))).accepted_at == START


@pytest.mark.parametrize(
    "change",
    [
        {"subscription_id": None},
        {"event_id": None},
        {"event_id": "100%"},
        {"event_id": "%25"},
        {"event_type": ""},
        {"accepted_at": "now"},
        {"lane": "-1"},
        {"lane": "16"},
        {"lanes": "0"},
        {"epoch": "1.0"},
        {"epoch": "٣"},
        {"attempts": ""},
        {"failures": "9" * 5000},
        {"first_attempt_at": ""},
    ],
)
def test_a_malformed_delivery_names_the_attribute(change: dict[str, str | None]) -> None:
    attributes = {**delivery_message(DELIVERY).attributes, **change}
    broken = Message(b"{}", {name: value for name, value in attributes.items() if value is not None})
    with pytest.raises(MalformedMessage, match=next(iter(change)).removesuffix("s")):
        delivery_of(broken)


def test_a_tenants_deliveries_stay_on_one_topic() -> None:
    assert {deliveries_topic(PIM, 1), deliveries_topic("https://other.example.com", 1)} == {"deliveries-0"}
    assert deliveries_topic(PIM, 8) == deliveries_topic(PIM, 8)
    topics = {deliveries_topic(f"https://{number}.example.com", 8) for number in range(100)}
    assert topics == {f"deliveries-{shard}" for shard in range(8)}
