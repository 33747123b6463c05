"""The feed over sockets, of the simulated PIM of `aep sim`, which was not written beside it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from aep.sandbox.pim import kinds
from aep.sandbox.pim.kinds import Edition
from event_platform.adapters.pim_rest import HttpsPimRest
from event_platform.domain.events import catalog
from event_platform.domain.feeds import ResourceName
from event_platform.domain.tenants import Tenant
from support.fake_pim import FakePim
from support.feeding import Feeding, QuickClock, a_feed
from support.simulated_pim import ERP, PimReader, simulated_pim

CREATED_OR_UPDATED = {
    "product",
    "product-model",
    "attribute",
    "attribute-group",
    "family",
    "category",
    "asset",
    "reference-entity-record",
}


FRESH = "5e1f6b1c-8f2d-4b57-9a1c-2f6d0c1b7a55"


class Both:
    """A simulated PIM and the feed of it, by one time."""

    def __init__(self, pim: PimReader, feed: Feeding) -> None:
        self.pim, self.feed = pim, feed
        self.pass_by(0)

    def pass_by(self, seconds: float) -> None:
        self.feed.clock.pass_by(seconds)
        self.pim.clock.moment = self.feed.clock.now()

    async def round(self) -> float:
        return await self.feed.round()

    def change(self, event_type: str) -> None:
        """Applies an event of a type to an entity that the PIM does not have at first."""
        data = deepcopy(catalog.load()[event_type].example)
        entity = next(part for name, part in data.items() if name != "author")
        entity |= {"uuid": FRESH, "identifier": "fresh"} if "uuid" in entity else {"code": "fresh"}
        self.pim.catalogue.apply(event_type, data)


@asynccontextmanager
async def both(folder: Path, settings: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Both]:
    async with simulated_pim(**options) as pim:
        rest = HttpsPimRest()
        clock = QuickClock()
        who = {
            "client_id": ERP.client_id,
            "username": ERP.username,
            "secret": ERP.secret,
            "password": ERP.password,
        }
        feed = Feeding(
            folder,
            clock,
            FakePim(clock),
            a_feed(pim.url, **who, **(settings or {})),
            Tenant.model_validate({"url": pim.url}),
            rest=rest,
        )
        await feed.open()
        await feed.set(feed.feed)
        try:
            yield Both(pim, feed)
        finally:
            await rest.close()
            await feed.embedded.close()


def types(action: str, entities: set[str]) -> set[str]:
    return {f"com.akeneo.pim.v1.{entity}.{action}" for entity in entities}


@pytest.mark.parametrize("edition", list(Edition))
async def test_each_type_of_each_edition_comes(edition: Edition, tmp_path: Path) -> None:
    async with both(tmp_path, edition=edition) as pim:
        await pim.round()
        assert await pim.feed.events() == []
        entities = CREATED_OR_UPDATED
        if edition is Edition.COMMUNITY:
            entities = entities - {"asset", "reference-entity-record"}
        pim.pass_by(300)
        for event_type in sorted(types("created", entities)):
            pim.change(event_type)
        pim.pass_by(300)
        await pim.round()
        came = {f"com.akeneo.pim.v1.{each.type}" for each in await pim.feed.events()}
        assert came == types("created", entities)
        for event_type in sorted(types("updated", entities)):
            pim.change(event_type)
        for _ in range(2):
            pim.pass_by(300)
            await pim.round()
        came = {f"com.akeneo.pim.v1.{each.type}" for each in await pim.feed.events()}
        assert came == types("created", entities) | types("updated", entities)
        missing = (await pim.feed.state(ResourceName.ASSETS)).missing
        assert missing == (edition is Edition.COMMUNITY)


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/St_Johns"])
async def test_a_pim_in_another_zone_behind_a_proxy_that_throttles(zone: str, tmp_path: Path) -> None:
    options = {"zone": ZoneInfo(zone), "is_behind_proxy": True, "throttle": 4, "products": 250}
    async with both(tmp_path, {"resources": ["products"]}, **options) as pim:
        for _ in range(3):  # the token, the attribute and a page may each be throttled
            pim.pass_by(max(1.0, await pim.round()))
        pim.pass_by(300)
        begun = len(await pim.feed.events())
        assert begun == 0
        example = "com.akeneo.pim.v1.product.updated"
        pim.change(example)
        for _ in range(4):
            pim.pass_by(max(1.0, await pim.round()))
        (event,) = await pim.feed.events()
        assert event.type in ("product.updated", "product.created")
        assert pim.feed.clock.now() - datetime.fromisoformat(event.time) < timedelta(hours=1)


async def test_a_backfill_asks_for_100_products_at_a_time(tmp_path: Path) -> None:
    since = datetime(2000, 1, 1, tzinfo=UTC)
    settings = {"resources": ["products"], "since": since, "timezone": "UTC"}
    async with both(tmp_path, settings, products=1000) as pim:
        held = len(list(pim.pim.catalogue.after(kinds.PRODUCT, (), None)))
        await pim.round()
        events = [each for each in await pim.feed.events() if each.type == "product.created"]
        assert len(events) == held >= 1000
        assert pim.feed.session.calls <= held / 100 + 10
