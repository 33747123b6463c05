"""Which client a Pub/Sub topic is held by: what every store of records does (`domain/topic_claims.py`).

A subclass gives the fixture `world`, empty at the start of each test.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from contract.suites.logs import EVERYTHING
from contract.suites.outbox import OutboxSide
from contract.suites.subscriptions import LATER, STRANGER, anything
from event_platform.domain.errors import Conflict, TopicHeld
from event_platform.domain.record.notifications import Kind
from event_platform.domain.subscriptions import (
    Owner,
    PubSubConfig,
    Status,
    Subscription,
    delete_subscriber,
    delete_subscription,
    resume,
    revoke_subscriber,
    revoke_subscription,
    suspend,
)
from event_platform.domain.topic_claims import LOST
from event_platform.ports import Logs
from support.clock import START
from support.records import OWNER, a_subscriber, a_subscription, https_config

ELSEWHERE = Owner("https://other.example.com", "erp")
TOPIC = PubSubConfig("their-project", "pim-events")
SCOPED = PubSubConfig("example.com:their-project", "pim-events")
OTHERS = [
    PubSubConfig("their-project", "other-events"),
    PubSubConfig("other-project", "pim-events"),
    PubSubConfig("their-project", "PIM-events"),
    SCOPED,
]

Change = Callable[[Subscription], Subscription]


class TopicClaimsContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> OutboxSide:
        raise AssertionError("a subclass gives the world")

    @pytest.fixture
    def logs(self) -> Logs:
        raise AssertionError("a subclass gives the log")

    # One client

    async def test_a_client_names_its_topic_as_often_as_it_likes(self, world: OutboxSide) -> None:
        first = await add(world, OWNER)
        second = await add(world, OWNER)
        await changed(world, first, partial(suspend, now=LATER))
        await changed(world, first, partial(resume, now=LATER))
        await changed(world, second, to(TOPIC))
        assert await status(world, first) is Status.ACTIVE
        assert await status(world, second) is Status.ACTIVE

    async def test_subscriptions_of_one_client_are_made_at_once(self, world: OutboxSide) -> None:
        subscriber = a_subscriber(OWNER)
        await world.subscriptions.add_subscriber(subscriber, limit=20)
        made = [a_subscription(subscriber, config=TOPIC) for _ in range(10)]
        await asyncio.gather(
            *(world.subscriptions.add_subscription(each, anything, limit=20) for each in made)
        )
        assert len(await world.subscriptions.subscriptions(OWNER, subscriber.id)) == 10

    # A second client

    @pytest.mark.parametrize("owner", [STRANGER, ELSEWHERE])
    async def test_another_client_cannot_name_it_too(self, world: OutboxSide, owner: Owner) -> None:
        first = await add(world, OWNER)
        with pytest.raises(TopicHeld) as refused:
            await add(world, owner)
        assert (refused.value.project_id, refused.value.topic_id) == ("their-project", "pim-events")
        (subscriber,) = await world.subscriptions.subscribers(owner)
        assert await world.subscriptions.subscriptions(owner, subscriber.id) == []
        assert await world.subscriptions.subscription(OWNER, first.subscriber_id, first.id) == first

    @pytest.mark.parametrize("topic", OTHERS)
    async def test_another_topic_is_free(self, world: OutboxSide, topic: PubSubConfig) -> None:
        await add(world, OWNER)
        await add(world, ELSEWHERE, topic)

    async def test_names_with_a_domain_are_one_topic(self, world: OutboxSide) -> None:
        await add(world, OWNER, SCOPED)
        with pytest.raises(TopicHeld):
            await add(world, ELSEWHERE, SCOPED)

    async def test_another_client_cannot_change_a_subscription_to_it(self, world: OutboxSide) -> None:
        await add(world, OWNER)
        second = await add(world, ELSEWHERE, OTHERS[0])
        with pytest.raises(TopicHeld):
            await changed(world, second, to(TOPIC))
        found = await world.subscriptions.subscription(ELSEWHERE, second.subscriber_id, second.id)
        assert found == second

    async def test_a_suspended_subscription_keeps_it(self, world: OutboxSide) -> None:
        await changed(world, await add(world, OWNER), partial(suspend, now=LATER))
        with pytest.raises(TopicHeld):
            await add(world, ELSEWHERE)

    async def test_of_two_clients_at_once_one_gets_it(self, world: OutboxSide) -> None:
        owners = [Owner(f"https://pim-{number}.example.com", "erp") for number in range(8)]
        results = await asyncio.gather(*(add(world, owner) for owner in owners), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Subscription"] + ["TopicHeld"] * 7

    # Freed

    @pytest.mark.parametrize(
        "change",
        [
            partial(delete_subscription, now=LATER),
            partial(revoke_subscription, now=LATER),
            lambda before: replace(before, config=OTHERS[0], updated_at=LATER),
            lambda before: replace(before, config=https_config(), updated_at=LATER),
        ],
        ids=["deleted", "revoked", "another topic", "another type"],
    )
    async def test_it_is_free_once_no_subscription_names_it(self, world: OutboxSide, change: Change) -> None:
        first, second = await add(world, OWNER), await add(world, OWNER)
        await changed(world, first, change)
        with pytest.raises(TopicHeld):
            await add(world, ELSEWHERE)
        await changed(world, second, change)
        await add(world, ELSEWHERE)
        with pytest.raises(TopicHeld):
            await add(world, OWNER)

    @pytest.mark.parametrize(
        ("of_subscriber", "of_subscription"),
        [(delete_subscriber, delete_subscription), (revoke_subscriber, revoke_subscription)],
    )
    async def test_it_is_free_once_its_subscriber_is_gone(
        self, world: OutboxSide, of_subscriber: Callable[..., object], of_subscription: Callable[..., object]
    ) -> None:
        subscriber = a_subscriber(OWNER)
        await world.subscriptions.add_subscriber(subscriber, limit=20)
        for topic in (TOPIC, TOPIC, OTHERS[0]):
            subscription = a_subscription(subscriber, config=topic)
            await world.subscriptions.add_subscription(subscription, anything, limit=20)
        await world.subscriptions.change_subscriber(
            OWNER,
            subscriber.id,
            partial(of_subscriber, now=LATER),  # pyright: ignore[reportArgumentType] - one of two alike
            and_subscriptions=partial(of_subscription, now=LATER),  # pyright: ignore[reportArgumentType]
        )
        for topic in (TOPIC, OTHERS[0]):
            await add(world, ELSEWHERE, topic)

    async def test_a_limit_that_is_reached_leaves_it_free(self, world: OutboxSide) -> None:
        subscriber = a_subscriber(OWNER)
        await world.subscriptions.add_subscriber(subscriber, limit=20)
        with pytest.raises(Conflict):
            await world.subscriptions.add_subscription(
                a_subscription(subscriber, config=TOPIC), anything, limit=0
            )
        await add(world, ELSEWHERE)

    # Taken

    async def test_who_takes_it_suspends_the_others_with_a_reason_an_entry_and_a_notification(
        self, world: OutboxSide, logs: Logs
    ) -> None:
        first, asleep = await add(world, OWNER), await add(world, OWNER)
        unconcerned = await add(world, OWNER, OTHERS[0])
        await changed(world, asleep, partial(suspend, now=START))
        for pending in await world.due():
            await world.outbox.settle(pending, None)
        with capture_logs() as lines:
            taker = await add(world, ELSEWHERE, takes_topic=True)
        logged = [line for line in lines if line["event"] == "subscription.suspended"]
        assert [(line["subscription_id"], line["by"], line["reason"]) for line in logged] == [
            (first.id, "platform", LOST.reason)
        ]
        for subscription, expected in (
            (first, Status.SUSPENDED),
            (asleep, Status.SUSPENDED),
            (unconcerned, Status.ACTIVE),
            (taker, Status.ACTIVE),
        ):
            assert await status(world, subscription) is expected
        query = replace(EVERYTHING, operation="subscription_suspended_by_the_platform")
        found = await logs.entries(OWNER, query)
        assert {(entry.subscription_id, entry.error_message) for entry in found} == {
            (first.id, LOST.reason),
            (asleep.id, None),
        }
        assert await logs.entries(ELSEWHERE, query) == []
        (pending,) = await world.due()
        notification = pending.notification
        assert (notification.kind, notification.owner) == (Kind.SUSPENDED_BY_SYSTEM, OWNER)
        assert (notification.subscription_id, notification.reason) == (first.id, LOST.reason)

    @pytest.mark.provokes("subscription.suspended")
    async def test_a_change_takes_it_too(self, world: OutboxSide) -> None:
        first, second = await add(world, OWNER), await add(world, ELSEWHERE, OTHERS[0])
        await changed(world, second, to(TOPIC), takes_topic=True)
        assert await status(world, first) is Status.SUSPENDED
        await add(world, OWNER, OTHERS[0])

    async def test_who_lost_it_cannot_resume_until_it_is_free_or_taken_back(self, world: OutboxSide) -> None:
        first = await add(world, OWNER)
        taker = await add(world, ELSEWHERE, takes_topic=True)
        with pytest.raises(TopicHeld):
            await changed(world, first, partial(resume, now=LATER))
        assert await status(world, first) is Status.SUSPENDED
        await changed(world, first, lambda before: replace(before, filter=None, updated_at=LATER))
        await changed(world, first, partial(resume, now=LATER), takes_topic=True)
        assert await status(world, taker) is Status.SUSPENDED
        await changed(world, first, partial(delete_subscription, now=LATER))
        await changed(world, taker, partial(resume, now=LATER))
        assert await status(world, taker) is Status.ACTIVE

    async def test_taking_a_topic_of_ones_own_or_a_free_one_changes_nothing_else(
        self, world: OutboxSide
    ) -> None:
        first = await add(world, OWNER, takes_topic=True)
        second = await add(world, OWNER, takes_topic=True)
        assert await status(world, first) is Status.ACTIVE
        assert await status(world, second) is Status.ACTIVE


def to(config: PubSubConfig) -> Change:
    return lambda before: replace(before, config=config, updated_at=LATER)


async def add(
    world: OutboxSide, owner: Owner, config: PubSubConfig = TOPIC, *, takes_topic: bool = False
) -> Subscription:
    """A subscription of a new subscriber of the owner's."""
    subscriber = a_subscriber(owner)
    await world.subscriptions.add_subscriber(subscriber, limit=20)
    subscription = a_subscription(subscriber, config=config)
    await world.subscriptions.add_subscription(subscription, anything, limit=20, takes_topic=takes_topic)
    return subscription


async def changed(
    world: OutboxSide, subscription: Subscription, change: Change, *, takes_topic: bool = False
) -> None:
    await world.subscriptions.change_subscription(
        subscription.owner, subscription.subscriber_id, subscription.id, change, takes_topic=takes_topic
    )


async def status(world: OutboxSide, subscription: Subscription) -> Status:
    found = await world.subscriptions.subscription(
        subscription.owner, subscription.subscriber_id, subscription.id
    )
    return found.status
