"""The feed of a PIM in memory, on the store and the queue of one machine, by a clock that moves itself."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from aep.broker.feed_store import SqliteFeedStore
from aep.store import feeds
from event_platform.domain.events import catalog
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.domain.ingest_formats import events_api
from event_platform.domain.tenants import Tenant, Way
from event_platform.feed import FeedReader, PimSession, WebhookMemory
from event_platform.ports import PimRest
from support.clock import ManualClock
from support.embedded import SEAL, Embedded
from support.fake_pim import PASSWORD, SECRET, FakePim


class QuickClock(ManualClock):
    """A clock on which time passes for whoever sleeps, at once."""

    async def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Seen(NamedTuple):
    """An event that was accepted."""

    type: str
    identity: str
    time: str
    id: str
    data: dict[str, Any]


class Observed:
    """The port `FeedObserver`, which counts."""

    def __init__(self) -> None:
        self.events = 0
        self.failures: list[tuple[str, str]] = []

    def read(self, feed: Feed, resource: ResourceName, state: ResourceState, events: int) -> None:
        self.events += events

    def failed(self, feed: Feed, resource: ResourceName, reason: str) -> None:
        self.failures.append((resource, reason))


class Feeding:
    """A feed and its PIM. `round` makes one round of all resources, at once."""

    def __init__(
        self,
        folder: Path,
        clock: QuickClock,
        pim: FakePim,
        feed: Feed,
        tenant: Tenant,
        *,
        rest: PimRest | None = None,
    ) -> None:
        self.folder, self.clock, self.pim, self.feed, self.tenant = folder, clock, pim, feed, tenant
        self._rest: PimRest = rest or pim
        self.observed = Observed()
        self._open()

    def _open(self) -> None:
        self.embedded = Embedded(self.folder, time=self.clock)
        self.memory = WebhookMemory(self.clock.monotonic)
        self.memory.watch([self.tenant.name])
        self.store = SqliteFeedStore(self.embedded.database, self.embedded.queue)
        self.session = PimSession(self._rest, self.feed, self.clock)
        self.reader = FeedReader(
            self.feed,
            self.tenant,
            self.session,
            store=self.store,
            catalog=catalog.load(),
            clock=self.clock,
            webhooks=self.memory,
            has_webhook=bool(self.tenant.events_api_secret),
            observer=self.observed,
        )

    async def open(self) -> None:
        await self.embedded.open()

    async def set(self, feed: Feed) -> None:
        await self.embedded.database.write(lambda connection: feeds.put(connection, feed, SEAL))

    async def change(self, feed: Feed) -> None:
        """Changes the settings, with which the feed begins anew."""
        await self.set(feed)
        self.feed = feed
        await self.restart()

    async def round(self) -> float:
        return await self.reader.read_all()

    async def restart(self) -> None:
        """Ends as a kill does: what is in memory is gone."""
        await self.embedded.close()
        self._open()
        await self.open()

    async def state(self, resource: ResourceName = ResourceName.PRODUCTS) -> ResourceState:
        return (await self.store.states(self.tenant.name)).get(resource, ResourceState())

    async def events(self, way: Way = Way.FEED) -> list[Seen]:
        rows = await self.embedded.rows(
            f"SELECT type, identity, time, id, data_json FROM kept WHERE way = '{way.value}' ORDER BY no"  # noqa: S608
        )
        return [
            Seen(
                kind.removeprefix("com.akeneo.pim.v1."),
                "/".join(json.loads(identity)),
                time,
                event_id,
                json.loads(data),
            )
            for kind, identity, time, event_id, data in rows
        ]

    async def told(self) -> list[tuple[str, str]]:
        """The types of the feed's events, and the code of what each is about."""
        return [
            (each.type, each.data[_entity(each.data)].get("identifier") or each.identity)
            for each in await self.events()
        ]

    async def webhook(self, code: str, action: str = "product.updated") -> None:
        """Takes in what the PIM's webhook says of a product as it is now."""
        taken = webhook_taken(self.pim, self.tenant, code, action)
        await self.embedded.queue.accept(self.tenant.name, taken.events, way=Way.EVENTS_API)
        await self.memory.note(self.tenant.name, taken.events, taken.updated)


def webhook_taken(pim: FakePim, tenant: Tenant, *said: str) -> events_api.Taken:
    """Returns ingest's events of a webhook about a product as it is: `said` are its code and the action."""
    body = json.dumps({"events": [pim.said(*said)]}).encode()
    taken = events_api.read(body, tenant, catalog.load(), with_updated=True)
    assert not taken.problems, taken.problems
    return taken


def _entity(data: dict[str, Any]) -> str:
    return next(name for name in data if name != "author")


def a_feed(url: str = "https://pim.example.com", **more: Any) -> Feed:
    return Feed.model_validate(
        {
            "tenant": url,
            "client_id": "1_client",
            "username": "feed_1234",
            "secret": SecretStr(SECRET),
            "password": SecretStr(PASSWORD),
            "version": "1",
            **more,
        }
    )


@asynccontextmanager
async def feeding(
    folder: Path, *, has_webhook: bool = False, pim: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Feeding]:
    """A feed with these settings, of a PIM made with `pim`."""
    clock = QuickClock()
    fake = FakePim(clock, **(pim or {}))
    secrets = {"events_api_secret": "the-secret-of-the-webhook"} if has_webhook else {}
    tenant = Tenant.model_validate({"url": fake.url, **secrets})
    made = Feeding(folder, clock, fake, a_feed(fake.url, **settings), tenant)
    await made.open()
    await made.set(made.feed)
    try:
        yield made
    finally:
        await made.embedded.close()
