"""Limits how often a line of the log repeats itself."""

from collections.abc import Callable, Hashable

from cachetools import LRUCache

from .front_door import REMEMBERED

SECONDS_BETWEEN_LINES = 60.0


class LineLimit:
    """Lets a line be logged once a minute for each key, and counts what the line stands for."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._last: LRUCache[Hashable, tuple[float, int]] = LRUCache(REMEMBERED)

    def count(self, key: Hashable) -> int:
        """Counts one. Returns how many the line stands for that is due now, or 0 when none is due yet."""
        now = self._now()
        logged_at, waiting = self._last.get(key, (now - SECONDS_BETWEEN_LINES, 0))
        is_due = now - logged_at >= SECONDS_BETWEEN_LINES
        self._last[key] = (now, 0) if is_due else (logged_at, waiting + 1)
        return waiting + 1 if is_due else 0
