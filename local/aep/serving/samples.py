"""The last hour of the platform's numbers: samples of the meters, every few seconds, in a ring.

Nothing is counted for it: a sample copies some twenty totals, and what happened between two is a difference.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from event_platform.domain.attempts.outcomes import Kind
from event_platform.ports import Clock

from ..runtime.meters import DELIVERY_SECONDS, Meters
from ..runtime.tasks import WatchedTasks

EVERY_SECONDS = 5.0
KEPT_SECONDS = 3600.0
FEW_SAMPLES = 120
NOW_SECONDS = 10.0
"""The time over which the rates of now are taken."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The totals at one time: `at` in unix seconds, `monotonic` in seconds from any start."""

    at: float
    monotonic: float
    accepted: int
    delivered: int
    failed: int
    ended: int
    delivery_seconds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Period:
    """The change between two samples. Rates are a second; `p50` and `p99` are seconds, None without any.

    `at` is its end in unix seconds, and `success_rate` the share of the attempts, 0 to 1.
    """

    at: float
    accepted: float
    delivered: float
    failed: float
    ended: int
    success_rate: float | None
    p50: float | None
    p99: float | None


class Samples:
    """Takes samples between `start` and `stop`, and keeps those of the last hour."""

    def __init__(self, meters: Meters, clock: Clock, *, on_fault: Callable[[BaseException], None]) -> None:
        self._meters = meters
        self._clock = clock
        self._tasks = WatchedTasks(on_fault)
        self._taking: asyncio.Task[None] | None = None
        self._kept: deque[Sample] = deque(maxlen=round(KEPT_SECONDS / EVERY_SECONDS) + 1)

    def start(self) -> None:
        self.take()
        self._taking = self._tasks.start(self._take_periodically())

    async def stop(self) -> None:
        await self._tasks.stop(self._taking)

    def take(self) -> None:
        """Takes a sample now."""
        self._kept.append(sample_of(self._meters, self._clock))

    def now(self) -> Period:
        """Returns the last seconds, up to this moment."""
        return self._since(NOW_SECONDS)

    def hour(self) -> Period:
        """Returns the last hour, or the time since the start."""
        return self._since(KEPT_SECONDS)

    def minutes(self) -> Sequence[Period]:
        """Returns the minutes of the last hour, oldest first; shorter parts of the first ten minutes."""
        kept = list(self._kept)
        step = round((60 if len(kept) > FEW_SAMPLES else 15) / EVERY_SECONDS)
        ends = kept[::-step][::-1]
        return [period(before, after) for before, after in pairwise(ends)]

    def _since(self, seconds: float) -> Period:
        last = sample_of(self._meters, self._clock)
        first = next((each for each in self._kept if last.monotonic - each.monotonic <= seconds), last)
        return period(first, last)

    async def _take_periodically(self) -> None:
        while True:
            await self._clock.sleep(EVERY_SECONDS)
            self.take()


def sample_of(meters: Meters, clock: Clock) -> Sample:
    """Returns the meters' totals of this moment."""
    failed = sum(number for (kind, _), number in meters.attempts.items() if kind != Kind.DELIVERED)
    return Sample(
        clock.now().timestamp(),
        clock.monotonic(),
        meters.events_accepted,
        meters.delivered,
        failed,
        sum(meters.ended.values()),
        tuple(meters.delivery_seconds.counts),
    )


def period(before: Sample, after: Sample) -> Period:
    """Returns what happened between two samples."""
    seconds = max(after.monotonic - before.monotonic, 1.0)
    delivered, failed = after.delivered - before.delivered, after.failed - before.failed
    counts = [
        later - earlier
        for earlier, later in zip(before.delivery_seconds, after.delivery_seconds, strict=True)
    ]
    return Period(
        at=after.at,
        accepted=(after.accepted - before.accepted) / seconds,
        delivered=delivered / seconds,
        failed=failed / seconds,
        ended=after.ended - before.ended,
        success_rate=delivered / (delivered + failed) if delivered + failed else None,
        p50=percentile(counts, 0.5),
        p99=percentile(counts, 0.99),
    )


def percentile(
    counts: Sequence[int], share: float, bounds: Sequence[float] = DELIVERY_SECONDS
) -> float | None:
    """Returns the value below which that share of a histogram's values lies; None without values.

    It lies between two bounds, and is taken as if the values were spread evenly there.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below = share * total, 0
    for index, count in enumerate(counts[: len(bounds)]):
        if count and below + count >= wanted:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (wanted - below) / count
        below += count
    return bounds[-1]
