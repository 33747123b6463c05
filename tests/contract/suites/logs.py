"""What every implementation of the port `Logs` does, and the entries that changes leave for it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import uuid_utils

from event_platform.domain.call_limits import LIMITS, PIM_FACTOR, CallType
from event_platform.domain.errors import Conflict, InvalidRequest, Problem
from event_platform.domain.record.actions import Action, Actor, Call
from event_platform.domain.record.logs import (
    MORE_REFUSED,
    REFUSED,
    VALIDATION_ERROR,
    LogEntry,
    LogQuery,
    LogType,
    Position,
)
from event_platform.domain.record.redaction import Redaction
from event_platform.domain.subscriptions import (
    Owner,
    Status,
    Subscription,
    delete_subscriber,
    delete_subscription,
    resume,
    suspend,
)
from event_platform.manage.logs import RefusalLog
from event_platform.ports import Logs, Subscriptions
from support.clock import START, ManualClock
from support.records import OWNER, a_subscriber, a_subscription

STRANGER = Owner(OWNER.tenant, "shop")
BY_USER = Action(Actor.USER, Call("PATCH", "https://events.example.com/api/v1/x", {"name": "ERP"}))
SECOND = timedelta(seconds=1)
EVERYTHING = LogQuery(limit=1000)


@dataclass
class LogsSide:
    logs: Logs
    subscriptions: Subscriptions


def a_refusal(at: datetime = START, owner: Owner = OWNER, **changes: Any) -> LogEntry:
    entry = LogEntry(
        id=str(uuid_utils.uuid7()),
        owner=owner,
        log_type=LogType.ERROR,
        at=at,
        operation=REFUSED,
        error_type=VALIDATION_ERROR,
        error_code=400,
        error_message="name: is required",
        request={"body": {}, "method": "POST", "url": "/api/v1/subscribers"},
        response={"errors": [{"message": "name: is required"}]},
    )
    return replace(entry, **changes)


class LogsContract:
    """Subclasses give a `world`."""

    async def test_a_refusal_is_read_as_it_was_written(self, world: LogsSide) -> None:
        entry = a_refusal(subscriber_id="a", subscription_id="b")
        await world.logs.add_refusal(entry)
        assert await world.logs.entries(OWNER, EVERYTHING) == [entry]

    async def test_equal_refusals_within_five_minutes_are_one_with_the_latest_time(
        self, world: LogsSide
    ) -> None:
        first, later = a_refusal(), a_refusal(START + timedelta(seconds=299))
        after = a_refusal(START + timedelta(minutes=5))
        for entry in (first, later, after):
            await world.logs.add_refusal(entry)
        assert await world.logs.entries(OWNER, EVERYTHING) == [
            after,
            replace(first, at=later.at, occurrences=2),
        ]

    @pytest.mark.parametrize(
        "changes",
        [{"error_message": "other"}, {"owner": STRANGER}, {"subscriber_id": "a"}, {"subscription_id": "b"}],
    )
    async def test_refusals_that_differ_are_not_one(self, world: LogsSide, changes: dict[str, Any]) -> None:
        await world.logs.add_refusal(a_refusal())
        await world.logs.add_refusal(a_refusal(**changes))
        found = [
            *await world.logs.entries(OWNER, EVERYTHING),
            *await world.logs.entries(STRANGER, EVERYTHING),
        ]
        assert [entry.occurrences for entry in found] == [1, 1]

    async def test_entries_of_another_owner_are_not_read(self, world: LogsSide) -> None:
        for owner in (STRANGER, Owner("https://other.example.com", OWNER.client_id)):
            await world.logs.add_refusal(a_refusal(owner=owner))
        assert await world.logs.entries(OWNER, EVERYTHING) == []

    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_meet_each_entry_once_though_times_are_equal_and_new_ones_come(
        self, world: LogsSide, *, newest_first: bool
    ) -> None:
        async def add(number: int) -> None:
            at = START + SECOND * (number // 3)
            await world.logs.add_refusal(a_refusal(at, error_message=f"number {number}"))

        for number in range(10):
            await add(number)
        seen: list[str | None] = []
        query = replace(EVERYTHING, limit=3, newest_first=newest_first)
        extra = 100
        while page := await world.logs.entries(OWNER, query):
            seen += [entry.error_message for entry in page]
            query = replace(query, after=Position(page[-1].at.timestamp(), page[-1].id))
            if extra < 104:
                await add(extra)
                extra += 3
        old = [message for message in seen if message and int(message.split()[1]) < 100]
        expected = [f"number {number}" for number in range(10)]
        assert old == (expected[::-1] if newest_first else expected)
        assert (len(seen) > 10) is not newest_first

    async def test_times_begin_inclusive_and_end_exclusive(self, world: LogsSide) -> None:
        entries = [a_refusal(START + SECOND * number, error_message=str(number)) for number in range(4)]
        for entry in entries:
            await world.logs.add_refusal(entry)
        query = replace(EVERYTHING, since=START + SECOND, before=START + SECOND * 3)
        assert await world.logs.entries(OWNER, query) == [entries[2], entries[1]]

    @pytest.mark.parametrize(
        "query",
        [
            {"log_type": LogType.ACTION, "operation": REFUSED},
            {"log_type": LogType.ACTION, "error_reason": "connection_refused"},
            {"operation": REFUSED, "error_reason": "connection_refused"},
        ],
    )
    async def test_filters_that_exclude_each_other_find_nothing(
        self, world: LogsSide, query: dict[str, Any]
    ) -> None:
        await world.logs.add_refusal(a_refusal(error_reason=query.get("error_reason")))
        await world.subscriptions.add_subscriber(a_subscriber(), limit=20)
        assert await world.logs.entries(OWNER, LogQuery(**query)) == []

    async def test_refusals_without_an_entry_of_their_own_are_counted_in_one_an_hour(
        self, world: LogsSide
    ) -> None:
        first, later = (
            a_refusal(START + timedelta(minutes=number), error_message=MORE_REFUSED) for number in (0, 59)
        )
        after = a_refusal(START + timedelta(hours=1), error_message=MORE_REFUSED)
        for entry in (first, later, after):
            await world.logs.add_refusal(entry)
        assert await world.logs.entries(OWNER, EVERYTHING) == [
            after,
            replace(first, at=later.at, occurrences=2),
        ]

    async def test_an_owner_has_so_many_different_refusals_and_a_pim_some_more(self, world: LogsSide) -> None:
        limit = LIMITS[CallType.REFUSED].burst
        refusals, no_body = RefusalLog(world.logs, ManualClock()), Redaction(None)
        owners = [Owner(OWNER.tenant, f"client-{number}") for number in range(PIM_FACTOR + 1)]
        for owner in owners:
            await asyncio.gather(
                *(
                    refusals.record(
                        owner, "GET", "/", no_body, {}, InvalidRequest(Problem("name", f"is {number}"))
                    )
                    for number in range(limit + 2)
                )
            )
        found = [await world.logs.entries(owner, EVERYTHING) for owner in owners]
        assert [len(entries) for entries in found] == [limit + 1] * PIM_FACTOR + [1]
        for entries in found:
            assert sum(entry.occurrences for entry in entries) == limit + 2

    # What changes leave

    async def test_each_change_leaves_its_entry(self, world: LogsSide) -> None:
        store, times = world.subscriptions, [START + SECOND * number for number in range(9)]
        subscriber = a_subscriber(now=times[0])
        subscription = a_subscription(subscriber, now=times[1])
        sid, id_ = subscriber.id, subscription.id
        await store.add_subscriber(subscriber, limit=20, action=BY_USER)
        await store.add_subscription(subscription, lambda _: None, limit=20, action=BY_USER)

        async def change(how: Callable[[Subscription], Subscription], action: Action = BY_USER) -> None:
            await store.change_subscription(OWNER, sid, id_, how, action=action)

        await change(lambda before: replace(before, events=("x",), updated_at=times[2]))
        await change(partial(suspend, now=times[3]))
        await change(partial(suspend, now=times[4]))  # changes nothing
        await change(partial(resume, now=times[4]))
        await change(
            lambda before: replace(before, status=Status.REVOKED, updated_at=times[5]), Action(Actor.PLATFORM)
        )
        await change(partial(delete_subscription, now=times[6]))
        await store.change_subscriber(
            OWNER, sid, lambda before: replace(before, name="x", updated_at=times[7]), action=BY_USER
        )
        await store.change_subscriber(OWNER, sid, partial(delete_subscriber, now=times[8]), action=BY_USER)
        found = await world.logs.entries(OWNER, replace(EVERYTHING, newest_first=False))
        assert [(entry.operation, entry.subscription_id) for entry in found] == [
            ("subscriber_created_by_the_user", None),
            ("subscription_created_by_the_user", id_),
            ("subscription_updated_by_the_user", id_),
            ("subscription_suspended_by_the_user", id_),
            ("subscription_resumed_by_the_user", id_),
            ("subscription_revoked_by_the_platform", id_),
            ("subscription_deleted_by_the_user", id_),
            ("subscriber_updated_by_the_user", None),
            ("subscriber_deleted_by_the_user", None),
        ]
        assert [entry.at for entry in found] == times
        assert {entry.subscriber_id for entry in found} == {sid}
        assert {entry.log_type for entry in found} == {LogType.ACTION}
        assert found[0].request == BY_USER.call.shown() if BY_USER.call else None
        assert found[5].request == {}
        assert found[3].response["status"] == "suspended"

    async def test_a_deleted_subscriber_leaves_an_entry_for_each_of_its_subscriptions(
        self, world: LogsSide
    ) -> None:
        subscriber = a_subscriber()
        await world.subscriptions.add_subscriber(subscriber, limit=20)
        subscriptions = [a_subscription(subscriber) for _ in range(2)]
        for each in subscriptions:
            await world.subscriptions.add_subscription(each, lambda _: None, limit=20)
        await world.subscriptions.change_subscriber(
            OWNER,
            subscriber.id,
            partial(delete_subscriber, now=START + SECOND),
            and_subscriptions=partial(delete_subscription, now=START + SECOND),
            action=BY_USER,
        )
        query = replace(EVERYTHING, operation="subscription_deleted_by_the_user")
        found = await world.logs.entries(OWNER, query)
        assert {entry.subscription_id for entry in found} == {each.id for each in subscriptions}

    async def test_a_change_that_raises_leaves_none(self, world: LogsSide) -> None:
        subscriber = a_subscriber()
        await world.subscriptions.add_subscriber(subscriber, limit=20)
        with pytest.raises(Conflict):
            await world.subscriptions.add_subscriber(a_subscriber(), limit=1)
        assert len(await world.logs.entries(OWNER, EVERYTHING)) == 1
