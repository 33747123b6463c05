"""The answers of the management API, each as a typed dict (contract/wire.md 2, 3, 4, 13 and 14).

The type checker holds what builds an answer against these types, and OpenAPI describes it by them. The keys
stand in the contract's order. A docstring is the description of the schema.
"""

from typing import Annotated, Any, Literal, NotRequired, TypeAlias

from pydantic import Field
from typing_extensions import TypeAliasType, TypedDict

from ..attempts.outcomes import Kind, Reason
from ..ingest_formats.cloudevents import MAX_EVENTS
from ..matching import Part
from ..replays import ReplayStatus, Which
from ..subscriptions import REDACTED, Status
from ..tenants import Way
from .logs import ACTIONS, ERRORS, EVENTS_LISTED, FAILED_DELIVERY, VALIDATION_ERROR, LogType


def _one_of(*values: str) -> Any:
    return Field(json_schema_extra={"enum": [*values]})


def _text(description: str, **keywords: Any) -> Any:
    return Field(description=description, json_schema_extra=keywords or None)


Id: TypeAlias = Annotated[str, _text("UUIDv7.", format="uuid")]
Time: TypeAlias = Annotated[str, _text("UTC.", format="date-time")]
Url: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "uri"})]
Hidden: TypeAlias = Annotated[str, _one_of(REDACTED)]
HiddenHeaders: TypeAlias = dict[str, Hidden]
EventType = TypeAliasType("EventType", str)
"""The name of an event type, which is a schema of its own: the known types are its values."""
ReasonName: TypeAlias = Annotated[str, _one_of(*Reason)]
Operation: TypeAlias = Annotated[str, _one_of(*sorted(ACTIONS | ERRORS))]
AtLeastOne: TypeAlias = Annotated[int, Field(ge=1)]


# Subscribers


class ContactAnswer(TypedDict):
    """Addresses at which the subscriber is notified of changes."""

    technical_email: Annotated[str, _text("An e-mail address.", format="email")]
    notification_channels: list[Annotated[str, _one_of("email", "webhook")]]
    notification_webhook_url: NotRequired[Url]


class SubscriberAnswer(TypedDict):
    """An application that subscribes."""

    id: Id
    name: str
    subject: Annotated[str, _text("The PIM's URL as it was first sent.")]
    status: Annotated[str, _one_of(*(status for status in Status if status is not Status.SUSPENDED))]
    contact: ContactAnswer
    created_at: Time
    updated_at: Time


# Subscriptions


class ShownSecrets(TypedDict):
    """secondary is there when it is set."""

    primary: Hidden
    secondary: NotRequired[Hidden]


class ShownHttpsConfig(TypedDict):
    """The config with its secrets hidden."""

    url: Url
    secret: ShownSecrets
    headers: NotRequired[HiddenHeaders]


class ShownPubSubConfig(TypedDict):
    """The config with its attributes' values hidden."""

    project_id: str
    topic_id: str
    headers: NotRequired[HiddenHeaders]


class ShownKafkaSasl(TypedDict):
    """scram_variant is there for scram."""

    mechanism: Annotated[str, _one_of("plain", "scram")]
    username: str
    password: Hidden
    scram_variant: NotRequired[Annotated[str, _one_of("sha-256", "sha-512")]]


class ShownKafkaTls(TypedDict):
    """Certificates and key of a client."""

    server_name: str
    ca_pem: str
    client_cert_pem: str
    client_key_pem: Hidden


class ShownKafkaConfig(TypedDict):
    """The config with its secrets hidden."""

    broker: str
    topic: str
    sasl_auth: ShownKafkaSasl
    tls: NotRequired[ShownKafkaTls]
    headers: NotRequired[HiddenHeaders]


ShownConfig: TypeAlias = ShownHttpsConfig | ShownPubSubConfig | ShownKafkaConfig


class ShownOptions(TypedDict):
    """Stored and returned, without effect."""

    send_product_identifier_in_changes: NotRequired[bool | None]


class LastFailureAnswer(TypedDict):
    """The last attempt that was no success."""

    at: Time
    reason: ReasonName | None
    status: Annotated[int | None, _text("Null: no answer came.")]


class SubscriptionAnswer(TypedDict):
    """Events to have delivered, and their destination."""

    id: Id
    config: ShownConfig
    events: list[EventType]
    type: Annotated[str, _one_of("https", "pubsub", "kafka")]
    source: Annotated[str, _one_of("pim", "benchmark")]
    subject: Annotated[str, _text("The PIM's URL.")]
    status: Annotated[str, _one_of(*Status)]
    subscriber_id: Id
    created_at: Time
    updated_at: Time
    filter: NotRequired[Annotated[str, _text("As it was sent; there when there is one.")]]
    send_product_identifier: bool
    options: NotRequired[ShownOptions]
    catch_up: NotRequired[Annotated[Literal[True], _text("There when it is true.")]]
    last_failure: NotRequired[
        Annotated[LastFailureAnswer, _text("There on a GET of one, when an attempt of it was no success.")]
    ]


# Replays

Count: TypeAlias = Annotated[int, Field(ge=0)]
_REPLAYED = (
    "The number of deliveries; null until all are counted. On Google Cloud those so far, and all three"
    " numbers are up to 5 s late and near the truth."
)

ReplayAnswer = TypedDict(
    "ReplayAnswer",
    {
        "id": Id,
        "status": Annotated[str, _one_of(*ReplayStatus)],
        "from": NotRequired[Annotated[str, _text("The first time of acceptance.", format="date-time")]],
        "to": NotRequired[Annotated[str, _text("The end of these times.", format="date-time")]],
        "which": Annotated[str, _one_of(*Which)],
        "events": Annotated[int | None, _text(_REPLAYED)],
        "delivered": Count,
        "ended": Annotated[Count, Field(description="Given up or dropped.")],
        "reason": NotRequired[Annotated[str, _text("Why it ended: the status of the subscription.")]],
        "created_at": Time,
        "ended_at": NotRequired[Time],
    },
)
ReplayAnswer.__doc__ = "Kept events that are sent again; from and to unless it is of event_ids."


class RetriesAnswer(TypedDict):
    """The deliveries whose next attempt comes now."""

    retries: Count


# The log


class ListedEvent(TypedDict):
    """One that it stands for."""

    event_id: str
    type: str
    attempts: int
    replay_id: NotRequired[Annotated[str, _text("The replay that the delivery was part of.")]]


class LogEntryAnswer(TypedDict):
    """An action, a delivery's end, or a refused call. A key without a value is left out."""

    log_id: Annotated[str, _text("The same while an entry grows.")]
    log_type: Annotated[str, _one_of(*LogType)]
    timestamp: Time
    operation: Operation
    subscriber_id: NotRequired[str]
    subscription_id: NotRequired[str]
    error_type: NotRequired[Annotated[str, _one_of(FAILED_DELIVERY, VALIDATION_ERROR)]]
    error_reason: NotRequired[ReasonName]
    error_code: NotRequired[int]
    error_message: NotRequired[Annotated[str, _text("Of an action: why the platform took it.")]]
    documentation_url: NotRequired[Annotated[str, _text("On errors of deliveries.", format="uri")]]
    request: Annotated[
        dict[str, Any],
        _text(
            "body (an empty text if there was none), method and url (the path) of a call, secrets redacted."
        ),
    ]
    response: Annotated[dict[str, Any], _text("The resource, the refusal, or what the endpoint answered.")]
    occurrences: AtLeastOne
    events: Annotated[list[ListedEvent], Field(max_length=EVENTS_LISTED)]


class ErrorAnswer(TypedDict):
    """One thing that is wrong. Further keys may come."""

    message: Annotated[str, _text("What to do about it, in one line.")]
    field: NotRequired[Annotated[str, _text("The dotted path of what it is about.")]]


class LogPageAnswer(TypedDict):
    """Entries in their order."""

    items: list[LogEntryAnswer]
    next_cursor: Annotated[str | None, _text("Leads on.")]
    warnings: NotRequired[Annotated[list[ErrorAnswer], _text("What was not done as the query asks.")]]


# Kept events


class DeliveryCounts(TypedDict):
    """The numbers of the caller's deliveries of an event, by their result."""

    delivered: int
    waiting: int
    ended: int


class KeptEventAnswer(TypedDict):
    """An accepted event that is kept, without its data."""

    id: str
    type: EventType
    time: Annotated[str, _text("As the PIM sent it, in UTC.", format="date-time")]
    accepted_at: Time
    entity: Annotated[str | None, _text("What it is about, as in product:<uuid>; null where it names none.")]
    deliveries: DeliveryCounts


class EventPageAnswer(TypedDict):
    """Kept events, newest first; a page may hold fewer than limit, also none, where next_cursor leads on."""

    items: list[KeptEventAnswer]
    next_cursor: Annotated[str | None, _text("Leads on.")]
    warnings: NotRequired[Annotated[list[ErrorAnswer], _text("What was not done as the query asks.")]]


class FailedAttemptAnswer(TypedDict):
    """An attempt that was no success."""

    at: Time
    outcome: Annotated[str, _one_of(*(kind for kind in Kind if kind is not Kind.DELIVERED))]
    reason: ReasonName | None
    status: int | None
    milliseconds: int


class CourseAnswer(TypedDict):
    """The result of an event for a subscription: the course of a delivery, or why there is none."""

    subscription_id: str
    result: Annotated[str, _one_of("matched", "not_matched")]
    matched_at: NotRequired[Time]
    replay: NotRequired[Annotated[bool, _text("True if it was sent again by a replay.")]]
    outcome: NotRequired[Annotated[str, _one_of("delivered", "waiting", "ended")]]
    attempts: NotRequired[Annotated[list[FailedAttemptAnswer], _text("Those that failed; of many some.")]]
    status: NotRequired[int]
    reason: NotRequired[str]
    message: NotRequired[str]
    milliseconds: NotRequired[int]
    ended_at: NotRequired[Time]
    reasons: NotRequired[Annotated[list[str], _text("Why it did not match.")]]
    judged_by: NotRequired[
        Annotated[
            str,
            _one_of("subscription_then", "subscription_now"),
            _text("By the subscription as it was when the event came, or as it is now."),
        ]
    ]


class AcceptedEventAnswer(TypedDict):
    """An acceptance of an event, and what became of it for each of the caller's subscriptions."""

    id: str
    type: EventType
    time: Annotated[str, _text("As the PIM sent it, in UTC.", format="date-time")]
    accepted_at: Time
    way: Annotated[str, _one_of(*Way)]
    entity: str | None
    subscriptions: list[CourseAnswer]


class EventCoursesAnswer(TypedDict):
    """Each acceptance of an id that is kept, newest first: ids are unique for ten minutes only."""

    items: list[AcceptedEventAnswer]


# Tests, explanations and benchmarks


class ShownEvent(TypedDict):
    """The event it is about."""

    id: str
    type: str


class ShownRequest(TypedDict):
    """The request as it was sent."""

    method: Literal["POST"]
    url: Url
    headers: Annotated[dict[str, str], _text("In their order; the values of custom ones are redacted.")]
    body: Annotated[str, _text("The bytes that were signed and sent, as UTF-8.")]


class ShownResponse(TypedDict):
    """The answer of the endpoint."""

    status: int
    body: Annotated[str, _text("The first kilobyte, without secrets of the subscription.")]


class TrialAnswer(TypedDict):
    """A test: the event that was sent, and what came back."""

    event: ShownEvent
    outcome: Annotated[
        str,
        Field(
            description="What would follow for a delivery: retryable means later, suspending the end.",
            json_schema_extra={"enum": [*Kind]},
        ),
    ]
    status: Annotated[int | None, _text("Null: no answer came.")]
    reason: ReasonName | None
    milliseconds: Annotated[float, Field(ge=0)]
    request: ShownRequest
    detail: Annotated[str, _text("More about a failure to get an answer.")]
    response: ShownResponse | None


class CheckAnswer(TypedDict):
    """One part."""

    part: Part
    passes: bool
    message: str


class EventExplanationAnswer(TypedDict):
    """The answer of each part of the subscription."""

    event: ShownEvent
    matches: Annotated[bool, _text("Whether all parts pass.")]
    checks: list[CheckAnswer]


class BenchmarkAnswer(TypedDict):
    """A benchmark that was started."""

    id: Id
    count: AtLeastOne


# What else is answered


class ErrorsAnswer(TypedDict):
    """The problems of a refused request."""

    errors: Annotated[list[ErrorAnswer], Field(min_length=1)]


class ExplanationAnswer(TypedDict):
    """The explanation of a reason or an operation of the log."""

    error: str
    explanation: str


class ListedTypeAnswer(TypedDict):
    """An event type."""

    type: EventType
    trigger: Annotated[str, _text("When the PIM sends it.")]
    certainty: Annotated[str, _text("Where the form of its data is known from.")]
    schema: Annotated[str, _text("Where the JSON Schema of its data is served.", format="uri")]


class EventTypesAnswer(TypedDict):
    """The event types that there are to subscribe to."""

    types: list[ListedTypeAnswer]


Events: TypeAlias = Annotated[int, Field(ge=0, le=MAX_EVENTS)]


class AcceptedAnswer(TypedDict):
    """The events are durable."""

    accepted: Events


class TakenAnswer(TypedDict):
    """The events that can be taken are durable."""

    accepted: Events
    skipped: Annotated[int, Field(ge=0, description="Of unknown actions.")]
    malformed: Annotated[int, Field(ge=0, description="The log says what is wrong.")]


class RelayedAnswer(TypedDict):
    """The event is durable, or nothing that can be delivered."""

    accepted: Annotated[int, Field(ge=0, le=1)]
    skipped: Annotated[int, Field(ge=0, le=1)]


class HealthAnswer(TypedDict):
    """Requests are taken."""

    status: Literal["ok"]
    version: Annotated[str, _text("The version of the platform.")]
    archive: NotRequired[Annotated[str, _text("The source archive that was deployed, on Google Cloud.")]]
    commit: NotRequired[Annotated[str, _text("The commit that it was built from, on one machine.")]]


class ReadyAnswer(TypedDict):
    """Requests are taken."""

    status: Literal["ok"]
    clock: NotRequired[Annotated[str, _text("What is wrong with the machine's clock, since it jumped.")]]


ANSWERS = (
    SubscriberAnswer,
    SubscriptionAnswer,
    ReplayAnswer,
    RetriesAnswer,
    LogPageAnswer,
    EventPageAnswer,
    EventCoursesAnswer,
    TrialAnswer,
    EventExplanationAnswer,
    BenchmarkAnswer,
    ErrorsAnswer,
    ExplanationAnswer,
    EventTypesAnswer,
    AcceptedAnswer,
    TakenAnswer,
    RelayedAnswer,
    HealthAnswer,
    ReadyAnswer,
)
"""The answers as a whole; the other types are parts of them."""
