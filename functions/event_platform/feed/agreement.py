"""The memory of what the webhook brought lately, so that the feed leaves it out."""

from collections import deque
from collections.abc import Callable, Sequence

import structlog

from ..domain.events.event import Event
from ..domain.line_limit import LineLimit
from .changes import NOTHING_BROUGHT, Brought

log = structlog.get_logger()

KEPT_SECONDS = 2 * 3600
MAX_ENTITIES = 1_000_000
"""The most entities that are remembered, at some 150 bytes each. A PIM sends 80,000 events in that time."""
MAX_REMOVED = 10_000
"""The most removals that wait for the next sweep, which finds those beyond, so that they may come twice."""
_FORGOTTEN_AT_ONCE = 8
_DELETED = ".deleted"
_UPDATED_BITS = 40
_UPDATED = (1 << _UPDATED_BITS) - 1

Key = tuple[str, ...]


class WebhookMemory:
    """The port `WebhookNotes` in this process: for PIMs with a feed, and for two hours."""

    def __init__(self, monotonic: Callable[[], float], *, most: int = MAX_ENTITIES) -> None:
        self._monotonic = monotonic
        self._most = most
        # By tenant and a hash of the entity, in the order of their time: seconds, `updated` and a bit in one.
        self._entities: dict[str, dict[int, int]] = {}
        self._removed: dict[str, deque[tuple[str, Key]]] = {}
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

    def note(self, tenant: str, events: Sequence[Event], updated: Sequence[int]) -> None:
        """Notes the events of a webhook, and the `updated` of each in unix seconds; below 0 is none."""
        own = self._entities.get(tenant)
        if own is None:
            return
        now = int(self._monotonic())
        self._forget_old(own, now)
        for event, seconds in zip(events, updated, strict=True):
            if event.type.endswith(_DELETED):
                self._removed[tenant].append((event.type.removesuffix(_DELETED), event.identity))
            if seconds < 0:
                continue
            key = _key(event.type, event.identity)
            before = own.pop(key, None)
            self._number -= before is not None
            newest, created = (-1, False) if before is None else _unpacked(before)
            created = created or event.type.endswith(".created")
            own[key] = now << (_UPDATED_BITS + 1) | max(newest, seconds) << 1 | created
            self._number += 1
        while self._number > self._most:
            self._drop_one()

    def brought(self, tenant: str, event_type: str, identity: Key) -> Brought:
        """Returns what came of an entity within two hours. `event_type` is one of its types."""
        found = self._entities.get(tenant, {}).get(_key(event_type, identity))
        if found is None or int(self._monotonic()) - (found >> (_UPDATED_BITS + 1)) > KEPT_SECONDS:
            return NOTHING_BROUGHT
        return Brought(*_unpacked(found))

    def take_removed(self, tenant: str, prefix: str) -> Sequence[Key]:
        """Returns the identities that the webhook said are removed since the last call, of such types."""
        removed = self._removed.get(tenant)
        if not removed:
            return ()
        own = [identity for kind, identity in removed if kind == prefix]
        others = [each for each in removed if each[0] != prefix]
        removed.clear()
        removed.extend(others)
        return own

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


def _key(event_type: str, identity: Key) -> int:
    return hash((event_type.rpartition(".")[0], identity))


def _unpacked(packed: int) -> tuple[int, bool]:
    return packed >> 1 & _UPDATED, packed & 1 == 1
