"""Catching up with what came while a subscription was suspended (contract/wire.md 15)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aep.broker import pieces, replay_reader
from aep.broker import queue as broker_queue
from aep.broker.queue import LOOK_SECONDS
from event_platform.domain.subscriptions import Subscription, delete_subscription
from support.records import PIM, an_event
from support.replaying import Receiver, Replaying


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Replaying]:
    async with Replaying(tmp_path / "data", Receiver()) as world:
        yield await world.run()


async def accept(world: Replaying, numbers: range) -> None:
    await world.intake.accept(PIM, [an_event(number, entity="one") for number in numbers])


def ids(numbers: range) -> list[str]:
    return [f"event-{number}" for number in numbers]


async def entries(world: Replaying) -> list[tuple[int, str]]:
    """Returns the number of events, and the text beside, of each entry of catching up."""
    return await world.rows(
        "SELECT json_extract(response, '$.events'), message FROM log_entries"
        " WHERE operation = 'subscription_caught_up' ORDER BY at, id"
    )


async def suspended_by_404(world: Replaying, numbers: range) -> Subscription:
    """A subscription whose endpoint answered 404 to the first of these; the others waited or came later."""
    world.receiver.answers = lambda got: 404
    subscription = await world.one(catch_up=True)
    half = numbers.start + len(numbers) // 2
    await accept(world, range(numbers.start, half))
    await world.until(lambda: bool(world.receiver.got))
    await world.clock.advance(1)
    await accept(world, range(half, numbers.stop))
    world.receiver.answers = lambda got: 200
    return subscription


async def test_all_since_a_404_comes_in_its_order_and_before_what_is_new(world: Replaying) -> None:
    subscription = await suspended_by_404(world, range(10))
    await world.resume(subscription)
    await accept(world, range(10, 13))
    await world.queue.look()
    assert world.meters.sent_again is not None
    assert world.meters.sent_again.running == {"replay": 0, "catch_up": 1}
    assert world.meters.sent_again.behind_at is not None
    await world.caught_up()
    await world.clock.advance(LOOK_SECONDS)
    await world.queue.look()
    assert world.meters.sent_again.behind_at is None
    assert world.meters.sent_again.ended["catch_up", "done"] == 1
    await accept(world, range(13, 15))
    await world.until(lambda: len(world.receiver.taken) == 15)
    await world.settled()

    assert world.receiver.of(subscription) == ids(range(15))
    assert {got.replay_id for got in world.receiver.taken} == {None}
    assert await entries(world) == [(13, "")]
    outcomes = await world.rows("SELECT outcome, count(*) FROM courses GROUP BY outcome")
    assert outcomes == [("delivered", 15)]


async def test_what_was_given_up_or_taken_before_does_not_come_again(world: Replaying) -> None:
    subscription = await world.one()
    world.receiver.answers = lambda got: 503 if got.event_id == "event-0" else 200
    await accept(world, range(2))
    await world.until(lambda: len(world.receiver.taken) == 1)
    await world.clock.advance(60)  # until the first one was given up
    await world.suspend(subscription)
    await accept(world, range(2, 4))
    world.receiver.answers = lambda got: 200
    await world.resume(subscription, catch_up=True)
    await world.caught_up()
    await world.until(lambda: len(world.receiver.taken) == 3)
    await world.clock.advance(1)

    assert world.receiver.of(subscription) == ids(range(1, 4))


async def test_what_waits_for_a_retry_at_the_suspension_comes_once_and_at_once(world: Replaying) -> None:
    subscription = await world.one()
    world.receiver.answers = lambda got: 503
    await accept(world, range(2))
    await world.until(lambda: len(world.receiver.got) == 2)
    await world.suspend(subscription)
    world.receiver.answers = lambda got: 200
    await world.resume(subscription, catch_up=True)
    await world.caught_up()
    await world.until(lambda: len(world.receiver.taken) == 2)
    await world.clock.advance(60)

    assert world.receiver.of(subscription) == ids(range(2))


async def test_a_resume_without_it_drops_as_ever(world: Replaying) -> None:
    subscription = await suspended_by_404(world, range(4))
    await world.resume(subscription, catch_up=False)
    assert not await world.is_catching_up()
    await accept(world, range(4, 5))
    await world.until(lambda: bool(world.receiver.taken))
    await world.clock.advance(1)

    assert world.receiver.of(subscription) == ids(range(4, 5))
    assert await entries(world) == []


async def test_a_crash_in_the_middle_loses_nothing_and_keeps_the_order(
    world: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_reader, "AT_ONCE", 5)
    monkeypatch.setattr(replay_reader, "IN_LANES", 10)
    subscription = await suspended_by_404(world, range(40))
    world.receiver.takes = 12
    await world.resume(subscription)
    await world.until(lambda: len(world.receiver.taken) == 12)
    await world.run_again()
    await accept(world, range(40, 42))
    await world.caught_up()
    await world.until(lambda: "event-41" in world.receiver.of(subscription))

    got = world.receiver.of(subscription)
    assert list(dict.fromkeys(got)) == ids(range(42))
    assert len(got) - 42 <= 16  # what was in flight


async def test_suspended_again_it_goes_on_at_the_cursor(
    world: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_reader, "AT_ONCE", 5)
    monkeypatch.setattr(replay_reader, "IN_LANES", 10)
    subscription = await suspended_by_404(world, range(40))
    world.receiver.answers = lambda got: 200 if len(world.receiver.taken) < 12 else 404
    await world.resume(subscription)
    await world.until(lambda: len(world.receiver.got) == 14)
    await world.settled()
    await accept(world, range(40, 45))
    world.receiver.answers = lambda got: 200
    await world.resume(subscription)
    await world.caught_up()
    await world.until(lambda: len(world.receiver.taken) >= 45)
    await world.clock.advance(1)

    assert world.receiver.of(subscription) == ids(range(45))


async def test_a_fan_out_that_was_put_off_before_the_suspension_delivers_nothing_twice(
    world: Replaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    monkeypatch.setattr(pieces, "WORK_OF_PIECE", 1)
    monkeypatch.setattr(pieces, "EVENTS_OF_WINDOW", 2)
    subscription = await world.one(catch_up=True)
    await accept(world, range(20))
    await world.suspend(subscription)
    await world.resume(subscription)
    await accept(world, range(20, 30))
    await world.caught_up()
    await world.until(lambda: len(world.receiver.taken) >= 30)
    await world.clock.advance(5)

    assert world.receiver.of(subscription) == ids(range(30))


async def test_what_came_before_a_change_of_the_filter_is_matched_as_it_is_now(world: Replaying) -> None:
    subscription = await suspended_by_404(world, range(4))
    await world.change(subscription, lambda before: replace(before, filter='user = "nobody"'))
    await world.resume(subscription)
    await world.caught_up()
    await world.clock.advance(1)

    assert world.receiver.taken == []
    assert await entries(world) == [(0, "")]


async def test_a_deletion_ends_it(world: Replaying) -> None:
    subscription = await suspended_by_404(world, range(4))
    await world.change(subscription, partial(delete_subscription, now=world.clock.now()))

    assert not await world.is_catching_up()


async def test_one_that_was_suspended_before_events_were_kept_gets_what_is_there(world: Replaying) -> None:
    subscription = await world.one()
    await world.suspend(subscription)
    await world.database.write(lambda connection: connection.execute("DELETE FROM replays"))
    await world.database.write(
        lambda connection: connection.execute("UPDATE meta SET value = value + 0.5 WHERE name = 'kept_since'")
    )
    await world.clock.advance(1)
    await accept(world, range(3))
    await world.resume(subscription, catch_up=True)
    await world.caught_up()
    await world.until(lambda: len(world.receiver.taken) == 3)

    assert world.receiver.of(subscription) == ids(range(3))
    assert await entries(world) == [
        (3, "what is kept begins at 2026-01-31T12:00:00.500Z, after the suspension")
    ]


async def test_without_kept_events_the_log_says_so(world: Replaying) -> None:
    subscription = await suspended_by_404(world, range(2))
    world.subscriptions._keeps = False  # as after AEP_KEEP=0
    await world.resume(subscription)

    assert not await world.is_catching_up()
    assert await entries(world) == [(0, "no events are kept: AEP_KEEP is 0")]


async def test_a_dead_letter_holds_up_no_catching_up_and_is_left_to_the_operator(world: Replaying) -> None:
    subscription = await world.one(catch_up=True)
    world.receiver.takes = 0
    await accept(world, range(4))
    await world.until(lambda: bool(world.receiver.got))
    (key,) = await world.queue.lanes()
    await world.queue.dead_letter((await world.queue.waiting(key, 0, 10, 10**6))[1], "our fault")
    await world.suspend(subscription)
    await world.run_again()
    await world.resume(subscription)
    await world.caught_up()
    await accept(world, range(4, 5))
    await world.until(lambda: len(world.receiver.taken) == 4)
    assert world.receiver.of(subscription) == ["event-0", *ids(range(2, 5))]
    assert await world.count("dead_letters") == 1
