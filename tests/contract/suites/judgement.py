"""What follows from a receiver's failures for its subscription, with any store (contract/wire.md 11).

A subclass gives the fixture `world`: the ports on its stores, with nothing in them, and deliveries that its
`Settlements` take.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Protocol

import pytest
from structlog.testing import capture_logs

from event_platform.deliver import Judge, deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Answer, Kind, Outcome, Reason, TransportFailure
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.subscriptions import Owner, Status, Subscription, resume
from event_platform.domain.suspension import first_minute, series_of
from event_platform.ports import (
    Settlements,
    SubscriptionChanges,
    SubscriptionLookup,
    Subscriptions,
    SuccessCounts,
)
from support.clock import ManualClock
from support.records import OWNER, PUBSUB_CONFIG, a_subscriber, a_subscription
from support.senders import https_by

POLICY = DeliverPolicy([timedelta(minutes=minutes) for minutes in (5, 10, 20)], timedelta(days=3), timeout=5)
REFUSED = TransportFailure(Reason.CONNECTION_REFUSED, "refused")
Result = Answer | TransportFailure


class Records(SubscriptionLookup, SubscriptionChanges, Protocol):
    """Both ports in one object, as an instance of deliver has them."""


class JudgementSide(Protocol):
    """What the suite works with; `subscriptions` is where management changes them."""

    clock: ManualClock

    @property
    def subscriptions(self) -> Subscriptions: ...

    @property
    def records(self) -> Records: ...

    @property
    def counts(self) -> SuccessCounts: ...

    @property
    def settlements(self) -> Settlements: ...

    async def deliveries(self, subscription: Subscription, number: int) -> Sequence[Delivery]:
        """So many, accepted now and waiting to be handled."""
        ...

    async def ends(self) -> list[tuple[str, str, int]]:
        """(operation, message, occurrences) of every entry of a delivery's end."""
        ...

    async def actions(self) -> list[tuple[str, str | None]]:
        """(operation, message) of every action by the platform but creations, the oldest first."""
        ...


@dataclass
class Receivers:
    """The port `Sender`: what each URL answers, 200 where nothing else is said."""

    answers: dict[str, Result] = field(default_factory=dict[str, Result])
    requests: Counter[str] = field(default_factory=Counter[str])

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Result:
        self.requests[url] += 1
        return self.answers.get(url, Answer(200))


class Instance:
    """One instance of the function `deliver`, with what it keeps in memory."""

    def __init__(self, world: JudgementSide, receivers: Receivers) -> None:
        self._world = world
        self._receivers = receivers
        self._egress = Egress()
        self._judge = Judge(world.counts, world.records, self._egress, world.clock)

    async def attempt(self, delivery: Delivery) -> Settlement:
        """Handles the delivery and does what follows."""
        settlement = await deliver(
            delivery,
            subscriptions=self._world.records,
            senders=https_by(self._receivers),
            clock=self._world.clock,
            policy=POLICY,
            egress=self._egress,
        )
        await self.settle(settlement)
        return settlement

    async def settle(self, settlement: Settlement) -> None:
        await self._world.settlements.settle(settlement)
        await self._judge.settled(settlement)

    async def judged(self, settlement: Settlement) -> None:
        """Counts what an attempt came to, as after `settle`."""
        await self._judge.settled(settlement)

    async def attempts(self, subscription: Subscription, number: int) -> None:
        for delivery in await self._world.deliveries(subscription, number):
            await self.attempt(delivery)


class JudgementContract:
    """The suite; see the module."""

    @pytest.fixture
    async def world(self) -> JudgementSide:
        raise AssertionError("a subclass gives the world")

    @pytest.fixture
    def receivers(self) -> Receivers:
        return Receivers()

    @pytest.fixture
    def instance(self, world: JudgementSide, receivers: Receivers) -> Instance:
        return Instance(world, receivers)

    @pytest.fixture
    async def subscription(self, world: JudgementSide) -> Subscription:
        return await self.subscribe(world)

    async def subscribe(self, world: JudgementSide, number: int = 1) -> Subscription:
        """To a host of its own, by one of three owners of a PIM."""
        owner = OWNER if number % 3 == 1 else OWNER._replace(client_id=f"client-{number % 3}")
        subscriber = a_subscriber(owner, now=world.clock.now())
        await world.subscriptions.add_subscriber(subscriber, limit=100)
        url = f"https://receiver-{number}.example.com/hook"
        subscription = a_subscription(subscriber, url=url, now=world.clock.now())
        await world.subscriptions.add_subscription(subscription, lambda _: None, limit=20)
        return subscription

    async def now(self, world: JudgementSide, subscription: Subscription) -> Subscription:
        return await world.subscriptions.subscription(
            subscription.owner, subscription.subscriber_id, subscription.id
        )

    async def fail(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        """20 attempts that fail, and one more a minute later: enough to be judged."""
        receivers.answers[subscription.config.destination] = Answer(503)
        await instance.attempts(subscription, 20)
        await world.clock.advance(60)
        await instance.attempts(subscription, 1)

    # At once

    @pytest.mark.parametrize("status", [404, 301])
    @pytest.mark.provokes("subscription.suspended", "delivery.attempted")
    @pytest.mark.alerts("subscriptions-suspended")
    async def test_some_answers_suspend_at_once(
        self,
        world: JudgementSide,
        instance: Instance,
        receivers: Receivers,
        subscription: Subscription,
        status: int,
    ) -> None:
        receivers.answers[subscription.config.destination] = Answer(status)
        with capture_logs() as lines:
            await instance.attempts(subscription, 1)
        suspended = await self.now(world, subscription)
        assert (suspended.status, suspended.epoch) == (Status.SUSPENDED, 1)
        assert suspended.updated_at == world.clock.now() + timedelta(microseconds=1)
        message = f"the endpoint answered {status}"
        (line,) = [each for each in lines if each["event"] == "subscription.suspended"]
        assert (line["subscription_id"], line["by"], line["reason"], line["log_level"]) == (
            subscription.id,
            "platform",
            message,
            "warning",
        )
        assert await world.ends() == [("failed_to_deliver_event", message, 1)]
        assert await world.actions() == [("subscription_suspended_by_the_platform", message)]

    async def test_what_waits_is_dropped_without_a_request_and_nothing_is_unaccounted_for(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        receivers.answers[subscription.config.destination] = Answer(404)
        for delivery in await world.deliveries(subscription, 10):
            await instance.attempt(delivery)
        assert receivers.requests.total() == 1
        assert sorted(await world.ends()) == [
            ("deliveries_dropped", "suspended", 9),
            ("failed_to_deliver_event", "the endpoint answered 404", 1),
        ]

    async def test_many_lanes_that_get_a_404_at_once_suspend_it_once(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        receivers.answers[subscription.config.destination] = Answer(404)
        deliveries = await world.deliveries(subscription, 8)
        sent = asyncio.Barrier(8)

        async def attempt(delivery: Delivery) -> None:
            settlement = await deliver(
                delivery,
                subscriptions=world.records,
                senders=https_by(receivers),
                clock=world.clock,
                policy=POLICY,
                egress=Egress(),
            )
            await sent.wait()
            await instance.settle(settlement)

        with capture_logs() as lines:
            await asyncio.gather(*map(attempt, deliveries))
        assert [each["event"] for each in lines].count("subscription.suspended") == 1
        assert (await self.now(world, subscription)).epoch == 1
        assert len(await world.actions()) == 1
        assert await world.ends() == [("failed_to_deliver_event", "the endpoint answered 404", 8)]

    async def test_a_retry_that_waits_is_dropped_when_its_time_comes(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        receivers.answers[subscription.config.destination] = Answer(404)
        waiting, other = await world.deliveries(subscription, 2)
        await instance.attempt(other)
        await world.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, partial(resume, now=world.clock.now())
        )
        receivers.answers.clear()
        await instance.attempt(waiting)  # of the epoch before, though it is active again
        assert receivers.requests.total() == 1
        assert ("deliveries_dropped", "suspended", 1) in await world.ends()

    async def test_an_attempt_from_before_a_change_of_the_url_suspends_nobody(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        (delivery,) = await world.deliveries(subscription, 1)
        receivers.answers[subscription.config.destination] = Answer(404)
        settlement = await deliver(
            delivery,
            subscriptions=world.records,
            senders=https_by(receivers),
            clock=world.clock,
            policy=POLICY,
            egress=Egress(),
        )

        def repair(before: Subscription) -> Subscription:
            config = replace(before.config, url="https://receiver-1.example.com/new")
            return replace(before, config=config, updated_at=world.clock.now())

        by_user = Action(Actor.USER)
        repaired = await world.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, repair, action=by_user
        )
        await instance.settle(settlement)
        assert await self.now(world, subscription) == repaired
        assert await world.actions() == []

    # By the success rate

    @pytest.mark.provokes("subscription.suspended")
    async def test_a_success_rate_below_90_percent_suspends(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        await instance.attempts(subscription, 17)
        receivers.answers[subscription.config.destination] = Answer(503)
        await instance.attempts(subscription, 2)
        await world.clock.advance(60)
        await instance.attempts(subscription, 1)
        assert (await self.now(world, subscription)).status is Status.SUSPENDED
        reason = "17 of 20 attempts of the last hour succeeded, fewer than 90 %"
        assert await world.actions() == [("subscription_suspended_by_the_platform", reason)]

    async def test_90_percent_is_enough(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        await instance.attempts(subscription, 18)
        receivers.answers[subscription.config.destination] = Answer(503)
        await instance.attempts(subscription, 1)
        await world.clock.advance(60)
        await instance.attempts(subscription, 1)
        assert (await self.now(world, subscription)).status is Status.ACTIVE

    async def test_instances_count_together(
        self, world: JudgementSide, receivers: Receivers, subscription: Subscription
    ) -> None:
        receivers.answers[subscription.config.destination] = REFUSED
        for _ in range(20):  # each is new, fails once, and is gone
            await Instance(world, receivers).attempts(subscription, 1)
        await world.clock.advance(60)
        await Instance(world, receivers).attempts(subscription, 1)
        assert (await self.now(world, subscription)).status is Status.SUSPENDED

    @pytest.mark.parametrize(("succeeded", "status"), [(180, Status.ACTIVE), (170, Status.SUSPENDED)])
    async def test_what_succeeds_at_one_instance_counts_where_another_one_judges(
        self,
        world: JudgementSide,
        receivers: Receivers,
        subscription: Subscription,
        succeeded: int,
        status: Status,
    ) -> None:
        """Even if it is gone by then: it had written what was 10 s old."""
        (delivery,) = await world.deliveries(subscription, 1)
        taken = Settlement(delivery, Outcome(Kind.DELIVERED, None, 200), tried_under=subscription)
        healthy = Instance(world, receivers)
        for _ in range(succeeded):
            await healthy.judged(taken)
        await world.clock.advance(10)
        await self.until_counted(world, subscription, (succeeded, 0))
        receivers.answers[subscription.config.destination] = Answer(503)
        await Instance(world, receivers).attempts(subscription, 18)
        await world.clock.advance(60)
        await Instance(world, receivers).attempts(subscription, 2)  # 90 %, or less, are well
        assert (await self.now(world, subscription)).status is status

    async def test_it_is_judged_once_in_10_seconds(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        receivers.answers[subscription.config.destination] = Answer(503)
        await instance.attempts(subscription, 20)  # judged at the first, so not before 10 s have passed
        await world.clock.advance(55)
        await instance.attempts(subscription, 1)  # judged: too soon after the first failure
        await world.clock.advance(6)
        await instance.attempts(subscription, 1)
        assert (await self.now(world, subscription)).status is Status.ACTIVE
        await world.clock.advance(4)
        await instance.attempts(subscription, 1)
        assert (await self.now(world, subscription)).status is Status.SUSPENDED

    async def test_after_a_resume_the_counts_start_afresh(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        await self.fail(world, instance, receivers, subscription)
        assert (await self.now(world, subscription)).status is Status.SUSPENDED
        resumed = await world.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, partial(resume, now=world.clock.now())
        )
        await world.clock.advance(5)  # so that it is in force
        await instance.attempts(resumed, 5)
        await world.clock.advance(90)
        await instance.attempts(resumed, 5)
        assert (await self.now(world, subscription)).status is Status.ACTIVE

    async def test_failures_are_written_within_seconds_and_successes_within_ten_without_another_attempt(
        self, world: JudgementSide, instance: Instance, receivers: Receivers, subscription: Subscription
    ) -> None:
        await instance.attempts(subscription, 2)
        assert await self.counted(world, subscription) == (0, 0)
        await world.clock.advance(10)
        await self.until_counted(world, subscription, (2, 0))
        receivers.answers[subscription.config.destination] = Answer(503)
        await instance.attempts(subscription, 3)
        assert await self.counted(world, subscription) == (2, 1)  # a write a second at most
        await world.clock.advance(1)
        await self.until_counted(world, subscription, (2, 3))

    async def test_a_topic_is_counted_for_the_operator_and_never_judged(
        self, world: JudgementSide, instance: Instance
    ) -> None:
        subscriber = a_subscriber(now=world.clock.now())
        await world.subscriptions.add_subscriber(subscriber, limit=100)
        subscription = a_subscription(subscriber, config=PUBSUB_CONFIG, now=world.clock.now())
        await world.subscriptions.add_subscription(subscription, lambda _: None, limit=20)
        failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, None)
        *first, last = await world.deliveries(subscription, 21)
        for delivery in (*first, last):
            if delivery is last:
                await world.clock.advance(60)
            retry_at = world.clock.now() + timedelta(minutes=5)
            await instance.settle(Settlement(delivery, failed, retry_at=retry_at, tried_under=subscription))
        await self.until_counted(world, subscription, (0, 21))
        assert (await self.now(world, subscription)).status is Status.ACTIVE

    async def until_counted(
        self, world: JudgementSide, subscription: Subscription, expected: tuple[int, int]
    ) -> None:
        """Waits for a write that nobody waits for."""
        async with asyncio.timeout(30):
            while await self.counted(world, subscription) != expected:  # noqa: ASYNC110 - a store's
                await asyncio.sleep(0.01)

    async def counted(self, world: JudgementSide, subscription: Subscription) -> tuple[int, int]:
        counts = await world.counts.since(series_of(subscription), first_minute(world.clock.now()))
        return sum(each.succeeded for each in counts.values()), sum(each.failed for each in counts.values())

    # Our own fault

    async def test_when_most_origins_fail_in_transport_nobody_is_suspended_and_no_retry_is_used_up(
        self, world: JudgementSide, instance: Instance, receivers: Receivers
    ) -> None:
        subscriptions = [await self.subscribe(world, number) for number in range(25)]
        receivers.answers = {subscription.config.destination: REFUSED for subscription in subscriptions}
        settlements: list[Settlement] = []
        with capture_logs() as lines:
            for _ in range(25):  # all of them fail for longer than anybody would be judged after
                for subscription in subscriptions:
                    (delivery,) = await world.deliveries(subscription, 1)
                    settlements.append(await instance.attempt(delivery))
                await world.clock.advance(5)
        for subscription in subscriptions:
            assert (await self.now(world, subscription)).status is Status.ACTIVE
        used_up = [settlement.delivery.failures for settlement in settlements]
        assert sum(used_up) == 19  # those before it could be known
        assert [line["log_level"] for line in lines if line["event"] == "egress.failing"] == ["error"] * 3

        receivers.answers = {subscriptions[0].config.destination: Answer(500)}
        await world.clock.advance(61)  # what failed for our own fault is not held against it later either
        await instance.attempts(subscriptions[0], 1)
        assert (await self.now(world, subscriptions[0])).status is Status.ACTIVE

    async def test_failures_from_before_it_was_known_are_taken_back(
        self, world: JudgementSide, instance: Instance, receivers: Receivers
    ) -> None:
        first, *others = [await self.subscribe(world, number) for number in range(25)]
        await instance.attempts(first, 18)
        receivers.answers = {subscription.config.destination: REFUSED for subscription in (first, *others)}
        await instance.attempts(first, 3)
        for subscription in others:
            await instance.attempts(subscription, 1)
        receivers.answers = {first.config.destination: Answer(500)}
        await world.clock.advance(61)
        await instance.attempts(first, 1)
        await world.clock.advance(60)
        await instance.attempts(first, 1)
        assert (await self.now(world, first)).status is Status.ACTIVE  # 18 of 20

    async def test_while_most_origins_fail_nobody_is_suspended_for_what_was_answered_either(
        self, world: JudgementSide, instance: Instance, receivers: Receivers
    ) -> None:
        first, *others = [await self.subscribe(world, number) for number in range(25)]
        receivers.answers = {subscription.config.destination: REFUSED for subscription in others}
        receivers.answers[first.config.destination] = Answer(503)
        await instance.attempts(first, 20)
        await world.clock.advance(50)
        for subscription in others:
            await instance.attempts(subscription, 1)
        await world.clock.advance(10)
        await instance.attempts(first, 1)
        assert (await self.now(world, first)).status is Status.ACTIVE

    async def test_many_dead_hosts_of_one_owner_are_his_own_fault(
        self, world: JudgementSide, instance: Instance, receivers: Receivers
    ) -> None:
        """They change nothing for others either, whose dead endpoints use up their retries."""
        mine = [await self.subscribe(world, 3 * number + 1) for number in range(30)]
        (dead, healthy) = [await self.subscribe(world, number) for number in (2, 3)]
        receivers.answers = {each.config.destination: REFUSED for each in (*mine, dead)}
        for subscription in (*mine, healthy):
            await instance.attempts(subscription, 1)
        (delivery,) = await world.deliveries(dead, 1)
        assert (await instance.attempt(delivery)).delivery.failures == 1
        await self.fail(world, instance, receivers, mine[0])
        assert (await self.now(world, mine[0])).status is Status.SUSPENDED

    async def test_a_few_origins_that_fail_are_to_blame_themselves(
        self, world: JudgementSide, instance: Instance, receivers: Receivers
    ) -> None:
        subscriptions = [await self.subscribe(world, number) for number in range(4)]
        receivers.answers = {subscription.config.destination: REFUSED for subscription in subscriptions}
        for subscription in subscriptions:
            await instance.attempts(subscription, 20)
        await world.clock.advance(60)
        for subscription in subscriptions:
            await instance.attempts(subscription, 1)
            assert (await self.now(world, subscription)).status is Status.SUSPENDED
