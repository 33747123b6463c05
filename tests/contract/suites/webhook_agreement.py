"""The suite of what notes the webhook beside a feed, `WebhookNotes` and `Webhooks`.

A subclass gives the fixture `world`.
"""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import pytest

from event_platform.domain.events import catalog
from event_platform.domain.events.event import Event
from event_platform.domain.feeds import Feed
from event_platform.domain.tenants import Tenant
from event_platform.feed import FeedReader, PimSession
from event_platform.feed.agreement import REMOVED_AT_ONCE
from event_platform.feed.changes import NOTHING_BROUGHT, Brought
from event_platform.feed.reading import Webhooks
from event_platform.ports import FeedStore, WebhookNotes
from support.clock import START
from support.fake_pim import FakePim, Killed
from support.feeding import Observed, QuickClock, a_feed, webhook_taken
from support.records import an_event

CATALOG = catalog.load()
PIM, OTHER = "https://pim.example.com", "https://other.example.com"
PRODUCT = "com.akeneo.pim.v1.product"
NOW = int(START.timestamp())


class Accepted(NamedTuple):
    """An event of the feed."""

    type: str
    identity: str
    time: str


class AgreementSide(Protocol):
    """Notes webhooks and keeps feeds, with their settings and events beside them."""

    clock: QuickClock

    @property
    def notes(self) -> WebhookNotes: ...

    @property
    def webhooks(self) -> Webhooks: ...

    @property
    def store(self) -> FeedStore: ...

    async def put(self, feed: Feed) -> None:
        """Sets up a feed, or changes its settings, and has them take effect."""
        ...

    async def remove(self, tenant: str) -> None:
        """Removes a feed, and has that take effect."""
        ...

    async def accepted(self) -> Sequence[Accepted]:
        """Returns the events that the feed has sent, in their order."""
        ...

    async def kill(self) -> None:
        """Ends what is in memory, as a kill does."""
        ...


class Beside:
    """A PIM whose webhook and feed are both read."""

    def __init__(self, world: AgreementSide, **settings: Any) -> None:
        self.world, self.clock = world, world.clock
        self.pim = FakePim(world.clock)
        self.tenant = Tenant.model_validate({"url": PIM, "events_api_secret": "the-secret-of-the-webhook"})
        self.feed = a_feed(PIM, resources=["products"], **settings)

    async def begun(self, products: int) -> None:
        """Sets up the feed of a PIM that has products."""
        for number in range(products):
            self.pim.add("products", f"p{number}")
        self.clock.pass_by(3600)
        await self.world.put(self.feed)
        await self.round()
        self.clock.pass_by(300)

    async def round(self) -> None:
        reader = FeedReader(
            self.feed,
            self.tenant,
            PimSession(self.pim, self.feed, self.clock),
            store=self.world.store,
            catalog=CATALOG,
            clock=self.clock,
            webhooks=self.world.webhooks,
            has_webhook=True,
            observer=Observed(),
        )
        await reader.read_all()

    async def kill_in_a_round(self) -> None:
        """Ends the platform in the middle of a round."""
        self.pim.kill_at_page()
        with pytest.raises(Killed):
            await self.round()
        await self.world.kill()

    async def webhook(self, *said: str) -> None:
        """Notes what the webhook says of a product as it is now."""
        taken = webhook_taken(self.pim, self.tenant, *said)
        await self.world.notes.note(PIM, taken.events, taken.updated)

    async def sent(self) -> Counter[str]:
        """Counts what the feed has sent, after some rounds more."""
        for _ in range(3):
            self.clock.pass_by(100)
            await self.round()
        return Counter(each.type.removeprefix("com.akeneo.pim.v1.") for each in await self.world.accepted())


class WebhookAgreementContract:
    """The suite; see the module."""

    @pytest.fixture
    async def world(self) -> AgreementSide:
        raise AssertionError("a subclass gives the world")

    async def test_the_newest_of_an_entity_is_known_and_that_it_was_created(
        self, world: AgreementSide
    ) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1), an_event(2)], [NOW, NOW])
        created = an_event(1, event_type=f"{PRODUCT}.created")
        await world.notes.note(PIM, [created, an_event(1)], [NOW - 5, NOW + 7])
        await world.notes.note(PIM, [an_event(1)], [NOW + 3])
        await world.webhooks.load(PIM, START)
        (identity,), (other,) = an_event(1).identity, an_event(2).identity
        assert world.webhooks.brought(PIM, f"{PRODUCT}.", (identity,)) == Brought(NOW + 7, True)
        assert world.webhooks.brought(PIM, f"{PRODUCT}.updated", (other,)) == Brought(NOW, False)
        assert world.webhooks.brought(PIM, f"{PRODUCT}-model.updated", (identity,)) == NOTHING_BROUGHT
        assert world.webhooks.brought(PIM, f"{PRODUCT}.updated", ("f",)) == NOTHING_BROUGHT

    async def test_an_entity_without_a_date_is_not_known(self, world: AgreementSide) -> None:
        await world.put(a_feed(PIM))
        await world.notes.note(PIM, [an_event(1)], [-1])
        await world.webhooks.load(PIM, START)
        assert world.webhooks.brought(PIM, f"{PRODUCT}.", an_event(1).identity) == NOTHING_BROUGHT

    async def test_what_came_later_is_known_after_the_next_call(self, world: AgreementSide) -> None:
        await world.put(a_feed(PIM))
        for number in range(3):
            await world.notes.note(PIM, [an_event(number)], [NOW])
            world.clock.pass_by(40)
            await world.webhooks.load(PIM, START)
            assert world.webhooks.brought(PIM, f"{PRODUCT}.", an_event(number).identity) == Brought(NOW)

    async def test_removals_are_taken_once_by_their_kind(self, world: AgreementSide) -> None:
        await world.put(a_feed(PIM))
        model = an_event(1, entity="shoe", event_type=f"{PRODUCT}-model.deleted")
        gone: list[Event] = [
            an_event(number, event_type=f"{PRODUCT}.deleted") for number in range(REMOVED_AT_ONCE + 5)
        ]
        await world.notes.note(PIM, [model, *gone], [-1] * (len(gone) + 1))
        await world.webhooks.load(PIM, START)
        first = world.webhooks.take_removed(PIM, PRODUCT)
        assert len(first) == REMOVED_AT_ONCE
        assert [*first, *world.webhooks.take_removed(PIM, PRODUCT)] == [event.identity for event in gone]
        assert not world.webhooks.take_removed(PIM, PRODUCT)
        assert world.webhooks.take_removed(PIM, f"{PRODUCT}-model") == [("shoe",)]

    async def test_pims_are_apart(self, world: AgreementSide) -> None:
        await world.put(a_feed(PIM))
        await world.put(a_feed(OTHER))
        await world.notes.note(PIM, [an_event(1)], [NOW])
        for pim in (PIM, OTHER):
            await world.webhooks.load(pim, START)
        assert world.webhooks.brought(PIM, f"{PRODUCT}.", an_event(1).identity) == Brought(NOW)
        assert world.webhooks.brought(OTHER, f"{PRODUCT}.", an_event(1).identity) == NOTHING_BROUGHT

    async def test_only_of_a_pim_with_a_feed_is_anything_wanted(self, world: AgreementSide) -> None:
        assert not world.notes.wants(PIM)
        await world.put(a_feed(PIM))
        assert world.notes.wants(PIM)
        assert not world.notes.wants(OTHER)
        await world.put(a_feed(PIM, is_off=True))
        assert not world.notes.wants(PIM)
        await world.put(a_feed(PIM, resources=["families"]))
        assert not world.notes.wants(PIM)
        await world.put(a_feed(PIM, resources=["families", "product-models"]))
        assert world.notes.wants(PIM)
        await world.remove(PIM)
        assert not world.notes.wants(PIM)

    async def test_beside_a_healthy_webhook_the_feed_sends_nothing(self, world: AgreementSide) -> None:
        beside = Beside(world)
        await beside.begun(3)
        for number in range(3):
            beside.pim.change("products", f"p{number}")
            await beside.webhook(f"p{number}")
            beside.clock.pass_by(7)
        beside.pim.add("products", "new")
        await beside.webhook("new", "product.created")
        assert await beside.sent() == {}

    async def test_a_change_whose_webhook_was_lost_comes_by_the_feed(self, world: AgreementSide) -> None:
        beside = Beside(world)
        await beside.begun(2)
        beside.pim.change("products", "p0")
        await beside.webhook("p0")
        beside.clock.pass_by(5)
        beside.pim.change("products", "p0")
        beside.pim.add("products", "new")
        beside.clock.pass_by(5)
        beside.pim.change("products", "new")
        await beside.webhook("new")
        assert await beside.sent() == {"product.created": 1, "product.updated": 1}

    async def test_a_deletion_that_the_webhook_told_is_not_sent_again(self, world: AgreementSide) -> None:
        beside = Beside(world, sweep="daily")
        await beside.begun(50)
        for code in ("p7", "p8"):
            beside.pim.remove("products", code)
        await beside.webhook("p7", "product.removed")
        await beside.round()
        beside.clock.pass_by(86_400)
        assert await beside.sent() == {"product.deleted": 1}

    async def test_a_busy_pim_with_lost_and_late_webhooks_and_kills(self, world: AgreementSide) -> None:
        chance = random.Random(26)
        beside = Beside(world)
        await beside.begun(15)
        late: list[str] = []
        made: Counter[tuple[str, int]] = Counter()
        newest: dict[str, int] = {}
        for number in range(60):
            beside.clock.pass_by(5)
            code = f"p{chance.randrange(15)}"
            updated = int(beside.pim.change("products", code).updated.timestamp())
            made[beside.pim.uuid_of(code), updated] += 1
            if number % 3 == 1:
                await beside.webhook(code)
                newest[beside.pim.uuid_of(code)] = updated
            elif number % 10 == 2:
                late.append(code)
            if number in (20, 40):
                await beside.kill_in_a_round()
        await beside.sent()
        for code in late:
            await beside.webhook(code)
        await beside.sent()
        of_feed: Counter[tuple[str, int]] = Counter()
        for each in await world.accepted():
            at = int(datetime.fromisoformat(each.time).timestamp())
            of_feed[each.identity, at] += 1
            newest[each.identity] = max(at, newest.get(each.identity, at))
        assert newest == {identity: max(at for each, at in made if each == identity) for identity, _ in made}
        assert max(of_feed.values()) == 1
        assert set(of_feed) <= set(made)
