"""What has expired leaves the embedded store by itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from aep.broker import seen
from aep.broker.queued import Receipt
from event_platform.domain.deliveries import Settlement
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import delete_subscriber, delete_subscription
from event_platform.domain.tenants import Way
from support.clock import START
from support.embedded import Embedded
from support.records import OWNER, PIM, a_subscriber, a_subscription, an_event


@pytest.fixture
def store(embedded: Embedded) -> Embedded:
    return embedded


async def test_ids_are_forgotten_after_ten_minutes(store: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MOVED_AT_ONCE", 5)
    await store.queue.accept(PIM, [an_event(number) for number in range(5)])
    await store.clock.advance(599)
    assert await store.queue.clean_up(100) == 0
    await store.queue.accept(PIM, [an_event(9)])
    await store.clock.advance(2)
    assert [await store.queue.clean_up(3), await store.queue.clean_up(3)] == [3, 2]
    assert [await store.count("seen"), await store.count("arrived")] == [0, 1]


async def test_ids_of_relayed_events_are_forgotten_after_a_day(store: Embedded) -> None:
    await store.queue.accept(PIM, [an_event(number) for number in range(3)], way=Way.RELAY)
    await store.clock.advance(601)
    assert await store.queue.clean_up(100) == 0
    assert await store.count("relayed") == 3
    await store.queue.accept(PIM, [an_event(9)], way=Way.RELAY)
    await store.clock.advance(86400 - 600)
    await store.queue.clean_up(100)
    assert await store.count("relayed") == 1


async def test_deleted_records_go_after_thirty_days_unless_something_waits_for_them(store: Embedded) -> None:
    subscriber = a_subscriber()
    await store.subscriptions.add_subscriber(subscriber, limit=20)
    idle, waiting = a_subscription(subscriber), a_subscription(subscriber)
    await store.subscriptions.add_subscription(waiting, lambda _: None, limit=20)
    await store.queue.accept(PIM, [an_event(1)])
    await store.subscriptions.add_subscription(idle, lambda _: None, limit=20)
    await store.subscriptions.change_subscriber(
        OWNER,
        subscriber.id,
        lambda before: delete_subscriber(before, START),
        and_subscriptions=lambda before: delete_subscription(before, START),
    )
    await store.clock.advance(timedelta(days=30).total_seconds() - 1)
    await store.queue.clean_up(100)
    assert await store.count("subscriptions") == 2
    await store.clock.advance(2)
    await store.forget_kept()
    await store.queue.clean_up(100)
    assert await store.subscriptions.current(idle.id) is None
    assert await store.subscriptions.current(waiting.id) is not None
    assert await store.count("subscribers") == 1

    (key,) = await store.queue.lanes()
    (queued,) = await store.queue.waiting(key, 0, 10, 10**6)
    await store.queue.settle(Settlement(queued.delivery(), None))
    await store.queue.clean_up(100)
    assert [await store.count("subscriptions"), await store.count("subscribers")] == [0, 0]


async def test_log_entries_go_after_thirty_days(store: Embedded) -> None:
    subscriber = a_subscriber()
    await store.subscriptions.add_subscriber(subscriber, limit=20)
    await store.subscriptions.add_subscription(a_subscription(subscriber), lambda _: None, limit=20)
    await store.queue.accept(PIM, [an_event(1)])
    (key,) = await store.queue.lanes()
    (queued,) = await store.queue.waiting(key, 0, 10, 10**6)
    end = DeliveryEnd(Operation.FAILED, "answered 404", START)
    await store.queue.settle(Settlement(queued.delivery(), None, end=end))
    await store.clock.advance(timedelta(days=30).total_seconds())
    await store.queue.clean_up(100)
    assert await store.count("log_entries") == 3  # two of them of the additions
    await store.clock.advance(1)
    await store.queue.clean_up(100)
    assert await store.count("log_entries") == 0


async def test_a_read_of_a_lane_takes_what_fits_and_at_least_one(store: Embedded) -> None:
    subscriber = a_subscriber()
    await store.subscriptions.add_subscriber(subscriber, limit=20)
    await store.subscriptions.add_subscription(a_subscription(subscriber), lambda _: None, limit=20)
    big = replace(an_event(1, entity="one"), data_json=b'"' + b"x" * 100_000 + b'"')
    await store.queue.accept(PIM, [replace(big, id=f"event-{number}") for number in range(5)])
    (key,) = await store.queue.lanes()
    assert len(await store.queue.waiting(key, 0, 10, 0)) == 1
    first, second = await store.queue.waiting(key, 0, 10, 250_000)
    assert isinstance(first.receipt, Receipt)
    rest = await store.queue.waiting(key, second.receipt.position, 10, 10**9)
    assert [entry.event_id for entry in rest] == ["event-2", "event-3", "event-4"]
