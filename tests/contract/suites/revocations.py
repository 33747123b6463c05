"""The end of a client's records when its connection or App is removed from the PIM (contract/wire.md 5).

A subclass gives the fixture `world`. On one machine the records change in the commit that accepts the event,
on Google Cloud in fan-out; what changes is the same.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol

import pytest

from contract.suites.broker import a_removal
from event_platform.domain.events.event import Event
from event_platform.domain.record.logs import LogEntry, LogQuery
from event_platform.domain.subscriptions import (
    Owner,
    Status,
    Subscriber,
    Subscription,
    delete_subscription,
    suspend,
)
from event_platform.ports import Logs, Subscriptions
from support.clock import START
from support.records import OWNER, PIM, a_subscriber, a_subscription, with_data

NEWEST_FIRST = LogQuery(limit=1000)
HOUR = timedelta(hours=1)
SHOP = Owner(PIM, "shop")
ELSEWHERE = Owner("https://other.example.com", OWNER.client_id)


class RevocationsSide(Protocol):
    """The parts that the suite works with."""

    logs: Logs
    subscriptions: Subscriptions

    async def take(self, tenant: str, event: Event) -> None:
        """Accepts the event at START, and returns when it was fanned out."""
        ...


async def a_client(
    world: RevocationsSide, owner: Owner = OWNER, **more: object
) -> tuple[Subscriber, Subscription]:
    """Adds a subscriber with a subscription."""
    subscriber = a_subscriber(owner, **more)  # pyright: ignore[reportArgumentType] - passed on
    await world.subscriptions.add_subscriber(subscriber, limit=20)
    return subscriber, await another(world, subscriber)


async def another(world: RevocationsSide, subscriber: Subscriber) -> Subscription:
    """Adds a subscription to a subscriber."""
    subscription = a_subscription(subscriber)
    await world.subscriptions.add_subscription(subscription, lambda _: None, limit=20)
    return subscription


async def statuses(world: RevocationsSide, subscriber: Subscriber) -> list[Status]:
    """The status of a subscriber and those of its subscriptions."""
    store, owner = world.subscriptions, subscriber.owner
    records = [
        await store.subscriber(owner, subscriber.id),
        *await store.subscriptions(owner, subscriber.id),
    ]
    return [record.status for record in records]


async def revocations(world: RevocationsSide, owner: Owner = OWNER) -> list[LogEntry]:
    """The entries that say that something of an owner was revoked."""
    entries = await world.logs.entries(owner, NEWEST_FIRST)
    return [entry for entry in entries if "_revoked_" in entry.operation]


class RevocationsContract:
    """The suite; see the module."""

    @pytest.fixture
    async def world(self) -> RevocationsSide:
        raise AssertionError("a subclass gives the world")

    @pytest.mark.parametrize("noun", ["connection", "app"])
    @pytest.mark.provokes("client.revoked")
    async def test_all_that_a_removed_client_has_is_revoked_by_the_platform(
        self, world: RevocationsSide, noun: str
    ) -> None:
        first, subscription = await a_client(world)
        await another(world, first)
        second, _ = await a_client(world)
        await world.take(PIM, a_removal(noun, OWNER.client_id))
        assert await statuses(world, first) == [Status.REVOKED] * 3
        assert await statuses(world, second) == [Status.REVOKED] * 2
        revoked = await world.subscriptions.subscription(OWNER, first.id, subscription.id)
        assert (revoked.epoch, revoked.updated_at) == (subscription.epoch + 1, START)
        entries = await revocations(world)
        assert sorted(entry.operation for entry in entries) == [
            *["subscriber_revoked_by_the_platform"] * 2,
            *["subscription_revoked_by_the_platform"] * 3,
        ]
        assert {entry.error_message for entry in entries} == {f"the {noun} was removed from the PIM"}

    async def test_others_of_the_pim_and_the_same_client_of_another_pim_keep_theirs(
        self, world: RevocationsSide
    ) -> None:
        await a_client(world)
        kept = [(await a_client(world, owner))[0] for owner in (SHOP, ELSEWHERE)]
        await world.take(PIM, a_removal("app", OWNER.client_id))
        for subscriber in kept:
            assert await statuses(world, subscriber) == [Status.ACTIVE] * 2
            assert await revocations(world, subscriber.owner) == []

    async def test_what_is_newer_than_the_event_stays_as_the_client_has_come_back(
        self, world: RevocationsSide
    ) -> None:
        gone, _ = await a_client(world, now=START - HOUR)
        back, _ = await a_client(world, now=START + HOUR)
        await world.take(PIM, a_removal("app", OWNER.client_id))
        assert await statuses(world, gone) == [Status.REVOKED] * 2
        assert await statuses(world, back) == [Status.ACTIVE] * 2

    async def test_a_removal_that_comes_again_changes_nothing(self, world: RevocationsSide) -> None:
        subscriber, subscription = await a_client(world)
        removal = a_removal("app", OWNER.client_id)
        await world.take(PIM, removal)
        once = await world.subscriptions.subscription(OWNER, subscriber.id, subscription.id)
        await world.take(PIM, replace(removal, id="again"))
        assert await world.subscriptions.subscription(OWNER, subscriber.id, subscription.id) == once
        assert len(await revocations(world)) == 2

    async def test_what_is_suspended_is_revoked_and_what_is_deleted_stays_deleted(
        self, world: RevocationsSide
    ) -> None:
        subscriber, suspended = await a_client(world)
        deleted = await another(world, subscriber)
        for subscription, change in ((suspended, suspend), (deleted, delete_subscription)):
            await world.subscriptions.change_subscription(
                OWNER, subscriber.id, subscription.id, partial(change, now=START)
            )
        await world.take(PIM, a_removal("app", OWNER.client_id))
        assert await statuses(world, subscriber) == [Status.REVOKED, Status.REVOKED]
        found = await world.subscriptions.subscription(OWNER, subscriber.id, deleted.id)
        assert found.status is Status.DELETED

    @pytest.mark.parametrize("data", [{}, {"app": {}}, {"app": {"client_id": 7}}, {"connection": {}}])
    async def test_a_removal_that_names_nobody_revokes_nobody(
        self, world: RevocationsSide, data: dict[str, object]
    ) -> None:
        subscriber, _ = await a_client(world)
        await world.take(PIM, with_data(a_removal("app", OWNER.client_id), data))
        assert await statuses(world, subscriber) == [Status.ACTIVE] * 2
