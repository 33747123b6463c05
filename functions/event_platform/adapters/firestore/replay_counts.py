"""The numbers of a replay, or of catching up, in its document: the port `ReplayCounts`."""

import math
from collections import Counter
from dataclasses import dataclass, field

import structlog
from cachetools import LRUCache
from google.cloud.firestore_v1 import Increment

from ...domain.errors import StoreUnavailable
from ...ports import Clock
from .client import MISSING, Firestore
from .replay_documents import replay_at

log = structlog.get_logger()

SECONDS_BETWEEN_WRITES = 5.0
"""Well below the time within which a push is answered."""
REPLAYS_HELD = 1_000


@dataclass(slots=True)
class _Tally:
    counts: Counter[str] = field(default_factory=Counter[str])
    begun: float = -math.inf
    is_awaited: bool = False


class FirestoreReplayCounts:
    """An instance writes what it counted at most every 5 s, so the numbers are late by as much.

    One of those who count waits for that, since an instance has no CPU between its requests. What an instance
    has not written when it ends is not counted, and a push that is repeated counts twice.
    """

    def __init__(
        self, firestore: Firestore, clock: Clock, *, seconds: float = SECONDS_BETWEEN_WRITES
    ) -> None:
        self._firestore = firestore
        self._clock = clock
        self._seconds = seconds
        self._tallies: LRUCache[str, _Tally] = LRUCache(REPLAYS_HELD)

    async def add(self, replay_id: str, *, events: int = 0, delivered: int = 0, ended: int = 0) -> None:
        """Port `ReplayCounts`."""
        tally = self._tallies.get(replay_id)
        if tally is None:
            tally = self._tallies[replay_id] = _Tally()
        tally.counts.update(events=events, delivered=delivered, ended=ended)
        if tally.is_awaited:
            return  # whoever waits writes this too
        wait = tally.begun + self._seconds - self._clock.monotonic()
        if wait > 0:
            tally.is_awaited = True
            try:
                await self._clock.sleep(wait)
            finally:
                tally.is_awaited = False
        counts, tally.counts = +tally.counts, Counter()
        tally.begun = self._clock.monotonic()
        try:
            await self._firestore.run(lambda: self._write(replay_id, counts))
        except MISSING:
            return  # it was long ago
        except StoreUnavailable as error:  # a delivery is not repeated for a number
            tally.counts.update(counts)
            log.warning("replay.not_counted", replay_id=replay_id, error=str(error))

    async def _write(self, replay_id: str, counts: Counter[str]) -> None:
        fields = {name: Increment(number) for name, number in counts.items()}
        if fields:
            await replay_at(self._firestore, replay_id).update(
                fields, retry=None, timeout=self._firestore.attempt
            )
