"""A wall clock that jumps by ten days moves nothing that the platform does."""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aep.broker.pacer import Pacer
from aep.doctor.stored import last_time
from aep.store import times
from aep.store.outbox import SqliteOutbox
from aep.store.steady_clock import FOLLOWED_AFTER, ClockWatch, Seen, SteadyClock
from aep.store.success_counts import SqliteSuccessCounts
from event_platform.deliver import Judge, Observer, deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Answer, Kind, Outcome
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.pace import rates
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.pace.turns import Turn
from event_platform.domain.record.notifications import Allowance
from event_platform.domain.subscriptions import Subscription, suspend
from event_platform.domain.suspension import Count, Series
from event_platform.domain.tenants import Way
from support import one_pim
from support.clock import START, MovedClock
from support.embedded import Embedded
from support.observing import observe
from support.records import OWNER, PIM, UPDATED, a_subscriber, a_subscription, an_event
from support.senders import https_by

DAY = 86400.0
DAYS = 10
JUMPS = (-DAYS, DAYS)
LONGEST = timedelta(minutes=20)
LANES = 4


# The platform's time


def a_clock() -> tuple[SteadyClock, list[float]]:
    """A clock and what it reads: the wall clock and the monotonic one, in seconds."""
    read = [1_000_000.0, 50.0]
    return SteadyClock(lambda: read[0], lambda: read[1]), read


def pass_time(clock: SteadyClock, read: list[float], seconds: int) -> list[Seen]:
    """Lets time pass, with a look each second; what was found, but for nothing."""
    found: list[Seen] = []
    for _ in range(seconds):
        read[0] += 1
        read[1] += 1
        found.append(clock.look())
    return [seen for seen in found if seen != Seen()]


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_000_000 + seconds, UTC)


@pytest.mark.parametrize("days", JUMPS)
def test_a_jump_is_seen_once_and_moves_nothing_while_it_has_not_stayed(days: int) -> None:
    clock, read = a_clock()
    read[0] += days * DAY
    assert clock.now() == at(0)
    assert clock.wall() == at(days * DAY)
    assert pass_time(clock, read, 599) == [Seen(jumped=days * DAY)]
    assert clock.now() == at(599)
    assert clock.is_apart
    assert clock.lead == -days * DAY


def test_the_time_goes_forward_with_a_clock_that_stays_there_for_ten_minutes() -> None:
    clock, read = a_clock()
    read[0] += DAYS * DAY
    assert pass_time(clock, read, 602) == [Seen(jumped=DAYS * DAY), Seen(followed=DAYS * DAY)]
    assert clock.now() == at(602 + DAYS * DAY)
    assert not clock.is_apart


def test_the_time_never_goes_back_and_is_caught_up_with() -> None:
    clock, read = a_clock()
    read[0] -= DAY
    shown = [clock.now()]
    for _ in range(36):
        pass_time(clock, read, 100)
        shown.append(clock.now())
    assert shown == sorted(shown)
    assert shown[5] == at(500)
    assert at(3290) < shown[-1] < at(3310), "10 % slower behind the first ten minutes"
    read[0] += DAY
    assert [seen.jumped for seen in pass_time(clock, read, 600)] == [DAY]
    assert [round(seen.followed, -1) for seen in pass_time(clock, read, 2)] == [300]
    assert clock.now() == clock.wall()


def test_a_clock_that_stays_behind_is_met_in_ten_times_the_difference() -> None:
    clock, read = a_clock()
    read[0] -= 1000
    pass_time(clock, read, 10_500)
    assert clock.lead > 0
    pass_time(clock, read, 200)
    assert clock.now() == clock.wall()


def test_a_jump_that_is_taken_back_within_ten_minutes_has_done_nothing() -> None:
    clock, read = a_clock()
    for _ in range(3):
        read[0] += DAYS * DAY
        assert pass_time(clock, read, 500) == [Seen(jumped=DAYS * DAY)]
        read[0] -= DAYS * DAY
        assert pass_time(clock, read, 500) == [Seen(jumped=-DAYS * DAY)]
    assert clock.now() == at(3000)


def test_the_ten_minutes_begin_anew_with_another_jump() -> None:
    clock, read = a_clock()
    read[0] += DAY
    pass_time(clock, read, 400)
    read[0] += DAY
    assert pass_time(clock, read, 400) == [Seen(jumped=DAY)]
    assert clock.now() == at(800)


def test_small_steps_are_followed_without_a_word_and_never_back() -> None:
    clock, read = a_clock()
    read[0] += 50
    assert pass_time(clock, read, 1) == []
    assert clock.now() == at(51)
    read[0] -= 50
    shown = [clock.now()]
    for _ in range(100):
        assert pass_time(clock, read, 10) == []
        shown.append(clock.now())
    assert shown == sorted(shown)
    assert shown[-1] == clock.wall()
    assert shown[10] == at(1 + 50 + 90)


def test_a_clock_that_keeps_stepping_back_a_little_does_not_drag_the_time_away() -> None:
    clock, read = a_clock()
    for _ in range(20):
        read[0] -= 30
        assert pass_time(clock, read, 600) == []
    assert abs(clock.lead) < 1


@pytest.mark.parametrize(("last", "begins", "jumped"), [(-DAY, 0.0, 0.0), (30, 30, 0.0), (DAY, DAY, -DAY)])
def test_a_start_goes_on_by_the_wall_clock_but_not_before_the_last_time_in_the_file(
    last: float, begins: float, jumped: float
) -> None:
    clock, _ = a_clock()
    assert clock.start(1_000_000 + last) == Seen(jumped=jumped)
    assert clock.now() == at(begins)


def test_a_process_that_was_executed_has_the_time_of_the_descriptor_that_it_got() -> None:
    clock, read = a_clock()
    other = SteadyClock(lambda: read[0], lambda: read[1], descriptor=os.dup(clock.descriptor))
    read[0] -= DAYS * DAY
    pass_time(clock, read, 10)
    assert other.now() == clock.now() == at(10)


def test_a_process_that_was_forked_has_the_same_time() -> None:
    clock, read = a_clock()
    answers, answer = os.pipe()
    asked, ask = os.pipe()
    if (child := os.fork()) == 0:
        os.read(asked, 1)
        os.write(answer, struct.pack("d", clock.now().timestamp()))
        os._exit(0)
    clock.start(1_000_000 + DAY)
    read[0] -= DAYS * DAY  # the child has its own copy of this
    os.write(ask, b"x")
    assert struct.unpack("d", os.read(answers, 8)) == (1_000_000 + DAY,)
    os.waitpid(child, 0)


# The parts that keep time


class Jumping(Embedded):
    """A store, its queue, and a subscription."""

    def __init__(self, folder: Path) -> None:
        self.time = MovedClock()
        super().__init__(folder, time=self.time, longest_delay=LONGEST)

    async def change(self, statement: str, *values: float) -> None:
        await self.database.write(lambda connection: connection.execute(statement, values))

    async def ids_fanned_out(self) -> int:
        return await self.count("kept")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Jumping]:
    async with Jumping(tmp_path) as world:
        yield world


@pytest.mark.parametrize("days", JUMPS)
@pytest.mark.parametrize("way", [Way.CLOUDEVENTS, Way.RELAY])
async def test_an_id_is_known_for_as_long_as_ever(world: Jumping, days: int, way: Way) -> None:
    await world.subscribe(filter=None)
    await world.queue.accept(PIM, [an_event(1)], way=way)
    world.time.move(days)
    await world.time.advance(5)
    await world.queue.accept(PIM, [an_event(1)], way=way)
    assert await world.ids_fanned_out() == 1
    await world.time.manual.jump(DAY)  # the time passes on both clocks
    await world.queue.accept(PIM, [an_event(1)], way=way)
    assert await world.ids_fanned_out() == 2


@pytest.mark.parametrize("days", JUMPS)
async def test_accepted_at_never_goes_back(world: Jumping, days: int) -> None:
    await world.subscribe(filter=None)
    for number in range(6):
        await world.queue.accept(PIM, [an_event(number)])
        if number == 2:
            world.time.move(days)
        await world.time.advance(1)
    found = [at for (at,) in await world.rows("SELECT accepted_at FROM kept ORDER BY no")]
    assert found == [START.timestamp() + second for second in range(6)]


async def test_an_id_of_the_future_counts_for_ten_minutes_at_most_and_is_cleaned_up(world: Jumping) -> None:
    await world.subscribe(filter=None)
    await world.queue.accept(PIM, [an_event(1), an_event(2)])
    await world.queue.accept(PIM, [an_event(3)], way=Way.RELAY)
    for table in ("arrived", "relayed"):
        await world.change(f"UPDATE {table} SET at = at + ?", DAYS * DAY)  # noqa: S608
    world.queue._seen.forget()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue.accept(PIM, [an_event(3)], way=Way.RELAY)
    assert await world.ids_fanned_out() == 5
    await world.change("INSERT OR REPLACE INTO seen SELECT no, key, at FROM arrived")
    await world.change("UPDATE seen SET at = ? WHERE no = (SELECT min(no) FROM seen)", DAYS * DAY * 1e6)
    await world.change("UPDATE relayed SET at = at + ?", DAYS * DAY)
    assert await world.queue.clean_up(100) > 0
    assert await world.rows("SELECT count(*) FROM relayed") == [(0,)]
    now = world.time.now().timestamp()
    assert await world.rows(f"SELECT count(*) FROM seen WHERE at > {now}") == [(0,)]  # noqa: S608


async def test_retries_that_another_clock_scheduled_are_due_after_the_longest_delay(world: Jumping) -> None:
    now = world.time.now().timestamp()
    for position, due_at in enumerate((now + 60, now + DAYS * DAY, now + 1e12, now - DAY)):
        values = "INSERT INTO retries VALUES (?, ?, 1, 0, 1, 16, 0, 1, 1, NULL, NULL)"
        await world.change(values, due_at, position)
    assert await world.queue.clean_up(1) == 1
    assert await world.queue.clean_up(1) == 1
    assert await world.queue.clean_up(1) == 0
    latest = now + LONGEST.total_seconds()
    found = await world.rows("SELECT due_at, position FROM retries ORDER BY position")
    assert found == [(now + 60, 0), (latest, 1), (latest, 2), (now - DAY, 3)]


@pytest.mark.parametrize("days", JUMPS)
async def test_a_restart_goes_on_from_the_last_time_in_the_file(world: Jumping, days: int) -> None:
    await world.subscribe(filter=None)
    await world.time.manual.jump(3600)
    await world.queue.accept(PIM, [an_event(1)])
    last = START + timedelta(hours=1)
    assert last_time(world.folder) == last
    world.time.move(days)
    clock = MovedClock(world.time.manual)
    watch = ClockWatch(clock, world.database, on_fault=lambda error: None)
    await watch.start()
    assert clock.now() == (last if days < 0 else last + timedelta(days=days))
    await watch.stop()


@pytest.mark.parametrize("days", JUMPS)
async def test_commands_beside_a_platform_have_its_time(world: Jumping, days: int) -> None:
    noted = round(-days * DAY)
    await world.database.write(lambda connection: times.note_lead(connection, noted))
    found = await world.database.read(times.now)
    assert abs((datetime.now(UTC) + timedelta(seconds=noted) - found).total_seconds()) < 3600
    await world.subscribe(filter=None)
    await world.queue.accept(PIM, [an_event(1)])
    await world.change("UPDATE kept SET accepted_at = ?", (later := START + timedelta(days=9999)).timestamp())
    assert await world.database.read(times.now) == later


class Receiver:
    """The port `Sender`: an endpoint that answers the same to everything."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.requests = 0

    async def post(self, *arguments: object, **more: object) -> Answer:
        self.requests += 1
        return Answer(self.status)


async def attempt(
    world: Jumping, subscription: Subscription, receiver: Receiver, **fields: object
) -> Settlement:
    delivery = Delivery(subscription.id, "event-1", UPDATED, START, 0, 16, 0, b"{}")
    return await deliver(
        replace(delivery, **fields),  # pyright: ignore[reportArgumentType]
        subscriptions=world.subscriptions,
        senders=https_by(receiver),  # pyright: ignore[reportArgumentType]
        clock=world.time,
        policy=DeliverPolicy([timedelta(minutes=5)], timedelta(days=3), timeout=5),
        egress=Egress(),
    )


@pytest.mark.parametrize("days", JUMPS)
async def test_what_waits_is_sent_after_a_jump_and_its_retry_is_due_in_time(
    world: Jumping, days: int
) -> None:
    (subscription,) = await world.subscribe(filter=None)
    world.time.move(days)
    await world.time.advance(5)
    failed = await attempt(world, subscription, receiver := Receiver(500))
    assert failed.retry_at == START + timedelta(seconds=5, minutes=5)
    assert (await attempt(world, subscription, receiver, failures=1)).end is not None
    assert receiver.requests == 2


async def test_an_age_counts_when_the_clock_has_stayed_ahead(world: Jumping) -> None:
    (subscription,) = await world.subscribe(filter=None)
    world.time.move(DAYS)
    world.time.look()
    await world.time.manual.jump(FOLLOWED_AFTER)
    world.time.look()
    end = (await attempt(world, subscription, receiver := Receiver(200))).end
    assert end is not None
    assert "not delivered within" in end.message
    assert receiver.requests == 0


@pytest.mark.parametrize("days", JUMPS)
async def test_a_429_is_given_up_after_an_hour_of_the_platforms_time(world: Jumping, days: int) -> None:
    (subscription,) = await world.subscribe(filter=None)
    world.time.move(days)
    tried = {"attempts": 9, "first_attempt_at": START}
    await world.time.manual.jump(3500)
    assert (await attempt(world, subscription, Receiver(429), **tried)).back_to_lane
    await world.time.manual.jump(100)
    assert (await attempt(world, subscription, Receiver(429), **tried)).end is not None


class OneRecord:
    """The ports `SubscriptionLookup` and `Paces` without a store, so that nothing waits for a thread."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription

    async def current(self, subscription_id: str) -> Subscription:
        return self.subscription

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        self.subscription = change(self.subscription)


async def requests_in_20_seconds(days: int, retry_after: float | None) -> int:
    """Counts requests to a receiver that answers 429 to everything; the wall clock jumps after 5 s."""
    clock, record = MovedClock(), OneRecord(a_subscription(a_subscriber()))
    pacer, observer = Pacer(record, clock, Limits()), Observer(record, record, clock, Limits())
    sent = 0

    async def lane() -> None:
        nonlocal sent
        while True:
            await pacer.wait(record.subscription.id, 0)
            sent += 1
            under, began = record.subscription, clock.now()
            await clock.sleep(0.05)
            until = None if retry_after is None else clock.now() + timedelta(seconds=retry_after)
            seen = Observation(began, under.current_rate, 0.05, throttled=True, retry_after=until)
            delivery = Delivery(under.id, "event-1", UPDATED, START, 0, 16, 0, b"{}")
            throttled = Outcome(Kind.THROTTLED, None, 429)
            await observe(observer, Settlement(delivery, throttled, pace=seen, tried_under=under))

    lanes = [asyncio.create_task(lane()) for _ in range(LANES)]
    await clock.advance(5)
    clock.move(days)
    await clock.advance(15)
    for task in lanes:
        task.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    return sent


@pytest.mark.parametrize("retry_after", [None, 4.0])
async def test_a_receiver_that_answers_429_gets_no_more_requests_after_a_jump(
    retry_after: float | None,
) -> None:
    sent = [await requests_in_20_seconds(days, retry_after) for days in (0, *JUMPS)]
    assert 0 < sent[0] < 100
    assert sent[0] == sent[1] == sent[2]


async def test_notifications_that_another_clock_held_are_due_and_its_counts_are_dropped(
    world: Jumping,
) -> None:
    outbox = SqliteOutbox(world.database, world.time)
    (subscription,) = await world.subscribe(filter=None)
    await world.subscriptions.change_subscription(
        OWNER, subscription.subscriber_id, subscription.id, lambda before: suspend(before, START)
    )
    await world.change("UPDATE notifications SET due_at = due_at + ?", DAYS * DAY)
    assert len(await outbox.due(10)) == 1
    await world.change("UPDATE notifications SET due_at = ?", START.timestamp() + 5400)
    assert await outbox.due(10) == []
    later = START.timestamp() // 3600 + 240
    await world.change("INSERT INTO notification_counts VALUES (?, 'key', 1)", later)
    assert await outbox.count([Allowance("own", "shared", own=1, shared=1)])
    assert await world.rows("SELECT count(*) FROM notification_counts WHERE key = 'key'") == [(0,)]


@pytest.mark.parametrize("days", JUMPS)
async def test_the_success_rate_is_that_of_the_hour_after_a_jump(world: Jumping, days: int) -> None:
    (subscription,) = await world.subscribe(filter=None)
    counts = SqliteSuccessCounts(world.database)
    judge = Judge(counts, world.subscriptions, Egress(), world.time)
    failed = Settlement(
        Delivery(subscription.id, "event-1", UPDATED, START, 0, 16, 0, b"{}"),
        Outcome(Kind.RETRYABLE, None, 500),
        tried_under=subscription,
    )
    for _ in range(19):
        await judge.settled(failed)
    world.time.move(days)
    world.time.look()
    await world.time.manual.jump(120)
    await judge.settled(failed)
    found = await world.subscriptions.current(subscription.id)
    assert found is not None
    assert found.status == "suspended"


async def test_counts_of_another_clock_are_dropped(world: Jumping) -> None:
    counts = SqliteSuccessCounts(world.database)
    minute = int(START.timestamp() // 60)
    far = [minute - 121, minute + 121, minute + 10**6]
    await counts.add({Series("s", 0, "d"): {each: Count(1) for each in (minute, *far)}})
    assert await world.queue.clean_up(100) == 3
    assert await world.rows("SELECT minute FROM success_counts") == [(minute,)]


# Rates that a clock has written which was ahead


def test_a_rate_of_the_future_begins_anew_at_its_base_and_is_lowered_again() -> None:
    limits, now = Limits(), START
    ahead = Rate(START + timedelta(days=DAYS), 8, 9, START + timedelta(days=DAYS, minutes=5))
    assert (ahead.at(now, limits), ahead.held_for(now)) == (8, 0)
    assert ahead.slot(0, 16, now, limits) < 2
    anew = rates.after(ahead, Observation(now, ahead, 0.1), now, limits)
    assert anew == Rate(now, 8, 9)
    later = now + timedelta(seconds=20)
    assert anew.at(later, limits) > 9
    lowered = rates.after(anew, Observation(later, anew, 0.1, throttled=True), later, limits)
    assert lowered.base < 8


def test_lanes_that_were_changed_in_the_future_can_be_changed() -> None:
    changed_at = START + timedelta(days=DAYS)
    assert rates.lanes_after(1, changed_at, 100, 0.5, START) == 128 // 2
    assert rates.lanes_after(64, changed_at, 1, 0.01, START) == 32


def test_a_turn_is_found_anew_when_a_clock_has_gone_back() -> None:
    turn, rate = Turn(3, 16, Limits()), Rate(START)
    usual = turn.wait(rate, START)
    assert turn.wait(rate, START - timedelta(days=DAYS)) <= 2
    assert 0 < usual < 2


# What the operator sees


@pytest.mark.parametrize("days", JUMPS)
@pytest.mark.provokes("clock.jumped")
async def test_a_jump_is_one_line_of_the_log_and_noted_in_the_file(world: Jumping, days: int) -> None:
    watch = ClockWatch(world.time, world.database, on_fault=lambda error: None)
    with capture_logs() as lines:
        await watch.start()
        world.time.move(days)
        file, lead = world.folder / "aep.db", "SELECT value FROM meta WHERE name = 'clock_lead'"
        for _ in range(500):  # looks, each of which may wait for the store
            await world.time.manual.advance(1)
            if one_pim.rows(file, lead) == [(str(round(-days * DAY)),)]:
                break
        await watch.stop()
    jumps = [line for line in lines if line["event"] == "clock.jumped"]
    assert [(line["seconds"], line["log_level"]) for line in jumps] == [(days * DAY, "warning")]
    assert jumps[0]["wall_clock"][:10] != jumps[0]["platform_time"][:10]
    assert await world.database.read(times.lead) == 0, "a stop takes the note away"


@pytest.mark.provokes("clock.followed")
async def test_that_the_time_went_forward_with_the_clock_is_logged(world: Jumping) -> None:
    watch = ClockWatch(world.time, world.database, on_fault=lambda error: None)
    with capture_logs() as lines:
        await watch.start()
        world.time.move(10)
        for _ in range(1000):  # looks, each of which may wait for the store
            await world.time.manual.advance(1)
            if any(line["event"] == "clock.followed" for line in lines):
                break
        await watch.stop()
    (followed,) = [line for line in lines if line["event"] == "clock.followed"]
    assert (followed["seconds"], followed["log_level"]) == (10 * DAY, "warning")
