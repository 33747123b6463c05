"""Bodies of requests: what all of them have in common, and every problem of an invalid one."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from ...domain.attempts.broker_messages import TopicRules
from ...domain.errors import InvalidRequest, Problem
from ...domain.events import catalog
from ...domain.events.catalog import Catalog
from ...domain.subscriptions import REDACTED, HttpsConfig
from ...domain.validation_words import words_of

MAX_PROBLEMS = 100
"""Problems of one body that are listed; the others are counted."""
UNKNOWN_EVENT_TYPE = "unknown_event_type"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of validity besides the body. `pim_url` is normalised; `is_new`: nothing is stored yet.

    `known` has the event types that a subscription can get, `topics` says which topics of Pub/Sub may be
    named. `stored_type` is the destination's type that a config is for when the body names none.
    """

    pim_url: str
    allow_http: bool
    is_new: bool
    known: Catalog = field(default_factory=lambda: catalog.load())
    topics: TopicRules = field(default_factory=TopicRules)
    stored_type: str = HttpsConfig.type


def is_redacted(value: SecretStr, rules: Rules) -> bool:
    """True if the value stands for the stored one. Raises ValueError where nothing is stored."""
    is_mark = value.get_secret_value() == REDACTED
    if is_mark and rules.is_new:
        raise ValueError("is the redaction mark, but nothing is stored yet; send the value")
    return is_mark


def fold(values: list[str]) -> list[str]:
    """Returns the values without repetitions."""
    return list(dict.fromkeys(values))


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


Model = TypeVar("Model", bound=Body)


def validated(model: type[Model], body: Any, *, rules: Rules, under: str = "") -> Model:
    """The body as the model. Raises InvalidRequest with every problem; `under` is put before field names.

    Of more than MAX_PROBLEMS the rest is counted in a last one.
    """
    try:
        return model.model_validate(body, context=rules)
    except ValidationError as error:
        problems = _problems(error, under, rules)
    raise InvalidRequest(*problems)  # outside of `except`, so that it does not keep what was caught


def _problems(error: ValidationError, under: str, rules: Rules) -> list[Problem]:
    """Returns the problems; in a function of its own, as pydantic's details hold the validators' errors.

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
    if error["type"] == UNKNOWN_EVENT_TYPE:
        name = error.get("ctx", {})["name"]
        message = f"unknown event type {name!r}; did you mean {rules.known.nearest(name)!r}?"
    else:
        message = words_of(error)
    if not field:
        return Problem("", f"the body {message}")
    return Problem(field, message)
