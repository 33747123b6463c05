"""Every parser of what strangers send, fed with anything: it answers, or refuses by an error of ours."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.errors import Forbidden, InvalidRequest, TooLarge, UnsupportedMediaType
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.ingest_formats import cloudevents, events_api, relay
from event_platform.domain.messages.queue_messages import Accepted, events_messages
from event_platform.domain.tenants import Tenant
from support.clock import START
from support.fuzzing import CASES, fuzzed
from support.records import accepted_of

REFUSALS = (InvalidRequest, TooLarge, UnsupportedMediaType, Forbidden)
PIM = "https://pim.example.com"
TENANT = Tenant.model_validate({"url": PIM, "clients": [{"client_id": "erp", "username": "erp_1"}]})
CATALOG = catalog.load()
TYPES = [*CATALOG.types, "com.akeneo.pim.v9.unknown"]

TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["", "a", "\ud800", "1e400", "2026-01-31T12:00:00+01:00", "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**53, -(2**53) - 1, 10**400, 1e308])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def changed(example: Any, draw: Callable[[Any], Any]) -> Any:
    """The example with some of its parts replaced, left out or added to."""
    match draw(st.integers(0, 9)):
        case 0:
            return draw(VALUES)
        case 1 if isinstance(example, dict):
            return {**example, draw(TEXTS): draw(VALUES)}
    if isinstance(example, dict):
        return {key: changed(item, draw) for key, item in example.items() if draw(st.integers(0, 19))}
    if isinstance(example, list):
        return [changed(item, draw) for item in example]
    return example


def written(value: Any, draw: Callable[[Any], Any]) -> bytes:
    """As JSON, sometimes broken at a byte."""
    body = json.dumps(value, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)):
        return body
    at = draw(st.integers(0, len(body)))
    return body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]


@st.composite
def a_cloudevent(draw: Callable[[Any], Any]) -> bytes:
    event_type = draw(st.sampled_from(TYPES))
    data = CATALOG[event_type].example if event_type in CATALOG else {}
    event = {
        "specversion": "1.0",
        "id": "1",
        "type": event_type,
        "time": "2026-01-31T12:00:00Z",
        "data": data,
    }
    return written(changed(event, draw), draw)


@st.composite
def a_batch(draw: Callable[[Any], Any]) -> bytes:
    return b"[%b]" % b",".join(draw(st.lists(a_cloudevent(), max_size=3)))


@st.composite
def a_webhook(draw: Callable[[Any], Any]) -> bytes:
    event = {
        "action": draw(st.sampled_from([*events_api.ACTIONS, "family.created"])),
        "event_id": "1",
        "event_datetime": "2026-01-31T13:00:00+01:00",
        "author": "erp_1",
        "author_type": "api",
        "data": {"resource": {"uuid": draw(VALUES), "identifier": draw(TEXTS), "code": "lamp"}},
    }
    return written(changed({"events": [event, event]}, draw), draw)


HEADERS = st.dictionaries(
    st.sampled_from(["ce-id", "ce-type", "ce-time", "ce-specversion", "ce-pimurl", "ce-data"]),
    st.text(st.characters(max_codepoint=255), max_size=12) | st.sampled_from(TYPES),
)


def check(events: list[Event]) -> None:
    """What was taken can go the whole way: rendered in JavaScript's form, and over a topic and back."""
    for event in events:
        body = envelope(event, "https://x/spec", with_identifier=False).addressed_to("s")
        assert json_form.stringify(json_form.parse(body, round_integers=True, max_depth=300)) == body
    for message, sent in events_messages(Accepted(PIM, START, events)):
        assert [each.data_json for each in accepted_of(message, CATALOG).events] == [
            each.data_json for each in sent
        ]


def by_cloudevents(media_type: str, headers: dict[str, str], body: bytes) -> None:
    context = cloudevents.Context(PIM, CATALOG, START)
    try:
        events = cloudevents.read(media_type, headers, body, context)
    except REFUSALS:
        return
    check(events)


def by_events_api(body: bytes) -> None:
    try:
        taken = events_api.read(body, TENANT, CATALOG)
    except REFUSALS:
        return
    check(list(taken.events))
    for event in taken.events:
        events_api.has_made_up_uuid(event, PIM)


def by_relay(body: bytes) -> None:
    relayed = relay.read(body, CATALOG, START)
    check([] if relayed.event is None else [relayed.event])


@pytest.mark.timeout(120 + CASES)
@pytest.mark.parametrize(
    ("bodies", "take"),
    [
        (a_cloudevent(), lambda body: by_cloudevents(cloudevents.STRUCTURED, {}, body)),
        (a_batch(), lambda body: by_cloudevents(cloudevents.BATCH, {}, body)),
        (
            st.tuples(HEADERS, a_cloudevent() | st.binary()),
            lambda both: by_cloudevents("application/json", both[0] | {"ce-id": "1"}, both[1]),
        ),
        (a_webhook() | st.binary(), by_events_api),
        (a_cloudevent() | st.binary(), by_relay),
    ],
    ids=["structured", "batch", "binary", "events-api", "relay"],
)
def test_whatever_comes_is_taken_or_refused(bodies: Any, take: Callable[[Any], None]) -> None:
    @fuzzed()
    @given(bodies)
    def each(body: Any) -> None:
        take(body)

    each()
