"""Replays on one machine (contract/wire.md 15)."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aep.broker import replay_reader, replays
from aep.broker.queue import LOOK_SECONDS
from aep.store import kept
from contract.test_embedded import InThisProcess
from event_platform.domain.errors import Conflict, InvalidRequest, NotFound
from event_platform.domain.events.event import Event
from event_platform.domain.record.actions import BY_THE_PLATFORM
from event_platform.domain.replays import Which
from event_platform.domain.subscriptions import Subscription
from support.clock import START
from support.embedded import Handler
from support.records import CATEGORY, OWNER, PIM, UPDATED, an_event
from support.replaying import Got, Receiver, Replaying

NOBODY = 'user = "nobody"'


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Replaying]:
    async with Replaying(tmp_path / "data", Receiver()) as world:
        yield await world.run()


async def accept(world: Replaying, numbers: range, *, entity: str | None = None) -> list[str]:
    events = [an_event(number, entity=entity) for number in numbers]
    await world.intake.accept(PIM, events)
    return [event.id for event in events]


async def missed(world: Replaying, numbers: range, *, entity: str | None = None) -> Subscription:
    """A subscription whose filter was wrong when these came, and is right now."""
    subscription = await world.one(filter=NOBODY)
    await accept(world, numbers, entity=entity)
    return await world.change(subscription, lambda before: replace(before, filter=None))


async def test_what_a_wrong_filter_missed_comes_in_its_order_with_the_id_of_the_replay(
    world: Replaying,
) -> None:
    subscription = await missed(world, range(5), entity="one")
    replay_id = await world.replay(subscription)

    assert await world.ended(subscription, replay_id) == ("done", 5, 5, 0)
    assert world.receiver.of(subscription) == [f"event-{number}" for number in range(5)]
    assert {got.replay_id for got in world.receiver.got} == {replay_id}
    await world.settled()


async def test_a_replayed_event_was_accepted_at_first_and_its_age_counts_from_its_lane(
    world: Replaying,
) -> None:
    subscription = await missed(world, range(3))
    await world.clock.advance(3600)
    world.receiver.takes = 0
    replay_id = await world.replay(subscription)
    await world.until(lambda: len(world.receiver.got) == 3)
    waiting = [
        each for key in await world.queue.lanes() for each in await world.queue.waiting(key, 0, 10, 10**6)
    ]
    assert [each.accepted_at for each in waiting] == [START.timestamp()] * 3
    (entered_at,) = {each.entered_at or 0.0 for each in waiting}
    assert entered_at >= START.timestamp() + 3600
    await world.run_again()
    assert (await world.ended(subscription, replay_id))[0] == "done"
    assert world.meters.delivered == 3
    assert world.meters.delivery_seconds.total < 3 * 600


async def test_replays_are_counted(world: Replaying) -> None:
    subscription = await missed(world, range(3))
    world.receiver.takes = 0
    replay_id = await world.replay(subscription)
    await world.queue.look()
    assert world.meters.sent_again is not None
    assert world.meters.sent_again.running == {"replay": 1, "catch_up": 0}
    await world.run_again()
    await world.ended(subscription, replay_id)
    await world.clock.advance(LOOK_SECONDS)
    await world.queue.look()
    assert world.meters.sent_again is not None
    assert world.meters.sent_again.running == {"replay": 0, "catch_up": 0}
    assert {key: count for key, count in world.meters.sent_again.ended.items() if count} == {
        ("replay", "done"): 1
    }


async def test_undelivered_is_what_had_no_2xx_and_all_is_all(world: Replaying) -> None:
    world.receiver.answers = lambda got: 400 if got.event_id == "event-1" and not got.replay_id else 200
    subscription = await world.one()
    ids = await accept(world, range(3))
    await world.until(lambda: len(world.receiver.got) == 3)
    await world.clock.advance(30)
    await world.settled()  # the refused one is given up
    world.receiver.taken.clear()

    assert await world.ended(subscription, await world.replay(subscription)) == ("done", 1, 1, 0)
    assert world.receiver.of(subscription) == ["event-1"]
    assert await world.ended(subscription, await world.replay(subscription)) == ("done", 0, 0, 0)
    assert await world.ended(subscription, await world.replay(subscription, which=Which.ALL)) == (
        "done",
        3,
        3,
        0,
    )
    assert sorted(world.receiver.of(subscription)) == sorted(["event-1", *ids])


async def test_what_waits_for_a_retry_is_not_undelivered(world: Replaying) -> None:
    world.receiver.answers = lambda got: 503
    subscription = await world.one()
    await accept(world, range(2))
    await world.until(lambda: len(world.receiver.got) == 2)
    await world.clock.advance(1)

    assert await world.ended(subscription, await world.replay(subscription)) == ("done", 0, 0, 0)


async def test_a_range_of_time_types_and_ids_narrow_it(world: Replaying) -> None:
    subscription = await world.one(filter=NOBODY, events=(UPDATED, CATEGORY))
    await accept(world, range(2))
    await world.clock.advance(60)
    await world.intake.accept(PIM, [an_event(2), an_event(3, event_type=CATEGORY)])
    await world.clock.advance(60)
    await accept(world, range(4, 6))
    subscription = await world.change(subscription, lambda before: replace(before, filter=None))

    async def replayed(**asked: object) -> list[str]:
        world.receiver.taken.clear()
        await world.ended(subscription, await world.replay(subscription, which=Which.ALL, **asked))
        return sorted(world.receiver.of(subscription))

    minute = START + timedelta(seconds=60)
    assert await replayed(since=minute, until=minute + timedelta(seconds=1)) == ["event-2", "event-3"]
    assert await replayed(since=minute, events=(CATEGORY,)) == ["event-3"]
    assert await replayed(event_ids=("event-1", "event-5", "unknown")) == ["event-1", "event-5"]


async def test_nothing_comes_twice_in_a_replay_of_many_pieces_and_their_counts_are_exact(
    world: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_reader, "AT_ONCE", 7)
    monkeypatch.setattr(replay_reader, "IN_LANES", 20)
    monkeypatch.setattr(replay_reader, "NUMBERS_AT_ONCE", 50)
    failed: Counter[str] = Counter()

    def answers(got: Got) -> int:
        if int(got.event_id.removeprefix("event-")) % 10:
            return 200
        failed[got.event_id] += 1
        return 200 if failed[got.event_id] > 1 else 503

    world.receiver.answers = answers
    subscription = await missed(world, range(100))
    replay_id = await world.replay(subscription)
    await world.until(lambda: len(world.receiver.taken) == 90)
    assert (await world.shown(subscription, replay_id))[0] == "running"
    await world.until(lambda: len(world.receiver.taken) == 100)

    assert await world.ended(subscription, replay_id) == ("done", 100, 100, 0)
    assert Counter(world.receiver.of(subscription)) == {f"event-{number}": 1 for number in range(100)}


async def test_a_crash_in_the_middle_repeats_only_what_was_in_flight(
    world: Replaying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_reader, "AT_ONCE", 10)
    monkeypatch.setattr(replay_reader, "IN_LANES", 20)
    subscription = await missed(world, range(100))
    world.receiver.takes = 50
    replay_id = await world.replay(subscription)
    await world.until(lambda: len(world.receiver.taken) == 50)
    await world.run_again()

    status, events, delivered, ended = await world.ended(subscription, replay_id)
    times = Counter(world.receiver.of(subscription))
    assert (status, events, delivered, ended) == ("done", 100, 100, 0)
    assert len(times) == 100
    assert sum(times.values()) - 100 <= 20


async def test_what_waits_of_a_cancelled_one_is_dropped_and_counted(world: Replaying) -> None:
    world.receiver.answers = lambda got: 503
    subscription = await missed(world, range(3))
    replay_id = await world.replay(subscription)
    await world.until(lambda: len(world.receiver.got) == 3)
    await world.clock.advance(1)
    cancelled = await world.replays.cancel(
        OWNER,
        subscription.subscriber_id,
        subscription.id,
        replay_id,
        now=world.clock.now(),
        action=BY_THE_PLATFORM,
    )
    assert cancelled.status == "cancelled"
    await world.settled()

    assert await world.shown(subscription, replay_id) == ("cancelled", 3, 0, 3)
    assert await world.log_entries() == [(subscription.id, "deliveries_dropped", 3)]
    assert len(world.receiver.got) == 3


async def test_a_suspension_ends_it_and_names_the_reason(world: Replaying) -> None:
    world.receiver.answers = lambda got: 404
    subscription = await missed(world, range(3), entity="one")
    replay_id = await world.replay(subscription)
    await world.until(lambda: bool(world.receiver.got))

    assert (await world.ended(subscription, replay_id))[0] == "ended"
    assert (await world.replays.replay(subscription.id, replay_id)).reason == "suspended"
    await world.settled()
    assert await world.shown(subscription, replay_id) == ("ended", 3, 0, 3)


async def test_one_runs_at_a_time_and_only_for_an_active_subscription(world: Replaying) -> None:
    world.receiver.answers = lambda got: 503
    subscription = await missed(world, range(1))
    replay_id = await world.replay(subscription)
    await world.until(lambda: bool(world.receiver.got))
    with pytest.raises(Conflict, match=f"has replay {replay_id} running"):
        await world.replay(subscription)
    await world.suspend(subscription)
    with pytest.raises(Conflict, match="is suspended, and a replay needs an active one"):
        await world.replay(subscription)


async def test_what_is_not_kept_any_more_is_refused_with_since_when_it_is(world: Replaying) -> None:
    subscription = await world.one()

    with pytest.raises(InvalidRequest, match="older than what is kept, which begins at 2026-01-31T12:00:00"):
        await world.replay(subscription, since=START - timedelta(seconds=1))


async def test_an_unknown_one_is_not_found(world: Replaying) -> None:
    one, other = await missed(world, range(1)), await world.one()
    replay_id = await world.replay(one)

    with pytest.raises(NotFound):
        await world.replays.replay(other.id, replay_id)
    await world.ended(one, replay_id)


async def test_start_and_end_are_in_the_log(world: Replaying) -> None:
    subscription = await missed(world, range(2))
    await world.ended(subscription, await world.replay(subscription))

    entries = await world.rows(
        "SELECT operation, json_extract(response, '$.status'), json_extract(response, '$.delivered')"
        " FROM log_entries WHERE operation LIKE 'replay%' ORDER BY at, id"
    )
    assert entries == [
        ("replay_started_by_the_platform", "running", 0),
        ("replay_ended_by_the_platform", "done", 2),
    ]


async def test_the_age_counts_from_when_it_entered_its_lane(tmp_path: Path) -> None:
    world = await Replaying(tmp_path, Receiver(), max_age=timedelta(hours=1)).run()
    waiting = await world.one()  # so that the body is still there
    world.receiver.answers = lambda got: 503 if got.subscription_id == waiting.id else 200
    subscription = await world.one(filter=NOBODY)
    await accept(world, range(2))
    subscription = await world.change(subscription, lambda before: replace(before, filter=None))
    await world.clock.advance(10)
    await world.clock.jump(3600)

    assert await world.ended(subscription, await world.replay(subscription)) == ("done", 2, 2, 0)
    await world.close()


@pytest.mark.provokes("replay.failed", "replay.event_skipped")
async def test_an_event_that_our_code_fails_on_is_left_out_in_the_end(
    world: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "FAULTS_AT_MOST", 3)
    original = kept.event_of

    def event_of(row: kept.KeptRow) -> Event:
        if row[4] == "event-1":
            raise RuntimeError("a bug, for the test")
        return original(row)

    subscription = await missed(world, range(3))
    monkeypatch.setattr(kept, "event_of", event_of)
    replay_id = await world.replay(subscription)

    assert await world.ended(subscription, replay_id) == ("done", 3, 2, 1)
    assert sorted(world.receiver.of(subscription)) == ["event-0", "event-2"]


class WithWorkers(Replaying):
    """The same where two workers deliver, in this process but behind the sockets that they have."""

    async def start(self, handler: Handler) -> None:
        here = InThisProcess(2, self.queue, self.subscriptions, self.counts, self.faults)
        self.workers = here.owner
        self._dispatchers = [self._dispatcher(handler, store, store, store) for store in here.stores]
        await here.open(self._dispatchers)
        await self._start(self.workers)

    async def _stop_live(self) -> None:
        if self._dispatchers:
            await self.workers.stop()


async def test_workers_send_it_with_its_id_and_count_it(tmp_path: Path) -> None:
    async with WithWorkers(tmp_path, Receiver()) as world:
        await world.run()
        subscription = await missed(world, range(20))
        replay_id = await world.replay(subscription)

        assert await world.ended(subscription, replay_id) == ("done", 20, 20, 0)
        assert {got.replay_id for got in world.receiver.got} == {replay_id}
        assert len(world.receiver.of(subscription)) == 20
