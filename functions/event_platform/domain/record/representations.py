"""Subscribers and subscriptions as responses and the log show them, redacted (contract/wire.md 3 and 4)."""

from collections.abc import Sequence
from typing import cast

from ..attempts.outcomes import LastFailure
from ..events.benchmarks import Benchmark
from ..events.event import Event
from ..kept_events import Course, CourseStatus, KeptEvent
from ..matching import Check
from ..replays import Replay
from ..subscriptions import (
    REDACTED,
    Config,
    HttpsConfig,
    KafkaConfig,
    PubSubConfig,
    Sasl,
    Subscriber,
    Subscription,
    Tls,
)
from ..timestamps import to_rfc3339
from .answers import (
    AcceptedEventAnswer,
    BenchmarkAnswer,
    ContactAnswer,
    CourseAnswer,
    EventExplanationAnswer,
    KeptEventAnswer,
    ReplayAnswer,
    RetriesAnswer,
    ShownConfig,
    ShownKafkaSasl,
    ShownKafkaTls,
    ShownOptions,
    SubscriberAnswer,
    SubscriptionAnswer,
)


def subscriber(record: Subscriber) -> SubscriberAnswer:
    """Returns the answer without the webhook's secret."""
    contact: ContactAnswer = {
        "technical_email": record.contact.technical_email,
        "notification_channels": list(record.contact.notification_channels),
    }
    if record.contact.notification_webhook_url is not None:
        contact["notification_webhook_url"] = record.contact.notification_webhook_url
    return {
        "id": record.id,
        "name": record.name,
        "subject": record.subject,
        "status": record.status,
        "contact": contact,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
    }


def subscription(record: Subscription, last_failure: LastFailure | None = None) -> SubscriptionAnswer:
    """Returns the answer with its secrets and header values redacted."""
    shown: SubscriptionAnswer = {
        "id": record.id,
        "config": config(record.config),
        "events": list(record.events),
        "type": record.type,
        "source": record.source,
        "subject": record.subject,
        "status": record.status,
        "subscriber_id": record.subscriber_id,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
        "filter": record.filter or "",
        "send_product_identifier": record.send_product_identifier,
    }
    if record.filter is None:
        del shown["filter"]
    if record.options is not None:
        shown["options"] = cast("ShownOptions", {**record.options})
    if record.catch_up:
        shown["catch_up"] = True
    if last_failure is not None:
        shown["last_failure"] = {
            "at": to_rfc3339(last_failure.at),
            "reason": last_failure.outcome.reason,
            "status": last_failure.outcome.status,
        }
    return shown


def replay(record: Replay) -> ReplayAnswer:
    """Returns the answer. The range is that of the times of acceptance."""
    asked = record.asked
    shown: ReplayAnswer = {
        "id": record.id,
        "status": record.status,
        "from": to_rfc3339(asked.since or record.created_at),
        "to": to_rfc3339(asked.until or record.created_at),
        "which": asked.which,
        "events": record.events,
        "delivered": record.delivered,
        "ended": record.ended,
        "reason": record.reason or "",
        "created_at": to_rfc3339(record.created_at),
        "ended_at": to_rfc3339(record.ended_at or record.created_at),
    }
    if asked.since is None:
        del shown["from"], shown["to"]
    if record.reason is None:
        del shown["reason"]
    if record.ended_at is None:
        del shown["ended_at"]
    return shown


def kept_event(event: KeptEvent) -> KeptEventAnswer:
    return {
        "id": event.id,
        "type": event.type,
        "time": event.time,
        "accepted_at": to_rfc3339(event.accepted_at),
        "entity": None if event.entity is None else _printable(str(event.entity)),
        "deliveries": {
            "delivered": event.count(CourseStatus.DELIVERED),
            "waiting": event.count(CourseStatus.WAITING),
            "ended": event.count(CourseStatus.ENDED),
        },
    }


def kept_event_with_courses(event: KeptEvent, courses: list[CourseAnswer]) -> AcceptedEventAnswer:
    return {
        "id": event.id,
        "type": event.type,
        "time": event.time,
        "accepted_at": to_rfc3339(event.accepted_at),
        "way": event.way,
        "entity": None if event.entity is None else _printable(str(event.entity)),
        "subscriptions": courses,
    }


def course(event: KeptEvent, of: Course) -> CourseAnswer:
    """Returns the course of a delivery, without the keys that have no value."""
    members = {
        "subscription_id": of.subscription_id,
        "result": "matched",
        "matched_at": to_rfc3339(of.matched_at or event.accepted_at),
        "replay": of.is_replay or None,
        "outcome": of.outcome,
        "attempts": [
            {
                "at": to_rfc3339(attempt.at),
                "outcome": attempt.outcome,
                "reason": attempt.reason,
                "status": attempt.status,
                "milliseconds": attempt.milliseconds,
            }
            for attempt in of.attempts
        ]
        or None,
        "status": of.status,
        "reason": of.reason,
        "message": of.message,
        "milliseconds": of.milliseconds,
        "ended_at": None if of.ended_at is None else to_rfc3339(of.ended_at),
    }
    return cast("CourseAnswer", {name: value for name, value in members.items() if value is not None})


def _printable(text: str) -> str:
    """Returns the text with a question mark for each half of a surrogate pair, which no UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def retries(number: int) -> RetriesAnswer:
    """Returns the answer to who had that many made due now."""
    return {"retries": number}


def explanation(event: Event, found: Sequence[Check]) -> EventExplanationAnswer:
    """Returns whether a subscription gets an event, and what each of its parts says."""
    return {
        "event": {"id": event.id, "type": event.type},
        "matches": all(check.passes for check in found),
        "checks": [{"part": check.part, "passes": check.passes, "message": check.message} for check in found],
    }


def benchmark(started: Benchmark) -> BenchmarkAnswer:
    """Returns the answer to who started a benchmark."""
    return {"id": started.id, "count": started.count}


def config(shown: Config) -> ShownConfig:
    """Returns the config with its secrets and header values redacted."""
    answer: ShownConfig
    match shown:
        case HttpsConfig():
            answer = {"url": shown.url, "secret": {"primary": REDACTED}}
            if shown.secondary_secret:
                answer["secret"]["secondary"] = REDACTED
        case PubSubConfig():
            answer = {"project_id": shown.project_id, "topic_id": shown.topic_id}
        case KafkaConfig():
            answer = {"broker": shown.broker, "topic": shown.topic, "sasl_auth": _sasl(shown.sasl)}
            if shown.tls is not None:
                answer["tls"] = _tls(shown.tls)
    if shown.headers:
        answer["headers"] = dict.fromkeys(shown.headers, REDACTED)
    return answer


def _sasl(sasl: Sasl) -> ShownKafkaSasl:
    scram, _, variant = sasl.mechanism.lower().partition("-")
    answer: ShownKafkaSasl = {"mechanism": scram, "username": sasl.username, "password": REDACTED}
    if variant:
        answer["scram_variant"] = variant
    return answer


def _tls(tls: Tls) -> ShownKafkaTls:
    return {
        "server_name": tls.server_name,
        "ca_pem": tls.ca_pem,
        "client_cert_pem": tls.client_cert_pem,
        "client_key_pem": REDACTED,
    }
