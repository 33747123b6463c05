"""What every outbox must do: the port `Outbox`, and that a change fills it in the same commit.

A subclass gives the fixture `world`, empty at the start of each test.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from clock import START, ManualClock
from event_platform.domain.actions import BY_THE_PLATFORM, Action, Actor
from event_platform.domain.errors import Conflict
from event_platform.domain.notifications import Kind, Pending
from event_platform.domain.subscriptions import (
    Status,
    Subscription,
    delete_subscriber,
    delete_subscription,
    resume,
    suspend,
)
from event_platform.ports import Outbox, Subscriptions
from records import OWNER, a_subscriber, a_subscription

BY_THE_USER = Action(Actor.USER)
SOON = timedelta(minutes=5)
"""By then a notification is due, whoever was to publish it."""


@dataclass
class World:
    """A store of records, its outbox and its clock."""

    subscriptions: Subscriptions
    outbox: Outbox
    clock: ManualClock

    async def due(self) -> Sequence[Pending]:
        await self.clock.advance(SOON.total_seconds())
        return await self.outbox.due(100)

    async def subscribed(self, number: int = 1) -> list[Subscription]:
        subscriber = a_subscriber()
        await self.subscriptions.add_subscriber(subscriber, limit=20, action=BY_THE_USER)
        made = [a_subscription(subscriber) for _ in range(number)]
        for subscription in made:
            await self.subscriptions.add_subscription(
                subscription, lambda _: None, limit=20, action=BY_THE_USER
            )
        return made

    async def change(
        self,
        subscription: Subscription,
        change: Callable[[Subscription], Subscription],
        action: Action = BY_THE_USER,
    ) -> None:
        await self.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, change, action=action
        )


class OutboxContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> World:
        raise AssertionError("a subclass gives the world")

    async def test_a_change_of_status_is_in_the_outbox_as_it_was(self, world: World) -> None:
        (subscription,) = await world.subscribed()
        because = Action(Actor.PLATFORM, reason="the endpoint answered 404")
        await world.change(subscription, partial(suspend, now=START), because)
        ((notification, attempts),) = [(each.notification, each.mail_attempts) for each in await world.due()]
        assert (notification.kind, notification.reason) == (Kind.SUSPENDED_BY_SYSTEM, because.reason)
        assert (notification.at, notification.owner, attempts) == (START, OWNER, 0)
        assert notification.subject == subscription.subject
        (about,) = notification.about
        assert (about.subscription_id, about.destination, about.events) == (
            subscription.id,
            subscription.config.destination,
            subscription.events,
        )

    async def test_creation_other_changes_and_none_leave_it_empty(self, world: World) -> None:
        (subscription,) = await world.subscribed()
        await world.change(subscription, lambda before: replace(before, send_product_identifier=True))
        await world.change(subscription, partial(resume, now=START))  # which it need not
        assert await world.due() == []

    async def test_a_change_that_raises_leaves_it_empty(self, world: World) -> None:
        (subscription,) = await world.subscribed()

        def refuse(before: Subscription) -> Subscription:
            raise Conflict("no")

        with pytest.raises(Conflict):
            await world.change(subscription, refuse)
        assert await world.due() == []

    async def test_a_repeated_suspension_is_one_notification(self, world: World) -> None:
        (subscription,) = await world.subscribed()
        for _ in range(3):
            await world.change(subscription, partial(suspend, now=START))
        assert [each.notification.kind for each in await world.due()] == [Kind.SUSPENDED_BY_USER]

    async def test_a_subscriber_deleted_with_its_subscriptions_is_one_notification(
        self, world: World
    ) -> None:
        made = await world.subscribed(3)
        await world.subscriptions.change_subscriber(
            OWNER,
            made[0].subscriber_id,
            partial(delete_subscriber, now=START),
            and_subscriptions=partial(delete_subscription, now=START),
            action=BY_THE_USER,
        )
        (notification,) = [each.notification for each in await world.due()]
        assert notification.kind is Kind.SUBSCRIBER_DELETED
        assert {about.subscription_id for about in notification.about} == {each.id for each in made}

    async def test_a_subscriber_revoked_with_its_subscriptions_is_one_for_each(self, world: World) -> None:
        made = await world.subscribed(2)
        await world.subscriptions.change_subscriber(
            OWNER,
            made[0].subscriber_id,
            lambda before: replace(before, status=Status.REVOKED),
            and_subscriptions=lambda before: replace(before, status=Status.REVOKED),
            action=BY_THE_PLATFORM,
        )
        found = [each.notification for each in await world.due()]
        assert [each.kind for each in found] == [Kind.REVOKED, Kind.REVOKED]
        assert {each.subscription_id for each in found} == {each.id for each in made}

    async def test_what_was_told_is_gone(self, world: World) -> None:
        for subscription in await world.subscribed(2):
            await world.change(subscription, partial(suspend, now=START))
        first, second = await world.due()
        await world.outbox.settle(first, None)
        await world.outbox.settle(first, None)  # harmless
        assert await world.due() == [second]

    async def test_a_mail_that_was_not_taken_comes_again_at_its_time(self, world: World) -> None:
        (subscription,) = await world.subscribed()
        await world.change(subscription, partial(suspend, now=START))
        (pending,) = await world.due()
        await world.outbox.settle(pending, world.clock.now() + 2 * SOON)
        assert await world.due() == []
        (again,) = await world.due()
        assert (again.notification, again.mail_attempts) == (pending.notification, 1)

    async def test_the_longest_due_come_first_and_no_more_than_asked_for(self, world: World) -> None:
        made = await world.subscribed(3)
        for minutes, subscription in zip((2, 0, 1), made, strict=True):
            await world.change(subscription, partial(suspend, now=START + timedelta(minutes=minutes)))
        await world.clock.advance(2 * SOON.total_seconds())
        found = [each.notification.subscription_id for each in await world.outbox.due(2)]
        assert found == [made[1].id, made[2].id]
