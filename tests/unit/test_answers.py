"""Answers have the keys of their types, in the contract's order (contract/wire.md 3, 4 and 13)."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from event_platform.domain.attempts.outcomes import Kind, LastFailure, Outcome, Reason
from event_platform.domain.record import answers
from event_platform.domain.record import representations as show
from event_platform.domain.record.actions import BY_THE_PLATFORM, entry_of
from event_platform.domain.record.logs import FAILED_DELIVERY, LogEntry, LogType, Operation
from event_platform.manage.logs import shown
from support.clock import START
from support.records import KAFKA_CONFIG, OWNER, PUBSUB_CONFIG, a_subscriber, a_subscription, https_config

BASE = "https://events.example.com"
SUBSCRIPTION = a_subscription(a_subscriber())


def check(answer: Any, of: Any) -> None:
    TypeAdapter(of).validate_python(answer, strict=True)
    assert [*answer] == [name for name in of.__annotations__ if name in answer]


def test_a_subscriber() -> None:
    check(show.subscriber(a_subscriber()), answers.SubscriberAnswer)


@pytest.mark.parametrize(
    "config", [https_config(), PUBSUB_CONFIG, KAFKA_CONFIG, replace(KAFKA_CONFIG, tls=None)]
)
@pytest.mark.parametrize("more", [{}, {"filter": 'user = "me"', "options": {}}])
def test_a_subscription_with_each_config(config: Any, more: Any) -> None:
    check(show.subscription(replace(SUBSCRIPTION, config=config, **more)), answers.SubscriptionAnswer)


@pytest.mark.parametrize(
    "outcome", [Outcome(Kind.RETRYABLE, Reason.DNS_LOOKUP_FAILURE), Outcome(Kind.THROTTLED)]
)
def test_a_subscription_with_a_failed_attempt(outcome: Outcome) -> None:
    shown = show.subscription(SUBSCRIPTION, LastFailure(START, outcome))
    check(shown, answers.SubscriptionAnswer)
    assert "last_failure" in shown


def test_each_part_of_a_config() -> None:
    check(show.config(https_config()), answers.ShownHttpsConfig)
    check(show.config(PUBSUB_CONFIG), answers.ShownPubSubConfig)
    kafka: dict[str, Any] = {**show.config(KAFKA_CONFIG)}
    check(kafka, answers.ShownKafkaConfig)
    check(kafka["sasl_auth"], answers.ShownKafkaSasl)
    check(kafka["tls"], answers.ShownKafkaTls)


def test_entries_of_the_log() -> None:
    action = entry_of(None, SUBSCRIPTION, BY_THE_PLATFORM)
    assert action is not None
    end = LogEntry(
        id="1",
        owner=OWNER,
        log_type=LogType.ERROR,
        at=START,
        operation=Operation.FAILED,
        subscriber_id="2",
        subscription_id="3",
        error_type=FAILED_DELIVERY,
        error_reason=Reason.DESTINATION_FAILURE,
        error_code=500,
        error_message="it failed",
        events=[{"event_id": "4", "type": "a.type", "attempts": 1}],
    )

    check(shown(action, BASE), answers.LogEntryAnswer)
    check(shown(end, BASE), answers.LogEntryAnswer)
    assert [*shown(end, BASE)] == [*answers.LogEntryAnswer.__annotations__]
