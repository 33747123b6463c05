"""Notes of what the webhook of a PIM brought, in the form in which instances pass them on. Pure."""

import hashlib
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import orjson

from .events.event import Event

Identity: TypeAlias = tuple[str, ...]

KEPT_SECONDS = 2 * 3600
"""The time for which it is known what came of an entity."""
MAX_REMOVED_BYTES = 50_000
"""The most bytes of removed identities in a packed note, as JSON. A PIM's webhook has up to ten events."""
_DELETED, _CREATED = ".deleted", ".created"
_ENTITY = struct.Struct(">Qq")


class NotedEntity(NamedTuple):
    """An entity, by its key: its `updated` in unix seconds, and whether it was created."""

    key: int
    updated: int
    created: bool


class NotedRemoval(NamedTuple):
    """An entity that was removed. `kind` is its event type without the action."""

    kind: str
    identity: Identity


class WebhookNote(NamedTuple):
    """The entities that one webhook brought."""

    entities: Sequence[NotedEntity]
    removed: Sequence[NotedRemoval]


def entity_key(event_type: str, identity: Identity) -> int:
    """Returns 64 bits that stand for an entity. `event_type` is one of its types."""
    text = "\n".join((event_type.rpartition(".")[0], *identity))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def note_of(events: Sequence[Event], updated: Sequence[int]) -> WebhookNote:
    """Returns the note of events. `updated` is of each, in unix seconds; below 0 is none."""
    entities: list[NotedEntity] = []
    removed: list[NotedRemoval] = []
    for event, seconds in zip(events, updated, strict=True):
        if event.type.endswith(_DELETED):
            removed.append(NotedRemoval(event.type.removesuffix(_DELETED), event.identity))
        if seconds >= 0:
            key = entity_key(event.type, event.identity)
            entities.append(NotedEntity(key, seconds, event.type.endswith(_CREATED)))
    return WebhookNote(entities, removed)


def packed(note: WebhookNote) -> tuple[bytes, str]:
    """Returns the entities of a note, 16 bytes each, and the removed as JSON, as many as have room."""
    entities = b"".join(_ENTITY.pack(each.key, each.updated << 1 | each.created) for each in note.entities)
    removed: list[tuple[str, Identity]] = []
    size = 0
    for each in note.removed:
        pair = (each.kind, each.identity)  # orjson takes no named tuple
        size += len(orjson.dumps(pair))
        if size > MAX_REMOVED_BYTES:
            break
        removed.append(pair)
    return entities, orjson.dumps(removed).decode() if removed else ""


def unpacked(entities: bytes, removed: str) -> WebhookNote:
    """Returns the note of what `packed` returned. Raises ValueError for anything else."""
    if len(entities) % _ENTITY.size:
        raise ValueError("the entities of a note are cut off")
    return WebhookNote(
        [NotedEntity(key, updated >> 1, updated & 1 == 1) for key, updated in _ENTITY.iter_unpack(entities)],
        [
            NotedRemoval(kind, tuple(identity))
            for kind, identity in (orjson.loads(removed) if removed else ())
        ],
    )
