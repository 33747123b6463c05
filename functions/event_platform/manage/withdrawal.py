"""Suspends the subscriptions of a client whose permission "Event Platform" was taken away."""

from cachetools import TTLCache

from ..domain.record.actions import Action, Actor
from ..domain.subscriptions import Owner, Status, Subscription, suspend
from ..ports import Clock, Subscriptions
from .identity import REMEMBERED, Caller

CHECKED_EVERY_SECONDS = 60
ACTION = Action(Actor.PLATFORM, reason="the connection has no Event Platform permission in the PIM any more")


class Withdrawals:
    """Acts on what a token check found (contract/wire.md 1), once in a while and not for each call."""

    def __init__(self, subscriptions: Subscriptions, clock: Clock) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._done: TTLCache[Owner, bool] = TTLCache(REMEMBERED, CHECKED_EVERY_SECONDS, clock.monotonic)

    async def checked(self, caller: Caller) -> None:
        """Suspends the active subscriptions of a caller without the permission. Raises StoreUnavailable."""
        if caller.may_subscribe:
            self._done.pop(caller.owner, None)
        elif caller.owner not in self._done:
            await self._suspend(caller.owner)
            self._done[caller.owner] = True

    async def _suspend(self, owner: Owner) -> None:
        now = self._clock.now()

        def suspended(subscription: Subscription) -> Subscription:
            return suspend(subscription, now) if subscription.status is Status.ACTIVE else subscription

        for subscriber in await self._subscriptions.subscribers(owner):
            await self._subscriptions.change_subscriber(
                owner, subscriber.id, lambda same: same, and_subscriptions=suspended, action=ACTION
            )
