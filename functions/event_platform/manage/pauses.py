"""Pauses: the time that a caller has to wait before it may do something again."""

import math

from cachetools import TLRUCache

from ..domain.errors import TooManyRequests
from ..ports import Clock

REMEMBERED = 10_000


class Pauses:
    """Pauses by key. Each process counts for itself, and forgets the oldest of very many."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: TLRUCache[str, float] = TLRUCache(
            REMEMBERED, lambda key, until, now: until, clock.monotonic
        )

    def take(self, key: str, seconds: float, *, what: str) -> None:
        """Begins the pause that follows `what`. Raises TooManyRequests while the one before it lasts."""
        until = self._until.get(key)
        if until is not None:
            wait = max(1, math.ceil(until - self._clock.monotonic()))
            raise TooManyRequests(f"{what} again in {wait} s at the earliest", wait)
        self._until[key] = self._clock.monotonic() + seconds
