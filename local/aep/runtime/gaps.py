"""The gaps between a PIM's calls that bring events, by which it is seen that one has become silent."""

from collections.abc import Mapping

DAY = 86400
DAYS = 7
LEAST_GAPS = 20
"""Fewer gaps in the week say too little."""
LEAST_SILENCE = 3600.0
MEDIANS = 10
"""A PIM is silent after so many of its median gaps, and LEAST_SILENCE at least (seconds)."""
BUCKETS = 24


class Gaps:
    """Counts the gaps of the last week by powers of two of their seconds, for each day.

    They are in memory only: after a start they are counted anew.
    """

    __slots__ = ("_days", "_last")

    def __init__(self) -> None:
        self._days: dict[int, list[int]] = {}
        self._last: float | None = None

    def note(self, at: float) -> None:
        """Notes a call that brought events, in unix seconds."""
        if self._last is not None and at >= self._last:
            day = int(at // DAY)
            counts = self._days.get(day)
            if counts is None:
                counts = self._days[day] = [0] * BUCKETS
                for old in [each for each in self._days if each <= day - DAYS]:
                    del self._days[old]
            counts[min(BUCKETS - 1, int(at - self._last).bit_length())] += 1
        self._last = at

    def median(self, now: float) -> float | None:
        """Returns the median gap of the week in seconds, up to a power of two; None if few are known."""
        week = [counts for day, counts in self._days.items() if day > now // DAY - DAYS]
        counts = [sum(each) for each in zip(*week, strict=True)]
        if (total := sum(counts)) < LEAST_GAPS:
            return None
        below = 0
        for bucket, count in enumerate(counts):
            below += count
            if 2 * below >= total:
                return float(1 << bucket)
        return None


def silent_for(gaps: Mapping[str, Gaps], name: str, last: float | None, now: float) -> float | None:
    """Returns the seconds for which a PIM has been silent; None if that is usual, or unknown."""
    if last is None or name not in gaps or now - last <= LEAST_SILENCE:
        return None
    median = gaps[name].median(now)
    if median is None or now - last <= MEDIANS * median:
        return None
    return now - last
