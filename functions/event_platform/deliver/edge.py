"""The pace on a queue that pushes: when a delivery is sent, and when its push is answered.

The queue pushes the next message of a lane when this one's push is answered, and no counter is shared between
instances. So the answer waits for the lane's next turn, which every instance finds by the same rate.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

import structlog

from ..domain.catching_up import of_this_epoch
from ..domain.deliveries import Delivery, Settlement
from ..domain.errors import CannotConnect, StoreUnavailable
from ..domain.pace.lanes import lanes_of_replay
from ..domain.pace.rates import Limits, Rate
from ..domain.pace.turns import COPY_SECONDS, Turn
from ..domain.paced import shares_turns, sharing_turns, to_be_sent
from ..domain.subscriptions import Subscription
from ..ports import Clock, SubscriptionLookup
from .observer import Follow, Observer
from .pipeline import Attempt, TurnTooLate, back_to_lane

log = structlog.get_logger()

TRIED_WITHIN = 30.0
"""Seconds after the push began in which the last attempt ends: the rest is for writing what follows."""
OBSERVED_WITHIN = 4.0
SOCKETS_RETRY_SECONDS = 1.0
HELD_AT_MOST = 45.0
"""Seconds after the push began at which it is answered, its turn or not. The ack deadline is 60 s."""

Deadline: TypeAlias = Callable[[float], AbstractAsyncContextManager[object]]


@dataclass(frozen=True, slots=True)
class Push:
    """A delivery as it was pushed. `began` is when the push came, in monotonic seconds.

    `alone`: nothing follows in its lane that would have to wait, unless it is this delivery itself.
    """

    delivery: Delivery
    began: float
    alone: bool


@dataclass(frozen=True, slots=True)
class _KnownPace:
    """The rate of a subscription. With `shared` the lanes of a replay take turns with the others."""

    rate: Rate
    shared: bool


class Edge:
    """The pace of pushes: it waits before the attempt in a pause alone, and else before the answer."""

    def __init__(
        self,
        subscriptions: SubscriptionLookup,
        clock: Clock,
        limits: Limits,
        *,
        timeout: float,
        deadline: Deadline = asyncio.timeout,
    ) -> None:
        """`timeout` is how long an attempt may take; `deadline` ends a block after so many seconds."""
        self._subscriptions = subscriptions
        self._clock = clock
        self._limits = limits
        self._timeout = timeout
        self._deadline = deadline

    async def before(self, push: Push) -> Delivery:
        """Returns the delivery at once, or in a pause at its turn. Raises TurnTooLate.

        One that waited since before a suspension, and is caught up with, goes to the end of its lane of now.
        """
        delivery = push.delivery
        subscription = await self._subscriptions.current(delivery.subscription_id)
        if (current := of_this_epoch(delivery, subscription, self._clock.now())) is not None:
            raise TurnTooLate(current)
        sent_to = to_be_sent(subscription, delivery.epoch)
        paused = sent_to is not None and sent_to.current_rate.held_for(self._clock.now()) > 0
        if paused and not await self._turn_comes(delivery, self._last_start(push)):
            raise TurnTooLate(delivery)
        return delivery

    async def again(self, push: Push, settlement: Settlement) -> bool:
        """True at the lane's next turn, after a 429 or when this instance could not connect.

        False, at once, if that comes too late: at a slow pace, or in a pause that the receiver asked for.
        """
        return await self._turn_comes(settlement.delivery, self._last_start(push))

    def after(self, push: Push, settlement: Settlement) -> Awaitable[None] | None:
        """Holds the push until the lane's next message may be pushed; not at all when nothing was sent."""
        sent = settlement.outcome is not None and not push.alone
        return self._hold(push, settlement) if sent or settlement.back_to_lane else None

    def _last_start(self, push: Push) -> float:
        return push.began + TRIED_WITHIN - self._timeout

    async def _hold(self, push: Push, settlement: Settlement) -> None:
        until = push.began + HELD_AT_MOST
        if not await self._turn_comes(settlement.delivery, until, self._known_pace(settlement)):
            await self._clock.sleep(max(0.0, until - self._clock.monotonic()))

    def _known_pace(self, settlement: Settlement) -> "_KnownPace | None":
        """Returns the pace of the attempt that was just made, if the store has no newer one.

        What a receiver refused has changed it. When the turn has come it is asked for in any case.
        """
        seen, under = settlement.pace, settlement.tried_under
        if seen is None or seen.throttled or seen.latency > COPY_SECONDS or under is None:
            return None
        return self._pace_of(under)

    async def _turn_comes(self, delivery: Delivery, by: float, pace: "_KnownPace | None" = None) -> bool:
        """Waits for the lane's next turn; False, at once, when it is later than `by` (monotonic seconds).

        `pace` is what the turn is found by at first, unless it has to be read.
        """
        known = pace or _KnownPace(Rate(self._clock.now()), shared=False)
        if pace is None:
            pace = await self._pace(delivery, known)
        turn = self._turn(delivery, known)
        while pace is not None:
            if pace.shared is not known.shared:
                turn = self._turn(delivery, pace)
            known, seconds = pace, turn.wait(pace.rate, self._clock.now())
            if seconds == 0:
                break
            if self._clock.monotonic() + seconds > by:
                return False
            await self._clock.sleep(min(seconds, COPY_SECONDS))
            pace = await self._pace(delivery, known)
        return True

    def _turn(self, delivery: Delivery, pace: "_KnownPace") -> Turn:
        """Finds the lane's turn. Where turns are shared, a replay's lanes come behind those of new events."""
        if not pace.shared:
            return Turn(delivery.lane, delivery.lanes, self._limits)
        lane = delivery.lane if delivery.replay_id is None else delivery.lanes + delivery.lane
        return Turn(lane, delivery.lanes + lanes_of_replay(delivery.lanes), self._limits)

    def _pace_of(self, subscription: Subscription) -> "_KnownPace":
        return _KnownPace(subscription.current_rate, shares_turns(subscription, self._clock.now()))

    async def _pace(self, delivery: Delivery, known: "_KnownPace") -> "_KnownPace | None":
        """The pace now, or `known` when the store does not say; None when there is none to keep.

        That is when nothing is sent any more, and of brokers.
        """
        try:
            async with self._deadline(COPY_SECONDS):
                subscription = await self._subscriptions.current(delivery.subscription_id)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("pace.not_read", subscription_id=delivery.subscription_id, error=str(error))
            return known
        sent_to = to_be_sent(subscription, delivery.epoch)
        return self._pace_of(sent_to) if sent_to is not None and sent_to.is_paced else None


class TimelyObserver(Observer):
    """An observer whose changes end soon: a pace that cannot be written leaves the delivery as it is.

    A delivery of a replay, or of catching up, has the subscription's turns shared from then on.
    """

    def seen(self, settlement: Settlement) -> Follow | None:
        change, under = super().seen(settlement), settlement.tried_under
        if settlement.delivery.replay_id is None or under is None or not under.is_paced:
            return change
        now = self._clock.now()
        if sharing_turns(under, now) is under:
            return change
        return lambda subscription: sharing_turns(change(subscription) if change else subscription, now)

    async def follow(self, subscription_id: str, change: Follow) -> None:
        try:
            async with asyncio.timeout(OBSERVED_WITHIN):
                await super().follow(subscription_id, change)
        except TimeoutError:
            log.warning("pace.not_changed", subscription_id=subscription_id, error="slow")


def until_connected(attempt: Attempt, clock: Clock) -> Attempt:
    """The attempt, after which a delivery goes back to its lane if this instance cannot connect."""

    async def attempted(delivery: Delivery) -> Settlement:
        try:
            return await attempt(delivery)
        except CannotConnect:  # later, as after a 429
            await clock.sleep(SOCKETS_RETRY_SECONDS)
            return back_to_lane(delivery)

    return attempted
