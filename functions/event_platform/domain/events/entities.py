"""Entities of the PIM as people name them: `product:<uuid>`, `family:shoes`, `asset:<family>/<code>`."""

from collections.abc import Sequence
from dataclasses import dataclass

from .catalog import lower_uuid

MAX_ENTITY_LENGTH = 512
_VERSION = ".v1."
_NAMES_OF_TWO_PARTS = ("workflow",)


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity: its name in event types, and the parts of its identity joined by `/`."""

    name: str
    identity: str

    def __str__(self) -> str:
        return f"{self.name}:{self.identity}"


def entity_of(event_type: str, identity: Sequence[str]) -> Entity | None:
    """Returns the entity that an event of the type with this identity is about; None without an identity."""
    return Entity(entity_name(event_type), "/".join(identity)) if identity else None


def entity_name(event_type: str) -> str:
    """Returns what events of the type are about: what stands before the action, `product` for example."""
    _, version, rest = event_type.partition(_VERSION)
    if not version:  # a type of the operator's own
        parts = event_type.split(".")
        return parts[-2] if len(parts) > 1 else parts[0]
    name, *more = rest.split(".")
    return f"{name}.{more[0]}" if name in _NAMES_OF_TWO_PARTS and more else name


def parse_entity(text: str) -> Entity:
    """Returns the entity that the text names; `product_model` is as `product-model`. Raises ValueError."""
    name, colon, identity = text.partition(":")
    if not (name and colon and identity) or len(text) > MAX_ENTITY_LENGTH:
        raise ValueError("must be an entity as in product:<uuid>, family:shoes or asset:<family>/<code>")
    return Entity(name.replace("_", "-"), lower_uuid(identity))
