"""How the status of subscribers and subscriptions may change (contract/wire.md 2 and 5)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from event_platform.domain.errors import Conflict, NotFound
from event_platform.domain.subscriptions import (
    Status,
    Subscriber,
    Subscription,
    check_changeable,
    check_known,
    delete_subscriber,
    delete_subscription,
    resume,
    suspend,
)
from support.clock import START
from support.records import a_subscriber, a_subscription

LATER = START + timedelta(hours=1)
Change = Callable[[Subscription, datetime], Subscription]


def subscription_in(status: Status, *, epoch: int = 3) -> Subscription:
    return replace(a_subscription(a_subscriber()), status=status, epoch=epoch)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (Status.ACTIVE, suspend, Status.SUSPENDED),
        (Status.SUSPENDED, resume, Status.ACTIVE),
        (Status.ACTIVE, delete_subscription, Status.DELETED),
        (Status.SUSPENDED, delete_subscription, Status.DELETED),
        (Status.REVOKED, delete_subscription, Status.DELETED),
    ],
)
def test_a_change_of_status_begins_a_new_epoch(before: Status, change: Change, after: Status) -> None:
    was = subscription_in(before)
    assert change(was, LATER) == replace(was, status=after, epoch=4, updated_at=LATER)


@pytest.mark.parametrize(("status", "change"), [(Status.ACTIVE, resume), (Status.SUSPENDED, suspend)])
def test_repeating_a_change_changes_nothing(status: Status, change: Change) -> None:
    was = subscription_in(status)
    assert change(was, LATER) is was


@pytest.mark.parametrize("change", [suspend, resume])
@pytest.mark.parametrize("status", [Status.REVOKED, Status.DELETED])
def test_what_is_revoked_or_deleted_is_neither_suspended_nor_resumed(status: Status, change: Change) -> None:
    with pytest.raises(Conflict, match=f"is {status} and cannot be changed"):
        change(subscription_in(status), LATER)


def test_a_deleted_subscription_is_not_deleted_again() -> None:
    with pytest.raises(Conflict, match="is already deleted"):
        delete_subscription(subscription_in(Status.DELETED), LATER)


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.REVOKED])
def test_a_subscriber_is_deleted_once(status: Status) -> None:
    was = replace(a_subscriber(), status=status)
    deleted = delete_subscriber(was, LATER)
    assert deleted == replace(was, status=Status.DELETED, updated_at=LATER)
    with pytest.raises(Conflict, match=f"subscriber {was.id} is already deleted"):
        delete_subscriber(deleted, LATER)


@pytest.mark.parametrize("record", [a_subscriber(), subscription_in(Status.ACTIVE)])
@pytest.mark.parametrize(
    ("status", "changeable"),
    [(Status.ACTIVE, True), (Status.SUSPENDED, True), (Status.REVOKED, False), (Status.DELETED, False)],
)
def test_only_active_and_suspended_records_can_be_changed(
    record: Subscriber | Subscription, status: Status, changeable: bool
) -> None:
    record = replace(record, status=status)
    if changeable:
        check_changeable(record, LATER)
    else:
        with pytest.raises(Conflict):
            check_changeable(record, LATER)


@pytest.mark.parametrize("record", [a_subscriber(), subscription_in(Status.ACTIVE)])
def test_a_deleted_record_is_shown_for_30_days(record: Subscriber | Subscription) -> None:
    deleted = replace(record, status=Status.DELETED, updated_at=START)
    check_known(deleted, START + timedelta(days=30))
    with pytest.raises(NotFound, match=f"{record.id} is unknown"):
        check_known(deleted, START + timedelta(days=30, microseconds=1))


@pytest.mark.parametrize("change", [suspend, resume, delete_subscription])
def test_after_30_days_a_change_finds_nothing(change: Change) -> None:
    deleted = replace(subscription_in(Status.DELETED), updated_at=START)
    with pytest.raises(NotFound):
        change(deleted, START + timedelta(days=31))


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.SUSPENDED, Status.REVOKED])
def test_what_is_not_deleted_is_known_for_good(status: Status) -> None:
    check_known(subscription_in(status), START + timedelta(days=10_000))
