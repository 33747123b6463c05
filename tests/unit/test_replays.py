"""Bodies of replays, and the rules of what can be replayed (contract/wire.md 15)."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from event_platform.domain.attempts.broker_messages import attributes_of, record_headers
from event_platform.domain.errors import Conflict, InvalidRequest
from event_platform.domain.replays import MAX_EVENTS, Which, check_number, check_replayable
from event_platform.domain.subscriptions import Status
from event_platform.manage.payloads.body import Rules
from event_platform.manage.payloads.replays import parse_replay
from support.clock import START
from support.records import KAFKA_CONFIG, PUBSUB_CONFIG, a_subscriber, a_subscription
from unit.test_payloads import NEW

HOUR = timedelta(hours=1)
UPDATED = "com.akeneo.pim.v1.product.updated"
FROM = {"from": "2026-01-31T10:00:00Z"}


def problems(body: Any, rules: Rules = NEW) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as raised:
        parse_replay(body, START, rules=rules)
    return [(each.field, each.message) for each in raised.value.problems]


def test_a_range_of_time_in_any_offset() -> None:
    asked = parse_replay(
        {"from": "2026-01-31T11:00:00+01:00", "to": "2026-01-31T11:00:00Z"}, START, rules=NEW
    )

    assert (asked.since, asked.until) == (START - 2 * HOUR, START - HOUR)
    assert (asked.event_ids, asked.events, asked.which) == ((), (), Which.UNDELIVERED)


def test_ids_of_events_once_each() -> None:
    asked = parse_replay(
        {"event_ids": ["b", "a", "b"], "events": [UPDATED], "which": "all"}, START, rules=NEW
    )

    assert (asked.since, asked.until) == (None, None)
    assert (asked.event_ids, asked.events, asked.which) == (("b", "a"), (UPDATED,), Which.ALL)


@pytest.mark.parametrize("name", ["to", "event_ids", "events", "which"])
def test_null_is_as_an_absent_field(name: str) -> None:
    assert parse_replay(FROM | {name: None}, START, rules=NEW) == parse_replay(FROM, START, rules=NEW)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "from", "give either from or event_ids, and not both"),
        (FROM | {"event_ids": ["a"]}, "from", "give either from or event_ids, and not both"),
        ({"event_ids": ["a"], "to": "2026-01-31T11:00:00Z"}, "to", "goes with from"),
        ({"from": "yesterday"}, "from", "not an RFC 3339 date-time such as 2026-01-31T12:00:00Z"),
        (
            FROM | {"to": "2026-01-31T12:00:01Z"},
            "to",
            "must not be later than now, which is 2026-01-31T12:00:00.000Z",
        ),
        ({"from": "2026-01-31T12:00:00Z"}, "from", "must be before now"),
        (FROM | {"to": "2026-01-31T10:00:00Z"}, "from", "must be before to"),
        (FROM | {"which": "some"}, "which", "must be 'undelivered' or 'all'"),
        (
            FROM | {"events": ["com.akeneo.pim.v1.product.update"]},
            "events.0",
            f"unknown event type 'com.akeneo.pim.v1.product.update'; did you mean '{UPDATED}'?",
        ),
        ({"event_ids": []}, "event_ids", "must hold at least 1"),
        (
            {"event_ids": [str(number) for number in range(1001)]},
            "event_ids",
            "must hold at most 1000",
        ),
        ({"event_ids": ["x" * 257]}, "event_ids.0", "must have at most 256 characters"),
    ],
)
def test_what_is_wrong_is_named(body: Any, field: str, message: str) -> None:
    assert problems(body) == [(field, message)]


def test_test_events_cannot_be_replayed() -> None:
    with pytest.raises(InvalidRequest, match="test events of benchmarks are not kept"):
        check_replayable(replace(a_subscription(a_subscriber()), source="benchmark"))


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.REVOKED, Status.DELETED])
def test_only_an_active_subscription_gets_a_replay(status: Status) -> None:
    with pytest.raises(Conflict, match=f"is {status}, and a replay needs an active one"):
        check_replayable(replace(a_subscription(a_subscriber()), status=status))


def test_a_replay_has_a_bound() -> None:
    check_number(MAX_EVENTS)
    with pytest.raises(InvalidRequest, match="1000001 kept events lie in the range"):
        check_number(MAX_EVENTS + 1)


def test_brokers_get_the_replay_as_an_attribute_and_as_a_header() -> None:
    attributes = attributes_of(UPDATED, PUBSUB_CONFIG, "r-1")
    headers = dict(record_headers(UPDATED, KAFKA_CONFIG, "r-1"))

    assert attributes["X-Event-Platform-Replay"] == "r-1"
    assert headers["X-Event-Platform-Replay"] == b"r-1"
    assert "X-Event-Platform-Replay" not in attributes_of(UPDATED, PUBSUB_CONFIG)
    assert "X-Event-Platform-Replay" not in dict(record_headers(UPDATED, KAFKA_CONFIG))
