"""Entries of deliveries that ended, in Firestore: counted by several instances, read as one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, FailedPrecondition, ServiceUnavailable
from google.cloud.firestore_v1 import AsyncWriteBatch
from google.cloud.firestore_v1.types import WriteResult

from contract.suites.logs import EVERYTHING, STRANGER, a_refusal
from contract.suites.retry_schedule import a_delivery
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.ends import FirestoreEndLog
from event_platform.adapters.firestore.logs import FirestoreLogs
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.deliveries import Delivery
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.record.logs import (
    KEPT_FOR,
    DeliveryEnd,
    LogEntry,
    LogQuery,
    LogType,
    Operation,
    Position,
)
from event_platform.domain.subscriptions import Subscription
from support.clock import START, ManualClock
from support.records import OWNER, a_subscriber, a_subscription

Hook = Callable[[], Awaitable[None]]
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
FAILED = DeliveryEnd(Operation.FAILED, "answered 503", START, Reason.DESTINATION_FAILURE, 503, "busy")
DROPPED = DeliveryEnd(Operation.DROPPED, "suspended", START)
NEXT_WINDOW = START + 5 * MINUTE
SUBSCRIPTION = a_subscription(a_subscriber())


class Known:
    """The port `SubscriptionLookup`."""

    async def current(self, subscription_id: str) -> Subscription | None:
        return SUBSCRIPTION if subscription_id == SUBSCRIPTION.id else None


def ended(number: int = 1, subscription: str = SUBSCRIPTION.id) -> Delivery:
    return replace(a_delivery(number, attempts=4), subscription_id=subscription)


class EndLogs:
    """Some instances of deliver, and the reader."""

    def __init__(self, firestore: Firestore) -> None:
        self.firestore = firestore
        self.clock = ManualClock()
        self.instances = [self.instance() for _ in range(3)]
        self.logs = FirestoreLogs(firestore, self.clock, seconds=0)

    def instance(self, firestore: Firestore | None = None) -> FirestoreEndLog:
        return FirestoreEndLog(firestore or self.firestore, Known(), self.clock, seconds=0)

    async def entries(self, **changes: Any) -> Sequence[LogEntry]:
        return await self.logs.entries(OWNER, replace(EVERYTHING, **changes))

    async def stored(self) -> Sequence[dict[str, Any]]:
        found = await self.firestore.client.collection("log_entries").get()
        return [each.to_dict() or {} for each in found]


@pytest.fixture
async def world(firestore: Firestore) -> EndLogs:
    return EndLogs(firestore)


async def test_an_end_is_an_entry_of_the_subscriptions_owner(world: EndLogs) -> None:
    await world.instances[0].record(ended(), FAILED)
    (entry,) = await world.entries()
    assert replace(entry, id="") == LogEntry(
        id="",
        owner=OWNER,
        log_type=LogType.ERROR,
        at=START,
        operation="failed_to_deliver_event",
        subscriber_id=SUBSCRIPTION.subscriber_id,
        subscription_id=SUBSCRIPTION.id,
        error_type="failed_delivery",
        error_reason="destination_failure",
        error_code=503,
        error_message="answered 503",
        response={"status": 503, "body": "busy"},
        events=({"event_id": "event-1", "type": ended().event_type, "attempts": 4},),
    )
    assert await world.logs.entries(STRANGER, EVERYTHING) == []


async def test_what_no_endpoint_answered_has_code_500_and_no_response(world: EndLogs) -> None:
    await world.instances[0].record(ended(), replace(FAILED, status=None, excerpt=None))
    (entry,) = await world.entries()
    assert (entry.error_code, entry.response) == (500, {})


async def test_equal_ends_of_all_instances_are_one_entry_with_the_latest_answer(
    world: EndLogs,
) -> None:
    for number, instance in enumerate([*world.instances, *world.instances]):
        end = replace(FAILED, at=START + number * SECOND, excerpt=f"busy {number}")
        await instance.record(ended(number), end)
    (entry,) = await world.entries()
    assert (entry.occurrences, entry.at) == (6, START + 5 * SECOND)
    assert entry.response == {"status": 503, "body": "busy 5"}
    assert [event["event_id"] for event in entry.events] == [f"event-{number}" for number in range(6)]
    assert len(await world.stored()) == len(world.instances)


async def test_an_end_that_comes_late_changes_neither_time_nor_answer(world: EndLogs) -> None:
    await world.instances[0].record(ended(2), replace(FAILED, at=START + SECOND))
    for instance in world.instances[:2]:
        await instance.record(ended(1), replace(FAILED, excerpt="earlier"))
    (entry,) = await world.entries()
    assert (entry.occurrences, entry.at, entry.response["body"]) == (3, START + SECOND, "busy")


@pytest.mark.parametrize(
    "other",
    [
        replace(FAILED, message="another"),
        replace(FAILED, operation=Operation.DROPPED),
        replace(FAILED, at=NEXT_WINDOW),
    ],
    ids=["message", "operation", "time"],
)
async def test_other_ends_are_other_entries(world: EndLogs, other: DeliveryEnd) -> None:
    for end in (FAILED, other):
        await world.instances[0].record(ended(), end)
    assert [entry.occurrences for entry in await world.entries()] == [1, 1]


async def test_drops_of_an_hour_are_one_entry(world: EndLogs) -> None:
    for minutes in (0, 30, 59):
        await world.instances[0].record(ended(minutes), replace(DROPPED, at=START + minutes * MINUTE))
    (entry,) = await world.entries()
    assert (entry.occurrences, entry.error_reason, entry.error_message) == (3, None, "suspended")


async def test_the_count_is_exact_and_the_first_hundred_events_are_named(world: EndLogs) -> None:
    await asyncio.gather(
        *(
            world.instances[number % 3].record(ended(number), replace(FAILED, at=START + number * SECOND))
            for number in range(250)
        )
    )
    (entry,) = await world.entries()
    assert entry.occurrences == 250
    assert [event["event_id"] for event in entry.events] == [f"event-{number}" for number in range(100)]


async def test_ends_of_a_subscription_without_a_record_are_kept_and_nobodys(world: EndLogs) -> None:
    await world.instances[0].record(ended(subscription="gone"), DROPPED)
    assert [each["occurrences"] for each in await world.stored()] == [1]
    assert await world.entries() == []


async def test_parts_expire_30_days_after_their_window(world: EndLogs) -> None:
    await world.instances[0].record(ended(), FAILED)
    (stored,) = await world.stored()
    assert stored["expires_at"] == NEXT_WINDOW + KEPT_FOR


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_pages_meet_each_entry_once_whatever_its_parts(
    world: EndLogs, limit: int, *, newest_first: bool
) -> None:
    """Ten entries of three parts each, whose times lie between those of others."""
    for number in range(10):
        for step, instance in enumerate(world.instances):
            end = replace(FAILED, message=f"number {number}", at=START + (number + 20 * step) * SECOND)
            await instance.record(ended(), end)
    query = replace(EVERYTHING, limit=limit, newest_first=newest_first)
    seen: list[LogEntry] = []
    while page := await world.logs.entries(OWNER, query):
        assert len(page) == limit
        seen += page
        query = replace(query, after=Position(page[-1].at.timestamp(), page[-1].id))
    numbers = range(9, -1, -1) if newest_first else range(10)
    assert [entry.error_message for entry in seen] == [f"number {number}" for number in numbers]
    assert {entry.occurrences for entry in seen} == {3}


async def test_an_entry_is_found_by_its_latest_time_alone(world: EndLogs) -> None:
    for seconds, instance in zip((0, 20), world.instances, strict=False):
        await instance.record(ended(), replace(FAILED, at=START + seconds * SECOND))
    middle = START + 10 * SECOND
    assert await world.entries(before=middle) == []
    assert [entry.occurrences for entry in await world.entries(since=middle)] == [2]


@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_position_outside_of_the_times_asked_for_shows_nothing_else(
    world: EndLogs, *, newest_first: bool
) -> None:
    entries = [a_refusal(START + SECOND * number, error_message=str(number)) for number in range(4)]
    for entry in entries:
        await world.logs.add_refusal(entry)
    query = replace(EVERYTHING, since=entries[1].at, before=entries[3].at, newest_first=newest_first)
    inside = [entries[2], entries[1]] if newest_first else [entries[1], entries[2]]
    begin, end = (START + 9 * SECOND, START) if newest_first else (START, START + 9 * SECOND)
    for at, found in ((begin, inside), (end, [])):
        after = Position(at.timestamp(), "x")
        assert await world.logs.entries(OWNER, replace(query, after=after)) == found


async def test_a_subscription_of_another_subscriber_has_no_entries(world: EndLogs) -> None:
    mixed = a_refusal(subscriber_id="other", subscription_id=SUBSCRIPTION.id)
    await world.logs.add_refusal(mixed)
    await world.instances[0].record(ended(), FAILED)
    assert await world.entries(subscriber_id="other", subscription_id=SUBSCRIPTION.id) == [mixed]
    own = await world.entries(subscriber_id=SUBSCRIPTION.subscriber_id, subscription_id=SUBSCRIPTION.id)
    assert [entry.operation for entry in own] == [Operation.FAILED]


async def test_refusals_of_several_instances_are_one_entry(world: EndLogs) -> None:
    others = [FirestoreLogs(world.firestore, world.clock, seconds=0) for _ in range(3)]
    first = a_refusal()
    await world.logs.add_refusal(first)
    await asyncio.gather(*(each.add_refusal(a_refusal(START + SECOND)) for each in others * 5))
    assert await world.entries() == [replace(first, at=START + SECOND, occurrences=16)]


async def test_a_filter_that_no_entry_fits_finds_nothing(world: EndLogs) -> None:
    await world.instances[0].record(ended(), FAILED)
    assert await world.logs.entries(OWNER, LogQuery(operation=Operation.DROPPED)) == []


# Faults


@dataclass(frozen=True)
class Watched(Firestore):
    """Lets a test do something before or after a commit, once, and make the commits once more."""

    before_commit: list[Hook] = field(default_factory=list[Hook])
    after_commit: list[Hook] = field(default_factory=list[Hook])
    batches: list[AsyncWriteBatch] = field(default_factory=list[AsyncWriteBatch])

    async def commit(self, batch: AsyncWriteBatch) -> Sequence[WriteResult]:
        self.batches.append(copy(batch))
        if self.before_commit:
            await self.before_commit.pop()()
        results = await super().commit(batch)
        if self.after_commit:
            await self.after_commit.pop()()
        return results


async def lost() -> None:
    """For a hook: the answer, or the request, gets lost."""
    raise ServiceUnavailable("the connection broke")


async def occurrences(world: EndLogs) -> int:
    return sum(entry.occurrences for entry in await world.entries())


@pytest.mark.parametrize("written_before", [0, 1])
@pytest.mark.parametrize("hooks", ["before_commit", "after_commit"])
async def test_a_write_without_an_answer_is_counted_once(
    world: EndLogs, hooks: str, written_before: int
) -> None:
    watched = Watched(world.firestore.client)
    instance = world.instance(watched)
    for _ in range(written_before):
        await instance.record(ended(), FAILED)
    getattr(watched, hooks).append(lost)
    await instance.record(ended(), FAILED)
    assert await occurrences(world) == written_before + 1
    await instance.record(ended(), FAILED)
    assert await occurrences(world) == written_before + 2


@pytest.mark.parametrize("hooks", ["before_commit", "after_commit"])
async def test_a_write_that_was_given_up_takes_nothing_of_the_others_along(
    world: EndLogs, hooks: str
) -> None:
    watched = Watched(world.firestore.client, patience=0)
    instance = world.instance(watched)
    await instance.record(ended(1), FAILED)
    getattr(watched, hooks).append(lost)
    with pytest.raises(StoreUnavailable):
        await instance.record(ended(2), FAILED)
    assert await occurrences(world) == (2 if hooks == "after_commit" else 1)
    await instance.record(ended(2), FAILED)  # pushed again
    assert await occurrences(world) == (3 if hooks == "after_commit" else 2)


async def test_a_request_that_arrives_late_undoes_nothing(world: EndLogs) -> None:
    watched = Watched(world.firestore.client)
    instance = world.instance(watched)
    await instance.record(ended(1), FAILED)
    watched.after_commit.append(lost)
    for number in (2, 3, 4):
        await instance.record(ended(number), FAILED)
    for late in watched.batches:
        with pytest.raises((AlreadyExists, FailedPrecondition)):
            await late.commit()
    assert await occurrences(world) == 4


async def test_a_store_that_is_away_is_told_to_all_who_wait() -> None:
    away = connect("nobody", emulator="127.0.0.1:1", patience=0.1)
    logs = FirestoreLogs(away, ManualClock(), seconds=0)
    ends = FirestoreEndLog(away, Known(), ManualClock(), seconds=0)
    for asked in (
        ends.record(ended(), FAILED),
        logs.add_refusal(a_refusal()),
        logs.entries(OWNER, EVERYTHING),
    ):
        with pytest.raises(StoreUnavailable):
            await asked
    await away.close()
