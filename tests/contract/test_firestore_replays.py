"""Replays in Firestore: what manage writes, what fanout and maintain find of it, on Google's emulator."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import uuid_utils
from structlog.testing import capture_logs

from event_platform.adapters.firestore.catch_ups import FirestoreCatchUps
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.logs import FirestoreLogs
from event_platform.adapters.firestore.missed import FirestoreMissedEvents
from event_platform.adapters.firestore.paces import FirestorePaces
from event_platform.adapters.firestore.replay_counts import FirestoreReplayCounts
from event_platform.adapters.firestore.replays import NOTED_EVERY_SECONDS, FirestoreReplays
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.catching_up import SWITCHED_AFTER
from event_platform.domain.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from event_platform.domain.paced import SHARED_FOR, sharing_turns
from event_platform.domain.record.actions import BY_THE_PLATFORM
from event_platform.domain.record.logs import LogEntry, LogQuery
from event_platform.domain.replays import Replay, ReplayRequest, ReplayStatus, Which
from event_platform.domain.subscriptions import (
    Missed,
    Status,
    Subscription,
    delete_subscription,
    resume,
    suspend,
)
from event_platform.domain.tenants import Tenant, tenant_key
from support.clock import ManualClock
from support.records import PIM, subscribed

DAY = 86400
HOUR = timedelta(hours=1)


@dataclass
class TwoViews:
    """The store as manage has it, and as another function sees it."""

    firestore: Firestore
    clock: ManualClock
    subscriptions: FirestoreSubscriptions
    manage: FirestoreReplays
    elsewhere: FirestoreReplays
    subscription: Subscription
    missed: FirestoreMissedEvents

    async def start(self, **asked: Any) -> Replay:
        now = self.clock.now()
        request = ReplayRequest(**{"since": now - HOUR, "which": Which.ALL, **asked})
        replay = Replay(str(uuid_utils.uuid7()), self.subscription.id, request, now)
        owner, subscriber = self.subscription.owner, self.subscription.subscriber_id
        return await self.manage.start(owner, subscriber, replay, action=BY_THE_PLATFORM)

    async def cancel(self, replay: Replay) -> Replay:
        return await self.manage.cancel(
            self.subscription.owner,
            self.subscription.subscriber_id,
            self.subscription.id,
            replay.id,
            now=self.clock.now(),
            action=BY_THE_PLATFORM,
        )

    async def change(
        self, change: Callable[[Subscription, datetime], Subscription], *, catch_up: bool | None = None
    ) -> Subscription:
        """Suspends, resumes or deletes."""
        now = self.clock.now()
        return await self.subscriptions.change_subscription(
            self.subscription.owner,
            self.subscription.subscriber_id,
            self.subscription.id,
            lambda before: change(before, now),
            catch_up=catch_up,
        )

    async def entries(self) -> Sequence[LogEntry]:
        query = LogQuery(subscription_id=self.subscription.id, limit=100)
        return await FirestoreLogs(self.firestore, self.clock).entries(self.subscription.owner, query)

    async def caught_up(self) -> list[str | None]:
        """The messages of the log entries that say that it has caught up."""
        return [
            each.error_message for each in await self.entries() if each.operation == "subscription_caught_up"
        ]

    async def named(self) -> str | None:
        """The replay whose deliveries are sent."""
        record = await self.subscriptions.read(self.subscription.id)
        assert record is not None
        return record[0].replay_id


class Registry:
    async def tenants(self) -> list[Tenant]:
        return [Tenant(host_pattern="*.example.org"), Tenant(url=PIM, key="pim")]


@pytest.fixture
async def world(firestore: Firestore) -> TwoViews:
    clock = ManualClock()
    subscriptions = FirestoreSubscriptions(
        firestore,
        AesGcmSeal(b"k" * 32),
        clock,
        catch_ups=FirestoreCatchUps(firestore, keep=DAY, registry=Registry()),
    )
    (subscription,) = await subscribed(subscriptions)
    manage = FirestoreReplays(firestore, subscriptions, clock, registry=Registry(), keep=DAY)
    return TwoViews(
        firestore,
        clock,
        subscriptions,
        manage,
        FirestoreReplays(firestore, subscriptions, clock),
        subscription,
        FirestoreMissedEvents(firestore, subscriptions, clock, seconds=0),
    )


async def test_a_replay_is_known_to_the_other_functions(world: TwoViews) -> None:
    replay = await world.start(events=("a", "b"))
    assert await world.manage.replay(world.subscription.id, replay.id) == replay
    assert await world.named() == replay.id
    (found,) = await world.elsewhere.open()
    assert found == await world.elsewhere.running(replay.id)
    assert (found.replay, found.tenant, found.key, found.epoch) == (replay, PIM, "pim", 0)
    assert (found.since, found.until) == (world.clock.now() - HOUR, world.clock.now())


async def test_single_events_are_looked_for_in_all_that_is_kept(world: TwoViews) -> None:
    replay = await world.start(since=None, event_ids=("event-1",))
    (found,) = await world.elsewhere.open()
    assert (replay.asked.since, found.replay.asked.event_ids) == (None, ("event-1",))
    assert found.since == world.clock.now() - timedelta(seconds=DAY)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"which": Which.UNDELIVERED}, "which"),
        ({"since": datetime.fromisoformat("2020-01-01T00:00Z")}, "from"),
    ],
)
async def test_what_google_cannot_do_is_refused_and_changes_nothing(
    world: TwoViews, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await world.start(**asked)
    assert [problem.field for problem in refused.value.problems] == [field]
    assert (await world.manage.replays(world.subscription.id), await world.named()) == ([], None)


def test_without_kept_events_the_setting_is_named(world: TwoViews) -> None:
    with pytest.raises(Conflict, match="AEP_KEEP"):
        world.elsewhere.check_kept()


async def test_one_runs_at_a_time_and_for_an_active_subscription(world: TwoViews) -> None:
    first = await world.start()
    with pytest.raises(Conflict, match="is running"):
        await world.start()
    await world.cancel(first)
    await world.clock.advance(1)
    second = await world.start()
    assert [each.id for each in await world.manage.replays(world.subscription.id)] == [second.id, first.id]
    await world.cancel(second)
    owner, subscriber = world.subscription.owner, world.subscription.subscriber_id
    await world.subscriptions.change_subscription(
        owner, subscriber, world.subscription.id, lambda each: suspend(each, world.clock.now())
    )
    with pytest.raises(Conflict, match="active"):
        await world.start()


async def test_a_cancelled_one_is_sent_no_more_and_stays_open_until_its_pushes_are_gone(
    world: TwoViews,
) -> None:
    replay = await world.start()
    cancelled = await world.cancel(replay)
    assert (
        cancelled == await world.cancel(replay) == await world.manage.replay(world.subscription.id, replay.id)
    )
    assert (cancelled.status, await world.named()) == (ReplayStatus.CANCELLED, None)
    assert await world.elsewhere.running(replay.id) is None
    (found,) = await world.elsewhere.open()
    await world.elsewhere.close(found, ReplayStatus.DONE, None)
    assert await world.elsewhere.open() == []
    assert (await world.manage.replay(world.subscription.id, replay.id)).status is ReplayStatus.CANCELLED


async def test_a_done_one_is_in_the_log_and_cannot_be_cancelled(
    world: TwoViews, firestore: Firestore
) -> None:
    replay = await world.start()
    (found,) = await world.elsewhere.open()
    await world.elsewhere.close(found, ReplayStatus.DONE, None)
    done = await world.manage.replay(world.subscription.id, replay.id)
    assert (done.status, done.ended_at) == (ReplayStatus.DONE, world.clock.now())
    assert await world.named() == replay.id  # what is in the lanes is still sent
    with pytest.raises(Conflict, match="is done"):
        await world.cancel(replay)
    query = LogQuery(subscription_id=world.subscription.id, limit=10)
    entries = await FirestoreLogs(firestore, world.clock).entries(world.subscription.owner, query)
    assert {entry.operation for entry in entries} >= {
        "replay_started_by_the_platform",
        "replay_ended_by_the_platform",
    }


async def test_a_push_is_noted_at_most_every_ten_seconds(world: TwoViews) -> None:
    replay = await world.start()
    started = world.clock.now()
    for _ in range(3):
        await world.elsewhere.note_push(replay.id)
        await world.clock.advance(NOTED_EVERY_SECONDS / 2 - 1)
    (found,) = await world.manage.open()
    assert found.pushed_at == started
    await world.clock.advance(NOTED_EVERY_SECONDS)
    await world.elsewhere.note_push(replay.id)
    (found,) = await world.manage.open()
    assert found.pushed_at == world.clock.now()
    await world.manage.watch(replay.id, as_pushed=False)
    assert await world.manage.open() == [replace(found, watched_at=world.clock.now())]


async def test_a_push_after_the_end_has_it_cleaned_up_again(world: TwoViews) -> None:
    replay = await world.start()
    (found,) = await world.elsewhere.open()
    await world.elsewhere.close(found, ReplayStatus.DONE, None)
    await world.elsewhere.reopen(replay.id)
    (left,) = await world.elsewhere.open()
    assert (left.replay.id, left.replay.status) == (replay.id, ReplayStatus.DONE)
    await world.elsewhere.reopen("nobody's")


async def test_a_replay_is_one_subscriptions(world: TwoViews) -> None:
    replay = await world.start()
    with pytest.raises(NotFound):
        await world.manage.replay("another", replay.id)
    assert tenant_key(PIM) != "pim"  # the registry's key is the one in the topic's name


@pytest.mark.provokes("replay.not_counted")
async def test_the_numbers_are_written_every_five_seconds_by_one_who_waits(world: TwoViews) -> None:
    replay = await world.start()
    counts = FirestoreReplayCounts(world.firestore, world.clock)

    async def shown() -> tuple[int | None, int, int]:
        found = await world.manage.replay(world.subscription.id, replay.id)
        return found.events, found.delivered, found.ended

    assert await shown() == (None, 0, 0)
    await counts.add(replay.id, events=3)
    assert await shown() == (3, 0, 0)
    waits = asyncio.create_task(counts.add(replay.id, delivered=1))
    await world.clock.advance(3)
    await counts.add(replay.id, delivered=1)
    await counts.add(replay.id, ended=1)
    assert await shown() == (3, 0, 0)
    await world.clock.advance(2)
    await waits
    assert await shown() == (3, 2, 1)
    await counts.add("of nobody", delivered=1)
    away = connect("p", emulator="127.0.0.1:1", patience=0.01, attempt=0.01)
    with capture_logs() as lines:
        await FirestoreReplayCounts(away, world.clock).add(replay.id, delivered=1)
    assert [line["event"] for line in lines] == ["replay.not_counted"]
    await away.close()


async def test_shared_turns_are_noted_in_the_record_and_nobody_is_told(world: TwoViews) -> None:
    paces = FirestorePaces(world.firestore, world.subscriptions, world.clock)
    logged = len(await world.entries())
    now = world.clock.now()
    for _ in range(2):
        await paces.change_pace(world.subscription.id, lambda before: sharing_turns(before, now))
    found = await paces.current(world.subscription.id)
    assert found is not None
    assert (found.shared_until, found.rate, found.lanes) == (now + SHARED_FOR, None, 16)
    assert len(await world.entries()) == logged


# --- catching up ---------------------------------------------------------------------------------------


async def test_a_resume_that_catches_up_is_work_for_maintain_and_no_replay_of_the_user(
    world: TwoViews,
) -> None:
    suspended_at = world.clock.now()
    await world.change(suspend)
    await world.missed.note(world.subscription.id, suspended_at - HOUR)
    await world.missed.note(world.subscription.id, suspended_at)
    await world.clock.advance(60)
    resumed = await world.change(resume, catch_up=True)
    (found,) = await world.elsewhere.open()
    assert (found.key, found.epoch, found.is_cut) == ("pim", 2, False)
    assert (found.since, found.until) == (suspended_at - HOUR, world.clock.now() + SWITCHED_AFTER)
    assert resumed.missed == Missed(0, found.since, found.until)
    assert found.is_of(resumed)
    assert await world.manage.replays(world.subscription.id) == []
    with pytest.raises(NotFound):
        await world.manage.replay(world.subscription.id, found.replay.id)
    await world.start()  # beside it


async def test_what_is_in_the_lanes_is_caught_up_with_and_the_log_says_so(world: TwoViews) -> None:
    await world.change(suspend)
    await world.change(resume, catch_up=True)
    (found,) = await world.elsewhere.open()
    await world.elsewhere.close(found, ReplayStatus.DONE, None)
    assert (await world.elsewhere.open(), await world.caught_up()) == ([], [None])
    await world.clock.advance(60)
    again = await world.change(suspend)
    assert again.missed == Missed(0, world.clock.now())


async def test_suspended_again_it_goes_on_and_is_not_said_to_be_done(world: TwoViews) -> None:
    began = world.clock.now()
    await world.change(suspend)
    await world.change(resume, catch_up=True)
    (found,) = await world.elsewhere.open()
    await world.clock.advance(60)
    await world.change(suspend)
    await world.elsewhere.close(found, ReplayStatus.ENDED, Status.SUSPENDED)
    assert (await world.elsewhere.open(), await world.caught_up()) == ([], [])
    await world.change(resume, catch_up=True)
    (found,) = await world.elsewhere.open()
    assert (found.since, found.epoch) == (began, 4)


async def test_a_delivery_that_an_instance_drops_as_it_knows_no_resume_comes_again(world: TwoViews) -> None:
    suspended_at = world.clock.now()
    await world.change(suspend)
    behind = FirestoreSubscriptions(world.firestore, AesGcmSeal(b"k" * 32), world.clock)
    await behind.current(world.subscription.id)
    await world.change(resume, catch_up=True)
    missed = FirestoreMissedEvents(world.firestore, behind, world.clock, seconds=0)
    with pytest.raises(StoreUnavailable, match="resumed meanwhile"):
        await missed.note(world.subscription.id, suspended_at - HOUR)


async def test_what_is_kept_no_more_is_said(world: TwoViews) -> None:
    await world.change(suspend)
    await world.clock.advance(2 * DAY)
    await world.change(resume, catch_up=True)
    (found,) = await world.elsewhere.open()
    assert (found.since, found.is_cut) == (world.clock.now() - timedelta(seconds=DAY), True)
    await world.elsewhere.close(found, ReplayStatus.DONE, None)
    (message,) = await world.caught_up()
    assert message is not None
    assert message.startswith("what is kept begins at ")


async def test_a_resume_without_catching_up_and_a_deletion_leave_nothing_to_do(world: TwoViews) -> None:
    await world.change(suspend)
    assert (await world.change(resume)).missed is None
    assert await world.elsewhere.open() == []
    await world.change(suspend)
    await world.change(resume, catch_up=True)
    deleted = await world.change(delete_subscription)
    assert deleted.missed is None
    (found,) = await world.elsewhere.open()
    assert not found.is_of(deleted)


async def test_where_nothing_is_kept_the_log_says_so(world: TwoViews) -> None:
    world.subscriptions = FirestoreSubscriptions(world.firestore, AesGcmSeal(b"k" * 32), world.clock)
    await world.change(suspend)
    assert (await world.change(resume, catch_up=True)).missed is None
    assert await world.caught_up() == ["no events are kept: AEP_KEEP is 0"]
    assert await world.elsewhere.open() == []
