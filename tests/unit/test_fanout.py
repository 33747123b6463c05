"""Which subscriptions get an event, in which lane, and which body."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from event_platform.domain import filters
from event_platform.domain.events import json_form
from event_platform.domain.events.event import Event
from event_platform.domain.ingest_formats.events_api import made_up_uuid
from event_platform.domain.pace.lanes import lane_of
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.fanout import IdentifierCheck, Matched, fan_out, matches
from event_platform.ports import Clock
from support.clock import ManualClock
from support.records import PIM, UPDATED, a_subscriber, a_subscription, an_event, data_of, with_data

SCHEMAS = "https://events.example.com/spec"
SUBSCRIBER = a_subscriber()
DATA = {"product": {"uuid": "00000000-0000-4000-8000-000000000001", "identifier": "SKU-1"}}
WITH_IDENTIFIER = with_data(an_event(), DATA)


def subscription(**fields: Any) -> Subscription:
    return replace(a_subscription(SUBSCRIBER), **fields)


def predicates(subscriptions: list[Subscription]) -> dict[str, filters.Predicate]:
    return {each.filter: filters.predicate_of(each.filter) for each in subscriptions if each.filter}


def fanned_out(event: Event, subscriptions: list[Subscription]) -> list[Matched]:
    return fan_out(event, subscriptions, predicates(subscriptions), SCHEMAS)


@pytest.mark.parametrize(
    ("fields", "matched"),
    [
        ({}, True),
        ({"events": ("com.akeneo.pim.v1.product.created", UPDATED)}, True),
        ({"events": ("com.akeneo.pim.v1.product.created",)}, False),
        ({"events": (f"{UPDATED}.delta",)}, False),
        ({"events": ("com.akeneo.pim.v1.product",)}, False),
        ({"source": "benchmark"}, False),
        ({"filter": None}, True),
        ({"filter": 'user = "erp"'}, True),
        ({"filter": 'user = "pim"'}, False),
        ({"filter": 'user = "erp"', "events": ("com.akeneo.pim.v1.product.created",)}, False),
        ({"filter": 'user = "erp"', "status": Status.SUSPENDED}, False),
        ({"status": Status.SUSPENDED}, False),
        ({"status": Status.REVOKED}, False),
        ({"status": Status.DELETED}, False),
    ],
)
def test_an_active_pim_subscription_that_names_the_type_gets_the_event(
    fields: dict[str, Any], matched: bool
) -> None:
    chosen = subscription(**fields)
    assert matches(an_event(), chosen, predicates([chosen])) is matched
    assert [found.subscription for found in fanned_out(an_event(), [chosen])] == [chosen] * matched


def test_each_matching_subscription_gets_the_event_once() -> None:
    chosen = [subscription(), subscription(status=Status.SUSPENDED), subscription()]
    assert [found.subscription for found in fanned_out(an_event(), chosen)] == [chosen[0], chosen[2]]


def test_without_subscriptions_there_is_nothing_to_deliver() -> None:
    assert fanned_out(an_event(), []) == []


def test_the_identifier_goes_to_those_who_asked_for_it() -> None:
    asked, did_not = subscription(send_product_identifier=True), subscription()
    first, second = fanned_out(WITH_IDENTIFIER, [asked, did_not])
    assert b'"identifier":"SKU-1"' in first.envelope.addressed_to(asked.id)
    assert b"SKU-1" not in second.envelope.addressed_to(did_not.id)


def test_each_variant_of_a_body_is_rendered_once() -> None:
    chosen = [subscription(send_product_identifier=number % 2 == 0) for number in range(10)]
    assert len({id(found.envelope) for found in fanned_out(WITH_IDENTIFIER, chosen)}) == 2
    assert len({id(found.envelope) for found in fanned_out(an_event(), chosen)}) == 1


def test_a_body_names_its_subscription() -> None:
    chosen = subscription()
    (found,) = fanned_out(an_event(), [chosen])
    assert json_form.parse(found.envelope.addressed_to(found.subscription.id)) == {
        "specversion": "1.0",
        "id": "event-1",
        "source": "akeneo-event-platform",
        "type": UPDATED,
        "subject": chosen.id,
        "datacontenttype": "application/json",
        "dataschema": f"{SCHEMAS}/{UPDATED}.schema.json",
        "time": "2026-01-31T11:59:59Z",
        "data": data_of(an_event()),
    }


def test_an_entity_stays_in_its_lane_of_each_subscription() -> None:
    chosen = [subscription(lanes=16), subscription(lanes=64)]
    lanes = [
        [found.lane for found in fanned_out(an_event(number, entity="same"), chosen)] for number in range(20)
    ]
    assert lanes == [[lane_of(("same",), "", 16), lane_of(("same",), "", 64)]] * 20


def test_entities_are_spread_over_the_lanes() -> None:
    chosen = subscription()
    lanes = {fanned_out(an_event(number), [chosen])[0].lane for number in range(300)}
    assert lanes == set(range(16))


def test_an_event_without_entity_is_its_own_lane() -> None:
    chosen = subscription(lanes=1024)
    events = [replace(an_event(number), identity=()) for number in range(20)]
    assert len({fanned_out(event, [chosen])[0].lane for event in events}) > 10


def test_who_gets_a_made_up_uuid_without_the_identifier_is_told_of_once_an_hour() -> None:
    identifier = "LMP-001"
    data = {"product": {"uuid": made_up_uuid(PIM, identifier), "identifier": identifier}}
    made_up = with_data(an_event(), data)
    lacking, knowing = subscription(), subscription(send_product_identifier=True)
    now = [0.0]
    check = IdentifierCheck(cast("Clock", SimpleNamespace(monotonic=lambda: now[0])))

    def told(event: Event, tenant: str = PIM) -> list[str]:
        with structlog.testing.capture_logs() as lines:
            check.look(tenant, event, fanned_out(event, [lacking, knowing]))
        return [line["subscription_id"] for line in lines]

    assert told(WITH_IDENTIFIER) == []
    assert told(made_up, "https://other.example.com") == []
    assert told(made_up) == [lacking.id]
    now[0] = 3599.0
    assert told(made_up) == []
    now[0] = 3600.0
    assert told(made_up) == [lacking.id]


def test_who_wants_identifiers_and_gets_products_without_is_told_of_once_an_hour() -> None:
    without = with_data(an_event(), {"product": {"uuid": "00000000-0000-4000-8000-000000000001"}})
    model = replace(an_event(), type="com.akeneo.pim.v1.product-model.updated")
    wanting, knowing = subscription(send_product_identifier=True), subscription()
    check = IdentifierCheck(ManualClock())
    matched = fanned_out(without, [wanting, knowing])
    assert len(matched) == 2
    with structlog.testing.capture_logs() as lines:
        for event in (WITH_IDENTIFIER, model, without, without):
            check.look(PIM, event, matched)
    (line,) = lines
    assert (line["event"], line["subscription_id"]) == ("subscription.lacks_identifiers", wanting.id)
    assert "--identifier-attribute" in line["advice"]
