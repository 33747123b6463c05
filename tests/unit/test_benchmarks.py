"""Test events of benchmarks: what they hold, whose they are, and how soon the next may come."""

from dataclasses import replace
from typing import Any

import pytest

from event_platform.domain import filters
from event_platform.domain.errors import TooManyRequests
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.benchmarks import Benchmark
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.events.event import Event
from event_platform.domain.matching import checks
from event_platform.domain.messages.message import MalformedMessage, Message
from event_platform.domain.messages.queue_messages import Accepted, events_messages
from event_platform.domain.subscriptions import Owner, Status
from event_platform.fanout import fan_out, matches
from event_platform.manage.pauses import Pauses
from support.clock import START, ManualClock
from support.records import CATEGORY, OWNER, PIM, a_subscriber, a_subscription, accepted_of, an_event, data_of

ID = "0199c1a4-5d3e-7a1b-9c2d-3e4f5a6b7c8d"
SUBSCRIPTION = a_subscription(a_subscriber())
BENCHMARKED = replace(SUBSCRIPTION, id="benchmarked", source="benchmark")


def a_benchmark(**fields: Any) -> Benchmark:
    return Benchmark(
        **{
            "id": ID,
            "client_id": OWNER.client_id,
            "count": 2,
            "size": 0,
            "time": "2026-01-31T12:00:00Z",
            **fields,
        }
    )


def a_test_event(client_id: str = OWNER.client_id) -> Event:
    return next(a_benchmark(client_id=client_id).events())


def test_its_events_are_numbered_and_have_ids_of_their_own() -> None:
    first, second = a_benchmark().events()
    assert data_of(first) == {"benchmark": {"id": ID, "number": 1, "count": 2}}
    assert data_of(second)["benchmark"]["number"] == 2
    assert first.id != second.id
    assert (first.type, first.benchmark_client) == (BENCHMARK, "erp")


@pytest.mark.parametrize("size", [0.5, 1, 2.25, 10])
def test_data_have_the_size_that_was_asked_for(size: float) -> None:
    for event in a_benchmark(size=size, custom_data={"custom_data": "é"}).events():
        assert len(event.data_json) == size * 1024
        assert event.data_json == json_form.stringify(data_of(event))


def test_data_beyond_the_size_are_not_padded() -> None:
    (event, _) = a_benchmark(size=0.01).events()
    assert "padding" not in data_of(event)


@pytest.mark.parametrize("custom", [{}, {"custom_data": None}, {"custom_data": {"run": [1, "2"]}}])
def test_data_fit_the_schema_and_carry_the_custom_data_as_given(custom: dict[str, Any]) -> None:
    for event in a_benchmark(size=1, custom_data=custom).events():
        assert catalog.load()[BENCHMARK].problems_of(data_of(event)) == []
        assert {key: value for key, value in data_of(event).items() if key == "custom_data"} == custom


# Whose they are


@pytest.mark.parametrize(
    ("subscription", "event", "matched"),
    [
        (SUBSCRIPTION, an_event(), True),
        (SUBSCRIPTION, an_event(event_type=CATEGORY), False),
        (SUBSCRIPTION, a_test_event(), False),
        (replace(SUBSCRIPTION, events=(BENCHMARK,)), a_test_event(), False),
        (replace(SUBSCRIPTION, status=Status.SUSPENDED), an_event(), False),
        (replace(SUBSCRIPTION, filter='user="erp"'), an_event(), True),
        (replace(SUBSCRIPTION, filter='user="julia"'), an_event(), False),
        (replace(BENCHMARKED, filter='user="julia"'), a_test_event(), True),
        (BENCHMARKED, a_test_event(), True),
        (replace(BENCHMARKED, events=(CATEGORY,)), a_test_event(), True),
        (replace(BENCHMARKED, owner=Owner(PIM, "shop")), a_test_event(), False),
        (replace(BENCHMARKED, status=Status.SUSPENDED), a_test_event(), False),
        (BENCHMARKED, an_event(), False),
        (replace(BENCHMARKED, events=(BENCHMARK,)), replace(a_test_event(), benchmark_client=None), False),
    ],
)
def test_test_events_are_for_the_benchmark_subscriptions_of_their_client_alone(
    subscription: Any, event: Event, matched: bool
) -> None:
    predicates = {text: filters.predicate_of(text)} if (text := subscription.filter) else {}
    assert matches(event, subscription, predicates) is matched
    assert len(fan_out(event, [subscription], predicates, "https://x/spec")) == matched
    assert all(check.passes for check in checks(event, subscription)) is matched


@pytest.mark.parametrize(
    ("subscription", "event", "failing"),
    [
        (replace(SUBSCRIPTION, status=Status.REVOKED), an_event(), {"status": "the subscription is revoked"}),
        (SUBSCRIPTION, an_event(event_type=CATEGORY), {"events": f"events does not list {CATEGORY}"}),
        (
            replace(SUBSCRIPTION, filter='user_type="api" and user="julia"'),
            an_event(),
            {"filter": 'filter does not fit: user="julia" is false (the event\'s user: "erp")'},
        ),
        (
            replace(SUBSCRIPTION, filter='not user="erp"'),
            an_event(),
            {"filter": 'filter does not fit: user="erp" is true (the event\'s user: "erp")'},
        ),
        (BENCHMARKED, an_event(), {"source": "source is benchmark"}),
        (SUBSCRIPTION, a_test_event(), {"source": "source is pim"}),
    ],
)
def test_the_part_that_says_no_is_named(subscription: Any, event: Event, failing: dict[str, str]) -> None:
    found = {check.part: check.message for check in checks(event, subscription) if not check.passes}
    assert list(found) == list(failing)
    for part, message in failing.items():
        assert found[part].startswith(message)


@pytest.mark.parametrize("client_id", ["erp", 'a "client"', "日本"])
def test_whose_they_are_travels_with_them(client_id: str) -> None:
    events = list(a_benchmark(client_id=client_id, size=1).events())
    ((message, _),) = events_messages(Accepted(PIM, START, [*events, an_event()]))
    assert accepted_of(message, catalog.load()).events == [*events, an_event()]


def test_a_client_that_is_no_text_makes_the_message_malformed() -> None:
    ((message, _),) = events_messages(Accepted(PIM, START, [a_test_event()]))
    data = message.data.replace(b'"benchmarkclient":"erp"', b'"benchmarkclient":7')
    with pytest.raises(MalformedMessage, match="the benchmarkclient of event 0 must be a string"):
        accepted_of(Message(data, message.attributes), catalog.load())


# Pauses


async def test_a_pause_is_over_when_its_time_has_passed() -> None:
    clock = ManualClock()
    pauses = Pauses(clock)
    pauses.take("a", 2.5, what="it can be done")
    pauses.take("b", 2.5, what="it can be done")
    with pytest.raises(TooManyRequests, match="it can be done again in 3 s at the earliest") as refused:
        pauses.take("a", 2.5, what="it can be done")
    assert refused.value.retry_after == 3
    await clock.advance(2.4)
    with pytest.raises(TooManyRequests, match="in 1 s"):
        pauses.take("a", 2.5, what="it can be done")
    await clock.advance(0.1)
    pauses.take("a", 2.5, what="it can be done")
