"""Adapts rate and lanes of a subscription to what attempts show of its receiver, on one machine and on
Google alike."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from weakref import WeakValueDictionary

import structlog

from ..domain.deliveries import Settlement
from ..domain.errors import StoreUnavailable
from ..domain.pace import rates
from ..domain.pace.rates import Limits
from ..domain.paced import paced
from ..domain.subscriptions import Subscription
from ..ports import Clock, Paces, SubscriptionLookup

Follow = Callable[[Subscription], Subscription]
"""A change of the pace; it returns the same object where there is nothing to change."""

log = structlog.get_logger()

LATENCIES_KEPT = 20_000
LOOK_SECONDS = 1.0
"""The time between two looks at the number of lanes, which is all that a taken delivery can change."""


class Observer:
    """Keeps the moving average of each subscription's latency, and writes what follows from attempts.

    Used in the event loop only. Concurrent 429s lower the rate once: the first writes, the others see the
    change.
    """

    def __init__(self, subscriptions: SubscriptionLookup, paces: Paces, clock: Clock, limits: Limits) -> None:
        self._subscriptions = subscriptions
        self._paces = paces
        self._clock = clock
        self._limits = limits
        self._latencies: dict[str, tuple[float, float]] = {}
        """Averages, and when the pace was last checked (monotonic seconds); the latest is last."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def seen(self, settlement: Settlement) -> Follow | None:
        """Notes the facts of an attempt. Returns the change that follows, nearly always None.

        By the record that the attempt was made under: what another one changed since needs no change of ours.
        """
        seen, subscription_id = settlement.pace, settlement.delivery.subscription_id
        if seen is None:
            return None
        at = self._clock.monotonic()
        average, looked_at = self._latencies.pop(subscription_id, (None, -math.inf))
        latency = rates.with_latency(average, seen.latency)
        is_due = seen.throttled or at - looked_at >= LOOK_SECONDS
        self._latencies[subscription_id] = latency, at if is_due else looked_at
        if len(self._latencies) > LATENCIES_KEPT:
            del self._latencies[next(iter(self._latencies))]
        if not is_due:
            return None
        change = partial(paced, seen=seen, latency=latency, now=self._clock.now(), limits=self._limits)
        under = settlement.tried_under
        return None if under is not None and change(under) is under else change

    async def follow(self, subscription_id: str, change: Follow) -> None:
        """Makes the change, unless it was made meanwhile; a store that is away leaves the pace as it is."""
        try:
            known = await self._subscriptions.current(subscription_id)
            if known is None or change(known) is known:
                return
            async with self._locks.setdefault(subscription_id, asyncio.Lock()):
                known = await self._subscriptions.current(subscription_id)
                if known is not None and change(known) is not known:
                    await self._paces.change_pace(subscription_id, change)
        except StoreUnavailable as error:
            log.warning("pace.not_changed", subscription_id=subscription_id, error=str(error))
