"""What every outbox must do: the port `Outbox`, and that a change fills it in the same commit.

A subclass gives the fixture `world`, empty at the start of each test.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from event_platform.domain.errors import Conflict
from event_platform.domain.record.actions import BY_THE_PLATFORM, Action, Actor
from event_platform.domain.record.notifications import FIRST_OF_OWNER, Allowance, Kind, Pending
from event_platform.domain.subscriptions import (
    Owner,
    Status,
    Subscription,
    delete_subscriber,
    delete_subscription,
    resume,
    suspend,
)
from event_platform.ports import Outbox, Subscriptions
from support.clock import START, ManualClock
from support.records import OWNER, a_subscriber, a_subscription

BY_THE_USER = Action(Actor.USER)
SOON = timedelta(minutes=5)
"""By then a notification is due, whoever was to publish it."""


@dataclass
class OutboxSide:
    """A store of records, its outbox and its clock."""

    subscriptions: Subscriptions
    outbox: Outbox
    clock: ManualClock

    async def due(self) -> Sequence[Pending]:
        await self.clock.advance(SOON.total_seconds())
        return await self.outbox.due(100)

    async def subscribed(self, number: int = 1, owner: Owner = OWNER) -> list[Subscription]:
        subscriber = a_subscriber(owner)
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
            subscription.owner, subscription.subscriber_id, subscription.id, change, action=action
        )


class OutboxContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> OutboxSide:
        raise AssertionError("a subclass gives the world")

    async def test_a_change_of_status_is_in_the_outbox_as_it_was(self, world: OutboxSide) -> None:
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

    async def test_creation_other_changes_and_none_leave_it_empty(self, world: OutboxSide) -> None:
        (subscription,) = await world.subscribed()
        await world.change(subscription, lambda before: replace(before, send_product_identifier=True))
        await world.change(subscription, partial(resume, now=START))  # which it need not
        assert await world.due() == []

    async def test_a_change_that_raises_leaves_it_empty(self, world: OutboxSide) -> None:
        (subscription,) = await world.subscribed()

        def refuse(before: Subscription) -> Subscription:
            raise Conflict("no")

        with pytest.raises(Conflict):
            await world.change(subscription, refuse)
        assert await world.due() == []

    async def test_a_repeated_suspension_is_one_notification(self, world: OutboxSide) -> None:
        (subscription,) = await world.subscribed()
        for _ in range(3):
            await world.change(subscription, partial(suspend, now=START))
        assert [each.notification.kind for each in await world.due()] == [Kind.SUSPENDED_BY_USER]

    async def test_a_subscriber_deleted_with_its_subscriptions_is_one_notification(
        self, world: OutboxSide
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

    async def test_a_subscriber_revoked_with_its_subscriptions_is_one_for_each(
        self, world: OutboxSide
    ) -> None:
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

    async def test_what_was_told_is_gone(self, world: OutboxSide) -> None:
        for subscription in await world.subscribed(2):
            await world.change(subscription, partial(suspend, now=START))
        first, second = await world.due()
        await world.outbox.settle(first, None)
        await world.outbox.settle(first, None)  # harmless
        assert await world.due() == [second]

    async def test_a_mail_that_was_not_taken_comes_again_at_its_time(self, world: OutboxSide) -> None:
        (subscription,) = await world.subscribed()
        await world.change(subscription, partial(suspend, now=START))
        (pending,) = await world.due()
        await world.outbox.settle(pending, world.clock.now() + 2 * SOON)
        assert await world.due() == []
        (again,) = await world.due()
        assert (again.notification, again.mail_attempts) == (pending.notification, 1)

    async def test_the_longest_due_come_first_and_no_more_than_asked_for(self, world: OutboxSide) -> None:
        made = await world.subscribed(3)
        for minutes, subscription in zip((2, 0, 1), made, strict=True):
            await world.change(subscription, partial(suspend, now=START + timedelta(minutes=minutes)))
        await world.clock.advance(2 * SOON.total_seconds())
        found = [each.notification.subscription_id for each in await world.outbox.due(2)]
        assert found == [made[1].id, made[2].id]

    async def test_what_is_held_is_found_by_its_subscriber_and_due_at_its_time(
        self, world: OutboxSide
    ) -> None:
        made = [*await world.subscribed(3), *await world.subscribed()]
        for subscription in made:
            await world.change(subscription, partial(suspend, now=START))
        first, second, third, other = await world.due()
        later = world.clock.now() + 3 * SOON
        await world.outbox.hold(second, later, mail_attempts=0)
        await world.outbox.hold(first, later, mail_attempts=1)
        await world.outbox.hold(other, later, mail_attempts=0)
        assert await world.due() == [third]
        held = await world.outbox.held(made[0].subscriber_id, 10)
        assert [(each.notification, each.mail_attempts, each.is_held) for each in held] == [
            (first.notification, 1, True),
            (second.notification, 0, True),
        ]
        assert len(await world.outbox.held(made[0].subscriber_id, 1)) == 1
        await world.due()
        assert len(await world.due()) == 4

    async def test_what_was_merged_leaves_with_the_one_that_was_told(self, world: OutboxSide) -> None:
        made = await world.subscribed(3)
        for subscription in made:
            await world.change(subscription, partial(suspend, now=START))
        for each in await world.due():
            await world.outbox.hold(each, world.clock.now(), mail_attempts=0)
        first, second, third = await world.outbox.held(made[0].subscriber_id, 10)
        again_at = world.clock.now() + SOON
        await world.outbox.settle(first, again_at, [second])
        held = await world.outbox.held(made[0].subscriber_id, 10)
        assert [each.mail_attempts for each in held] == [1, 1, 0]
        assert [each.notification for each in await world.due()] == [third.notification, first.notification]
        await world.outbox.settle(first, None, [second, third])
        assert await world.outbox.held(made[0].subscriber_id, 10) == []
        await world.outbox.hold(second, again_at, mail_attempts=1)  # harmless
        assert await world.due() == []

    async def test_an_allowance_is_counted_for_an_hour(self, world: OutboxSide) -> None:
        allowance = Allowance("ours", "address", own=2, shared=10)
        assert [await world.outbox.count([allowance]) for _ in range(3)] == [True, True, False]
        await world.clock.advance(3600)
        assert await world.outbox.count([allowance])

    async def test_the_allowance_of_an_address_is_shared_and_leaves_each_owner_the_first(
        self, world: OutboxSide
    ) -> None:
        hostile = Allowance("hostile", "address", own=10, shared=5)
        assert [await world.outbox.count([hostile]) for _ in range(6)] == [True] * 5 + [False]
        other = Allowance("other", "address", own=10, shared=5)
        counted = [await world.outbox.count([other]) for _ in range(FIRST_OF_OWNER + 1)]
        assert counted == [True] * FIRST_OF_OWNER + [False]

    async def test_nothing_is_counted_if_one_of_several_allowances_is_used_up(
        self, world: OutboxSide
    ) -> None:
        used_up = Allowance("a", "a shared", own=0, shared=10)
        other = Allowance("b", "b shared", own=1, shared=10)
        assert not await world.outbox.count([other, used_up])
        assert await world.outbox.count([other])

    async def test_of_many_at_once_only_so_many_are_counted(self, world: OutboxSide) -> None:
        allowance = Allowance("ours", "address", own=3, shared=10)
        counted = await asyncio.gather(*[world.outbox.count([allowance]) for _ in range(8)])
        assert sum(counted) == 3
