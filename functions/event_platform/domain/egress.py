"""Whose fault it is when nobody can be reached: ours, when most of many unrelated origins fail at once."""

from collections import OrderedDict

ORIGINS_AT_LEAST = 20
WITHIN_SECONDS = 60.0
TOLD_EVERY_SECONDS = 60.0


class Egress:
    """How each host's latest attempt of the last minute went; times are monotonic seconds.

    Held by each instance for itself: the network that fails is its own.
    """

    def __init__(self) -> None:
        self._latest: OrderedDict[str, tuple[float, bool]] = OrderedDict()  # the oldest first
        self._told_at: float | None = None
        self.failing = 0

    @property
    def origins(self) -> int:
        """How many hosts were tried within the last minute, as of the last call."""
        return len(self._latest)

    def observe(self, host: str, now: float, *, failed: bool) -> None:
        """An attempt at `host` got an answer, or failed in transport."""
        before = self._latest.pop(host, None)
        self.failing += failed - (before is not None and before[1])
        self._latest[host] = (now, failed)

    def is_failing(self, now: float) -> bool:
        """Whether most of at least 20 hosts failed in transport within the last minute."""
        while self._latest and now - next(iter(self._latest.values()))[0] > WITHIN_SECONDS:
            _, (_, failed) = self._latest.popitem(last=False)
            self.failing -= failed
        return len(self._latest) >= ORIGINS_AT_LEAST and 2 * self.failing > len(self._latest)

    def is_to_be_told(self, now: float) -> bool:
        """Once a minute, of those who ask while it fails."""
        if self._told_at is not None and now - self._told_at < TOLD_EVERY_SECONDS:
            return False
        self._told_at = now
        return True
