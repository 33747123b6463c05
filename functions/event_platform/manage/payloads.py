"""Request bodies of the management API, and every problem of an invalid one (contract/wire.md 3, 4, 8)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from ..domain import fields, filters, tls_material
from ..domain.attempts.broker_messages import TYPE, TopicRules
from ..domain.errors import InvalidRequest, Problem
from ..domain.events import catalog, json_form
from ..domain.events.catalog import Catalog
from ..domain.subscriptions import REDACTED, HttpsConfig
from ..domain.urls import host_and_port_of_broker, normalise_endpoint_url, normalise_pim_url
from ..domain.validation_words import words_of
from ..first_use import FirstUse

MAX_PROBLEMS = 100
"""Problems of one body that are told; the others are counted."""
_UNKNOWN_EVENT_TYPE = "unknown_event_type"


@dataclass(frozen=True, slots=True)
class Rules:
    """What validity depends on besides the body. `pim_url` is normalised; `is_new`: nothing is stored yet.

    `known` has the event types that a subscription can get, `topics` says which topics of Pub/Sub may be
    named. `stored_type` is the destination's type that a config is for when the body names none.
    """

    pim_url: str
    allow_http: bool
    is_new: bool
    known: Catalog = field(default_factory=lambda: catalog.load())
    topics: TopicRules = field(default_factory=TopicRules)
    stored_type: str = HttpsConfig.type


def _endpoint_url(value: str, info: ValidationInfo[Rules]) -> str:
    return normalise_endpoint_url(value, allow_http=info.context.allow_http)


def _same_pim(value: str, info: ValidationInfo[Rules]) -> str:
    if normalise_pim_url(value, allow_http=info.context.allow_http) != info.context.pim_url:
        raise ValueError("must be the PIM that X-PIM-URL names")
    return value


def _name(value: str) -> str:
    if len(value) > fields.MAX_NAME_LENGTH or not value.strip():
        raise ValueError(f"must have 1 to {fields.MAX_NAME_LENGTH} characters, not only blanks")
    return value


def _email(value: str) -> str:
    from email_validator import EmailNotValidError, validate_email  # takes 20 ms: not at the start

    if len(value) > fields.MAX_EMAIL_LENGTH:  # which the validator looks at after its slow steps
        raise ValueError(f"must be an e-mail address: it has more than {fields.MAX_EMAIL_LENGTH} characters")
    try:  # internal domains are fine: whoever runs the platform runs its mail server too
        validate_email(value, check_deliverability=False, globally_deliverable=False)
        return value
    except EmailNotValidError:
        pass
    raise ValueError(f"must be an e-mail address{_fault_of_email(value)}")  # without a frame of theirs


def _fault_of_email(value: str) -> str:
    name, at, host = value.rpartition("@")
    if not at:
        return " such as name@example.com: it has no @"
    if not name or not host:
        return f" such as name@example.com: nothing is {'before' if not name else 'after'} the @"
    return ": it has characters, dots or lengths that no address has"


def _secret(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    if not _is_redacted(value, info.context) and not (
        fields.MIN_SECRET_LENGTH <= len(value) <= fields.MAX_SECRET_LENGTH
    ):
        raise ValueError(f"must have {fields.MIN_SECRET_LENGTH} to {fields.MAX_SECRET_LENGTH} characters")
    return value


def _is_redacted(value: SecretStr, rules: Rules) -> bool:
    """Raises ValueError where nothing is stored that it could stand for."""
    is_redacted = value.get_secret_value() == REDACTED
    if is_redacted and rules.is_new:
        raise ValueError("is the redaction mark, but nothing is stored yet; send the value")
    return is_redacted


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


def _fold(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _known_event(name: str, info: ValidationInfo[Rules]) -> str:
    if name not in info.context.known:
        raise PydanticCustomError(_UNKNOWN_EVENT_TYPE, "unknown event type", {"name": name[:128]})
    return name


def _filter(expression: str) -> str:
    if expression:
        filters.parse(expression)
    return expression


def _header_name(name: str) -> str:
    if not fields.fits(fields.HEADER_NAME, name):
        raise ValueError("the name must be 1 to 128 letters, digits and hyphens")
    if fields.REFUSED_HEADERS.refuses(name):
        raise ValueError("is set by the platform and cannot be a custom header")
    return name


def _record_header_name(name: str) -> str:
    if name.lower() == TYPE:
        raise ValueError("is set by the platform and cannot be a custom header")
    return name


def _attribute_name(name: str) -> str:
    if name.lower().startswith("goog"):
        raise ValueError("begins with goog, which Pub/Sub keeps for itself")
    return _record_header_name(name)


def _header_value(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    text = value.get_secret_value()
    if len(text) > fields.MAX_HEADER_VALUE_LENGTH or not fields.fits(fields.HEADER_VALUE, text):
        raise ValueError(
            f"the value must be at most {fields.MAX_HEADER_VALUE_LENGTH} printable ASCII characters"
        )
    _is_redacted(value, info.context)
    return value


def _few_headers(headers: Any) -> Any:
    """Before each of them is checked, and named when it is wrong."""
    if isinstance(headers, dict) and len(headers) > fields.MAX_CUSTOM_HEADERS:
        raise ValueError(f"must hold at most {fields.MAX_CUSTOM_HEADERS} headers")
    return headers


def _headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("must not name a header twice; names are compared without case")
    return headers


def _authorities(pem: str) -> str:
    tls_material.certificates_of(pem, max_characters=tls_material.MAX_CA_CHARACTERS)
    return pem


def _chain(pem: str) -> str:
    tls_material.certificates_of(pem, max_characters=tls_material.MAX_CHAIN_CHARACTERS)
    return pem


def _private_key(pem: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    if _is_redacted(pem, info.context):
        return pem
    tls_material.private_key_of(pem.get_secret_value())
    return SecretStr(tls_material.with_right_label(pem.get_secret_value()))


def _password(value: SecretStr, info: ValidationInfo[Rules]) -> SecretStr:
    _is_redacted(value, info.context)
    if not 1 <= len(value) <= fields.MAX_PASSWORD_LENGTH:
        raise ValueError(f"must have 1 to {fields.MAX_PASSWORD_LENGTH} characters")
    return value


def _broker(value: str) -> str:
    host_and_port_of_broker(value)
    return value


def _project(value: str, info: ValidationInfo[Rules]) -> str:
    info.context.topics.check(value)
    if not fields.fits(fields.PROJECT, value):
        raise ValueError("must be a project's id: 6 to 30 lower-case letters, digits and hyphens")
    return value


Email = Annotated[str, AfterValidator(_email)]
EndpointUrl = Annotated[str, AfterValidator(_endpoint_url)]
SigningSecret = Annotated[SecretStr, AfterValidator(_secret)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
Headers = Annotated[dict[HeaderName, HeaderValue], BeforeValidator(_few_headers), AfterValidator(_headers)]
Attributes = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_attribute_name)], HeaderValue],
    BeforeValidator(_few_headers),
    AfterValidator(_headers),
]
RecordHeaders = Annotated[
    dict[Annotated[HeaderName, AfterValidator(_record_header_name)], HeaderValue],
    BeforeValidator(_few_headers),
    AfterValidator(_headers),
]
Name = Annotated[str, AfterValidator(_name)]
Filter = Annotated[str, StringConstraints(max_length=filters.MAX_LENGTH), AfterValidator(_filter)]
EventTypes = Annotated[
    list[Annotated[str, AfterValidator(_known_event)]],
    Field(min_length=1, max_length=fields.MAX_EVENT_TYPES),
    AfterValidator(_fold),
]
Channels = Annotated[
    list[Literal["email", "webhook"]], Field(max_length=fields.MAX_CHANNELS), AfterValidator(_fold)
]
NonEmpty = Annotated[str, StringConstraints(min_length=1, max_length=fields.MAX_KAFKA_TEXT_LENGTH)]


MAPS = frozenset({"contact", "config", "secret", "headers", "sasl_auth", "tls", "options"})
"""The fields whose value is an object. Some clients write an empty one as `[]`."""


class Body(BaseModel):
    """Unknown keys are ignored (contract/wire.md 2); types are not coerced.

    Of something new, null and, for an object, `[]` are as an absent field. In a change null puts the default
    back, or is refused where something new needs the field, and `[]` for an object is `{}`.
    """

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, hide_input_in_errors=True, defer_build=True
    )
    needed: ClassVar[frozenset[str]] = frozenset()
    """The fields of a change that something new needs."""

    @field_validator("*", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any, info: ValidationInfo[Rules]) -> Any:
        name = str(info.field_name)
        if name in MAPS and value == []:
            value = None if info.context.is_new else {}
        if value is not None:
            return value
        default = cls.model_fields[name]
        if default.is_required() or name in cls.needed:
            raise ValueError("is required" if info.context.is_new else "is required, it cannot be null")
        return {} if name == "headers" else default.get_default()


class ContactBody(Body):
    """`contact` of a new subscriber."""

    technical_email: Email
    notification_channels: Channels | None = None
    notification_webhook_url: EndpointUrl | None = None
    notification_webhook_secret: SigningSecret | None = None


class SubscriberBody(Body):
    """A new subscriber."""

    name: Name
    contact: ContactBody


class ContactPatch(Body):
    """The part of `contact` that a PATCH names."""

    needed = frozenset({"technical_email"})
    technical_email: Email = ""
    notification_channels: Channels | None = None
    notification_webhook_url: EndpointUrl | None = None
    notification_webhook_secret: SigningSecret | None = None


class SubscriberPatch(Body):
    """A change of a subscriber."""

    needed = frozenset({"name", "contact"})
    name: Name = ""
    contact: ContactPatch = ContactPatch()


class SecretBody(Body):
    """The signing secrets; each may be the redaction mark where one is stored."""

    primary: SigningSecret
    secondary: Annotated[SigningSecret | None, BeforeValidator(_empty_is_none)] = None


class HttpsBody(Body):
    """`config` of an https destination; `headers` is None when the body does not name them."""

    url: EndpointUrl
    secret: SecretBody
    headers: Headers | None = None


class PubSubBody(Body):
    """`config` of a Pub/Sub destination."""

    project_id: Annotated[str, AfterValidator(_project)]
    topic_id: Annotated[str, StringConstraints(pattern=fields.TOPIC)]
    headers: Attributes | None = None


class SaslBody(Body):
    """`sasl_auth` of a Kafka destination."""

    mechanism: Literal["plain", "scram"]
    username: NonEmpty
    password: Annotated[SecretStr, AfterValidator(_password)]
    scram_variant: Literal["sha-256", "sha-512"] | None = None

    @model_validator(mode="after")
    def _scram_has_variant(self) -> "SaslBody":
        if self.mechanism == "scram" and self.scram_variant is None:
            raise ValueError("scram_variant is required for scram: sha-256 or sha-512")
        return self


class TlsBody(Body):
    """`tls` of a Kafka destination."""

    server_name: NonEmpty
    ca_pem: Annotated[str, AfterValidator(_authorities)]
    client_cert_pem: Annotated[str, AfterValidator(_chain)]
    client_key_pem: Annotated[SecretStr, AfterValidator(_private_key)]


class KafkaBody(Body):
    """`config` of a Kafka destination."""

    broker: Annotated[str, AfterValidator(_broker)]
    topic: Annotated[str, StringConstraints(pattern=fields.KAFKA_TOPIC)]
    sasl_auth: SaslBody
    tls: TlsBody | None = None
    headers: RecordHeaders | None = None


DestinationType = Literal["https", "pubsub", "kafka"]


class OptionsBody(Body):
    """`options`: stored and returned, without effect (contract/wire.md 4)."""

    send_product_identifier_in_changes: bool | None = None


class _SubscriptionFields(Body):
    subject: Annotated[str, AfterValidator(_same_pim)] | None = None
    filter: Filter | None = None
    options: OptionsBody | None = None


class SubscriptionBody(_SubscriptionFields):
    """A new subscription; `config` is checked by `destination`."""

    source: Literal["pim", "benchmark"] = "pim"
    events: EventTypes
    type: DestinationType
    config: Annotated[dict[str, Any], Field(repr=False)]
    send_product_identifier: bool = False


class SubscriptionPatch(_SubscriptionFields):
    """A change of a subscription."""

    needed = frozenset({"events", "type", "config"})
    source: Literal["pim", "benchmark"] = "pim"
    events: EventTypes = []
    type: DestinationType = "https"
    config: Annotated[dict[str, Any], Field(repr=False)] = {}
    send_product_identifier: bool = False


def _number_of(value: Any) -> Any:
    """A numeric string is a number too (contract/wire.md 14)."""
    if isinstance(value, str) and fields.fits(fields.NUMBER, value):
        return float(value)
    return value


def _short(value: Any) -> Any:
    if len(json_form.stringify(value)) > fields.MAX_CUSTOM_DATA:
        raise ValueError(f"must have at most {fields.MAX_CUSTOM_DATA // 1024} kB as JSON")
    return value


class BenchmarkBody(Body):
    """A benchmark (contract/wire.md 14); `size` is in kB of 1,024 bytes."""

    type: Literal["com.akeneo.benchmark.v1.test"]
    count: Annotated[int, Field(ge=1, le=fields.MAX_BENCHMARK_EVENTS)] = 1000
    size: Annotated[float, BeforeValidator(_number_of), Field(ge=0, le=fields.MAX_BENCHMARK_SIZE)] = 0
    custom_data: Annotated[Any, AfterValidator(_short)] = None


class TestBody(Body):
    """The example event to send; without a type, of the first one that the subscription lists."""

    __test__ = False  # no case for pytest

    type: str | None = None


ConfigBody: TypeAlias = HttpsBody | PubSubBody | KafkaBody
_CONFIGS: Mapping[str, type[ConfigBody]] = {"https": HttpsBody, "pubsub": PubSubBody, "kafka": KafkaBody}

Model = TypeVar("Model", bound=Body)
SubscriptionModel = TypeVar("SubscriptionModel", SubscriptionBody, SubscriptionPatch)


def _load() -> None:
    """Loads what the first bodies of a process need: libraries that take up to 60 ms each."""
    filters.load()
    _email("someone@bücher.example")
    catalog.load().nearest("")


FIRST_BODY = FirstUse(_load)


def validated(model: type[Model], body: Any, *, rules: Rules, under: str = "") -> Model:
    """The body as the model. Raises InvalidRequest with every problem; `under` is put before field names.

    Of more than MAX_PROBLEMS the rest is counted in a last one.
    """
    try:
        return model.model_validate(body, context=rules)
    except ValidationError as error:
        problems = _problems(error, under, rules)
    raise InvalidRequest(*problems)  # outside of `except`, so that it does not keep what was caught


def parse_subscriber(body: Any, *, rules: Rules) -> SubscriberBody:
    """A new subscriber. Raises InvalidRequest with every problem, a missing webhook's among them."""
    contact = body.get("contact") if isinstance(body, dict) else None
    contact = contact if isinstance(contact, dict) else {}
    problems = webhook_problems(
        contact.get("notification_channels"),
        contact.get("notification_webhook_url"),
        contact.get("notification_webhook_secret"),
    )
    try:
        subscriber = validated(SubscriberBody, body, rules=rules)
        if not problems:
            return subscriber
    except InvalidRequest as error:
        problems = [*error.problems, *problems]
    raise InvalidRequest(*problems)


def webhook_problems(channels: Any, url: object, secret: object) -> list[Problem]:
    """What is missing for notifications by webhook (contract/wire.md 3), where the channels list it."""
    if not isinstance(channels, list | tuple) or "webhook" not in channels:
        return []
    needed = {"contact.notification_webhook_url": url, "contact.notification_webhook_secret": secret}
    return [
        Problem(field, "is required while notification_channels lists 'webhook'")
        for field, value in needed.items()
        if value is None
    ]


def parse_subscription(body: Any, *, rules: Rules) -> tuple[SubscriptionBody, ConfigBody]:
    """A new subscription and its config. Raises InvalidRequest with the problems of both."""
    fields, config = _fields_and_config(SubscriptionBody, body, rules=rules)
    assert config is not None  # noqa: S101 - SubscriptionBody requires it
    return fields, config


def parse_subscription_patch(body: Any, *, rules: Rules) -> tuple[SubscriptionPatch, ConfigBody | None]:
    """A change of a subscription, and its config when the body names one. Raises InvalidRequest."""
    return _fields_and_config(SubscriptionPatch, body, rules=rules)


def type_named(body: Any, rules: Rules) -> Any:
    """The type of destination that the body's config is for; of any type itself, as nothing is checked."""
    return body.get("type", rules.stored_type) if isinstance(body, dict) else None


def _fields_and_config(
    model: type[SubscriptionModel], body: Any, *, rules: Rules
) -> tuple[SubscriptionModel, ConfigBody | None]:
    problems: list[Problem] = []
    fields: SubscriptionModel | None = None
    config: ConfigBody | None = None
    named = body if isinstance(body, dict) else {}
    kind = str(type_named(body, rules))
    config_model = _CONFIGS.get(kind)
    sent = named.get("config")
    try:
        fields = validated(model, body, rules=rules)
    except InvalidRequest as error:
        problems += error.problems
    if config_model is not None and (isinstance(sent, dict) or (sent == [] and not rules.is_new)):
        try:
            config = validated(config_model, sent or {}, rules=rules, under="config.")
        except InvalidRequest as error:
            problems += error.problems
    if fields is None or problems:
        raise InvalidRequest(*problems)
    if config is None and kind != rules.stored_type:
        raise InvalidRequest(Problem("config", f"is required when type becomes {kind!r}"))
    if isinstance(config, PubSubBody) and rules.topics.missing is not None:
        raise InvalidRequest(Problem("type", rules.topics.missing))
    return fields, config


def _problems(error: ValidationError, under: str, rules: Rules) -> list[Problem]:
    """Returns what to tell; in a function of its own, as pydantic's details hold the validators' errors.

    Such an error leads by its traceback to the frame that has it, so the two would keep each other and,
    with the frames that called, the body.
    """
    found = error.errors(include_url=False, include_input=False)
    problems = [_problem(entry, under, rules) for entry in found[:MAX_PROBLEMS]]
    if len(found) > MAX_PROBLEMS:
        problems.append(Problem("", f"and {len(found) - MAX_PROBLEMS} more problems"))
    return problems


def _problem(error: ErrorDetails, under: str, rules: Rules) -> Problem:
    field = under + ".".join(str(part)[:128] for part in error["loc"] if part != "[key]")
    if error["type"] == _UNKNOWN_EVENT_TYPE:
        name = error.get("ctx", {})["name"]
        message = f"unknown event type {name!r}; did you mean {rules.known.nearest(name)!r}?"
    else:
        message = words_of(error)
    if not field:
        return Problem("", f"the body {message}")
    return Problem(field, message)
