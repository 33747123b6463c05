"""The feed of one PIM: its rounds, and its sweeps in the time that rounds leave."""

from ..domain.events.catalog import Catalog
from ..domain.feeds import Feed
from ..domain.tenants import Tenant
from ..ports import Clock, FeedStore
from .errors import PimTrouble
from .reading import FIRST_BACKOFF, LONGEST_BACKOFF, FeedObserver, RoundReader, Webhooks
from .session import PimSession
from .sweeps import Sweeper


class FeedReader:
    """Reads what has changed in one PIM, and what is gone. It belongs to one set of settings.

    `has_webhook` says whether its changes are given the time that a webhook takes to come.
    """

    def __init__(
        self,
        feed: Feed,
        tenant: Tenant,
        session: PimSession,
        *,
        store: FeedStore,
        catalog: Catalog,
        clock: Clock,
        webhooks: Webhooks,
        has_webhook: bool,
        observer: FeedObserver,
    ) -> None:
        self.feed = feed
        self._clock = clock
        self._rounds = RoundReader(
            feed,
            tenant,
            session,
            store=store,
            catalog=catalog,
            clock=clock,
            webhooks=webhooks,
            has_webhook=has_webhook,
            observer=observer,
        )
        self._sweeper = Sweeper(self._rounds)
        self._troubles = 0

    async def read_all(self) -> float:
        """Makes a round of each resource, and goes on with sweeps.

        Returns after how many seconds to make the next round. Raises FeedReplaced, StoreUnavailable.
        """
        next_at = self._clock.monotonic() + self.feed.every
        try:
            await self._rounds.read_all()
            if self.feed.sweep == "daily":
                await self._sweeper.go_on(next_at)
        except PimTrouble as trouble:
            self._troubles += 1
            backoff = min(FIRST_BACKOFF * 2 ** (self._troubles - 1), LONGEST_BACKOFF)
            return max(trouble.retry_after or 0.0, backoff)
        self._troubles = 0
        return max(0.0, next_at - self._clock.monotonic())
