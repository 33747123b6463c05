"""What every store of records must do: the ports `Subscriptions` and `SubscriptionLookup`.

A subclass gives the fixture `store`, empty at the start of each test.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from event_platform.domain.errors import Conflict, NotFound
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.subscriptions import (
    HttpsConfig,
    Owner,
    Status,
    Subscriber,
    Subscription,
    delete_subscriber,
    delete_subscription,
    suspend,
)
from event_platform.ports import SubscriptionLookup, Subscriptions
from support.clock import START
from support.records import OWNER, PIM, a_subscriber, a_subscription

NAMES_THAT_A_STORE_MAY_REFUSE = ("", ".", "..", "__x__", "a/b", "a/b/c", "x" * 1600, "\0", "ü' --", "%2e%2e")
LATER = START + timedelta(minutes=1)
STRANGER = Owner(PIM, "somebody-else")


class Store(Subscriptions, SubscriptionLookup, Protocol):
    """Both ports in one object."""


def anything(subscriber: Subscriber) -> None:
    """A check that lets every subscriber pass."""


class SubscriptionsContract:
    """The suite; see the module."""

    @pytest.fixture
    def store(self) -> Store:
        raise AssertionError("a subclass gives the store")

    @pytest.fixture
    async def subscriber(self, store: Store) -> Subscriber:
        subscriber = a_subscriber()
        await store.add_subscriber(subscriber, limit=20)
        return subscriber

    @pytest.fixture
    async def subscription(self, store: Store, subscriber: Subscriber) -> Subscription:
        subscription = a_subscription(subscriber)
        await store.add_subscription(subscription, anything, limit=20)
        return subscription

    async def test_a_subscriber_comes_back_as_it_was_stored(
        self, store: Store, subscriber: Subscriber
    ) -> None:
        assert await store.subscriber(OWNER, subscriber.id) == subscriber

    async def test_a_subscription_comes_back_as_it_was_stored(
        self, store: Store, subscription: Subscription
    ) -> None:
        found = await store.subscription(OWNER, subscription.subscriber_id, subscription.id)
        assert found == subscription
        assert await store.current(subscription.id) == subscription

    async def test_what_another_client_created_is_not_found(
        self, store: Store, subscription: Subscription
    ) -> None:
        sid = subscription.subscriber_id
        with pytest.raises(NotFound):
            await store.subscriber(STRANGER, sid)
        with pytest.raises(NotFound):
            await store.subscription(STRANGER, sid, subscription.id)
        with pytest.raises(NotFound):
            await store.subscriptions(STRANGER, sid)
        with pytest.raises(NotFound):
            await store.change_subscriber(STRANGER, sid, partial(delete_subscriber, now=LATER))
        with pytest.raises(NotFound):
            await store.change_subscription(
                STRANGER, sid, subscription.id, partial(delete_subscription, now=LATER)
            )
        assert await store.subscribers(STRANGER) == []
        assert await store.current(subscription.id) == subscription

    async def test_a_subscription_is_found_under_its_own_subscriber_only(
        self, store: Store, subscription: Subscription
    ) -> None:
        other = a_subscriber()
        await store.add_subscriber(other, limit=20)
        with pytest.raises(NotFound):
            await store.subscription(OWNER, other.id, subscription.id)

    async def test_an_unknown_subscription_is_current_as_none(self, store: Store) -> None:
        assert await store.current("00000000-0000-7000-8000-000000000000") is None

    @pytest.mark.parametrize("name", NAMES_THAT_A_STORE_MAY_REFUSE)
    async def test_any_id_that_others_choose_is_unknown_and_no_fault(
        self, store: Store, subscription: Subscription, name: str
    ) -> None:
        sid = subscription.subscriber_id
        with pytest.raises(NotFound) as unknown:
            await store.subscriber(OWNER, name)
        assert str(unknown.value) == f"subscriber {name} is unknown"
        with pytest.raises(NotFound, match="is unknown"):
            await store.subscriptions(OWNER, name)
        with pytest.raises(NotFound, match="is unknown"):
            await store.subscription(OWNER, sid, name)
        with pytest.raises(NotFound, match="is unknown"):
            await store.subscription(OWNER, name, subscription.id)
        with pytest.raises(NotFound, match="is unknown"):
            await store.change_subscriber(OWNER, name, partial(delete_subscriber, now=LATER))
        with pytest.raises(NotFound, match="is unknown"):
            await store.change_subscription(OWNER, sid, name, partial(delete_subscription, now=LATER))
        with pytest.raises(NotFound, match="is unknown"):
            await store.add_subscription(
                replace(subscription, id="another", subscriber_id=name), anything, limit=20
            )
        assert await store.current(name) is None

    async def test_lists_are_oldest_first_and_without_deleted_ones(self, store: Store) -> None:
        subscribers = [a_subscriber(name=f"number {number}") for number in range(3)]
        for subscriber in subscribers:
            await store.add_subscriber(subscriber, limit=20)
        await store.change_subscriber(OWNER, subscribers[1].id, partial(delete_subscriber, now=LATER))
        assert [found.name for found in await store.subscribers(OWNER)] == ["number 0", "number 2"]

        subscriptions = [a_subscription(subscribers[0]) for _ in range(3)]
        for subscription in subscriptions:
            await store.add_subscription(subscription, anything, limit=20)
        await store.change_subscription(
            OWNER, subscribers[0].id, subscriptions[1].id, partial(delete_subscription, now=LATER)
        )
        found = await store.subscriptions(OWNER, subscribers[0].id)
        assert [entry.id for entry in found] == [subscriptions[0].id, subscriptions[2].id]

    async def test_what_was_deleted_is_still_found_by_its_id(
        self, store: Store, subscription: Subscription
    ) -> None:
        sid = subscription.subscriber_id
        await store.change_subscription(OWNER, sid, subscription.id, partial(delete_subscription, now=LATER))
        assert (await store.subscription(OWNER, sid, subscription.id)).status is Status.DELETED

    async def test_a_change_is_seen_by_all_readers_when_it_returns(
        self, store: Store, subscription: Subscription
    ) -> None:
        sid = subscription.subscriber_id
        assert await store.current(subscription.id) == subscription
        changed = await store.change_subscription(OWNER, sid, subscription.id, partial(suspend, now=LATER))
        assert (changed.status, changed.epoch) == (Status.SUSPENDED, 1)
        assert await store.subscription(OWNER, sid, subscription.id) == changed
        assert await store.current(subscription.id) == changed

    @pytest.mark.provokes("subscription.suspended")
    @pytest.mark.parametrize(
        ("action", "level"),
        [(Action(Actor.USER), "info"), (Action(Actor.PLATFORM, reason="it has no right"), "warning")],
        ids=["by a user", "by the platform"],
    )
    @pytest.mark.parametrize("with_its_subscriber", [False, True])
    async def test_each_suspension_is_one_line_of_the_log(
        self, store: Store, subscription: Subscription, action: Action, level: str, with_its_subscriber: bool
    ) -> None:
        sid, suspended = subscription.subscriber_id, partial(suspend, now=LATER)
        with capture_logs() as lines:
            for _ in range(2):  # the second time it is suspended already
                if with_its_subscriber:
                    await store.change_subscriber(
                        OWNER, sid, lambda same: same, and_subscriptions=suspended, action=action
                    )
                else:
                    await store.change_subscription(OWNER, sid, subscription.id, suspended, action=action)
        assert [line for line in lines if line["event"] == "subscription.suspended"] == [
            {
                "event": "subscription.suspended",
                "log_level": level,
                "subscription_id": subscription.id,
                "tenant": OWNER.tenant,
                "client_id": OWNER.client_id,
                "by": action.by,
                "reason": action.reason,
            }
        ]

    async def test_a_change_that_raises_leaves_the_record(
        self, store: Store, subscription: Subscription
    ) -> None:
        def change(before: Subscription) -> Subscription:
            raise Conflict("no")

        with pytest.raises(Conflict, match="no"):
            await store.change_subscription(OWNER, subscription.subscriber_id, subscription.id, change)
        found = await store.subscription(OWNER, subscription.subscriber_id, subscription.id)
        assert found == subscription

    async def test_changes_at_once_are_all_applied(self, store: Store, subscriber: Subscriber) -> None:
        def change(before: Subscriber) -> Subscriber:
            return replace(before, name=before.name + "x")

        await asyncio.gather(*(store.change_subscriber(OWNER, subscriber.id, change) for _ in range(10)))
        assert (await store.subscriber(OWNER, subscriber.id)).name == subscriber.name + 10 * "x"

    async def test_a_subscriber_and_its_subscriptions_change_in_one_step(
        self, store: Store, subscriber: Subscriber, subscription: Subscription
    ) -> None:
        other = a_subscriber()
        await store.add_subscriber(other, limit=20)
        untouched = a_subscription(other)
        await store.add_subscription(untouched, anything, limit=20)
        await store.change_subscriber(
            OWNER,
            subscriber.id,
            partial(delete_subscriber, now=LATER),
            and_subscriptions=partial(delete_subscription, now=LATER),
        )
        current = await store.current(subscription.id)
        assert current is not None
        assert current.status is Status.DELETED
        assert await store.current(untouched.id) == untouched

    async def test_a_subscription_whose_subscriber_does_not_pass_the_check_is_not_added(
        self, store: Store, subscriber: Subscriber
    ) -> None:
        def check(found: Subscriber) -> None:
            assert found == subscriber
            raise Conflict("revoked")

        subscription = a_subscription(subscriber)
        with pytest.raises(Conflict, match="revoked"):
            await store.add_subscription(subscription, check, limit=20)
        assert await store.current(subscription.id) is None

    async def test_a_subscription_of_an_unknown_subscriber_is_not_added(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.add_subscription(a_subscription(a_subscriber()), anything, limit=20)

    async def test_the_limit_of_subscribers_holds_for_creations_at_once(self, store: Store) -> None:
        results = await asyncio.gather(
            *(store.add_subscriber(a_subscriber(), limit=20) for _ in range(50)), return_exceptions=True
        )
        assert [type(result) for result in results if result is not None] == 30 * [Conflict]
        assert len(await store.subscribers(OWNER)) == 20

    async def test_the_limit_of_subscriptions_holds_for_creations_at_once(
        self, store: Store, subscriber: Subscriber
    ) -> None:
        results = await asyncio.gather(
            *(store.add_subscription(a_subscription(subscriber), anything, limit=20) for _ in range(50)),
            return_exceptions=True,
        )
        assert [type(result) for result in results if result is not None] == 30 * [Conflict]
        assert len(await store.subscriptions(OWNER, subscriber.id)) == 20

    async def test_the_limit_of_subscribers_is_one_for_all_clients_of_a_pim(self, store: Store) -> None:
        await store.add_subscriber(a_subscriber(), limit=2)
        await store.add_subscriber(a_subscriber(STRANGER), limit=2)
        with pytest.raises(Conflict):
            await store.add_subscriber(a_subscriber(), limit=2)
        await store.add_subscriber(a_subscriber(Owner("https://other.example.com", "erp")), limit=2)

    async def test_deleted_ones_do_not_count(self, store: Store, subscriber: Subscriber) -> None:
        await store.change_subscriber(OWNER, subscriber.id, partial(delete_subscriber, now=LATER))
        await store.add_subscriber(a_subscriber(), limit=1)

    async def test_a_new_secret_replaces_the_stored_one(
        self, store: Store, subscription: Subscription
    ) -> None:
        def change(before: Subscription) -> Subscription:
            assert isinstance(before.config, HttpsConfig)
            config = replace(before.config, primary_secret=SecretStr("another secret of tests"))
            return replace(before, config=config)

        sid = subscription.subscriber_id
        await store.change_subscription(OWNER, sid, subscription.id, change)
        found = await store.subscription(OWNER, sid, subscription.id)
        assert isinstance(found.config, HttpsConfig)
        assert found.config.primary_secret.get_secret_value() == "another secret of tests"
