"""A feed that reads a recorded PIM over a real socket, on the store and the queue of one machine."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from event_platform.adapters.pim_rest import HttpsPimRest
from event_platform.domain.feeds import Feed
from event_platform.domain.tenants import Tenant
from event_platform.ports import PimRest
from support.fake_pim import FakePim
from support.feeding import Feeding, QuickClock, a_feed
from support.recorded_pim import CLIENT, PASSWORD, SECRET, USERNAME, RecordedPim, filled, serving

ROUND = 300
"""The seconds between two rounds."""


class Recording(Feeding):
    """A feed of a recorded PIM, which has made its first round."""

    def __init__(
        self, folder: Path, recorded: RecordedPim, clock: QuickClock, rest: PimRest, feed: Feed
    ) -> None:
        super().__init__(folder, clock, FakePim(clock), feed, Tenant(url=feed.tenant), rest=rest)
        self.recorded = recorded

    async def rounds(self, number: int) -> None:
        """Makes so many rounds, each when it is due."""
        for _ in range(number):
            self.clock.pass_by(max(ROUND, await self.round()))

    async def types(self) -> list[str]:
        """The types of the events so far, in their order and without what all begin with."""
        return [event.type for event in await self.events()]


WITHOUT_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once and of nothing: the recorded PIMs speak plain HTTP."""


@asynccontextmanager
async def recording(
    folder: Path,
    version: str = "7.0",
    edition: str = "enterprise",
    *,
    prepare: Callable[[RecordedPim], None] = lambda pim: None,
    **settings: Any,
) -> AsyncIterator[Recording]:
    """A feed of a filled PIM of that version and edition; `settings` are those of the feed.

    `prepare` is called with the PIM before the first round.
    """
    clock = QuickClock()
    pim = filled(version, edition, clock.now)
    prepare(pim)
    rest = HttpsPimRest(tls=WITHOUT_AUTHORITIES)
    async with serving(pim) as url:
        feed = a_feed(
            url,
            client_id=CLIENT,
            username=USERNAME,
            secret=SecretStr(SECRET),
            password=SecretStr(PASSWORD),
            **settings,
        )
        made = Recording(folder, pim, clock, rest, feed)
        await made.open()
        await made.set(feed)
        try:
            await made.rounds(1)
            yield made
        finally:
            await made.embedded.close()
            await rest.close()
