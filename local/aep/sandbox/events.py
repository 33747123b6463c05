"""CloudEvents as a PIM sends them, true to the catalog."""

import copy
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import EventType
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from event_platform.domain.timestamps import to_rfc3339

CloudEvent = dict[str, Any]

ENTITIES = 500
"""The number of entities of a type that the generated events are about, so that some recur as in a PIM."""
PARENTS = 3
"""The number of asset families, reference entities and attributes that they are spread over."""


def events(event_type: str, count: int, seed: int = 0) -> Iterator[CloudEvent]:
    """Does the same as `events_of`, for a type of the shipped catalog. Raises KeyError for an unknown one."""
    return events_of(catalog.load()[event_type], count, seed)


def events_of(known: EventType, count: int, seed: int = 0) -> Iterator[CloudEvent]:
    """Yields CloudEvents that fit the type, each made at the moment it is drawn: `time` is now.

    The same seed gives the same entities in the same order.
    """
    chooser = random.Random(f"{seed} {known.name}")  # noqa: S311 - variety, not secrecy
    return (_event(known, chooser.randrange(ENTITIES)) for _ in range(count))


def _event(known: EventType, entity: int) -> CloudEvent:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),  # never from the seed: a platform drops ids that it has seen before
        "source": "simulated-pim",
        "type": known.name,
        "time": to_rfc3339(datetime.now(UTC)),
        "datacontenttype": "application/json",
        "data": data_of(known, entity),
    }


def data_of(known: EventType, entity: int) -> dict[str, Any]:
    """Returns the example of the type, about another entity: the same number means the same one."""
    data = copy.deepcopy(known.example)
    for path in known.identity:
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        is_parent = len(path) > len(min(known.identity, key=len))
        holder[path[-1]] = _variant(holder[path[-1]], entity % PARENTS if is_parent else entity)
    if isinstance(product := data.get("product"), dict):
        if ("product", "uuid") not in known.identity:
            product["uuid"] = _variant(product["uuid"], entity)
        if known.name in IDENTIFIER_TYPES:
            product["identifier"] = f"LMP-{entity:03}"
    return data


def _variant(example: str, entity: int) -> str:
    """Returns another value of the same kind: a UUID for a UUID, otherwise a code."""
    try:
        uuid.UUID(example)
    except ValueError:
        return f"{example}_{entity}"
    # RFC 9562 version 4 in form, as a PIM's are, but the same for the same entity
    return str(uuid.UUID(bytes=random.Random(f"{example} {entity}").randbytes(16), version=4))  # noqa: S311
