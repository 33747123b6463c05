"""The parameter `search` of a list: which filters the API knows, and what they find."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, cast

import orjson

from .catalogue import Entity
from .errors import PimError
from .kinds import PRODUCT, Clock, Kind

Predicate = Callable[[Entity], bool]

_SERVER_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse(kind: Kind, text: str, *, zone: tzinfo, models: Mapping[str, Entity], now: datetime) -> Predicate:
    """Returns what finds the entities; `models` are the product models by their codes.

    Raises PimError, as a PIM does: 400 for no JSON, 422 for a filter that it does not know.
    """
    try:
        search = orjson.loads(text)
    except orjson.JSONDecodeError:
        search = None
    if not isinstance(search, dict):
        raise PimError(400, "Search query parameter should be valid JSON.")
    found: list[Predicate] = []
    for name, criteria in cast("dict[str, Any]", search).items():
        if not isinstance(criteria, list) or not criteria:
            expected = f'{{"{name}":[{{"operator": "my_operator", "value": "my_value"}}]}}'
            raise PimError(422, f'Structure of filter "{name}" should respect this structure: {expected}')
        for criterion in cast("list[Any]", criteria):
            if not isinstance(criterion, dict) or "operator" not in criterion:
                raise PimError(422, f'Operator is missing for the property "{name}".')
            one = _Filter(kind, name, zone, models, now)
            found.append(one.predicate(cast("Mapping[str, Any]", criterion)))
    return lambda entity: all(matches(entity) for matches in found)


class _Filter:
    """A filter on one property."""

    def __init__(
        self, kind: Kind, name: str, zone: tzinfo, models: Mapping[str, Entity], now: datetime
    ) -> None:
        self._kind = kind
        self._name = name
        self._zone = zone
        self._models = models
        self._now = now

    def predicate(self, criterion: Mapping[str, Any]) -> Predicate:
        operator, value = criterion["operator"], criterion.get("value")
        match self._name, operator:
            case ("updated", ">"):
                return self._newer(self._date(value))
            case ("created", ">") if self._kind.clock is Clock.SERVER:
                least = self._date(value)
                return lambda entity: entity.created > least
            case ("code", "IN") if self._kind.key == "code":
                return self._among(value, lambda entity: entity.key)
            case ("uuid", "IN") if self._kind is PRODUCT:
                return self._among(value, lambda entity: entity.key)
            case ("identifier", "IN") if self._kind is PRODUCT:
                return self._among(value, lambda entity: entity.identifier)
            case ("parent", "=") if self._kind.clock is Clock.SERVER:
                return lambda entity: entity.model == value
            case _:
                raise PimError(
                    422,
                    f'Filter on property "{self._name}" is not supported or does not support operator '
                    f'"{operator}"',
                )

    def _newer(self, least: datetime) -> Predicate:
        """Finds what changed after the date, and variants of product models that did, whatever their own."""
        now, models = self._now, self._models

        def is_newer(entity: Entity | None) -> bool:
            updated = None if entity is None else entity.updated_in_index(now)
            return updated is not None and updated > least

        if self._kind is not PRODUCT:
            return is_newer
        return lambda entity: (
            is_newer(entity) or (entity.model is not None and is_newer(models.get(entity.model)))
        )

    def _among(self, value: object, key: Callable[[Entity], str | None]) -> Predicate:
        if not isinstance(value, list):
            raise PimError(422, f'Property "{self._name}" expects an array as data.')
        wanted = frozenset(str(each) for each in cast("Sequence[object]", value))
        return lambda entity: key(entity) in wanted

    def _date(self, value: object) -> datetime:
        is_server = self._kind.clock is Clock.SERVER
        pattern = _SERVER_DATE if is_server else _ISO_DATE
        expected = "yyyy-mm-dd H:i:s" if is_server else "yyyy-mm-ddTH:i:sZ"
        try:
            if not isinstance(value, str) or pattern.fullmatch(value) is None:
                raise ValueError
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise PimError(
                422,
                f'Property "{self._name}" expects a string with the format "{expected}" as data, '
                f'"{value}" given.',
            ) from None
        # In the hour that exists twice PHP means the first, as `fold` 0 does.
        return (moment.replace(tzinfo=self._zone) if is_server else moment).astimezone(UTC)


def everything(_: Entity) -> bool:
    """Finds all, for a list without `search`."""
    return True


def found(entities: Iterable[Entity], matches: Predicate, now: datetime) -> Iterable[Entity]:
    """Yields the entities that match and that the index of the PIM has already."""
    return (each for each in entities if each.updated_in_index(now) is not None and matches(each))
