"""Bodies of requests on subscriptions (contract/wire.md 4)."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from ...domain import fields, filters
from ...domain.errors import InvalidRequest, Problem
from ...domain.urls import normalise_pim_url
from .body import UNKNOWN_EVENT_TYPE, Body, Rules, fold, validated
from .configs import CONFIGS, ConfigBody, PubSubBody


def _same_pim(value: str, info: ValidationInfo[Rules]) -> str:
    if normalise_pim_url(value, allow_http=info.context.allow_http) != info.context.pim_url:
        raise ValueError("must be the PIM that X-PIM-URL names")
    return value


def _known_event(name: str, info: ValidationInfo[Rules]) -> str:
    if name not in info.context.known:
        raise PydanticCustomError(UNKNOWN_EVENT_TYPE, "unknown event type", {"name": name[:128]})
    return name


def _filter(expression: str) -> str:
    if expression:
        filters.parse(expression)
    return expression


Filter = Annotated[str, StringConstraints(max_length=filters.MAX_LENGTH), AfterValidator(_filter)]

KnownEvent = Annotated[str, AfterValidator(_known_event)]

EventTypes = Annotated[
    list[KnownEvent],
    Field(min_length=1, max_length=fields.MAX_EVENT_TYPES),
    AfterValidator(fold),
]

DestinationType = Literal["https", "pubsub", "kafka"]


class OptionsBody(Body):
    """`options`: stored and returned, without effect (contract/wire.md 4)."""

    send_product_identifier_in_changes: bool | None = None


class _SubscriptionFields(Body):
    subject: Annotated[str, AfterValidator(_same_pim)] | None = None
    filter: Filter | None = None
    options: OptionsBody | None = None
    catch_up: bool | None = None


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
    events: EventTypes = []  # noqa: RUF012 - pydantic copies it
    type: DestinationType = "https"
    config: Annotated[dict[str, Any], Field(repr=False)] = {}  # noqa: RUF012 - so too
    send_product_identifier: bool = False


SubscriptionModel = TypeVar("SubscriptionModel", SubscriptionBody, SubscriptionPatch)


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
    config_model = CONFIGS.get(kind)
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
