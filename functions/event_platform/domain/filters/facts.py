"""What of an event filters look at."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast

from ..events import Event

Values = frozenset[str | None]

_ENTITIES = {"com.akeneo.pim.v1.product.": "product", "com.akeneo.pim.v1.product-model.": "product_model"}
_DELTAS = frozenset(f"{prefix}updated.delta" for prefix in _ENTITIES)


class Facts:
    """For each field of a filter, the values that the event has there; read when first needed, and kept.

    `scope` and `locale` hold None when a changed value has none. What the operator's own types have in these
    places may be anything: what is no string there is no value.
    """

    def __init__(self, event: Event) -> None:
        self._event = event

    @cached_property
    def user(self) -> Values:
        return frozenset(_strings([self._author.get("identifier")]))

    @cached_property
    def user_type(self) -> Values:
        return frozenset(_strings([self._author.get("type")]))

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

    @property
    def _author(self) -> dict[str, Any]:
        return _object(self._event.data.get("author"))

    @property
    def _entity(self) -> dict[str, Any]:
        """The product or product model; empty for all else."""
        for prefix, name in _ENTITIES.items():
            if self._event.type.startswith(prefix):
                return _object(self._event.data.get(name))
        return {}

    @property
    def _changed(self) -> dict[str, Any]:
        """`changes.values`, which two types have: the changed values by attribute."""
        if self._event.type not in _DELTAS:
            return {}
        return _object(_object(self._entity.get("changes")).get("values"))

    def _changed_values(self) -> Iterator[Any]:
        for values in self._changed.values():
            yield from _array(values)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _array(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _strings(values: Any) -> Iterator[str]:
    return (value for value in _array(values) if isinstance(value, str))


def _string_or_none(value: Any, key: str) -> str | None:
    found = _object(value).get(key)
    return found if isinstance(found, str) else None
