"""The pace where the queue pushes: when a delivery is sent, and when its push is answered.

The queue pushes the next message of a lane when this one's push is answered, and no counter is shared between
instances. So the answer waits for the lane's next turn, which every instance finds by the same rate.
"""

import asyncio

import structlog

from ..domain.attempts.egress import Egress
from ..domain.deliveries import DeliverPolicy, Delivery, Settlement
from ..domain.errors import CannotConnect, StoreUnavailable
from ..domain.pace.rates import Limits, Rate
from ..domain.pace.turns import COPY_SECONDS, Turn
from ..domain.paced import to_be_sent
from ..ports import Clock, Paces, SubscriptionLookup
from .deliver import deliver
from .observer import Observer
from .sending import Senders

log = structlog.get_logger()

TRIED_WITHIN = 30.0
"""Seconds after the push began in which the last attempt ends: the rest is for writing what follows."""
OBSERVED_WITHIN = 4.0
SOCKETS_RETRY_SECONDS = 1.0
HELD_AT_MOST = 45.0
"""Seconds after the push began at which it is answered, its turn or not. The ack deadline is 60 s."""


class Edge:
    """Sends what was pushed, at the pace of its lane. `began` is when the push came, in monotonic seconds."""

    def __init__(
        self,
        subscriptions: SubscriptionLookup,
        paces: Paces,
        senders: Senders,
        clock: Clock,
        policy: DeliverPolicy,
        limits: Limits,
        egress: Egress,
    ) -> None:
        self._subscriptions = subscriptions
        self._senders = senders
        self._clock = clock
        self._policy = policy
        self._limits = limits
        self._egress = egress
        self._observer = Observer(subscriptions, paces, clock, limits)

    async def attempt(self, delivery: Delivery, began: float) -> Settlement:
        """Returns what follows from the attempts at the delivery, each at the lane's turn.

        There is more than one attempt after a 429, or when this instance cannot connect. The delivery goes
        back to its lane, tried or not, when the next turn comes too late: at a slow pace, or in a pause that
        the receiver asked for. Raises StoreUnavailable, and what is a fault of ours.
        """
        last_start = began + TRIED_WITHIN - self._policy.timeout
        subscription = await self._subscriptions.current(delivery.subscription_id)
        sent_to = to_be_sent(subscription, delivery.epoch)
        paused = sent_to is not None and sent_to.current_rate.held_for(self._clock.now()) > 0
        if paused and not await self._turn_comes(delivery, last_start):
            return Settlement(delivery, None, back_to_lane=True)
        while True:
            try:
                settlement = await deliver(
                    delivery,
                    subscriptions=self._subscriptions,
                    senders=self._senders,
                    clock=self._clock,
                    policy=self._policy,
                    egress=self._egress,
                )
            except CannotConnect:  # later, as after a 429
                await self._clock.sleep(SOCKETS_RETRY_SECONDS)
                settlement = Settlement(delivery, None, back_to_lane=True)
            await self._observe(settlement)
            delivery = settlement.delivery
            if not (settlement.back_to_lane and await self._turn_comes(delivery, last_start)):
                return settlement

    async def hold(self, settlement: Settlement, began: float, *, alone: bool) -> None:
        """Returns when the lane's next message may be pushed; at once when nothing was sent.

        `alone`: nothing follows that would have to wait, unless it is this delivery itself.
        """
        sent = settlement.outcome is not None and not alone
        if not (sent or settlement.back_to_lane):
            return
        until = began + HELD_AT_MOST
        if not await self._turn_comes(settlement.delivery, until, self._known_rate(settlement)):
            await self._clock.sleep(max(0.0, until - self._clock.monotonic()))

    async def _observe(self, settlement: Settlement) -> None:
        """A pace that cannot be written leaves the delivery as it is."""
        if (change := self._observer.seen(settlement)) is None:
            return
        try:
            async with asyncio.timeout(OBSERVED_WITHIN):
                await self._observer.follow(settlement.delivery.subscription_id, change)
        except TimeoutError:
            log.warning("pace.not_changed", subscription_id=settlement.delivery.subscription_id, error="slow")

    @staticmethod
    def _known_rate(settlement: Settlement) -> Rate | None:
        """The rate of the attempt that was just made, where asking for it would tell no newer one.

        What a receiver refused has changed it. When the turn has come it is asked for in any case.
        """
        seen, under = settlement.pace, settlement.tried_under
        if seen is None or seen.throttled or seen.latency > COPY_SECONDS or under is None:
            return None
        return under.current_rate

    async def _turn_comes(self, delivery: Delivery, by: float, rate: Rate | None = None) -> bool:
        """Waits for the lane's next turn; False, at once, when it is later than `by` (monotonic seconds).

        `rate` is what the turn is found by at first, unless it has to be read.
        """
        turn = Turn(delivery.lane, delivery.lanes, self._limits)
        known = Rate(self._clock.now())
        if rate is None:
            rate = await self._rate(delivery, known)
        while rate is not None:
            known, seconds = rate, turn.wait(rate, self._clock.now())
            if seconds == 0:
                break
            if self._clock.monotonic() + seconds > by:
                return False
            await self._clock.sleep(min(seconds, COPY_SECONDS))
            rate = await self._rate(delivery, known)
        return True

    async def _rate(self, delivery: Delivery, known: Rate) -> Rate | None:
        """The rate now, or `known` when the store does not say; None when there is none to keep.

        That is when nothing is sent any more, and of brokers.
        """
        try:
            async with asyncio.timeout(COPY_SECONDS):
                subscription = await self._subscriptions.current(delivery.subscription_id)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("pace.not_read", subscription_id=delivery.subscription_id, error=str(error))
            return known
        sent_to = to_be_sent(subscription, delivery.epoch)
        return sent_to.current_rate if sent_to is not None and sent_to.is_paced else None
