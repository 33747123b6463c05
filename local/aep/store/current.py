"""The subscriptions in memory by their ids, which every change of one brings up to date."""

from collections.abc import Awaitable, Callable, Iterable

from event_platform.domain.subscriptions import Subscription

SUBSCRIPTIONS_KEPT = 10_000
"""The subscriptions that are kept in memory, some 15 MB."""


class CurrentSubscriptions:
    """The subscriptions that were asked for or changed, as far as there is room. For an event loop only."""

    def __init__(self) -> None:
        self.by_id: dict[str, Subscription] = {}
        self._times_forgotten = 0

    async def read(
        self, subscription_id: str, read: Callable[[], Awaitable[Subscription | None]]
    ) -> Subscription | None:
        """Returns a subscription that `by_id` did not have, and keeps it; None if there is none."""
        while True:
            forgotten = self._times_forgotten
            found = await read()
            if found is None:
                return None
            # A change that was committed while we read has put its newer record there already.
            if (known := self.by_id.get(subscription_id)) is not None:
                return known
            if forgotten == self._times_forgotten:  # else a change may have been forgotten with the others
                self.remember([found])
                return found

    def remember(self, subscriptions: Iterable[Subscription]) -> None:
        """Keeps the changed subscriptions in place of what was known of them."""
        for each in subscriptions:
            if len(self.by_id) >= SUBSCRIPTIONS_KEPT and each.id not in self.by_id:
                self.by_id.clear()
                self._times_forgotten += 1
            self.by_id[each.id] = each

    def forget(self, ids: Iterable[str]) -> None:
        """Drops these subscriptions."""
        for subscription_id in ids:
            self.by_id.pop(subscription_id, None)
