"""The JSON Schemas of request and response bodies.

Those of requests come from the models that validate them. What a model's validators check in code, so that
its schema cannot say, is said here field by field.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from ...domain import fields, filters, tls_material
from ...domain.attempts import custom_headers
from ...domain.attempts.broker_messages import TopicRules
from ...domain.attempts.outcomes import Reason
from ...domain.events.catalog import Catalog
from ...domain.events.entities import MAX_ENTITY_LENGTH
from ...domain.events.event import MAX_EVENT_BYTES
from ...domain.ingest_formats import events_api
from ...domain.ingest_formats.cloudevents import MAX_EVENTS, MAX_ID_LENGTH
from ...domain.kept_events import CourseStatus
from ...domain.record import answers
from ...domain.record.logs import ACTIONS, ERRORS, LogQuery, LogType
from ...domain.replays import MAX_EVENT_IDS, Which
from ...domain.subscriptions import REDACTED
from ...domain.urls import MAX_URL_LENGTH
from ...manage.logs import MAX_LIMIT
from ...manage.payloads import configs, replays, subscribers, subscriptions, trials
from ...manage.payloads.body import Body
from . import examples

Schema: TypeAlias = dict[str, Any]


def components(known: Catalog, topics: TopicRules) -> dict[str, Schema]:
    """Returns all schemas of the document, by name; subscriptions get the types `known`."""
    return {
        **_subscriber_requests(),
        **_subscription_requests(),
        **_replay_requests(),
        **_trial_requests(),
        **_configs("", lambda secret: secret, topics),
        **_configs("Change", lambda secret: {"anyOf": [MARK, secret]}, topics),
        **_responses(),
        **_events(known),
    }


def ref(name: str) -> Schema:
    """A reference to one of them."""
    return {"$ref": f"#/components/schemas/{name}"}


def array_of(name: str, **keywords: Any) -> Schema:
    """An array of them."""
    return {"type": "array", "items": ref(name), **keywords}


def text(description: str, **keywords: Any) -> Schema:
    """A string."""
    return {"type": "string", "description": description, **keywords}


def an_object(description: str, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object that has every property that is not named optional."""
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _or_empty(schema: Schema) -> Schema:
    """A field that is an object. Some clients write an empty one as an empty array."""
    return {"anyOf": [schema, {"type": "array", "maxItems": 0}]}


def _accepts_null(schema: Schema) -> bool:
    return schema.get("type") == "null" or any(map(_accepts_null, schema.get("anyOf", ())))


def _of(model: type[Body], description: str, **fields: Schema) -> Schema:
    """The schema of a model; `fields` take the place of what it says of them.

    Whatever something new does not need may be null. Defaults stay where the model requires something,
    which is where it is no PATCH: there, what is absent stays as it was.
    """
    schema = model.model_json_schema()
    properties: dict[str, Schema] = schema["properties"]
    if unknown := fields.keys() - properties.keys():
        raise LookupError(f"{model.__name__} has no {sorted(unknown)}")
    for field in properties.values():
        field.pop("title", None)
        if "required" not in schema or field.get("default") is None:
            field.pop("default", None)
    properties |= fields
    for name in properties.keys() - {*schema.get("required", ()), *model.needed}:
        if not _accepts_null(properties[name]):
            properties[name] = _or_null(properties[name])
    required = {"required": schema["required"]} if "required" in schema else {}
    return {"type": "object", "description": description, "properties": properties, **required}


# Requests

MARK: Schema = {"const": REDACTED, "description": "As it was: the stored value is kept."}
URL = text(
    "An https URL without user name, password and fragment, whose host has public addresses.",
    format="uri",
    maxLength=MAX_URL_LENGTH,
)
NAME = text("Not only blanks.", minLength=1, maxLength=fields.MAX_NAME_LENGTH, pattern=r"\S")
EMAIL = text("An e-mail address.", format="email", maxLength=fields.MAX_EMAIL_LENGTH)
SECRET = text(
    "Signs what is sent; never returned.",
    minLength=fields.MIN_SECRET_LENGTH,
    maxLength=fields.MAX_SECRET_LENGTH,
)
PASSWORD = text("Never returned.", minLength=1, maxLength=fields.MAX_PASSWORD_LENGTH)
AUTHORITIES = text(
    f"At most {tls_material.MAX_CERTIFICATES} certificates in PEM.",
    pattern="-----BEGIN ",
    maxLength=tls_material.MAX_CA_CHARACTERS,
)
CHAIN = text(
    f"At most {tls_material.MAX_CERTIFICATES} certificates in PEM, that of the key first.",
    pattern="-----BEGIN ",
    maxLength=tls_material.MAX_CHAIN_CHARACTERS,
)
KEY = text(
    f"A private key in PEM, not encrypted: RSA of at most {tls_material.MAX_RSA_BITS} bits, EC or Ed25519;"
    " in PKCS#8, PKCS#1 or SEC1, whichever of their labels it has.",
    pattern="-----BEGIN ",
    maxLength=tls_material.MAX_KEY_CHARACTERS,
)
HEADER_VALUE = text(
    "Printable ASCII; never returned.",
    maxLength=custom_headers.MAX_VALUE_LENGTH,
    pattern=custom_headers.VALUE,
)

DESTINATIONS = {"https": "Https", "pubsub": "PubSub", "kafka": "Kafka"}
KAFKA = (
    "A Kafka topic. The user needs WRITE on it. Without tls the connection is not encrypted (SASL_PLAINTEXT);"
    " every broker of the cluster must have public addresses."
)
PROJECT = text("The project's id, not its number.", pattern=fields.PROJECT)


def _subscriber_requests() -> dict[str, Schema]:
    return {
        "NewSubscriber": _of(
            subscribers.SubscriberBody, "A new subscriber.", name=NAME, contact=ref("NewContact")
        ),
        "NewContact": _of(
            subscribers.ContactBody,
            "Where a subscriber is notified of changes; by email unless notification_channels says otherwise."
            " URL and secret are required while webhook is listed.",
            technical_email=EMAIL,
            notification_webhook_url=URL,
            notification_webhook_secret=SECRET,
        ),
        "SubscriberChange": _of(
            subscribers.SubscriberPatch,
            "What changes of a subscriber; the rest stays as it was.",
            name=NAME,
            contact=_or_empty(ref("ContactChange")),
        ),
        "ContactChange": _of(
            subscribers.ContactPatch,
            "Merged key by key. An empty notification_channels means email again.",
            technical_email=EMAIL,
            notification_webhook_url=URL,
            notification_webhook_secret={"anyOf": [MARK, SECRET]},
        ),
    }


def _subscription_requests() -> dict[str, Schema]:
    shared = {
        "events": array_of("EventType", minItems=1, maxItems=fields.MAX_EVENT_TYPES),
        "subject": text("The PIM's URL; must be the one that X-PIM-URL names."),
        "filter": text(
            "Which of these events are delivered; null or empty: all of them. Comparisons like"
            ' attribute = "name" or locale in ["en_US", "fr_FR"] with and, or, not and parentheses.'
            f" Fields: {', '.join(filters.FIELDS)}. At most {filters.MAX_OPERATORS} logical operators.",
            maxLength=filters.MAX_LENGTH,
        ),
        "options": _or_empty(ref("Options")),
    }

    def new(kind: str, name: str) -> Schema:
        return _of(
            subscriptions.SubscriptionBody,
            "Events to have delivered.",
            type={"type": "string", "enum": [kind]},
            config=ref(f"{name}Config"),
            **shared,
        )

    return {
        "NewSubscription": {
            "oneOf": [ref(f"New{name}Subscription") for name in DESTINATIONS.values()],
            "discriminator": {
                "propertyName": "type",
                "mapping": {
                    kind: ref(f"New{name}Subscription")["$ref"] for kind, name in DESTINATIONS.items()
                },
            },
        },
        **{f"New{name}Subscription": new(kind, name) for kind, name in DESTINATIONS.items()},
        "SubscriptionChange": _of(
            subscriptions.SubscriptionPatch,
            "What changes of a subscription; the rest stays as it was. config is replaced as a whole, but"
            " for headers that are absent. type may change when a config for it comes along. Header values,"
            " Kafka's password and key must be sent anew when the URL's scheme, host or port, the broker,"
            " the project or the type changes, and when tls is left out or its server_name or ca_pem changes;"
            " the password also when the SASL mechanism changes.",
            config={"anyOf": [ref(f"{name}ConfigChange") for name in DESTINATIONS.values()]},
            **shared,
        ),
        "Options": _of(subscriptions.OptionsBody, "Stored and returned, without effect."),
        "Resume": _of(
            replays.ResumeBody,
            "What a resume does this once.",
            catch_up={
                "type": "boolean",
                "description": "In place of the subscription's own; a body that is no object is ignored.",
            },
        ),
    }


def _replay_requests() -> dict[str, Schema]:
    def time(description: str) -> Schema:
        return text(description, format="date-time")

    return {
        "NewReplay": _of(
            replays.ReplayBody,
            "The events to send again: those of a range of time, or those of event_ids. Give one of the two.",
            **{
                "from": time("Those accepted at or after this time."),
                "to": time("Those accepted before this time, which is not later than now, the default."),
            },
            event_ids={
                "description": "Those of these ids, each time that they were accepted.",
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
                "minItems": 1,
                "maxItems": MAX_EVENT_IDS,
            },
            events=array_of("EventType", minItems=1, maxItems=fields.MAX_EVENT_TYPES),
            which={
                "type": "string",
                "enum": [*Which],
                "default": Which.UNDELIVERED,
                "description": "undelivered: those of which the subscription has had no 2xx, and of which no"
                " delivery waits.",
            },
        )
    }


def _trial_requests() -> dict[str, Schema]:
    size = {"minimum": 0, "maximum": fields.MAX_BENCHMARK_SIZE}
    return {
        "NewTrial": _of(
            trials.TestBody,
            "Which example to send.",
            type={
                "type": "string",
                "description": "One of the subscription's events; the first when absent.",
            },
        ),
        "EventToExplain": an_object(
            "An event as ingest takes it; an id is made up when it has none.",
            ("id", "specversion", "time", "pimurl"),
            **_EVENT_ATTRIBUTES,
        ),
        "NewBenchmark": _of(
            trials.BenchmarkBody,
            "The test events to send.",
            size={
                "description": "Bytes of data at least, in kB of 1,024; a number or one in a string.",
                "anyOf": [
                    {"type": "number", **size},
                    {"type": "string", "pattern": r"^(10(\.0{1,9})?|[0-9](\.[0-9]{1,9})?)$"},
                ],
                "default": 0,
            },
            custom_data={
                "description": f"Any JSON of at most {fields.MAX_CUSTOM_DATA // 1024} kB, which each event"
                " carries."
            },
        ),
    }


def _pubsub(topics: TopicRules) -> str:
    if topics.missing is not None:
        return f"A topic of Google Pub/Sub. Refused here: {topics.missing}."
    account = topics.account or "the platform's account, which its operator names"
    return f"A topic of Google Pub/Sub. Grant the role roles/pubsub.publisher on it to {account}."


def _refusing(headers: Schema, names: str) -> Schema:
    """The schema of custom headers without these names (a pattern)."""
    schema, empty = headers["anyOf"]
    refused = {"allOf": [schema["propertyNames"], {"not": {"pattern": names}}]}
    return {"anyOf": [schema | {"propertyNames": refused}, empty]}


def _configs(suffix: str, secret: Callable[[Schema], Schema], topics: TopicRules) -> dict[str, Schema]:
    """The configs of all destinations; `secret` makes of a secret's schema what stands in its place."""
    headers = _or_empty(
        {
            "type": "object",
            "description": "Custom headers. Names are compared without case. Refused are"
            f" {', '.join(custom_headers.REFUSED.names)}, {custom_headers.REFUSED.prefix}* and the"
            " hop-by-hop and framing headers of HTTP.",
            "maxProperties": custom_headers.MAX_HEADERS,
            "propertyNames": {"pattern": custom_headers.NAME},
            "additionalProperties": secret(HEADER_VALUE),
        }
    )
    no_secret: Schema = {"const": "", "description": "None."}
    tls = ref(f"KafkaTls{suffix}")
    return {
        f"HttpsConfig{suffix}": _of(
            configs.HttpsBody,
            "Where events are POSTed to.",
            url=URL,
            secret=ref(f"SigningSecrets{suffix}"),
            headers=headers,
        ),
        f"SigningSecrets{suffix}": _of(
            configs.SecretBody,
            "Each signs every delivery: two of them let a receiver rotate.",
            primary=secret(SECRET),
            secondary={"anyOf": [secret(SECRET), no_secret]},
        ),
        f"PubSubConfig{suffix}": _of(
            configs.PubSubBody,
            _pubsub(topics),
            project_id=PROJECT,
            headers=_refusing(headers, "^([Tt][Yy][Pp][Ee]$|[Gg][Oo][Oo][Gg])"),
        ),
        f"KafkaConfig{suffix}": _of(
            configs.KafkaBody,
            KAFKA,
            broker=text("host:port", pattern=r"^.+:\d{1,5}$"),
            sasl_auth=ref(f"KafkaSasl{suffix}"),
            tls=tls if suffix else _or_empty(tls),
            headers=_refusing(headers, "^[Tt][Yy][Pp][Ee]$"),
        ),
        f"KafkaSasl{suffix}": _of(
            configs.SaslBody, "scram_variant is required for scram.", password=secret(PASSWORD)
        ),
        f"KafkaTls{suffix}": _of(
            configs.TlsBody,
            "Certificates and key of a client.",
            ca_pem=AUTHORITIES,
            client_cert_pem=CHAIN,
            client_key_pem=secret(KEY),
        ),
    }


# Responses

ID = text("UUIDv7.", format="uuid")
HIDDEN: Schema = {"type": "string", "enum": [REDACTED]}


OPERATION: Schema = {"type": "string", "enum": sorted(ACTIONS | ERRORS)}
REASON: Schema = {"type": "string", "enum": [str(reason) for reason in Reason]}

DAY = text("The whole of this day, in UTC.", format="date")

LOG_PARAMETERS: dict[str, Schema] = {
    "log_type": {"type": "string", "enum": [str(each) for each in LogType]},
    "operation": OPERATION,
    "error_reason": REASON,
    "subscriber_id": text("Of this subscriber.", minLength=1, maxLength=fields.MAX_ID_LENGTH),
    "subscription_id": text("Of this subscription.", minLength=1, maxLength=fields.MAX_ID_LENGTH),
    "from": {"anyOf": [text("At or after this time.", format="date-time"), DAY]},
    "to": {"anyOf": [text("Before this time.", format="date-time"), DAY]},
    "order": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
    "limit": {
        "type": "integer",
        "description": f"More than {MAX_LIMIT} count as {MAX_LIMIT}, with a warning in the answer.",
        "minimum": 1,
        "default": LogQuery().limit,
    },
    "cursor": text(
        "next_cursor of the page before.", pattern="^[A-Za-z0-9_-]+$", maxLength=fields.MAX_CURSOR_LENGTH
    ),
}


EVENT_PARAMETERS: dict[str, Schema] = {
    "from": {"anyOf": [text("Accepted at or after this time.", format="date-time"), DAY]},
    "to": {"anyOf": [text("Accepted before this time.", format="date-time"), DAY]},
    "type": text("Of this event type.", minLength=1, maxLength=fields.MAX_ID_LENGTH),
    "entity": text(
        "About this entity, as in product:<uuid>, product:<identifier>, family:shoes, asset:<family>/<code>.",
        minLength=3,
        maxLength=MAX_ENTITY_LENGTH,
    ),
    "subscription_id": LOG_PARAMETERS["subscription_id"],
    "outcome": {"type": "string", "enum": [str(each) for each in CourseStatus]},
    "limit": LOG_PARAMETERS["limit"],
    "cursor": LOG_PARAMETERS["cursor"],
}


class _Schemas(GenerateJsonSchema):
    """Names schemas as clients know them, and leaves out titles, which would repeat the names."""

    def normalize_name(self, name: str) -> str:
        return name.removesuffix("Answer")

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _responses() -> dict[str, Schema]:
    """The schemas of the answers, and of their parts."""
    adapters: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (each.__name__, "serialization", TypeAdapter(each)) for each in answers.ANSWERS
    ]
    _, found = TypeAdapter.json_schemas(
        adapters, ref_template=ref("{model}")["$ref"], schema_generator=_Schemas
    )
    schemas: dict[str, Schema] = found["$defs"]
    for schema in schemas.values():
        schema.pop("title", None)
    schemas["Errors"]["examples"] = [examples.ERRORS]
    return schemas


# Events


_EVENT_ATTRIBUTES: dict[str, Schema] = {
    "specversion": _or_null({"const": "1.0"}),
    "id": text("Folds repetitions for 10 minutes.", minLength=1, maxLength=MAX_ID_LENGTH),
    "type": ref("EventType"),
    "time": _or_null(text("When it happened; now when absent.", format="date-time")),
    "pimurl": _or_null(text("The event's PIM, if anything.")),
    "data": ref("EventData"),
}


def _events(known: Catalog) -> dict[str, Schema]:
    return {
        "EventType": {
            "type": "string",
            "enum": list(known.types),
            "description": "The schema of a type's data is served at /spec/{type}.schema.json.",
        },
        "CloudEvent": {
            **an_object(
                "A CloudEvent 1.0. source, subject, datacontenttype and dataschema are the platform's to set;"
                " further attributes are ignored.",
                ("specversion", "time", "pimurl"),
                **_EVENT_ATTRIBUTES,
            ),
        },
        "EventData": {
            "type": "object",
            "description": f"Fits the schema of the event's type; at most {MAX_EVENT_BYTES // 1024} KiB.",
        },
        "CloudEvents": array_of("CloudEvent", maxItems=MAX_EVENTS),
        "EventsApiRequest": an_object(
            "What a PIM sends.",
            events={
                "type": "array",
                "maxItems": MAX_EVENTS,
                "description": "Of each event `action`, `event_id`, `event_datetime`, `author`,"
                " `author_type`, and `uuid`, `identifier` or `code` of `data.resource` are read."
                " Actions that are taken in: " + ", ".join(events_api.ACTIONS),
            },
        ),
    }
