"""Tests of `aep status` and `aep logs` for a project, on Google's emulator of Firestore."""

from dataclasses import replace
from datetime import timedelta

import pytest

from aep.cli import views
from aep.errors import GoogleFailed
from aep.google import overview
from contract.suites.retry_schedule import a_delivery
from event_platform.adapters.firestore.client import Firestore
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.errors import NotFound
from event_platform.domain.pace.rates import Limits
from event_platform.domain.record.logs import DeliveryEnd, LogType, Operation
from event_platform.domain.subscriptions import Subscription, suspend
from event_platform.domain.suspension import Count, minute_of, series_of
from support.clock import START, ManualClock
from support.records import subscribed


@pytest.fixture
async def two(
    firestore: Firestore, firestore_host: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Subscription, Subscription]:
    """Two subscriptions; the second is suspended, the first has failed, succeeded, and waits."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    monkeypatch.setattr(overview, "PAGE", 1)
    clock = ManualClock()
    store = FirestoreSubscriptions(firestore, AesGcmSeal(b"k" * 32), clock)
    first, second = await subscribed(store, 2)
    delivery = replace(a_delivery(), subscription_id=first.id, accepted_at=START)
    schedule = FirestoreRetrySchedule(firestore, clock)
    for number in range(2):
        at = START + timedelta(minutes=number)
        await schedule.schedule(replace(delivery, event_id=f"e-{number}", accepted_at=at), at)
    ended = DeliveryEnd(Operation.FAILED, "no more retries", START)
    await FirestoreEndLog(firestore, store, clock).record(delivery, ended)
    counts = {series_of(first): {minute_of(START): Count(3, 1)}}
    await FirestoreSuccessCounts(firestore).add(counts)
    await store.change_subscription(
        second.owner, second.subscriber_id, second.id, lambda before: suspend(before, START)
    )
    return first, second


async def test_the_state_of_each_subscription_is_what_is_stored(
    two: tuple[Subscription, Subscription], project: str
) -> None:
    states = await overview.states(project, Limits(), START)
    first, second = ({each.id: each for each in states}[each.id] for each in two)
    assert (first.status, first.queued, first.retries, first.waiting_since) == ("active", None, 2, START)
    assert (first.delivered, first.failed, first.success_rate) == (3, 1, 0.75)
    assert (first.ended, first.last_error, first.last_error_at) == (1, "no more retries", START)
    assert (first.last_failure, first.rate) == (None, 10.0)
    assert (second.status, second.retries, second.ended) == ("suspended", 0, 0)
    assert "2 and lanes" in views.subscription_item(first).cells


async def test_the_log_is_of_all_clients_or_of_one_subscription(
    two: tuple[Subscription, Subscription], project: str
) -> None:
    every = await overview.latest(project, subscription_id=None, log_type=None, limit=99)
    assert {each.operation for each in every} >= {
        "failed_to_deliver_event",
        "subscription_suspended_by_the_platform",
    }
    newest = await overview.latest(project, subscription_id=None, log_type=None, limit=2)
    assert newest == every[-2:]
    errors = await overview.latest(project, subscription_id=two[0].id, log_type=LogType.ERROR, limit=9)
    assert [each.operation for each in errors] == ["failed_to_deliver_event"]
    with pytest.raises(NotFound, match="aep status --google"):
        await overview.latest(project, subscription_id="nobody", log_type=None, limit=9)


async def test_too_many_subscriptions_are_refused(
    two: tuple[Subscription, Subscription], project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "SUBSCRIPTIONS_AT_MOST", 1)
    with pytest.raises(GoogleFailed, match="more than 1 subscriptions"):
        await overview.states(project, Limits(), START)
