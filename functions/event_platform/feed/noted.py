"""The memory of what webhooks brought to other instances, which noted it: rounds read the notes."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ..domain.webhook_notes import KEPT_SECONDS, Identity
from ..ports import Clock, StoredNote, WebhookNoteLog
from .agreement import WebhookMemory
from .changes import Brought

log = structlog.get_logger()

MAX_ENTITIES = 300_000
"""The most entities that an instance remembers, in some 50 MB."""
AT_ONCE = 100
"""The notes that are read at once, at most 7 MB. A note of ten events has some 200 bytes."""
MOST_AT_ONCE = 20_000
"""The most notes that one call reads. A PIM makes 8,000 webhooks in two hours."""
SKEW = timedelta(minutes=6)
"""The most that a PIM's clock is ahead of ours, or a webhook would be refused; and a minute more."""
LATE = timedelta(seconds=30)
"""The longest time after its own at which a note is seen, differences of the instances' clocks included."""
PIMS_KEPT = 1000
_GRAIN = timedelta(milliseconds=1)


@dataclass(slots=True)
class _Loaded:
    """The time of which an instance has read a PIM's notes, and the ids of those that are after it."""

    since: datetime
    up_to: datetime
    after: frozenset[str] = frozenset()


class NotedWebhooks:
    """The port `Webhooks`, which reads a note once in each instance."""

    def __init__(self, notes: WebhookNoteLog, clock: Clock, *, most: int = MAX_ENTITIES) -> None:
        self._notes = notes
        self._clock = clock
        self._memory = WebhookMemory(clock.monotonic, most=most)
        self._loaded: dict[str, _Loaded] = {}

    async def load(self, tenant: str, since: datetime) -> None:
        now = self._clock.now()
        first = max(since - SKEW, now - timedelta(seconds=KEPT_SECONDS))
        loaded = self._loaded.get(tenant)
        if loaded is None:
            loaded = self._watched(tenant, first)
        elif first < loaded.since:
            await self._read(tenant, first, loaded.since, loaded.after)
            loaded.since = first
        read = await self._read(tenant, loaded.up_to, None, loaded.after)
        is_all = len(read) < MOST_AT_ONCE
        if not is_all:  # the rest waits for the next call
            log.warning("feed.webhooks_not_read", tenant=tenant, notes=len(read))
        up_to = loaded.up_to = max(loaded.up_to, now - LATE if is_all else read[-1].at)
        loaded.after = frozenset(each.id for each in read if each.at >= up_to - _GRAIN)

    def brought(self, tenant: str, event_type: str, identity: Identity) -> Brought:
        return self._memory.brought(tenant, event_type, identity)

    def take_removed(self, tenant: str, kind: str) -> Sequence[Identity]:
        return self._memory.take_removed(tenant, kind)

    def _watched(self, tenant: str, first: datetime) -> _Loaded:
        """Begins to remember what came of a PIM. Where there are many, the first of them is forgotten."""
        if len(self._loaded) >= PIMS_KEPT:
            del self._loaded[next(iter(self._loaded))]
        loaded = self._loaded[tenant] = _Loaded(first, first)
        self._memory.watch(list(self._loaded))
        return loaded

    async def _read(
        self, tenant: str, begin: datetime, end: datetime | None, known: frozenset[str]
    ) -> Sequence[StoredNote]:
        """Remembers the notes from a time to another, as many as one call may; returns all of them."""
        read: list[StoredNote] = []
        while len(read) < MOST_AT_ONCE:
            after = read[-1].id if read else None
            found = await self._notes.read(tenant, begin, end, after=after, limit=AT_ONCE)
            for each in found:
                if each.id not in known:
                    self._memory.add(tenant, each.note)
                    await asyncio.sleep(0)
            read += found
            if len(found) < AT_ONCE:
                break
        return read
