"""What every way from `Intake` over the queue to `Settlements` must do.

A subclass gives the fixture `world`: the ports, a clock that the test moves, and the consumer that the
queue hands deliveries to. `restart` stands for the end of all processes and a new start on the same data.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import pytest

from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import EventType
from event_platform.domain.events.event import Event
from event_platform.domain.ingest_formats import relay
from event_platform.domain.pace.lanes import lane_of
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import Owner, Status, Subscription, suspend
from event_platform.domain.tenants import Way
from event_platform.ports import Intake, Subscriptions
from support.clock import START, ManualClock
from support.eventually import eventually
from support.records import CATEGORY, OWNER, PIM, UPDATED, an_event, subscribed, with_data

Handler = Callable[[Delivery], Awaitable[Settlement]]

STEPPED_SECONDS = 30.0
"""The seconds of the machine for which a test moves its clock at most."""


class BrokerSide(Protocol):
    """The parts that the suite works with."""

    clock: ManualClock

    @property
    def intake(self) -> Intake: ...

    @property
    def subscriptions(self) -> Subscriptions: ...

    async def start(self, handler: Handler) -> None:
        """From now on the queue hands deliveries to `handler` and settles what it returns."""
        ...

    async def restart(self, handler: Handler) -> None:
        """Ends everything without a warning, and starts again on the same data."""
        ...

    async def log_entries(self) -> list[tuple[str, str, int]]:
        """(subscription id, operation, occurrences) of every entry."""
        ...

    async def dead_letters(self) -> int:
        """How many there are."""
        ...

    async def left_over(self) -> int:
        """Events, deliveries and retries that are still kept."""
        ...


class Consumer:
    """A handler that notes what it gets and answers as it is told; `hold` keeps answers back."""

    def __init__(self, *answers: Callable[[Delivery], Settlement]) -> None:
        self.got: list[Delivery] = []
        self.outstanding: Counter[tuple[str, int]] = Counter()
        self.most_outstanding = 0
        self.answers = list(answers)
        self.released = asyncio.Event()
        self.released.set()

    async def __call__(self, delivery: Delivery) -> Settlement:
        key = (delivery.subscription_id, delivery.lane)
        self.outstanding[key] += 1
        self.most_outstanding = max(self.most_outstanding, self.outstanding[key])
        self.got.append(delivery)
        try:
            await self.released.wait()
            return (self.answers.pop(0) if self.answers else delivered)(delivery)
        finally:
            self.outstanding[key] -= 1

    @property
    def events(self) -> list[str]:
        return [delivery.event_id for delivery in self.got]


def delivered(delivery: Delivery) -> Settlement:
    """The endpoint took it."""
    return Settlement(delivery, Outcome(Kind.DELIVERED, None, 200))


def a_removal(noun: str, client_id: str) -> Event:
    """A connection or App is gone from the PIM."""
    data = {noun: {"client_id": client_id}, "author": {"identifier": "x", "type": "user"}}
    removal = with_data(an_event(event_type=f"com.akeneo.pim.v1.{noun}.deleted"), data)
    return replace(removal, id=f"{noun}-gone", identity=(client_id,))


def failing(delivery: Delivery) -> Settlement:
    """A fault of ours."""
    raise RuntimeError("a bug, for the test")


def _torn_event(event_type: EventType) -> Event:
    """A relayed event of the type, with half of a surrogate pair in each text of its data."""
    value = {"id": event_type.name, "type": event_type.name, "data": _torn(event_type.example)}
    event = relay.read(json.dumps(value).encode(), catalog.load(), START).event
    assert event is not None
    return event


def _torn(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _torn(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_torn(item) for item in value]
    return f"{value}\ud800" if isinstance(value, str) else value


class BrokerContract:
    """The suite; see the module."""

    @pytest.fixture
    async def world(self) -> BrokerSide:
        raise AssertionError("a subclass gives the world")

    @pytest.fixture
    async def subscription(self, world: BrokerSide) -> Subscription:
        return await self.subscribe(world)

    async def subscribe(self, world: BrokerSide, owner: Owner = OWNER, **more: Any) -> Subscription:
        (subscription,) = await subscribed(world.subscriptions, owner=owner, **more)
        return subscription

    async def test_an_event_reaches_every_matching_subscription_once(self, world: BrokerSide) -> None:
        first = await self.subscribe(world)
        second = await self.subscribe(world, events=[UPDATED, CATEGORY])
        await self.subscribe(world, events=[CATEGORY])
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: len(consumer.got) == 2)
        assert {delivery.subscription_id for delivery in consumer.got} == {first.id, second.id}
        for delivery in consumer.got:
            assert f'"subject":"{delivery.subscription_id}"'.encode() in delivery.body
        await self.assert_empty(world)

    async def test_a_delivery_has_the_lanes_and_the_epoch_that_its_match_found(
        self, world: BrokerSide
    ) -> None:
        subscription = await self.subscribe(world, lanes=8, epoch=2)
        consumer, event = Consumer(), an_event(1)
        await world.start(consumer)
        await world.intake.accept(PIM, [event])
        await eventually(lambda: consumer.got)
        assert replace(consumer.got[0], body=b"") == Delivery(
            subscription_id=subscription.id,
            event_id=event.id,
            event_type=event.type,
            accepted_at=world.clock.now(),
            lane=lane_of(event.identity, event.id, 8),
            lanes=8,
            epoch=2,
            body=b"",
        )

    async def test_a_request_reaches_all_of_many_subscriptions_once_and_in_order(
        self, world: BrokerSide
    ) -> None:
        receivers = [await self.subscribe(world, send_product_identifier=number == 2) for number in range(3)]
        consumer = Consumer()
        await world.start(consumer)
        product = {"uuid": "00000000-0000-4000-8000-000000000001", "identifier": "SKU-1"}
        events = [with_data(an_event(number, entity="one"), {"product": product}) for number in range(5)]
        await world.intake.accept(PIM, events)
        await eventually(lambda: len(consumer.got) == 15)
        await world.intake.accept(PIM, [an_event(5, entity="one")])
        await eventually(lambda: len(consumer.got) == 18)
        for receiver in receivers:
            got = [delivery for delivery in consumer.got if delivery.subscription_id == receiver.id]
            assert [delivery.event_id for delivery in got] == [f"event-{number}" for number in range(6)]
            has_identifier = [b"SKU-1" in delivery.body for delivery in got]
            assert has_identifier == [receiver.send_product_identifier] * 5 + [False]
        await self.assert_empty(world)

    async def test_another_tenants_event_reaches_nobody(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept("https://other.example.com", [an_event(1)])
        await world.intake.accept(PIM, [an_event(2)])
        await eventually(lambda: consumer.got)
        assert consumer.events == ["event-2"]
        await self.assert_empty(world)

    @pytest.mark.parametrize("noun", ["connection", "app"])
    async def test_a_client_that_is_gone_from_the_pim_is_revoked_and_the_others_are_told(
        self, world: BrokerSide, noun: str
    ) -> None:
        gone_type = f"com.akeneo.pim.v1.{noun}.deleted"
        gone = await self.subscribe(world, events=[UPDATED, gone_type])
        shop = Owner(PIM, "shop")
        other = await self.subscribe(world, owner=shop, events=[UPDATED, gone_type])
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [a_removal(noun, OWNER.client_id)])
        await eventually(lambda: consumer.got)
        await world.intake.accept(PIM, [an_event(2)])
        await eventually(lambda: len(consumer.got) == 2)
        assert {delivery.subscription_id for delivery in consumer.got} == {other.id}
        revoked = await world.subscriptions.subscription(OWNER, gone.subscriber_id, gone.id)
        assert (revoked.status, revoked.epoch) == (Status.REVOKED, 1)
        subscriber = await world.subscriptions.subscriber(OWNER, gone.subscriber_id)
        assert subscriber.status is Status.REVOKED
        assert (await world.subscriptions.subscriptions(shop, other.subscriber_id))[0].status is Status.ACTIVE
        await self.assert_empty(world)

    async def test_a_removal_of_another_pims_client_revokes_nobody(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept("https://other.example.com", [a_removal("app", OWNER.client_id)])
        await world.intake.accept(PIM, [replace(a_removal("app", "somebody-else"), id="other")])
        await world.intake.accept(PIM, [an_event(2)])
        await eventually(lambda: consumer.got)
        assert consumer.events == ["event-2"]

    async def test_half_characters_in_every_text_of_every_type_arrive_and_revoke_nobody(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        types = catalog.load()
        receiver = await self.subscribe(world, events=tuple(types.types), send_product_identifier=True)
        torn = [_torn_event(each) for each in types.types.values()]
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, torn)
        await eventually(lambda: len(set(consumer.events)) == len(torn))
        for delivery in consumer.got:
            if delivery.subscription_id == receiver.id:
                (event,) = [event for event in torn if event.id == delivery.event_id]
                assert event.data_json in delivery.body
                assert delivery.lane == lane_of(event.identity, event.id, delivery.lanes)
        for each in (subscription, receiver):
            now = await world.subscriptions.subscription(OWNER, each.subscriber_id, each.id)
            assert now.status is Status.ACTIVE

    async def test_what_was_accepted_before_the_start_is_delivered_after_it(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        await world.intake.accept(PIM, [an_event(number) for number in range(100)])
        consumer = Consumer()
        await world.start(consumer)
        await eventually(lambda: len(consumer.got) == 100)
        assert set(consumer.events) == {f"event-{number}" for number in range(100)}

    async def test_what_was_not_settled_comes_again_after_a_restart(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        consumer.released.clear()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number) for number in range(5)])
        await eventually(lambda: consumer.got)
        again = Consumer()
        await world.restart(again)
        await eventually(lambda: len(again.got) == 5)
        assert sorted(again.events) == [f"event-{number}" for number in range(5)]
        await self.assert_empty(world)

    async def test_what_was_settled_does_not_come_again(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: consumer.got)
        await self.assert_empty(world)
        again = Consumer()
        await world.restart(again)
        await world.intake.accept(PIM, [an_event(2)])
        await eventually(lambda: again.got)
        assert again.events == ["event-2"]

    async def test_a_repeated_id_fans_out_once_for_ten_minutes(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1), an_event(1)])
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: consumer.got)
        again = Consumer()
        await world.restart(again)
        await world.clock.advance(599)
        await world.intake.accept(PIM, [an_event(1), an_event(2)])
        await eventually(lambda: again.got)
        assert (consumer.events, again.events) == (["event-1"], ["event-2"])
        await world.clock.advance(2)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: len(again.got) == 2)

    async def test_a_relayed_id_fans_out_once_in_a_day_of_relayed_events(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await eventually(lambda: consumer.got)
        again = Consumer()
        await world.restart(again)
        await world.clock.jump(86399)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await world.intake.accept(PIM, [an_event(2)], way=Way.RELAY)
        await eventually(lambda: again.got)
        assert (consumer.events, again.events) == (["event-1"], ["event-2"])
        await world.intake.accept(PIM, [an_event(1)])  # another way remembers for ten minutes only
        await eventually(lambda: len(again.got) == 2)
        await world.clock.jump(601)
        await world.intake.accept(PIM, [an_event(1)], way=Way.RELAY)
        await eventually(lambda: len(again.got) == 3)

    async def test_two_tenants_may_use_the_same_id(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        await world.intake.accept("https://other.example.com", [an_event(1)])
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: consumer.events == ["event-1"])

    async def test_one_delivery_of_a_lane_is_outstanding_and_the_lane_keeps_its_order(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        for number in range(60):
            await world.intake.accept(PIM, [an_event(number, entity="the same product")])
        await eventually(lambda: len(consumer.got) == 60)
        assert consumer.events == [f"event-{number}" for number in range(60)]
        assert consumer.most_outstanding == 1

    async def test_lanes_do_not_wait_for_each_other(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        consumer.released.clear()
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number) for number in range(200)])
        await eventually(lambda: len(consumer.got) == subscription.lanes)
        assert {delivery.lane for delivery in consumer.got} == set(range(subscription.lanes))
        consumer.released.set()
        await eventually(lambda: len(consumer.got) == 200)

    async def test_a_delivery_that_our_code_failed_on_is_handed_out_again_with_backoff(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer(failing, failing)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1, entity="one"), an_event(2, entity="one")])
        await eventually(lambda: len(consumer.got) == 1)
        await self.advance_until(world, lambda: len(consumer.got) == 4)
        assert consumer.events == ["event-1", "event-1", "event-1", "event-2"]
        assert world.clock.now() - consumer.got[0].accepted_at >= timedelta(seconds=3)
        await self.assert_empty(world)

    async def test_a_delivery_that_our_code_never_gets_through_becomes_a_dead_letter(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer(*[failing] * 100)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1, entity="one"), an_event(2, entity="one")])
        await self.jump_until(world, lambda: "event-2" in consumer.events, seconds=60)
        assert Counter(consumer.events)["event-1"] == 100
        assert await world.dead_letters() == 1

    async def test_a_retry_comes_at_its_time_with_its_counts(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def later(delivery: Delivery) -> Settlement:
            tried = replace(delivery, attempts=1, failures=1, first_attempt_at=world.clock.now())
            outcome = Outcome(Kind.RETRYABLE, Reason.DESTINATION_TIMEOUT)
            return Settlement(tried, outcome, retry_at=world.clock.now() + timedelta(seconds=300))

        consumer = Consumer(later)
        await world.start(consumer)
        began = world.clock.now()
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: consumer.got)
        await world.clock.advance(299)
        again = Consumer()
        await world.restart(again)
        assert again.got == []
        await self.advance_until(world, lambda: again.got)
        assert world.clock.now() - began >= timedelta(seconds=300)
        retried = again.got[0]
        assert (retried.attempts, retried.failures, retried.first_attempt_at) == (1, 1, began)
        assert retried == replace(consumer.got[0], attempts=1, failures=1, first_attempt_at=began)
        await self.assert_empty(world)

    async def test_a_retry_holds_nobody_in_its_lane_up(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def later(delivery: Delivery) -> Settlement:
            return Settlement(delivery, None, retry_at=world.clock.now() + timedelta(seconds=300))

        consumer = Consumer(later)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1, entity="one"), an_event(2, entity="one")])
        await eventually(lambda: consumer.events == ["event-1", "event-2"])

    async def test_what_goes_back_to_its_lane_stands_behind_the_others(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def back(delivery: Delivery) -> Settlement:
            tried = replace(delivery, attempts=1, first_attempt_at=world.clock.now())
            return Settlement(tried, Outcome(Kind.THROTTLED, None, 429), back_to_lane=True)

        consumer = Consumer(back)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number, entity="one") for number in (1, 2)])
        await self.advance_until(world, lambda: len(consumer.got) == 3)
        assert consumer.events == ["event-1", "event-2", "event-1"]
        assert [delivery.attempts for delivery in consumer.got] == [0, 0, 1]
        await self.assert_empty(world)

    async def test_an_end_is_counted_in_one_log_entry_for_equal_ends(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def end(delivery: Delivery) -> Settlement:
            reason = Reason.DESTINATION_NOT_FOUND
            end = DeliveryEnd(Operation.FAILED, "answered 404", world.clock.now(), reason, 404, "gone")
            return Settlement(delivery, Outcome(Kind.SUSPENDING, reason, 404), end=end)

        consumer = Consumer(*[end] * 150)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(number) for number in range(150)])
        await eventually(lambda: len(consumer.got) == 150)
        await self.assert_empty(world)
        assert await world.log_entries() == [(subscription.id, "failed_to_deliver_event", 150)]

    async def test_equal_ends_within_five_minutes_are_one_entry_whatever_the_clock_shows(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def end(delivery: Delivery) -> Settlement:
            end = DeliveryEnd(
                Operation.FAILED, "answered 404", world.clock.now(), Reason.DESTINATION_NOT_FOUND
            )
            return Settlement(delivery, None, end=end)

        consumer = Consumer(*[end] * 3)
        await world.start(consumer)
        for number, seconds in enumerate((250, 290, 20)):  # at 250, 540 and 560 s: the third is too late
            await world.clock.advance(seconds)
            await world.intake.accept(PIM, [an_event(number)])
            await eventually(lambda number=number: len(consumer.got) == number + 1)
            await self.assert_empty(world)
        entries = [occurrences for _, _, occurrences in await world.log_entries()]
        assert sorted(entries) == [1, 2]

    async def test_equal_drops_are_one_entry_an_hour(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        def drop(delivery: Delivery) -> Settlement:
            return Settlement(
                delivery, None, end=DeliveryEnd(Operation.DROPPED, "suspended", world.clock.now())
            )

        minutes = [0, 30, 59, 60, 119]  # the fourth is an hour after the first
        consumer = Consumer(*[drop] * len(minutes))
        await world.start(consumer)
        for number, minute in enumerate(minutes):
            await world.clock.jump((START + timedelta(minutes=minute) - world.clock.now()).total_seconds())
            await world.intake.accept(PIM, [an_event(number)])
            await eventually(lambda number=number: len(consumer.got) == number + 1)
            await self.assert_empty(world)
        entries = await world.log_entries()
        assert sorted(entries) == [(subscription.id, "deliveries_dropped", count) for count in (2, 3)]

    async def test_an_event_for_many_is_kept_until_the_last_has_it(self, world: BrokerSide) -> None:
        for _ in range(3):
            await self.subscribe(world)

        def later(delivery: Delivery) -> Settlement:
            return Settlement(delivery, None, retry_at=world.clock.now() + timedelta(seconds=10))

        consumer = Consumer(later)
        await world.start(consumer)
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: len(consumer.got) == 3)
        await self.advance_until(world, lambda: len(consumer.got) == 4)
        await self.assert_empty(world)

    async def test_events_carry_the_epoch_of_their_acceptance(
        self, world: BrokerSide, subscription: Subscription
    ) -> None:
        consumer = Consumer()
        await world.start(consumer)
        change = partial(suspend, now=world.clock.now())
        await world.intake.accept(PIM, [an_event(1)])
        await eventually(lambda: consumer.got)
        await world.subscriptions.change_subscription(
            OWNER, subscription.subscriber_id, subscription.id, change
        )
        await world.intake.accept(PIM, [an_event(2)])
        await world.subscriptions.change_subscription(
            OWNER,
            subscription.subscriber_id,
            subscription.id,
            lambda before: replace(before, status=subscription.status, epoch=before.epoch + 1),
        )
        await world.intake.accept(PIM, [an_event(3)])
        await eventually(lambda: len(consumer.got) == 2)
        assert [(delivery.event_id, delivery.epoch) for delivery in consumer.got] == [
            ("event-1", 0),
            ("event-3", 2),
        ]

    async def assert_empty(self, world: BrokerSide) -> None:
        """Everything that was accepted has left."""
        deadline = 500
        while await world.left_over() and deadline:
            await asyncio.sleep(0.01)
            deadline -= 1
        assert await world.left_over() == 0

    async def advance_until(self, world: BrokerSide, happened: Callable[[], object]) -> None:
        """Moves the clock second by second, giving the queue's threads time between the steps."""
        await self._step_until(partial(world.clock.advance, 1), happened)

    async def jump_until(self, world: BrokerSide, happened: Callable[[], object], *, seconds: float) -> None:
        """As `advance_until` for what takes hours: each jump wakes everybody once, and no more often."""
        await self._step_until(partial(world.clock.jump, seconds), happened)

    async def _step_until(self, step: Callable[[], Awaitable[None]], happened: Callable[[], object]) -> None:
        """Steps as often as it takes: on a busy machine the queue's threads need several for one attempt."""
        deadline = time.monotonic() + STEPPED_SECONDS
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            await step()
