"""The table of operations: what each route takes, what it answers, and what it refuses with which status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ... import __version__
from ...domain.attempts.delivery_headers import REPLAY
from ...domain.call_limits import LIMITS, CallType
from ...domain.events.catalog import BENCHMARK
from ...domain.events.event import MAX_EVENT_BYTES
from ...domain.ingest_formats.cloudevents import BATCH, MAX_EVENTS, STRUCTURED
from ...domain.replays import MAX_EVENTS as MAX_REPLAYED
from ...domain.replays import SHOWN
from ...domain.subscriptions import SUBSCRIBERS_PER_PIM, SUBSCRIPTIONS_PER_SUBSCRIBER
from ...domain.topic_claims import PROOF_LABEL
from ...ingest.credentials import SIGNED_BODY_LIMIT
from ...ingest.routes import BODY_LIMIT as INGEST_BODY_LIMIT
from ...manage.benchmarks import DELIVERIES_A_SECOND, MAX_DELIVERIES
from ...manage.json_bodies import BODY_LIMIT, MAX_VALUES
from ...manage.routes import PREFIX
from . import examples
from .schemas import EVENT_PARAMETERS, LOG_PARAMETERS, Schema, array_of, ref, text

JSON = "application/json"
Refusals: TypeAlias = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Content:
    """A body of one media type: its schema and an example, when one says more than the schema."""

    schema: Schema
    example: Any = None
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `security` names schemes that are needed together; none: it is public."""

    method: str
    path: str
    id: str
    summary: str
    status: int
    answer: Content
    body: Sequence[Content] = ()
    refusals: Refusals = field(default_factory=dict[int, str])
    security: Sequence[str] = ()
    description: str = ""
    headers: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    query: Mapping[str, Schema] = field(default_factory=dict[str, Schema])
    body_required: bool = True


TRIPLE = ("pimUrl", "pimToken", "pimClientId")

# What is refused, in the order in which it is checked

TOO_MANY = (
    "Too many unknown or wrong credentials, from this address or for this PIM; `Retry-After` says when."
)
_CHANGES, _READS, _TRIALS = (LIMITS[each] for each in (CallType.CHANGE, CallType.READ, CallType.TRIAL))
TOO_MANY_CALLS = (
    f"Too many calls by this client, or by the clients of this PIM: {_CHANGES.burst} changes at once and"
    f" {_CHANGES.per_second:g} a second from then on, {_READS.burst} reads and {_READS.per_second:g} a"
    f" second, {_TRIALS.burst} tests and explanations and {_TRIALS.per_second:g} a second. {TOO_MANY}"
)
CALLER: Refusals = {
    401: "A header is missing or wrong, the PIM is not configured here, or the token is not that client's.",
    429: TOO_MANY_CALLS,
    503: "The PIM or the store cannot be reached now; nothing was changed, try again.",
}
BODY: Refusals = {
    400: "The body is malformed or invalid; every problem is listed with its field.",
    413: f"The body is larger than {BODY_LIMIT // 1024} KiB or holds more than {MAX_VALUES} JSON values.",
    415: "The body is not application/json, or packed.",
}
BODY_WITH_TOPIC: Refusals = {
    **BODY,
    400: f"{BODY[400]} Or another client names the Pub/Sub topic, and the topic's label {PROOF_LABEL} names"
    " none of this client's subscribers and subscriptions.",
}
WHOLE_LIST: Refusals = {
    400: "A parameter asks for a page (page, offset and the like); the list is given whole."
}
PERMISSION: Refusals = {403: "The connection lacks the Event Platform permission in the PIM."}
KNOWN: Refusals = {404: "Unknown, deleted more than 30 days ago, or another client's."}
CHANGEABLE: Refusals = {409: "It is deleted or revoked."}
DELETABLE: Refusals = {409: "It is deleted already."}

_SUBSCRIBERS = f"{PREFIX}/subscribers"
_SUBSCRIBER = f"{_SUBSCRIBERS}/{{sid}}"
_SUBSCRIPTIONS = f"{_SUBSCRIBER}/subscriptions"
_SUBSCRIPTION = f"{_SUBSCRIPTIONS}/{{id}}"

_REPLAYS = f"{_SUBSCRIPTION}/replays"
_REPLAY = f"{_REPLAYS}/{{rid}}"

_IGNORED: Mapping[str, Any] = {"not": {"type": "object"}, "description": "Is ignored."}
_SHOWN_SUBSCRIBER = Content(ref("Subscriber"), examples.SUBSCRIBER)
_SHOWN_SUBSCRIPTION = Content(ref("Subscription"), examples.SUBSCRIPTION)
_DELETED_SUBSCRIBER = Content(ref("Subscriber"), examples.SUBSCRIBER | {"status": "deleted"})
_DELETED_SUBSCRIPTION = Content(ref("Subscription"), examples.SUBSCRIPTION | {"status": "deleted"})
_SHOWN_REPLAY = Content(ref("Replay"), examples.REPLAY)
_CANCELLED_REPLAY = Content(ref("Replay"), examples.REPLAY | {"status": "cancelled"})
_SUSPENDED_SUBSCRIPTION = Content(ref("Subscription"), examples.SUBSCRIPTION | {"status": "suspended"})

SUBSCRIBERS = [
    Operation(
        "GET",
        _SUBSCRIBERS,
        "listSubscribers",
        "The caller's active and revoked subscribers, oldest first",
        200,
        Content(array_of("Subscriber"), [examples.SUBSCRIBER]),
        refusals={**CALLER, **WHOLE_LIST},
        security=TRIPLE,
    ),
    Operation(
        "POST",
        _SUBSCRIBERS,
        "createSubscriber",
        "Create a subscriber",
        201,
        _SHOWN_SUBSCRIBER,
        [Content(ref("NewSubscriber"), examples.NEW_SUBSCRIBER)],
        {
            **CALLER,
            **BODY,
            **PERMISSION,
            409: f"The PIM has {SUBSCRIBERS_PER_PIM} subscribers; deleted ones do not count.",
        },
        TRIPLE,
    ),
    Operation(
        "GET",
        _SUBSCRIBER,
        "getSubscriber",
        "A subscriber; for 30 days after its deletion too",
        200,
        _SHOWN_SUBSCRIBER,
        refusals={**CALLER, **KNOWN},
        security=TRIPLE,
    ),
    Operation(
        "PATCH",
        _SUBSCRIBER,
        "changeSubscriber",
        "Change what the body names of a subscriber",
        200,
        _SHOWN_SUBSCRIBER,
        [Content(ref("SubscriberChange"), examples.SUBSCRIBER_CHANGE)],
        {**CALLER, **BODY, **PERMISSION, **KNOWN, **CHANGEABLE},
        TRIPLE,
    ),
    Operation(
        "DELETE",
        _SUBSCRIBER,
        "deleteSubscriber",
        "Delete a subscriber and its subscriptions",
        200,
        _DELETED_SUBSCRIBER,
        refusals={**CALLER, **KNOWN, **DELETABLE},
        security=TRIPLE,
    ),
]

SUBSCRIPTIONS = [
    Operation(
        "GET",
        _SUBSCRIPTIONS,
        "listSubscriptions",
        "A subscriber's active, suspended and revoked subscriptions, oldest first",
        200,
        Content(array_of("Subscription"), [examples.SUBSCRIPTION]),
        refusals={**CALLER, **WHOLE_LIST, **KNOWN},
        security=TRIPLE,
    ),
    Operation(
        "POST",
        _SUBSCRIPTIONS,
        "createSubscription",
        "Create a subscription",
        201,
        _SHOWN_SUBSCRIPTION,
        [Content(ref("NewSubscription"), examples.NEW_SUBSCRIPTION)],
        {
            **CALLER,
            **BODY_WITH_TOPIC,
            **PERMISSION,
            **KNOWN,
            409: f"The subscriber has {SUBSCRIPTIONS_PER_SUBSCRIBER} subscriptions (deleted ones do not"
            " count), or is deleted or revoked.",
        },
        TRIPLE,
    ),
    Operation(
        "GET",
        _SUBSCRIPTION,
        "getSubscription",
        "A subscription; for 30 days after its deletion too",
        200,
        Content(ref("Subscription"), examples.SUBSCRIPTION_WITH_FAILURE),
        refusals={**CALLER, **KNOWN},
        security=TRIPLE,
    ),
    Operation(
        "PATCH",
        _SUBSCRIPTION,
        "changeSubscription",
        "Change what the body names of a subscription",
        200,
        _SHOWN_SUBSCRIPTION,
        [Content(ref("SubscriptionChange"), examples.SUBSCRIPTION_CHANGE)],
        {**CALLER, **BODY_WITH_TOPIC, **PERMISSION, **KNOWN, **CHANGEABLE},
        TRIPLE,
    ),
    Operation(
        "DELETE",
        _SUBSCRIPTION,
        "deleteSubscription",
        "Delete a subscription",
        200,
        _DELETED_SUBSCRIPTION,
        refusals={**CALLER, **KNOWN, **DELETABLE},
        security=TRIPLE,
    ),
    Operation(
        "POST",
        f"{_SUBSCRIPTION}/suspend",
        "suspendSubscription",
        "Suspend a subscription",
        202,
        _SUSPENDED_SUBSCRIPTION,
        refusals={**CALLER, **KNOWN, **CHANGEABLE},
        security=TRIPLE,
        description="Events that come while it is suspended are delivered only if it catches up when it is"
        " resumed. Repeating it is harmless.",
    ),
    Operation(
        "POST",
        f"{_SUBSCRIPTION}/resume",
        "resumeSubscription",
        "Resume a subscription",
        202,
        _SHOWN_SUBSCRIPTION,
        [Content({"anyOf": [ref("Resume"), _IGNORED]}, {"catch_up": True})],
        refusals={
            **CALLER,
            **PERMISSION,
            **KNOWN,
            400: "catch_up is no boolean.",
            409: "It is deleted or revoked, another client holds its Pub/Sub topic, or no events are kept"
            " that it could catch up with.",
        },
        security=TRIPLE,
        description="With catch_up, what was accepted since the suspension, and what waited then, is"
        " delivered before anything new of the same entity; on Google Cloud what is accepted 10 s later does"
        " not wait for it, and some of it may come twice. Repeating it is harmless.",
        body_required=False,
    ),
]

REPLAYS = [
    Operation(
        "POST",
        f"{_SUBSCRIPTION}/retries",
        "retryNow",
        "Have the deliveries that wait for their next attempt tried now",
        202,
        Content(ref("Retries"), {"retries": 12}),
        refusals={**CALLER, **PERMISSION, **KNOWN, 409: "It is not active."},
        security=TRIPLE,
        description="At the subscription's rate. Each counts as the attempt that was due later.",
    ),
    Operation(
        "GET",
        _REPLAYS,
        "listReplays",
        f"The latest {SHOWN} replays of a subscription, newest first",
        200,
        Content(array_of("Replay"), [examples.REPLAY]),
        refusals={**CALLER, **WHOLE_LIST, **KNOWN},
        security=TRIPLE,
    ),
    Operation(
        "POST",
        _REPLAYS,
        "startReplay",
        "Send kept events to a subscription again",
        201,
        _SHOWN_REPLAY,
        [Content(ref("NewReplay"), examples.NEW_REPLAY)],
        {
            **CALLER,
            **BODY,
            **PERMISSION,
            **KNOWN,
            400: f"{BODY[400]} Or from is older than what is kept, or more than {MAX_REPLAYED} kept events"
            " lie in the range, or it is a subscription to test events.",
            409: "It is not active, a replay of it is running, or no events are kept.",
        },
        TRIPLE,
        "Events are matched with the subscription as it is when they are read, and sent beside new ones, at"
        " most at half of its rate while new ones wait. Among themselves they come in the order of their"
        f" acceptance, per entity, while nothing is retried. Each carries the header {REPLAY.name}; id, time"
        " and data are as the first time.",
    ),
    Operation(
        "GET",
        _REPLAY,
        "getReplay",
        "A replay: how far it is",
        200,
        _SHOWN_REPLAY,
        refusals={**CALLER, **KNOWN},
        security=TRIPLE,
    ),
    Operation(
        "DELETE",
        _REPLAY,
        "cancelReplay",
        "Cancel a replay: what waits of it is no longer sent",
        200,
        _CANCELLED_REPLAY,
        refusals={**CALLER, **KNOWN, 409: "It is done, or ended with the subscription."},
        security=TRIPLE,
    ),
]

PAUSE: Refusals = {429: f"Too soon after the one before: see `Retry-After`. {TOO_MANY_CALLS}"}

TRIALS = [
    Operation(
        "POST",
        f"{_SUBSCRIPTION}/test",
        "testSubscription",
        "Send an example event to a subscription now, and show what came back",
        200,
        Content(ref("Trial"), examples.TRIAL),
        [Content(ref("NewTrial"), {"type": examples.UPDATED})],
        {**CALLER, **BODY, **PERMISSION, **KNOWN, **CHANGEABLE, **PAUSE},
        TRIPLE,
        "One signed example, sent once and outside the subscription's queue, to a suspended one too. It is"
        " not counted, not logged and changes neither rate nor status. Once a second for a subscription.",
        body_required=False,
    ),
    Operation(
        "POST",
        f"{_SUBSCRIPTION}/explain",
        "explainEvent",
        "Whether a subscription gets an event, and if not, which part of it says no",
        200,
        Content(ref("EventExplanation"), examples.EVENT_EXPLANATION),
        [Content(ref("EventToExplain"), {"type": examples.UPDATED, "data": examples.event_data()})],
        {
            **CALLER,
            **BODY,
            **KNOWN,
            403: "The event's pimurl names another PIM.",
            413: f"{BODY[413]} Or data are larger than {MAX_EVENT_BYTES // 1024} KiB.",
        },
        TRIPLE,
        "Nothing is sent or stored.",
    ),
    Operation(
        "POST",
        f"{PREFIX}/benchmark",
        "startBenchmark",
        "Send test events to the caller's subscriptions whose source is benchmark",
        202,
        Content(ref("Benchmark"), {"id": examples.SUBSCRIBER_ID, "count": 1000}),
        [
            Content(
                ref("NewBenchmark"),
                {"type": BENCHMARK, "count": 1000, "size": 2, "custom_data": {"run": "nightly"}},
            )
        ],
        {
            **CALLER,
            **BODY,
            **PERMISSION,
            **PAUSE,
            409: f"More than {MAX_DELIVERIES} deliveries: count times active benchmark subscriptions.",
        },
        TRIPLE,
        "Whatever their events list, and to nobody else; at each receiver's pace, like any event. The next"
        f" one can be started a second later for each {DELIVERIES_A_SECOND} deliveries.",
    ),
]

LOGS = [
    Operation(
        "GET",
        f"{PREFIX}/logs",
        "readLogs",
        "The caller's log entries of the last 30 days, newest first",
        200,
        Content(ref("LogPage"), {"items": examples.LOG_ENTRIES, "next_cursor": None}),
        refusals={**CALLER, 400: "A parameter is invalid; every problem is listed with its name."},
        security=TRIPLE,
        description="Every filter that is given must fit. Other usual names of parameters (date_from, dateTo,"
        " page_size) are taken, page, offset and the like are refused, and names that are unknown are ignored"
        " and named in warnings. A page ends with next_cursor, which leads on with the same filters; null:"
        " there is nothing more. What is counted into an older entry moves it to the latest time: a walk"
        " meets what did not change once.",
        query=LOG_PARAMETERS,
    ),
    Operation(
        "GET",
        "/docs/errors/{name}",
        "explainError",
        "What a delivery's error in the log means, and what to do",
        200,
        Content(ref("Explanation"), examples.EXPLANATION),
        refusals={404: "Unknown error."},
    ),
]

KEPT: Refusals = {409: "No events are kept: the platform's operator has set `AEP_KEEP` to 0."}
EVENTS = [
    Operation(
        "GET",
        f"{PREFIX}/events",
        "readEvents",
        "The PIM's kept events, newest first, and what became of the caller's deliveries",
        200,
        Content(ref("EventPage"), examples.EVENT_PAGE),
        refusals={
            **CALLER,
            400: "A parameter is invalid; every problem is listed with its name.",
            **PERMISSION,
            **KEPT,
        },
        security=TRIPLE,
        description="Every filter that is given must fit. A page ends with next_cursor, which leads on with"
        " the same filters; it may hold fewer than limit, also none, where finding more takes long. null:"
        " there is nothing more. On one machine only.",
        query=EVENT_PARAMETERS,
    ),
    Operation(
        "GET",
        f"{PREFIX}/events/{{event_id}}",
        "readEvent",
        "What became of an event for each of the caller's subscriptions",
        200,
        Content(ref("EventCourses"), examples.EVENT_COURSES),
        refusals={**CALLER, **PERMISSION, 404: "No event of this PIM with that id is kept.", **KEPT},
        security=TRIPLE,
        description="The id percent-encoded. Every acceptance of it that is kept, newest first, ten at most.",
    ),
]

UNAVAILABLE = "The store cannot take anything now; nothing was accepted, try again."
INGEST = [
    Operation(
        "POST",
        "/ingest",
        "ingest",
        "Take in a PIM's events",
        202,
        Content(ref("Accepted"), {"accepted": 1}),
        [
            Content(ref("CloudEvent"), examples.event(), STRUCTURED),
            Content(ref("CloudEvents"), [examples.event()], BATCH),
            Content({"anyOf": [ref("CloudEvent"), ref("CloudEvents"), ref("EventData")]}, examples.event()),
        ],
        {
            400: "The body is malformed, or an event is invalid: every bad one is named by its index and"
            " field.",
            401: "The key is missing, or no PIM's.",
            403: "An event's pimurl names another PIM than the key's.",
            413: f"The body is larger than {INGEST_BODY_LIMIT // 1024} KiB, holds more than {MAX_EVENTS}"
            f" events, or an event is larger than {MAX_EVENT_BYTES // 1024} KiB.",
            415: "The body is of another media type, or packed.",
            429: TOO_MANY,
            503: UNAVAILABLE,
        },
        ["ingestKey"],
        "CloudEvents 1.0 in structured, batch or binary mode (application/json with the ce- headers, where"
        " the body is the data alone). A request is accepted or refused as a whole. The same id again within"
        " 10 minutes is accepted and delivered once.",
        {
            "ce-specversion": text("Binary mode; 1.0."),
            "ce-id": text("Binary mode; percent-encoded."),
            "ce-type": text("Binary mode."),
            "ce-time": text("Binary mode."),
            "ce-pimurl": text("Binary mode; percent-encoded."),
        },
    ),
    Operation(
        "POST",
        "/ingest/events-api/{key}",
        "ingestEventsApi",
        "Take in the webhook of a PIM's own Events API",
        200,
        Content(ref("Taken"), {"accepted": 1, "skipped": 0, "malformed": 0}),
        [Content(ref("EventsApiRequest"), examples.EVENTS_API_REQUEST)],
        {
            400: "The body is no request of the Events API, or every event in it is malformed.",
            401: "The signature is missing or does not fit, the timestamp is too old or ahead, or no PIM has"
            " the key.",
            413: f"The body is larger than {SIGNED_BODY_LIMIT // 1024} KiB or holds more than"
            f" {MAX_EVENTS} events.",
            429: TOO_MANY,
            503: UNAVAILABLE,
        },
        ["eventsApiSignature", "eventsApiTimestamp"],
        "As a PIM sends it; its Test button sends no body, which is answered 200 and stored as nothing."
        " Unknown actions are skipped and counted; so are malformed events beside good ones, because the PIM"
        " sends nothing twice.",
        body_required=False,
    ),
    Operation(
        "POST",
        "/ingest/relay/{key}",
        "ingestRelay",
        "Take in what Akeneo's own Event Platform delivers",
        202,
        Content(ref("Relayed"), {"accepted": 1, "skipped": 0}),
        [Content({"description": "A structured CloudEvent."}, examples.event())],
        {
            401: "No signature fits, or no PIM has the key.",
            413: f"The body is larger than {SIGNED_BODY_LIMIT // 1024} KiB.",
            429: TOO_MANY,
            503: UNAVAILABLE,
        },
        ["relaySignature"],
        "A structured CloudEvent. Nothing that is rightly signed is refused: an event that does not fit the"
        " schema of its type is delivered as it is, one of unknown type or with more than 900 KiB of data is"
        " skipped; the log names both.",
        body_required=False,
    ),
]

_HEALTHY = Content(ref("Health"), {"status": "ok", "version": __version__})
_READY = Content(ref("Ready"), {"status": "ok"})
OPEN = [
    Operation(
        "GET",
        "/spec/{type}.schema.json",
        "getEventSchema",
        "The JSON Schema of an event type's data",
        200,
        Content({"type": "object"}, media_type="application/schema+json"),
        refusals={404: "Unknown event type."},
        description="Its `$id` is the `dataschema` of such events.",
    ),
    Operation(
        "GET",
        "/spec/",
        "listEventTypes",
        "The event types that a subscription can get",
        200,
        Content(ref("EventTypes"), {"types": [examples.EVENT_TYPE]}),
    ),
    Operation(
        "GET",
        "/asyncapi.json",
        "getDeliveries",
        "The AsyncAPI 3 document of what is delivered",
        200,
        Content({"type": "object"}),
    ),
    Operation(
        "GET", "/health", "health", "Whether the process is alive, and what was deployed", 200, _HEALTHY
    ),
    Operation(
        "GET",
        "/ready",
        "ready",
        "Whether events are accepted and delivered",
        200,
        _READY,
        refusals={503: "The store cannot be written now, or deliveries are not made; the message says why."},
    ),
    Operation(
        "GET",
        "/openapi.json",
        "getDescription",
        "This document",
        200,
        Content({"type": "object"}),
    ),
]

OPERATIONS = [*SUBSCRIBERS, *SUBSCRIPTIONS, *REPLAYS, *TRIALS, *LOGS, *EVENTS, *INGEST, *OPEN]
