"""Counts what attempts came to, and suspends subscriptions with too low a success rate (contract/wire.md 11).

Successes cost no write: they are kept by minute, and written with the next failure or after 10 s. Failures
are written after 1 s at the latest.
"""

import asyncio
from collections import deque
from collections.abc import Mapping

import structlog
from cachetools import TTLCache

from ..domain.attempts.egress import WITHIN_SECONDS, Egress
from ..domain.deliveries import Settlement
from ..domain.errors import StoreUnavailable
from ..domain.subscriptions import Subscription
from ..domain.suspension import (
    JUDGED_EVERY_SECONDS,
    Count,
    Series,
    Suspension,
    first_minute,
    minute_of,
    reason_to_suspend,
    series_of,
)
from ..ports import Clock, SubscriptionChanges, SuccessCounts

log = structlog.get_logger()

SUCCESSES_KEPT_SECONDS = 10.0
FAILURES_KEPT_SECONDS = 1.0
"""A destination that is down is one write a second for its counts, not one for each attempt."""
SERIES_REMEMBERED = 20_000
FAILURES_REMEMBERED = 10_000
"""The number of counts of the last minute that can be taken back."""


class Judge:
    """Judges where a failure was counted, at most every 10 s for each series. Used in the event loop only.

    Counts that cannot be written wait for the next time: nothing else depends on them. While some are kept a
    task writes them when their time is over, so that they do not wait for another attempt.
    """

    def __init__(
        self, counts: SuccessCounts, subscriptions: SubscriptionChanges, egress: Egress, clock: Clock
    ) -> None:
        self._counts = counts
        self._subscriptions = subscriptions
        self._egress = egress
        self._clock = clock
        self._kept: dict[Series, dict[int, Count]] = {}
        self._written_at = clock.monotonic()
        self._written: TTLCache[Series, bool] = _memory(FAILURES_KEPT_SECONDS, clock)
        self._judged: TTLCache[Series, bool] = _memory(JUDGED_EVERY_SECONDS, clock)
        self._suspects: deque[tuple[float, Series, int]] = deque(maxlen=FAILURES_REMEMBERED)
        self._failed_lately: set[Series] = set()
        """Series with failures that are kept."""
        self._flushing: asyncio.Task[None] | None = None

    async def settled(self, settlement: Settlement) -> None:
        """An attempt was made, and what follows from it is durable."""
        if settlement.is_our_fault:
            self._take_back()
        under, succeeded = settlement.tried_under, settlement.succeeded
        if under is None or succeeded is None:
            return
        self._count(settlement, series_of(under), succeeded=succeeded)
        if self._is_due():
            await self._write(list(self._kept))
        if not succeeded:
            await self._failed(under)
        self._flush_soon()

    async def stop(self) -> None:
        """Ends the task; what is kept is lost."""
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)

    def _is_due(self) -> bool:
        """True once 10 s have passed since it was true the last time."""
        now = self._clock.monotonic()
        if now - self._written_at < SUCCESSES_KEPT_SECONDS:
            return False
        self._written_at = now
        return True

    def _flush_soon(self) -> None:
        """Starts a task that writes what is kept. Raises what ended the last one."""
        if self._flushing is not None and self._flushing.done():
            self._flushing.result()
            self._flushing = None
        if self._flushing is None and self._kept:
            self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        while self._kept:
            await self._clock.sleep(FAILURES_KEPT_SECONDS)
            due = list(self._kept) if self._is_due() else list(self._failed_lately)
            if due and not await self._write(due):
                await self._clock.sleep(SUCCESSES_KEPT_SECONDS)

    def _count(self, settlement: Settlement, series: Series, *, succeeded: bool) -> None:
        now = self._clock.now()
        minute = minute_of(now)
        if succeeded:
            self._of(series, minute).succeeded += 1
            return
        self._of(series, minute).add(Count(failed=1, first_failed_at=now.timestamp()))
        self._failed_lately.add(series)
        if settlement.outcome is not None and settlement.outcome.status is None:  # nothing answered
            self._suspects.append((self._clock.monotonic(), series, minute))

    def _take_back(self) -> None:
        """Failures of the last minute that were our own fault, as has turned out."""
        since = self._clock.monotonic() - WITHIN_SECONDS
        for at, series, minute in self._suspects:
            if at >= since:
                self._of(series, minute).failed -= 1
        self._suspects.clear()

    def _of(self, series: Series, minute: int) -> Count:
        minutes = self._kept.get(series)
        if minutes is None:
            minutes = self._kept[series] = {}
        count = minutes.get(minute)
        if count is None:
            count = minutes[minute] = Count()
        return count

    async def _failed(self, under: Subscription) -> None:
        series = series_of(under)
        if series in self._written:
            return
        self._written[series] = True
        if not await self._write([series]) or series in self._judged or not under.is_paced:
            return
        self._judged[series] = True
        if not self._egress.is_failing(self._clock.monotonic()):
            await self._judge(series, under)

    async def _judge(self, series: Series, under: Subscription) -> None:
        now = self._clock.now()
        try:
            reason = reason_to_suspend(await self._counts.since(series, first_minute(now)), now)
            if reason is None:
                return
            suspension = Suspension(under, reason, now)
            await self._subscriptions.change_subscription(
                under.owner, under.subscriber_id, under.id, suspension.of, action=suspension.action
            )
        except StoreUnavailable as error:
            log.warning("success_rate.not_judged", subscription_id=under.id, error=str(error))

    async def _write(self, written: list[Series]) -> bool:
        """Adds what is kept of these series to the store; False when it has to wait."""
        counts: Mapping[Series, dict[int, Count]] = {
            series: self._kept.pop(series) for series in written if series in self._kept
        }
        self._failed_lately.difference_update(written)
        try:
            await self._counts.add(counts)
        except StoreUnavailable as error:
            log.warning("success_counts.not_written", series=len(counts), error=str(error))
            for series, minutes in counts.items():
                for minute, count in minutes.items():
                    self._of(series, minute).add(count)
                    if count.failed:
                        self._failed_lately.add(series)
            return False
        return True


def _memory(seconds: float, clock: Clock) -> "TTLCache[Series, bool]":
    return TTLCache(SERIES_REMEMBERED, seconds, clock.monotonic)
