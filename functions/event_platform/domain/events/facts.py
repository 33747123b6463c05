"""The parts of an event's data that fan-out looks at, so that nothing behind ingest needs the parsed data."""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

from . import json_form

Values = frozenset[str | None]
Span = tuple[int, int]

IDENTIFIER_TYPES = frozenset(
    f"com.akeneo.pim.v1.product.{action}"
    for action in ("created", "updated", "updated.delta", "deleted", "became-complete", "became-incomplete")
)
"""The types whose `data.product.identifier` is delivered only on request (contract/wire.md 4)."""

_ENTITIES = {"com.akeneo.pim.v1.product.": "product", "com.akeneo.pim.v1.product-model.": "product_model"}
_DELTAS = frozenset(f"{prefix}updated.delta" for prefix in _ENTITIES)
_TEXTS = {
    "author": ("identifier", "type"),
    "product": ("uuid", "identifier"),
    "connection": ("client_id",),
    "app": ("client_id",),
}
"""The texts in parts of the data that are looked at, for filters or other decisions."""
_SPAN = "identifier_span"


class Facts:
    """The values that an event has in each field of a filter, and a few other parts of its data.

    All is read when first needed, and kept. `scope` and `locale` hold None when a changed value has none.
    What the operator's own types have in these places may be anything: what is no string there is no value.
    """

    def __init__(self, event_type: str, source: dict[str, Any] | bytes) -> None:
        """`source` is the event's data, or what `to_json` returned for them."""
        self._type = event_type
        self._source = source

    @cached_property
    def user(self) -> Values:
        return frozenset(_strings([self.part("author").get("identifier")]))

    @cached_property
    def user_type(self) -> Values:
        return frozenset(_strings([self.part("author").get("type")]))

    @cached_property
    def attribute(self) -> Values:
        return frozenset(self._changed)

    @cached_property
    def scope(self) -> Values:
        return frozenset(_string_or_none(value, "scope") for value in self._changed_values())

    @cached_property
    def locale(self) -> Values:
        return frozenset(_string_or_none(value, "locale") for value in self._changed_values())

    @cached_property
    def ready_on_scopes(self) -> Values:
        return frozenset(_strings(self._entity.get("ready_on_scopes")))

    def part(self, name: str) -> dict[str, Any]:
        """The object of that name in the data, as far as fan-out looks at it; empty when it is none."""
        return _object(self._data.get(name))

    @property
    def has_identifier(self) -> bool:
        """True if the event carries a product identifier that some subscriptions must not get."""
        source = self._source
        if isinstance(source, bytes):
            return _SPAN in self._data
        return self._type in IDENTIFIER_TYPES and "identifier" in _object(source.get("product"))

    def identifier_span(self, data_json: bytes) -> Span | None:
        """Returns where `data_json` has the identifier that is optional, with the comma that goes with it."""
        if isinstance(self._source, bytes):
            span = self._data.get(_SPAN)
            return None if span is None else (span[0], span[1])
        if not self.has_identifier:
            return None
        return _span_of_member(self._source, data_json)

    def to_json(self, data_json: bytes) -> bytes:
        """The facts alone, for another process or a later time; `data_json` are the event's bytes."""
        if isinstance(self._source, bytes):
            return self._source
        kept: dict[str, Any] = {name: self._texts_of(name) for name in _TEXTS}
        for prefix, name in _ENTITIES.items():
            if self._type.startswith(prefix):
                kept[name] = {**kept.get(name, {}), "ready_on_scopes": list(self.ready_on_scopes)}
                if self._type in _DELTAS:
                    kept[name]["changes"] = {"values": self._changed_places()}
        if (span := self.identifier_span(data_json)) is not None:
            kept[_SPAN] = span
        # Not orjson, which takes no lone surrogates; escaped, they are read back as they were.
        return json.dumps({name: value for name, value in kept.items() if value}).encode()

    @cached_property
    def _data(self) -> dict[str, Any]:
        return json.loads(self._source) if isinstance(self._source, bytes) else self._source

    @property
    def _entity(self) -> dict[str, Any]:
        """The product or product model; empty for all else."""
        for prefix, name in _ENTITIES.items():
            if self._type.startswith(prefix):
                return self.part(name)
        return {}

    @property
    def _changed(self) -> dict[str, Any]:
        """`changes.values`, which two types have: the changed values by attribute."""
        if self._type not in _DELTAS:
            return {}
        return _object(_object(self._entity.get("changes")).get("values"))

    def _changed_values(self) -> Iterator[Any]:
        for values in self._changed.values():
            yield from _array(values)

    def _texts_of(self, name: str) -> dict[str, str]:
        part = self.part(name)
        return {key: text for key in _TEXTS[name] if isinstance(text := part.get(key), str)}

    def _changed_places(self) -> dict[str, list[dict[str, str | None]]]:
        """The attributes, and each pair of scope and locale at the first of them that has it."""
        seen: set[tuple[str | None, str | None]] = set()
        kept: dict[str, list[dict[str, str | None]]] = {}
        for attribute, values in self._changed.items():
            places = {
                (_string_or_none(each, "scope"), _string_or_none(each, "locale")) for each in _array(values)
            }
            kept[attribute] = [{"scope": scope, "locale": locale} for scope, locale in places - seen]
            seen |= places
        return kept


def span_of_identifier(identifier: str, data_json: bytes) -> Span | None:
    """Returns where `data_json`, in JavaScript's form, has this `product.identifier`, with its comma.

    None if a look at the bytes does not tell.
    """
    # A quote inside a string is escaped, so these bytes are a member wherever they stand.
    member = b'"identifier":%b' % json_form.stringify(identifier)
    if data_json.count(member) != 1:
        return None
    start = data_json.index(member)
    end = start + len(member)
    if data_json[start - 1 : start] == b",":
        return start - 1, end
    return start, end + (data_json[end : end + 1] == b",")


def _span_of_member(data: dict[str, Any], data_json: bytes) -> Span:
    """The bytes to leave out for `data` without `product.identifier` in JavaScript's form."""
    product = data["product"]
    if isinstance(identifier := product["identifier"], str):
        span = span_of_identifier(identifier, data_json)
        if span is not None:
            return span
    rest = {key: value for key, value in product.items() if key != "identifier"}
    shorter = json_form.stringify({**data, "product": rest}, plain=json_form.is_plain(data_json))
    start = _common_prefix(data_json, shorter)
    return start, start + len(data_json) - len(shorter)


def _common_prefix(one: bytes, other: bytes) -> int:
    """Returns how many bytes both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _array(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _strings(values: Any) -> Iterator[str]:
    return (value for value in _array(values) if isinstance(value, str))


def _string_or_none(value: Any, key: str) -> str | None:
    found = _object(value).get(key)
    return found if isinstance(found, str) else None
