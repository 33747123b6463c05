"""Log lines that say which subscriptions matched each event: a trace reads them, as nothing stores it."""

from collections.abc import Sequence
from typing import Any

import structlog

from ..domain.events.entities import entity_of
from ..domain.events.event import Event
from ..domain.messages.queue_messages import Accepted
from .matched import Matched

log = structlog.get_logger()

TEXT_LISTED = 50_000
"""Characters. A line has at most 256 KiB: https://cloud.google.com/logging/quotas"""
ENTITY_LISTED = 512


class MatchLines:
    """The events of a message, in lists side by side. A full line is logged; `rest` has what is left."""

    def __init__(self, accepted: Accepted) -> None:
        self._about = {"tenant": accepted.tenant, "accepted_at": accepted.accepted_at.isoformat()}
        self._start()

    def note(self, event: Event, matched: Sequence[Matched]) -> None:
        """Notes subscriptions that matched; there may be more of the same event."""
        entity = entity_of(event.type, event.identity)
        about = "" if entity is None else str(entity)[:ENTITY_LISTED]
        ids = [match.subscription.id for match in matched]
        self._text += len(event.id) + len(event.type) + len(about) + sum(map(len, ids))
        self._ids.append(event.id)
        self._types.append(event.type)
        self._entities.append(about)
        self._subscriptions.append(ids)
        if self._text > TEXT_LISTED:
            log.info("events.matched", **self.rest())
            self._start()

    def rest(self) -> dict[str, Any]:
        """Returns the fields of a line about those that were not logged yet."""
        return {
            **self._about,
            "event_ids": self._ids,
            "event_types": self._types,
            "entities": self._entities,
            "subscriptions": self._subscriptions,
        }

    def _start(self) -> None:
        self._ids: list[str] = []
        self._types: list[str] = []
        self._entities: list[str] = []
        self._subscriptions: list[list[str]] = []
        self._text = 0
