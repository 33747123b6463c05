"""The known event types: those of `event-catalog.json` (contract/wire.md 9) and the operator's own."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from itertools import islice
from typing import Any, Protocol, cast

import orjson

from ..validation_words import schema_words
from . import json_form

Data = dict[str, Any]

MAX_PROBLEMS = 100
"""Problems of one event's data that are listed."""
UUID_LENGTH = 36
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
BENCHMARK = "com.akeneo.benchmark.v1.test"
"""The type of the test events that the platform itself makes (contract/wire.md 14)."""
AKENEO = "com.akeneo.pim.v1."
"""The prefix of Akeneo's event types, which commands leave out where they show types."""


class Validator(Protocol):
    """The part of a jsonschema-rs validator that is used here."""

    def is_valid(self, instance: Any) -> bool: ...
    def validate(self, instance: Any) -> None: ...
    def iter_errors(self, instance: Any) -> Iterable[Any]: ...


@dataclass(frozen=True)
class EventType:
    """One type of the catalog. `identity` holds the paths in `data` that name the entity, if any do."""

    name: str
    trigger: str
    identity: tuple[tuple[str, ...], ...]
    schema: Data = field(repr=False)
    example: Data = field(repr=False)
    certainty: str

    @cached_property
    def _validator(self) -> Validator:
        import jsonschema_rs  # only the functions that validate pay for the import

        return jsonschema_rs.Draft202012Validator(self.schema, validate_formats=True, offline=True)

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the validator, which is made again when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_validator"}

    def problems_of(self, data: Any, *, first_only: bool = False) -> list[tuple[str, str]]:
        """Returns what keeps `data` from fitting the schema; empty when it fits.

        Each problem is (dotted path in data, message). There are at most MAX_PROBLEMS. The first one takes
        microseconds, all of them as long as there are many.
        """
        try:
            return self._problems_of(data, first_only=first_only)
        except UnicodeEncodeError:
            # Half of a surrogate pair; what replaces it is as long and as little a format.
            return self._problems_of(json_form.replace_lone_surrogates(data), first_only=first_only)

    def _problems_of(self, data: Any, *, first_only: bool) -> list[tuple[str, str]]:
        if self._validator.is_valid(data):
            return []
        all_errors = self._validator.iter_errors
        errors = [self._first_error(data)] if first_only else islice(all_errors(data), MAX_PROBLEMS)
        return [(".".join(map(str, error.instance_path)), schema_words(error)) for error in errors]

    def _first_error(self, data: Any) -> Any:
        import jsonschema_rs

        try:
            self._validator.validate(data)
        except jsonschema_rs.ValidationError as error:
            return error
        raise AssertionError("validate and is_valid agree")

    def schema_at(self, url: str) -> Data:
        """The schema as it is served at `url`, which is its `$id`."""
        return {**self.schema, "$id": url}

    def identity_of(self, data: Data) -> tuple[str, ...]:
        """The values that name the entity in `data`, or () when the type names none or one is missing.

        UUIDs are in lower case here, as an upper-case one names the same entity (RFC 9562, 4).
        """
        values = [_look_up(data, path) for path in self.identity]
        if not all(isinstance(value, str) for value in values):
            return ()
        return tuple(lower_uuid(value) for value in cast("list[str]", values))


@dataclass(frozen=True)
class Catalog:
    """The known event types, by name."""

    types: Mapping[str, EventType]

    def __contains__(self, name: object) -> bool:
        return name in self.types

    def __getitem__(self, name: str) -> EventType:
        return self.types[name]

    def in_full(self, name: str) -> str:
        """Returns the name with Akeneo's prefix if that makes it a known one: `product.updated`."""
        return AKENEO + name if AKENEO + name in self.types else name

    def nearest(self, name: str) -> str:
        """The known name that is most like an unknown one, for the message that refuses it."""
        from rapidfuzz import fuzz, process  # takes 10 ms and more, and only refusals need it

        return process.extractOne(name, list(self.types), scorer=fuzz.ratio)[0]


@cache
def load() -> Catalog:
    """The catalog that is shipped with the platform; read once per process.

    What runs takes its catalog from the settings, which add the operator's types to this one.
    """
    text = resources.files("event_platform.domain.events").joinpath("event-catalog.json").read_bytes()
    return of(orjson.loads(text))


def schema_url(schema_base: str, name: str) -> str:
    """Returns the URL of a type's schema (contract/wire.md 9); `schema_base` is the one of all schemas."""
    return f"{schema_base}/{name}.schema.json"


def of(entries: Iterable[Data]) -> Catalog:
    """A catalog of entries in the form of `event-catalog.json`."""
    types = (
        EventType(
            name=entry["type"],
            trigger=entry["trigger"],
            identity=tuple(tuple(path.split(".")) for path in entry["identity"]),
            schema=entry["data"],
            example=entry["example"],
            certainty=entry["certainty"],
        )
        for entry in entries
    )
    return Catalog({event_type.name: event_type for event_type in types})


def _look_up(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if not isinstance(data, dict):
            return None
        data = cast("Data", data).get(key)
    return data


def lower_uuid(value: str) -> str:
    """Returns a UUID in lower case, and any other text as it is."""
    lower = value.lower() if len(value) == UUID_LENGTH else value
    return lower if lower != value and _UUID.fullmatch(value) is not None else value
