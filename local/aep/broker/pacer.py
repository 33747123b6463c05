"""The pace of each subscription on one machine: when its next delivery may leave."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.pace.turns import TokenBucket
from event_platform.domain.paced import to_be_sent
from event_platform.domain.subscriptions import Subscription
from event_platform.ports import Clock, SubscriptionLookup

BURST_SECONDS = 0.1
"""A subscription that rested may send this much of a second's rate at once."""
LOOK_AGAIN_SECONDS = 1.0
"""The time after which whoever waits looks for a suspension, or for a rate that has changed."""
SHORTEST_WAIT = 1e-5
"""The shortest wait in seconds. Smaller ones are errors of rounding."""
KEPT_SECONDS = 600.0
"""The seconds for which the bucket of a subscription that rests is kept: by then it is full again."""


RATE_SECONDS = 0.02
"""The seconds for which a rate that grows counts as it was: to ask for it takes longer than all the rest."""

REPLAY_SHARE = 0.5
"""The part of the rate that replays have at most while others of the subscription wait."""
OTHERS_BEFORE_REPLAY = 5
"""The deliveries at most that get a token before the next one of a replay. So a replay has a sixth of the
rate however many lanes wait, and these get on at 5/6 of their pace or more."""


class _Line:
    """A line of deliveries that wait for a token; the first one has the turn, and looks for it."""

    def __init__(self) -> None:
        self.is_taken = False
        """True if somebody has the turn."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, behind: int | None = None) -> None:
        """Returns once the turn has come: after all that are in line, or after so many of them."""
        if not self.is_taken:
            self.is_taken = True
            return
        coming = asyncio.get_running_loop().create_future()
        self._waiting.insert(len(self._waiting) if behind is None else behind - 1, coming)
        try:
            await coming
        except asyncio.CancelledError:
            if not coming.cancelled():  # the turn had come
                self.leave()
            raise

    def leave(self) -> None:
        """Passes the turn on."""
        while self._waiting:
            coming = self._waiting.popleft()
            if not coming.cancelled():
                coming.set_result(None)
                return
        self.is_taken = False


@dataclass(slots=True)
class _Pace:
    bucket: TokenBucket
    replays: TokenBucket
    """The tokens of replays while others wait."""
    replay_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one delivery of replays that is in line with the others."""
    line: _Line = field(default_factory=_Line)
    used_at: float = 0.0
    rate: Rate | None = None
    """The rate that the bucket was filled by last."""
    filled_at: float = -math.inf


class Pacer:
    """Token buckets that follow the rates of subscriptions. Used in the event loop only."""

    def __init__(self, subscriptions: SubscriptionLookup, clock: Clock, limits: Limits) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._limits = limits
        self._by_id: dict[str, _Pace] = {}

    async def wait(self, subscription_id: str, epoch: int) -> None:
        """Returns when the subscription's next delivery may leave.

        Returns at once for a delivery that will not be sent, or to a broker, which has no pace. One lane
        waits for the next token and the others for their turn, so that a rate which falls meanwhile applies
        to everything that has not left yet.
        """
        subscription = to_be_sent(await self._subscriptions.current(subscription_id), epoch)
        if subscription is None or not subscription.is_paced:
            return
        pace = self._pace(subscription_id)
        if pace.line.is_taken or not self._takes_a_token(pace, subscription):
            await self._wait_in_line(pace, subscription_id, epoch)

    async def _wait_in_line(
        self, pace: _Pace, subscription_id: str, epoch: int, behind: int | None = None
    ) -> None:
        await pace.line.take(behind)
        try:
            while True:
                subscription = to_be_sent(await self._subscriptions.current(subscription_id), epoch)
                if subscription is None or self._takes_a_token(pace, subscription):
                    return
                seconds = self._seconds_to_wait(pace, subscription, self._clock.monotonic())
                await self._clock.sleep(min(seconds, LOOK_AGAIN_SECONDS))
        finally:
            pace.line.leave()

    async def wait_beside(
        self, subscription_id: str, epoch: int, replay_id: str, others_wait: Callable[[], bool]
    ) -> None:
        """Returns when the next delivery of the replay may leave.

        Returns at once for a delivery that will not be sent, or to a broker. One delivery of replays is in
        line with the others at a time, behind OTHERS_BEFORE_REPLAY of them at most. While `others_wait`,
        replays have at most REPLAY_SHARE of the rate.
        """
        if await self._sent_in(subscription_id, epoch, replay_id) is None:
            return
        pace = self._pace(subscription_id)
        async with pace.replay_turn:
            while (subscription := await self._sent_in(subscription_id, epoch, replay_id)) is not None:
                seconds = self._seconds_beside(pace.replays, subscription) if others_wait() else 0.0
                if seconds <= SHORTEST_WAIT:
                    await self._wait_in_line(pace, subscription_id, epoch, OTHERS_BEFORE_REPLAY)
                    return
                await self._clock.sleep(min(seconds, LOOK_AGAIN_SECONDS))

    def _seconds_beside(self, bucket: TokenBucket, subscription: Subscription) -> float:
        """Takes a token of those for replays if there is one; else returns how long to wait for it."""
        now = self._clock.monotonic()
        bucket.rate = REPLAY_SHARE * subscription.current_rate.at(self._clock.now(), self._limits)
        seconds = bucket.wait(now)
        if seconds <= SHORTEST_WAIT:
            bucket.take(now)
        return seconds

    async def _sent_in(self, subscription_id: str, epoch: int, replay_id: str) -> Subscription | None:
        """Returns the subscription if a delivery of the replay is sent to it, at a pace."""
        current = await self._subscriptions.current(subscription_id)
        subscription = to_be_sent(current, epoch, replay_id)
        return subscription if subscription is not None and subscription.is_paced else None

    def clean_up(self) -> None:
        """Forgets the buckets that rested for so long that they are full again, as new ones are."""
        before = self._clock.monotonic() - KEPT_SECONDS
        self._by_id = {
            key: pace
            for key, pace in self._by_id.items()
            if pace.used_at > before or pace.line.is_taken or pace.replay_turn.locked()
        }

    def _takes_a_token(self, pace: _Pace, subscription: Subscription) -> bool:
        """Takes a token. Returns False if there was none."""
        at = self._clock.monotonic()
        if self._seconds_to_wait(pace, subscription, at) > SHORTEST_WAIT:
            return False
        pace.used_at = at
        pace.bucket.take(at)
        return True

    def _seconds_to_wait(self, pace: _Pace, subscription: Subscription, at: float) -> float:
        rate, bucket, held = subscription.current_rate, pace.bucket, 0.0
        if rate is not pace.rate or not 0 <= at - pace.filled_at < RATE_SECONDS:
            now = self._clock.now()
            bucket.rate = rate.at(now, self._limits)
            bucket.burst = max(1.0, bucket.rate * BURST_SECONDS)
            held = rate.held_for(now)
            pace.rate, pace.filled_at = rate, at if held == 0 else -math.inf
        return max(held, bucket.wait(at))

    def _pace(self, subscription_id: str) -> _Pace:
        pace = self._by_id.get(subscription_id)
        if pace is None:
            minimum = self._limits.minimum
            pace = self._by_id[subscription_id] = _Pace(TokenBucket(minimum), TokenBucket(minimum))
            pace.used_at = self._clock.monotonic()
        return pace
