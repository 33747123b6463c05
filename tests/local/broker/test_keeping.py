"""The keeping of accepted events and of the courses of their deliveries, and the numbers beside it."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aep.broker import dead_letters
from aep.broker import queue as broker_queue
from aep.store import courses, kept, migrations, opening, schema
from aep.store.subscriptions import put_subscriber, put_subscription
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.events.benchmarks import Benchmark
from event_platform.domain.events.event import Event
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import Owner
from event_platform.domain.tenants import Way
from support.clock import START
from support.embedded import SEAL, Embedded
from support.records import (
    CATEGORY,
    OWNER,
    PIM,
    UPDATED,
    a_subscriber,
    a_subscription,
    an_event,
    data_of,
    with_data,
)

COURSE = "outcome, status, reason, message, milliseconds, ended_at"
AT = START.timestamp()


class Keeping(Embedded):
    """The queue on a folder, and what it keeps."""

    async def course(self) -> Any:
        """The only course that there is."""
        (course,) = await self.rows(f"SELECT {COURSE} FROM courses")  # noqa: S608 - constant columns
        return course

    async def kept(self) -> list[Event]:
        rows = await self.rows(f"SELECT {kept.COLUMNS} FROM kept ORDER BY no")  # noqa: S608 - constant columns
        return [kept.event_of(row) for row in rows]

    def delivery(self) -> Delivery:
        """The last one that was put into a lane, as it is when it was tried once."""
        return self.put[-1].delivery().after_attempt(START, used_a_retry=True)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Keeping]:
    async with await Keeping(tmp_path).open() as world:
        yield world


async def test_each_accepted_event_is_kept_once_matched_or_not(world: Keeping) -> None:
    await world.subscribe(events=frozenset({UPDATED}))
    matched, other = an_event(1), an_event(2, event_type=CATEGORY)
    await world.queue.accept(PIM, [matched, other], way=Way.EVENTS_API)
    await world.queue.accept(PIM, [matched])
    assert await world.kept() == [matched, other]
    assert await world.rows("SELECT DISTINCT tenant, way, accepted_at FROM kept") == [(PIM, "events-api", AT)]
    assert await world.rows("SELECT event_no FROM courses") == await world.rows("SELECT min(no) FROM kept")


async def test_a_kept_event_has_the_identifier_that_a_delivery_left_out(world: Keeping) -> None:
    await world.subscribe(send_product_identifier=False)
    event = an_event(1)
    event = with_data(event, {**data_of(event), "product": {"uuid": "u-1", "identifier": "SKU-1"}})
    await world.queue.accept(PIM, [event])
    (found,) = await world.kept()
    assert b"SKU-1" in found.data_json
    assert found.facts.has_identifier
    assert found.facts.identifier_span(found.data_json) == event.facts.identifier_span(event.data_json)
    assert await world.rows("SELECT identifier FROM kept") == [(b"SKU-1",)]
    await world.queue.settle(Settlement(world.put[-1].delivery(), Outcome(Kind.DELIVERED, None, 204)))
    assert (await world.course())[0] == courses.DELIVERED


async def test_with_nothing_to_keep_no_row_is_written(tmp_path: Path) -> None:
    world = await Keeping(tmp_path, keeps=False).open()
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue.settle(Settlement(world.put[-1].delivery(), Outcome(Kind.DELIVERED, None, 204)))
    assert [await world.count(table) for table in ("kept", "courses")] == [0, 0]
    await world.database.close()


async def test_benchmarks_are_not_kept(world: Keeping) -> None:
    await world.subscribe(source="benchmark")
    events = Benchmark("b-1", OWNER.client_id, 3, 1, "2026-12-01T00:00:00Z").events()
    await world.queue.accept(PIM, list(events))
    await world.queue.settle(Settlement(world.put[-1].delivery(), Outcome(Kind.DELIVERED, None, 204)))
    assert len(world.put) == 3
    assert [await world.count(table) for table in ("kept", "courses")] == [0, 0]


async def test_a_delivery_that_was_taken_ends_its_course(world: Keeping) -> None:
    (subscription,) = await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    assert await world.course() == (None,) * 6
    await world.clock.advance(2)
    receipt = world.put[-1].receipt
    number, lane = receipt.key
    taken = (number, lane, receipt.position, receipt.event_no, subscription.id, AT, 204, 7)
    for _, settled in world.queue.settle_taken([taken, taken]):
        await settled
    assert await world.course() == ("delivered", 204, None, None, 7, AT + 2)


async def test_failed_attempts_are_in_the_course_beside_how_it_ended(world: Keeping) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
    due = world.clock.now() + timedelta(seconds=300)
    await world.queue.settle(Settlement(world.delivery(), failed, retry_at=due, milliseconds=31))
    assert await world.course() == (None,) * 6
    await world.clock.advance(300)
    await world.queue.requeue_due(10)
    throttled = Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, 429)
    await world.queue.settle(Settlement(world.delivery(), throttled, back_to_lane=True, milliseconds=5))
    end = DeliveryEnd(
        Operation.FAILED, "the endpoint answered 503", world.clock.now(), failed.reason, failed.status
    )
    await world.queue.settle(Settlement(world.delivery(), failed, end=end, milliseconds=33))
    assert await world.course() == (
        "ended", 503, "destination_failure", "the endpoint answered 503", 33, AT + 300,
    )  # fmt: skip
    (attempts,) = await world.rows("SELECT attempts FROM courses")
    assert json.loads(*attempts) == [
        [AT, "retryable", "destination_failure", 503, 31],
        [AT + 300, "throttled", "destination_failure", 429, 5],
        [AT + 300, "retryable", "destination_failure", 503, 33],
    ]


async def test_a_dropped_delivery_ends_its_course_with_the_reason(world: Keeping) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    end = DeliveryEnd(Operation.DROPPED, "suspended", world.clock.now())
    await world.queue.settle(Settlement(world.put[-1].delivery(), None, end=end))
    assert await world.course() == ("ended", None, None, "suspended", None, AT)


async def test_of_many_failed_attempts_the_first_and_the_latest_stay(world: Keeping) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    for number in range(100):
        outcome = Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, 429)
        settlement = Settlement(world.delivery(), outcome, back_to_lane=True, milliseconds=number)
        await world.queue.settle(settlement)
    (attempts,) = await world.rows("SELECT attempts FROM courses")
    kept_ones = [milliseconds for *_, milliseconds in json.loads(*attempts)]
    assert kept_ones == [*range(courses.FIRST_ATTEMPTS_KEPT), *range(85, 100)]


async def test_a_dead_letter_that_is_dropped_ends_its_course(world: Keeping, tmp_path: Path) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue.dead_letter(world.put[-1], "our fault")
    with closing(opening.connect(tmp_path / "aep.db")) as connection:
        dead_letters.drop_some(connection, dead_letters.chosen(connection, []), world.clock.now())
    assert await world.course() == ("ended", None, None, dead_letters.DROPPED_MESSAGE, None, AT)


async def test_what_is_fanned_out_later_has_courses_that_say_when(
    world: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    subscriptions = [
        each for n in range(3) for each in await world.subscribe(owner=Owner(PIM, f"client-{n}"))
    ]
    events = [an_event(1), an_event(2), an_event(3, event_type="com.akeneo.pim.v1.family.created")]
    await world.queue.accept(PIM, events)
    assert len(await world.kept()) == 3
    await world.clock.advance(4)
    while await world.queue.fan_out_piece(PIM):
        pass
    found = await world.rows("SELECT event_no, subscription_no, matched_at FROM courses")
    numbers = [number for (number,) in await world.rows("SELECT no FROM kept ORDER BY no LIMIT 2")]
    assert found == [(no, place + 1, AT + 4) for no in numbers for place in range(len(subscriptions))]


async def test_an_event_that_waits_for_its_fan_out_again_is_kept_under_its_new_number(
    world: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue._dead_letter_event(PIM, RuntimeError("our fault"))
    with closing(opening.connect(tmp_path / "aep.db")) as connection:
        dead_letters.replay_some(connection, dead_letters.chosen(connection, []), world.clock.now())
    assert await world.queue.take_up_events(10) == 1
    while await world.queue.fan_out_piece(PIM):
        pass
    assert len(await world.kept()) == 2
    assert await world.rows("SELECT event_no FROM courses") == await world.rows("SELECT max(no) FROM kept")


async def test_numbers_go_on_behind_kept_events_after_a_restart(tmp_path: Path) -> None:
    for number in range(3):
        world = await Keeping(tmp_path).open()
        await world.queue.accept(PIM, [replace(an_event(number), id=f"event-{number}")])
        await world.database.write(lambda connection: connection.execute("DELETE FROM arrived"))
        await world.database.close()
    with closing(opening.connect(tmp_path / "aep.db")) as connection:
        assert connection.execute("SELECT id FROM kept ORDER BY no").fetchall() == [
            ("event-0",), ("event-1",), ("event-2",),
        ]  # fmt: skip
        assert connection.execute("SELECT count(*) FROM kept WHERE no % 2").fetchone() == (0,)


async def test_what_was_undone_is_not_kept(world: Keeping) -> None:
    await world.subscribe()

    def fail(connection: sqlite3.Connection) -> None:
        raise RuntimeError("a job that shares the commit")

    accepting = world.queue.accept(PIM, [an_event(1)])
    with pytest.raises(RuntimeError):
        await world.database.write(fail)
    await accepting
    assert len(await world.kept()) == await world.count("courses") == 1


async def test_a_deleted_subscription_stays_while_deliveries_of_it_may_be_kept(world: Keeping) -> None:
    """Numbers of rows come again: a course must not become another client's."""
    (subscription,) = await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue.settle(Settlement(world.put[-1].delivery(), Outcome(Kind.DELIVERED, None, 204)))

    def delete(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE subscriptions SET status = 'deleted', updated_at = ?", (AT + 1,))

    await world.database.write(delete)
    await world.subscriptions.forget_deleted(before=AT + 2)
    assert await world.subscriptions.current(subscription.id) is not None
    await world.forget_kept()
    await world.subscriptions.forget_deleted(before=AT + 2)
    assert await world.count("subscriptions") == 0


async def test_of_a_file_from_before_what_waits_is_delivered_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events may have odd numbers, which are no kept event's."""
    with closing(opening.connect(tmp_path / "aep.db")) as connection:
        with monkeypatch.context() as patched:
            before = schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._VERSION_13)]
            patched.setattr(schema, "MIGRATIONS", before)
            migrations.prepare(connection)
        subscriber = a_subscriber()
        subscription = a_subscription(subscriber)
        put_subscriber(connection, SEAL, subscriber)
        put_subscription(connection, SEAL, subscription)
        for number in (5, 7):
            connection.execute(
                "INSERT INTO events VALUES (?, ?, ?, 0, x'7b', x'7d')", (number, f"event-{number}", UPDATED)
            )
            connection.execute(
                "INSERT INTO deliveries VALUES (1, 0, ?, ?, 16, 0, 0, 0, NULL, 0)", (number + 100, number)
            )
    world = await Keeping(tmp_path).open()
    await world.queue.accept(PIM, [an_event(1)])
    for key in await world.queue.lanes():
        for queued in await world.queue.waiting(key, 0, 10, 10**6):
            await world.queue.settle(Settlement(queued.delivery(), Outcome(Kind.DELIVERED, None, 204)))
    assert [await world.count(table) for table in ("deliveries", "kept", "courses")] == [0, 1, 1]
    assert (await world.course())[0] == "delivered"
    await world.database.close()
