"""Event types that the operator adds to the catalog: a JSON list of entries, checked when it is read."""

from typing import Annotated, Any, cast

import jsonschema_rs
import orjson
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from ..validation_words import json_words, place_words, schema_words, words_of
from . import catalog
from .catalog import Catalog, EventType

MAX_TYPES = 500
"""Own types at most: each is in the descriptions that clients load."""


class _Entry(BaseModel):
    """The form of `event-catalog.json`, and of `aep events TYPE --json`; further keys are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$")]
    trigger: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    identity: list[Annotated[str, StringConstraints(pattern=r"^[^.]+(\.[^.]+)*$")]]
    data: Annotated[dict[str, Any], Field(validation_alias=AliasChoices("schema", "data"))]
    example: dict[str, Any]
    certainty: str = "defined by the operator"


def extended(shipped: Catalog, text: str | bytes) -> Catalog:
    """The shipped catalog with the types of a JSON list. Raises ValueError naming entry, field and fix."""
    try:
        entries = TypeAdapter(list[_Entry]).validate_python(_list_of(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{place_words(first['loc'])}: {words_of(first)}") from None
    types = dict(shipped.types)
    for index, entry in enumerate(entries):
        at = f"{place_words([index])}, {entry.type}"
        if entry.type in shipped.types:
            raise ValueError(f"{at}: the catalog has this type already and keeps it; take the entry out")
        if entry.type in types:
            raise ValueError(f"{at}: the list has this type twice; take one of them out")
        types[entry.type] = _checked(entry, at)
    return Catalog(types)


def _list_of(text: str | bytes) -> list[Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is {json_words(error)}") from None
    if not isinstance(found, list):
        raise ValueError("must be a JSON array of entries with type, trigger, identity, schema and example")
    entries = cast("list[Any]", found)
    if len(entries) > MAX_TYPES:
        raise ValueError(f"has {len(entries)} entries; at most {MAX_TYPES} are taken")
    return entries


def _checked(entry: _Entry, at: str) -> EventType:
    try:
        jsonschema_rs.Draft202012Validator(entry.data, validate_formats=True, offline=True)
    except ValueError as error:
        raise ValueError(f"{at}: schema {_fault_of_schema(error)}") from None
    event_type = catalog.of([entry.model_dump()])[entry.type]
    for path, message in event_type.problems_of(entry.example):
        raise ValueError(f"{at}: example does not fit the schema{' at ' if path else ''}{path}: {message}")
    if entry.identity and not event_type.identity_of(entry.example):
        raise ValueError(f"{at}: identity must hold paths that lead to texts in the example, or be []")
    return event_type


def _fault_of_schema(error: ValueError) -> str:
    if isinstance(error, jsonschema_rs.ValidationError):
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Referencing):
            return 'must stand alone: a "$ref" in it leads out of it, or to nothing in it'
        where = ".".join(map(str, error.instance_path))
        return f"must be a JSON Schema (2020-12): {where}{' ' if where else ''}{schema_words(error)}"
    return "must be a JSON Schema (2020-12)"
