"""Example bodies. Those of responses are made by what makes the responses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from ...domain.attempts.https_requests import request_headers
from ...domain.attempts.outcomes import Answer, Kind, LastFailure, Outcome, Reason
from ...domain.events import catalog
from ...domain.events.event import envelope, example_of
from ...domain.kept_events import Course, CourseStatus, FailedAttempt, KeptEvent
from ...domain.matching import checks
from ...domain.record import representations as show
from ...domain.record.actions import Action, Actor, entry_of
from ...domain.record.logs import FAILED_DELIVERY, LogEntry, LogType, Operation
from ...domain.record.redaction import Redaction
from ...domain.replays import Replay, ReplayRequest
from ...domain.subscriptions import REDACTED, Contact, HttpsConfig, Owner, Status, Subscriber, Subscription
from ...domain.tenants import Way
from ...domain.timestamps import to_rfc3339
from ...manage.logs import EXPLANATIONS, call_of, shown
from ...manage.trials import Trial

PIM = "https://pim.example.com"
SUBSCRIBER_ID = "0199c1a0-7b1e-7c3a-9d52-3f6a1c2b4d5e"
SUBSCRIPTION_ID = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"
REPLAY_ID = "0199c1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"
EVENT_ID = "019c13f0-93c1-7e02-9d5e-6f0b2d6f7a15"
CREATED, UPDATED = "com.akeneo.pim.v1.product.created", "com.akeneo.pim.v1.product.updated"
_MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
FILTER = 'user_type in ["user", "api"] and not ready_on_scopes = "print"'
_SECRET = "a secret of 16 to 256 characters"  # noqa: S105 - an example

NEW_SUBSCRIBER: dict[str, Any] = {
    "name": "ERP connector",
    "contact": {
        "technical_email": "ops@example.com",
        "notification_channels": ["email", "webhook"],
        "notification_webhook_url": "https://erp.example.com/notifications",
        "notification_webhook_secret": _SECRET,
    },
}
SUBSCRIBER_CHANGE: dict[str, Any] = {"contact": {"notification_channels": ["email"]}}

NEW_SUBSCRIPTION: dict[str, Any] = {
    "events": [CREATED, UPDATED],
    "type": "https",
    "config": {
        "url": "https://erp.example.com/events",
        "secret": {"primary": _SECRET},
        "headers": {"X-Stage": "production"},
    },
    "filter": FILTER,
    "send_product_identifier": True,
}
SUBSCRIPTION_CHANGE: dict[str, Any] = {
    "events": [UPDATED],
    "config": {
        "url": "https://erp.example.com/events/v2",
        "secret": {"primary": REDACTED, "secondary": _SECRET},
    },
}

_SUBSCRIBER = Subscriber(
    id=SUBSCRIBER_ID,
    owner=Owner(PIM, "erp"),
    name="ERP connector",
    subject=PIM,
    contact=Contact("ops@example.com", ("email", "webhook"), "https://erp.example.com/notifications"),
    created_at=_MOMENT,
    updated_at=_MOMENT,
)
_CONFIG = HttpsConfig(
    "https://erp.example.com/events",
    SecretStr(_SECRET),
    SecretStr(_SECRET),
    {"X-Stage": SecretStr("production")},
)
_SUBSCRIPTION = Subscription(
    id=SUBSCRIPTION_ID,
    subscriber_id=SUBSCRIBER_ID,
    owner=_SUBSCRIBER.owner,
    source="pim",
    subject=PIM,
    events=(CREATED, UPDATED),
    config=_CONFIG,
    created_at=_MOMENT,
    updated_at=_MOMENT,
    filter=FILTER,
    send_product_identifier=True,
    options={"send_product_identifier_in_changes": True},
    catch_up=True,
)
NEW_REPLAY: dict[str, Any] = {
    "from": "2026-01-31T10:00:00Z",
    "to": "2026-01-31T11:00:00Z",
    "events": [UPDATED],
    "which": "undelivered",
}
REPLAY = show.replay(
    Replay(
        REPLAY_ID,
        SUBSCRIPTION_ID,
        ReplayRequest(_MOMENT - timedelta(hours=2), _MOMENT - timedelta(hours=1)),
        _MOMENT,
    )
)
_COURSE = Course(
    SUBSCRIPTION_ID,
    CourseStatus.DELIVERED,
    attempts=[FailedAttempt(_MOMENT, Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503, 31)],
    status=204,
    milliseconds=12,
    ended_at=_MOMENT + timedelta(seconds=300),
)
_KEPT = KeptEvent(
    2,
    "https://pim.example.com",
    _MOMENT,
    Way.CLOUDEVENTS,
    EVENT_ID,
    UPDATED,
    to_rfc3339(_MOMENT),
    ("019c13f0-93c1-7e02-9d5e-6f0b2d6f7a16",),
    [_COURSE],
)
EVENT_PAGE = {"items": [show.kept_event(_KEPT)], "next_cursor": None}
EVENT_COURSES = {"items": [show.kept_event_with_courses(_KEPT, [show.course(_KEPT, _COURSE)])]}
SUBSCRIBER = show.subscriber(_SUBSCRIBER)
SUBSCRIPTION = show.subscription(_SUBSCRIPTION)
SUBSCRIPTION_WITH_FAILURE = show.subscription(
    _SUBSCRIPTION, LastFailure(_MOMENT, Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503))
)
_ACTION = entry_of(
    None,
    _SUBSCRIBER,
    Action(Actor.USER, call_of("POST", "/api/v1/subscribers", Redaction(NEW_SUBSCRIBER))),
)
_END = LogEntry(
    id="4d967a8d3c1c4d7b9c1de02f8f5a6b7c",
    owner=_SUBSCRIBER.owner,
    log_type=LogType.ERROR,
    at=_MOMENT,
    operation=Operation.FAILED,
    subscriber_id=SUBSCRIBER_ID,
    subscription_id=SUBSCRIPTION_ID,
    error_type=FAILED_DELIVERY,
    error_reason=Reason.DESTINATION_FAILURE,
    error_code=503,
    error_message="answered 503",
    response={"status": 503, "body": "maintenance"},
    occurrences=2,
    events=[{"event_id": "7b9f2a6e-4c1d-4b8e-9f3a-2d5c6e7f8a9b", "type": UPDATED, "attempts": 4}],
)
LOG_ENTRIES = [shown(entry, "https://events.example.com") for entry in (_END, _ACTION) if entry is not None]
EXPLANATION = {
    "error": str(Reason.CONNECTION_REFUSED),
    "explanation": EXPLANATIONS[Reason.CONNECTION_REFUSED],
}
_TESTED = example_of(
    catalog.load()[UPDATED], event_id="0199c1a4-5d3e-7a1b-9c2d-3e4f5a6b7c8d", time=to_rfc3339(_MOMENT)
)
_TEST_BODY = envelope(_TESTED, "https://events.example.com/spec", with_identifier=True).addressed_to(
    SUBSCRIPTION_ID
)
TRIAL = Trial(
    _CONFIG.url,
    _TESTED,
    tuple(
        (name, REDACTED if name in _CONFIG.headers else value)
        for name, value in request_headers(_TESTED.id, _TEST_BODY, _CONFIG)
    ),
    _TEST_BODY,
    Answer(503, body=b"maintenance"),
    12.3,
).shown()
EVENT_EXPLANATION = show.explanation(
    _TESTED, checks(_TESTED, replace(_SUBSCRIPTION, status=Status.SUSPENDED))
)
EVENT_TYPE = {
    "type": UPDATED,
    "trigger": "A product is updated.",
    "certainty": "documented",
    "schema": f"https://events.example.com/spec/{UPDATED}.schema.json",
}
ERRORS = {
    "errors": [
        {"message": "name: is required", "field": "name"},
        {"message": "config.url: must begin with https://", "field": "config.url"},
    ]
}


def event() -> dict[str, Any]:
    """A structured CloudEvent."""
    return {
        "specversion": "1.0",
        "id": "7b9f2a6e-4c1d-4b8e-9f3a-2d5c6e7f8a9b",
        "type": UPDATED,
        "time": "2026-01-31T12:00:00Z",
        "data": event_data(),
    }


def event_data() -> dict[str, Any]:
    """The body of the same event in binary mode."""
    return catalog.load()[UPDATED].example


EVENTS_API_REQUEST: dict[str, Any] = {
    "events": [
        {
            "action": "product.updated",
            "event_id": "9979c367-595d-42ad-9070-05f62f31f49b",
            "event_datetime": "2026-01-31T13:00:00+01:00",
            "author": "julia",
            "author_type": "ui",
            "pim_source": "https://pim.example.com",
            "data": {"resource": {"uuid": "0e0f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55", "identifier": "LMP-001"}},
        }
    ]
}
"""A request as a PIM sends it; `resource` holds the whole product."""
