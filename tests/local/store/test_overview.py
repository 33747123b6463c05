"""What an operator is told of each subscription."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aep.store import overview
from aep.store.database import Database
from aep.store.ends import SqliteFailedAttempts
from aep.store.overview import State, states
from aep.store.subscriptions import SqliteSubscriptions
from aep.store.success_counts import SqliteSuccessCounts
from event_platform.domain.attempts.outcomes import Kind, LastFailure, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from event_platform.domain.pace.rates import Limits, Rate
from event_platform.domain.subscriptions import Subscription, delete_subscription, resume, suspend
from event_platform.domain.suspension import Count, minute_of, series_of
from support.clock import START
from support.embedded import Embedded
from support.records import OWNER, PIM, an_event

LIMITS = Limits(1, 50)


@pytest.fixture
def database(embedded: Embedded) -> Database:
    return embedded.database


@pytest.fixture
def store(embedded: Embedded) -> SqliteSubscriptions:
    return embedded.subscriptions


@pytest.fixture
async def subscription(embedded: Embedded) -> Subscription:
    (subscription,) = await embedded.subscribe()
    return subscription


async def told(database: Database, *, minutes: float = 0) -> State:
    (state,) = await database.read(
        lambda connection: list(states(connection, START + timedelta(minutes=minutes), LIMITS))
    )
    return state


async def test_a_new_subscription_begins_with_ten_a_second(
    database: Database, subscription: Subscription
) -> None:
    state = await told(database)
    assert (state.id, state.destination, state.status) == (
        subscription.id,
        subscription.config.destination,
        "active",
    )
    assert (state.rate, state.lanes, state.attempts, state.success_rate) == (10, 16, 0, None)
    assert (await told(database, minutes=5)).rate == 50


async def test_the_rate_and_the_lanes_are_those_that_the_receiver_led_to(
    database: Database, store: SqliteSubscriptions, subscription: Subscription
) -> None:
    rate = Rate(START, base=4, ceiling=20)
    await store.change_pace(subscription.id, lambda before: replace(before, rate=rate, lanes=4))
    state = await told(database)
    assert (state.rate, state.lanes) == (4, 4)
    assert (await told(database, minutes=0.25)).rate == 20


async def test_the_success_rate_is_that_of_the_last_hour_since_the_last_resume(
    database: Database, store: SqliteSubscriptions, subscription: Subscription
) -> None:
    counts = SqliteSuccessCounts(database)
    this = minute_of(START)
    minutes = {this - 60: Count(0, 100), this - 59: Count(10, 1), this: Count(85, 4)}
    await counts.add({series_of(subscription): minutes})
    state = await told(database)
    assert (state.attempts, state.success_rate) == (100, 0.95)
    assert (state.delivered, state.failed) == (95, 5)
    for change in (suspend, resume):
        await store.change_subscription(
            OWNER,
            subscription.subscriber_id,
            subscription.id,
            lambda before, change=change: change(before, START),
        )
    state = await told(database)
    assert (state.attempts, state.success_rate) == (0, None)
    assert (state.delivered, state.failed) == (95, 5)


async def test_a_deleted_subscription_is_not_told(
    database: Database, store: SqliteSubscriptions, subscription: Subscription
) -> None:
    await store.change_subscription(
        OWNER, subscription.subscriber_id, subscription.id, lambda before: delete_subscription(before, START)
    )
    assert await database.read(lambda connection: list(states(connection, START, LIMITS))) == []


@pytest.mark.parametrize("keeps", [True, False])
async def test_the_last_failed_attempt_is_told_at_once(tmp_path: Path, keeps: bool) -> None:
    """Long before the event is given up, and also where nothing is kept."""
    async with Embedded(tmp_path, keeps=keeps) as store:
        await store.open()
        await store.subscribe()
        await store.queue.accept(PIM, [an_event(1), an_event(2)])
        assert (await told(store.database)).last_failure is None
        await store.clock.advance(60)
        failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
        tried = store.put[0].delivery().after_attempt(store.clock.now(), used_a_retry=True)
        await store.queue.settle(Settlement(tried, failed, retry_at=START + timedelta(minutes=6)))
        await store.queue.settle(Settlement(store.put[1].delivery(), Outcome(Kind.DELIVERED, None, 204)))
        state = await told(store.database, minutes=2)
        shown = await SqliteFailedAttempts(store.database).last_failure(state.id)
    assert shown == LastFailure(START + timedelta(seconds=60), failed)
    assert (state.last_failure, state.last_error) == ("retryable: 503 destination_failure", None)
    assert state.last_failure_at == START + timedelta(seconds=60)


async def test_what_waits_and_since_when(embedded: Embedded, subscription: Subscription) -> None:
    """In lanes and for a retry, from the acceptance of the oldest."""
    await embedded.open()
    assert (await told(embedded.database)).waiting_since is None
    await embedded.queue.accept(PIM, [an_event(1)])
    await embedded.clock.advance(60)
    await embedded.queue.accept(PIM, [an_event(2), an_event(3)])
    first, second, third = (entry.delivery() for entry in embedded.put)
    failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
    await embedded.queue.settle(Settlement(first, failed, retry_at=START + timedelta(minutes=6)))
    state = await told(embedded.database, minutes=1)
    assert (state.queued, state.retries, state.waiting_since) == (2, 1, START)
    await embedded.queue.settle(Settlement(second, Outcome(Kind.DELIVERED, None, 204)))
    await embedded.database.write(lambda connection: connection.execute("DELETE FROM retries"))
    state = await told(embedded.database, minutes=1)
    assert (state.queued, state.retries, state.waiting_since) == (1, 0, START + timedelta(seconds=60))
    assert third.accepted_at == state.waiting_since


async def test_the_name_of_the_subscriber_and_the_event_types_are_told(
    database: Database, subscription: Subscription
) -> None:
    state = await told(database)
    assert (state.subscriber_name, state.events) == ("ERP", subscription.events)


async def test_many_subscriptions_are_read_in_pages(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is open between two, so a checkpoint can reach the end of the log while somebody reads them."""
    monkeypatch.setattr(overview, "PAGE", 2)
    made = await embedded.subscribe(5)
    with (
        closing(sqlite3.connect(embedded.folder / "aep.db")) as reader,
        closing(sqlite3.connect(embedded.folder / "aep.db")) as other,
    ):
        found: list[str] = []
        for state in states(reader, START, LIMITS):
            found.append(state.id)
            (is_busy, *_) = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not is_busy
    assert found == [each.id for each in made]
