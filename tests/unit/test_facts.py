"""What is kept of an event's data for fan-out, here and in another process."""

import pickle
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_platform.domain.events import json_form
from event_platform.domain.events.event import Event, without_identifier
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from event_platform.domain.ingest_formats.events_api import has_made_up_uuid, made_up_uuid
from event_platform.domain.revocations import removed_client
from event_platform.domain.subscriptions import Owner
from support.clock import START
from support.records import PIM, UPDATED, an_event, with_data

DELTA = f"{UPDATED}.delta"
FIELDS = ("user", "user_type", "attribute", "scope", "locale", "ready_on_scopes")
UUID = "00000000-0000-4000-8000-000000000001"

keys = st.sampled_from(["identifier", "uuid", "7", "a"])
words = st.sampled_from(["identifier", '"identifier":"a"', "a", "é", "\ud800", "", '\\"'])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1e30]) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
data_with_identifiers = st.fixed_dictionaries(
    {"product": st.dictionaries(keys, json_values, max_size=4)},
    optional={"author": st.dictionaries(keys, json_values, max_size=2), "7": json_values, "a": json_values},
)


def of_type(event_type: str, data: dict[str, Any]) -> Event:
    return with_data(replace(an_event(), type=event_type), data)


def elsewhere(event: Event) -> Event:
    """The event as another process gets it."""
    return pickle.loads(pickle.dumps(event))  # noqa: S301 - made here


def a_delta() -> Event:
    values = {
        "name": [{"scope": None, "locale": "en_US", "new": "x" * 100_000}, {"scope": "print"}],
        "price": [{"scope": "print", "locale": "en_US"}, 7],
        "empty": [],
        "none": None,
    }
    product = {
        "uuid": UUID,
        "identifier": "SKU-1",
        "ready_on_scopes": ["ecommerce", 7],
        "changes": {"values": values},
    }
    return of_type(DELTA, {"author": {"identifier": "julia", "type": "user", "more": 1}, "product": product})


def test_filters_find_the_same_in_another_process() -> None:
    here, there = a_delta(), elsewhere(a_delta())
    assert {name: getattr(there.facts, name) for name in FIELDS} == {
        "user": {"julia"},
        "user_type": {"user"},
        "attribute": {"name", "price", "empty", "none"},
        "scope": {None, "print"},
        "locale": {None, "en_US"},
        "ready_on_scopes": {"ecommerce"},
    }
    assert all(getattr(there.facts, name) == getattr(here.facts, name) for name in FIELDS)


def test_an_event_is_the_same_in_another_process_and_beyond() -> None:
    event = replace(a_delta(), benchmark_client="erp", identity=("a", "\ud800"))
    once = elsewhere(event)
    assert once == elsewhere(once) == event
    assert (once.data_json, once.identity, once.benchmark_client) == (event.data_json, ("a", "\ud800"), "erp")
    assert pickle.dumps(elsewhere(once)) == pickle.dumps(once)


def test_the_payload_travels_once_and_is_not_parsed_there() -> None:
    event = a_delta()
    assert len(pickle.dumps(event)) < len(event.data_json) + 1000
    large = of_type(
        DELTA, {"product": {"changes": {"values": {f"attribute-{n}": [] for n in range(40_000)}}}}
    )
    sent = pickle.dumps([large] * 5)
    started = time.thread_time()
    events = pickle.loads(sent)  # noqa: S301 - made here
    assert time.thread_time() - started < 0.02, "only bytes were moved"
    assert len(events[0].facts.attribute) == 40_000


@given(data_with_identifiers)
def test_the_identifier_is_left_out_as_javascript_would_write_the_rest(data: dict[str, Any]) -> None:
    event = of_type(UPDATED, data)
    rest = {**data, "product": {key: value for key, value in data["product"].items() if key != "identifier"}}
    assert without_identifier(event) == json_form.stringify(rest)
    assert without_identifier(elsewhere(event)) == json_form.stringify(rest)
    assert elsewhere(event).facts.has_identifier is event.facts.has_identifier


@pytest.mark.parametrize("event_type", sorted(IDENTIFIER_TYPES))
def test_leaving_the_identifier_out_of_a_large_event_costs_little(event_type: str) -> None:
    product = {"uuid": UUID, "values": [0.5] * 200_000, "identifier": "SKU-1"}
    event = of_type(event_type, {"product": product})
    started = time.thread_time()
    shorter = without_identifier(event)
    assert time.thread_time() - started < 0.02
    assert shorter == event.data_json.replace(b',"identifier":"SKU-1"', b"")


def test_a_removed_client_is_known_in_another_process() -> None:
    gone = of_type("com.akeneo.pim.v1.app.deleted", {"app": {"client_id": "shop"}})
    client = removed_client(elsewhere(gone), PIM, START)
    assert client is not None
    assert client.owner == Owner(PIM, "shop")
    nobody = of_type("com.akeneo.pim.v1.app.deleted", {"app": {"client_id": 7}})
    assert removed_client(elsewhere(nobody), PIM, START) is None


def test_a_made_up_uuid_is_known_in_another_process() -> None:
    made_up = {"uuid": made_up_uuid(PIM, "LMP-001"), "identifier": "LMP-001"}
    assert has_made_up_uuid(elsewhere(of_type(UPDATED, {"product": made_up})), PIM)
    assert not has_made_up_uuid(elsewhere(of_type(UPDATED, {"product": {**made_up, "uuid": UUID}})), PIM)
