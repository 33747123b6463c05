"""The memory of what the webhook brought lately, so that the feed leaves it out."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from ..domain.events.event import Event
from ..domain.line_limit import LineLimit
from ..domain.webhook_notes import (
    KEPT_SECONDS,
    Identity,
    NotedRemoval,
    WebhookNote,
    entity_key,
    note_of,
)
from .changes import NOTHING_BROUGHT, Brought

log = structlog.get_logger()

MAX_ENTITIES = 1_000_000
"""The most entities that are remembered, at some 150 bytes each. A PIM sends 80,000 events in that time."""
MAX_REMOVED = 10_000
"""The most removals that wait for the next sweep, which finds those beyond, so that they may come twice."""
REMOVED_AT_ONCE = 200
"""The most removals that one commit takes in."""
_FORGOTTEN_AT_ONCE = 8
_UPDATED_BITS = 40
_UPDATED = (1 << _UPDATED_BITS) - 1


class WebhookMemory:
    """The ports `WebhookNotes` and `Webhooks` in this process: for PIMs with a feed, and for two hours."""

    def __init__(self, monotonic: Callable[[], float], *, most: int = MAX_ENTITIES) -> None:
        self._monotonic = monotonic
        self._most = most
        # By tenant and a hash of the entity, in the order of their time: seconds, `updated` and a bit in one.
        self._entities: dict[str, dict[int, int]] = {}
        self._removed: dict[str, deque[NotedRemoval]] = {}
        self._number = 0
        self._lines = LineLimit(monotonic)

    def watch(self, tenants: Sequence[str]) -> None:
        """Sets which PIMs have a feed; the entities of all others are forgotten."""
        for tenant in self._entities.keys() - set(tenants):
            self._number -= len(self._entities.pop(tenant))
            del self._removed[tenant]
        for tenant in tenants:
            self._entities.setdefault(tenant, {})
            self._removed.setdefault(tenant, deque(maxlen=MAX_REMOVED))

    def wants(self, tenant: str) -> bool:
        """True if the PIM has a feed."""
        return tenant in self._entities

    async def note(self, tenant: str, events: Sequence[Event], updated: Sequence[int]) -> None:
        """Port `WebhookNotes`."""
        self.add(tenant, note_of(events, updated))

    def add(self, tenant: str, note: WebhookNote) -> None:
        """Remembers a note, unless the PIM has no feed."""
        own = self._entities.get(tenant)
        if own is None:
            return
        self._removed[tenant] += note.removed
        now = int(self._monotonic())
        self._forget_old(own, now)
        for key, updated, is_created in note.entities:
            before = own.pop(key, None)
            self._number -= before is not None
            newest, created = (-1, False) if before is None else _unpacked(before)
            own[key] = now << (_UPDATED_BITS + 1) | max(newest, updated) << 1 | (created or is_created)
            self._number += 1
        while self._number > self._most:
            self._drop_one()

    async def load(self, tenant: str, since: datetime) -> None:
        """Needs to do nothing, as all is here."""

    def brought(self, tenant: str, event_type: str, identity: Identity) -> Brought:
        """Returns what came of an entity within two hours. `event_type` is one of its types."""
        own = self._entities.get(tenant)
        found = own.get(entity_key(event_type, identity)) if own else None
        if found is None or int(self._monotonic()) - (found >> (_UPDATED_BITS + 1)) > KEPT_SECONDS:
            return NOTHING_BROUGHT
        return Brought(*_unpacked(found))

    def take_removed(self, tenant: str, kind: str) -> Sequence[Identity]:
        """Returns identities that the webhook said are removed and no call has returned, of a kind."""
        waiting = self._removed.get(tenant)
        if not waiting:
            return ()
        taken: list[Identity] = []
        others: list[NotedRemoval] = []
        for each in waiting:
            if each.kind == kind and len(taken) < REMOVED_AT_ONCE:
                taken.append(each.identity)
            else:
                others.append(each)
        waiting.clear()
        waiting.extend(others)
        return taken

    def __len__(self) -> int:
        return self._number

    def _forget_old(self, own: dict[int, int], now: int) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            first = next(iter(own), None)
            if first is None or now - (own[first] >> (_UPDATED_BITS + 1)) <= KEPT_SECONDS:
                return
            del own[first]
            self._number -= 1

    def _drop_one(self) -> None:
        """Forgets the oldest entity of the PIM that has most."""
        tenant = max(self._entities, key=lambda each: len(self._entities[each]))
        own = self._entities[tenant]
        del own[next(iter(own))]
        self._number -= 1
        if times := self._lines.count(tenant):
            log.warning("feed.webhooks_forgotten", tenant=tenant, entities=self._most, times=times)


def _unpacked(packed: int) -> tuple[int, bool]:
    return packed >> 1 & _UPDATED, packed & 1 == 1
