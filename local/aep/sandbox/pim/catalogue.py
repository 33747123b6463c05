"""The entities of the simulated PIM, in memory: what events change, and what its API lists."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from event_platform.domain.events import catalog

from ..events import data_of
from .kinds import (
    ASSOCIATION_TYPE,
    ATTRIBUTE,
    BY_NAME,
    CATEGORY,
    CHANNEL,
    CURRENCY,
    FAMILY,
    FAMILY_VARIANT,
    LOCALE,
    PRODUCT,
    PRODUCT_MODEL,
    Kind,
)

MOST_ENTITIES = 200_000
"""The most entities that the catalogue holds."""
SEEDED = 20
"""The number of entities of each kind at the start, if no other is given."""
_AGE = timedelta(days=30)
_CHANGES = ("created", "updated", "updated.delta", "deleted")
_ALWAYS: Mapping[Kind, tuple[str, ...]] = {
    FAMILY: ("lamps",),
    ATTRIBUTE: ("sku", "name", "weight"),
    CATEGORY: ("master", "lighting_indoor"),
    CHANNEL: ("ecommerce", "print"),
    LOCALE: ("en_US", "fr_FR"),
    CURRENCY: ("EUR", "USD"),
    ASSOCIATION_TYPE: ("PACK", "UPSELL"),
}

Path = tuple[str, ...]


class CatalogueIsFull(Exception):
    """Raised when an entity more would exceed what the catalogue holds."""


@dataclass(slots=True)
class Entity:
    """An entity of the PIM. `path` ends with its own key, after those of its parents.

    `number` and `revision` decide its contents. A change is found by a search from `found_from` on, as the
    index of a PIM follows later; until then the search goes by `updated_before`, which is None for a new one.
    """

    kind: Kind
    path: Path
    number: int
    created: datetime
    updated: datetime
    identifier: str | None = None
    model: str | None = None  # the product model of a variant
    revision: int = 1
    updated_before: datetime | None = None
    found_from: datetime | None = None

    @property
    def key(self) -> str:
        return self.path[-1]

    def updated_in_index(self, now: datetime) -> datetime | None:
        """Returns the date that a search sees, or None if it does not see the entity yet."""
        is_late = self.found_from is not None and now < self.found_from
        return self.updated_before if is_late else self.updated


@dataclass(slots=True)
class _List:
    """The entities of a kind below the same parents, and their keys in order when they were last read."""

    entities: dict[str, Entity] = field(default_factory=dict[str, Entity])
    keys: list[str] = field(default_factory=list[str])
    is_sorted: bool = True


class Catalogue:
    """All entities. `now` gives an aware datetime; a change has it as its date, in whole seconds."""

    def __init__(self, now: Callable[[], datetime], *, products: int = SEEDED) -> None:
        self.now = now
        self._lists: dict[tuple[Kind, Path], _List] = {}
        self._count = 0
        self._seed(products)

    def __len__(self) -> int:
        return self._count

    def put(
        self,
        kind: Kind,
        *path: str,
        identifier: str | None = None,
        found_after: timedelta = timedelta(0),
    ) -> Entity:
        """Creates the entity, or changes it. Searches find that only `found_after` later."""
        now = self._second()
        entity = self.get(kind, *path)
        if entity is None:
            entity = self._add(Entity(kind, path, self._count, now, now, identifier))
        else:
            entity.updated_before = entity.updated_in_index(self.now())
            entity.updated = now
            entity.revision += 1
        entity.found_from = self.now() + found_after if found_after else None
        return entity

    def remove(self, kind: Kind, *path: str) -> bool:
        """Removes the entity; False if it is not there."""
        listed = self._lists.get((kind, path[:-1]))
        if listed is None or listed.entities.pop(path[-1], None) is None:
            return False
        listed.keys.remove(path[-1])
        self._count -= 1
        return True

    def apply(self, event_type: str, data: Mapping[str, Any]) -> Entity | None:
        """Makes the change that an event is about, and returns the entity as it is after it.

        An update of an entity that is not there makes one that had been there before. None if the entity is
        gone, or the type changes nothing here.
        """
        name, _, action = event_type.removeprefix(catalog.AKENEO).partition(".")
        kind = BY_NAME.get(name)
        if kind is None or action not in _CHANGES:
            return None
        path = _path_of(kind, data)
        if action == "deleted":
            self.remove(kind, *path)
            return None
        if action == "created":
            self.remove(kind, *path)
        elif self.get(kind, *path) is None:
            self._add_old(kind, path)
        if kind.parent is not None and self.get(kind.parent, *path[:-1]) is None:
            self._add_old(kind.parent, path[:-1])
        noun = data[kind.noun]
        return self.put(kind, *path, identifier=noun.get("identifier"))

    def get(self, kind: Kind, *path: str) -> Entity | None:
        listed = self._lists.get((kind, path[:-1]))
        return None if listed is None else listed.entities.get(path[-1])

    def by_identifier(self, identifier: str) -> Entity | None:
        """Returns the product with the identifier."""
        products = self._lists[PRODUCT, ()].entities.values()
        return next((each for each in products if identifier == each.identifier), None)

    def after(self, kind: Kind, parents: Path, key: str | None) -> Iterator[Entity]:
        """Yields the entities of a list whose keys are greater, in their order; all for None."""
        keys = self._keys(kind, parents)
        entities = self._lists[kind, parents].entities if keys else {}
        start = 0 if key is None else bisect_right(keys, key)
        return (entities[keys[at]] for at in range(start, len(keys)))

    def _keys(self, kind: Kind, parents: Path) -> Sequence[str]:
        listed = self._lists.get((kind, parents))
        if listed is None:
            return ()
        if not listed.is_sorted:
            listed.keys.sort()
            listed.is_sorted = True
        return listed.keys

    def _second(self) -> datetime:
        return self.now().replace(microsecond=0)

    def _add(self, entity: Entity) -> Entity:
        if self._count >= MOST_ENTITIES:
            raise CatalogueIsFull(f"the catalogue is full: it holds {MOST_ENTITIES} entities")
        listed = self._lists.setdefault((entity.kind, entity.path[:-1]), _List())
        listed.entities[entity.key] = entity
        listed.is_sorted = False
        listed.keys.append(entity.key)
        self._count += 1
        return entity

    def _add_old(self, kind: Kind, path: Path, identifier: str | None = None) -> None:
        created = self._second() - _AGE
        self._add(Entity(kind, path, self._count, created, created, identifier))

    def _seed(self, products: int) -> None:
        for kind, codes in _ALWAYS.items():
            for code in codes:
                self._add_old(kind, (code,))
        self._add_old(FAMILY_VARIANT, ("lamps", "lamps_by_colour"))
        types = catalog.load().types
        for kind in BY_NAME.values():
            known = types.get(f"{catalog.AKENEO}{kind.name}.created")
            if known is None:
                continue
            for number in range(products if kind is PRODUCT else min(products, SEEDED)):
                data = data_of(known, number)
                path = _path_of(kind, data)
                if kind.parent is not None and self.get(kind.parent, *path[:-1]) is None:
                    self._add_old(kind.parent, path[:-1])
                self._add_old(kind, path, data[kind.noun].get("identifier"))
        models = [entity.key for entity in self.after(PRODUCT_MODEL, (), None)]
        for number, product in enumerate(self.after(PRODUCT, (), None)):
            if models and number % 2:  # each second product is a variant
                product.model = models[number % len(models)]


def _path_of(kind: Kind, data: Mapping[str, Any]) -> Path:
    entity = data[kind.noun]
    if kind.parent is None:
        return (entity[kind.key],)
    if kind is FAMILY_VARIANT:  # an event about one does not name the family
        return ("lamps", entity["code"])
    return (entity[kind.parent.noun]["code"], entity["code"])
