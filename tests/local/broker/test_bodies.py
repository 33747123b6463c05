"""Each body of a delivery that waits stands once: with the kept event, or in `events`."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from aep.broker import dead_letters, pieces
from aep.broker import queue as broker_queue
from aep.broker.queued import SMALL_BODY, Queued
from aep.store import bodies, kept_index, opening, schema
from aep.store.kept_index import Bounds
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from event_platform.domain.events.event import Event
from event_platform.domain.replays import Which
from support.embedded import Embedded
from support.records import PIM, an_event, data_of, with_data
from support.replaying import Receiver, Replaying

NOTHING = Bounds(0, 1)
TAKEN = Outcome(Kind.DELIVERED, None, 204)
BODIES = ("events", "event_uses")


class Bodies(Embedded):
    """The queue on a folder, and what waits in it."""

    async def waiting(self) -> list[Queued]:
        """All that waits in lanes, read from the file."""
        lanes = await self.queue.lanes()
        return [each for key in lanes for each in await self.queue.waiting(key, 0, 1000, 10**9)]

    async def taken(self, *queued: Queued) -> None:
        for each in queued:
            await self.queue.settle(Settlement(each.delivery(), TAKEN))

    async def retried(self, queued: Queued) -> None:
        """Has a delivery wait for its next attempt."""
        failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
        due = self.clock.now() + timedelta(seconds=1)
        await self.queue.settle(Settlement(queued.delivery(), failed, retry_at=due))

    async def requeued(self) -> list[Queued]:
        await self.clock.advance(1)
        await self.queue.requeue_due(1000)
        return await self.waiting()

    async def bodies(self) -> list[int]:
        """The numbers of rows in `events` and `event_uses`."""
        return [await self.count(table) for table in BODIES]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Bodies]:
    async with await Bodies(tmp_path).open() as world:
        yield world


def product(number: int, **more: object) -> Event:
    event = an_event(number)
    about = {"uuid": "00000000-0000-4000-8000-000000000001", "identifier": f"SKU-{number}"}
    return with_data(event, {**data_of(event), "product": about, **more})


async def test_the_body_of_a_kept_event_is_written_once_and_read_as_it_was_sent(world: Bodies) -> None:
    await world.subscribe(send_product_identifier=True)
    await world.subscribe(send_product_identifier=False)
    large = {"more": "é" * SMALL_BODY}
    await world.queue.accept(
        PIM, [product(1), product(2, **large), an_event(3, event_type="com.akeneo.pim.v1.family.created")]
    )
    assert await world.bodies() == [0, 0]
    sent = {each.receipt: each.delivery().body for each in world.put}
    assert {each.receipt: each.delivery().body for each in await world.waiting()} == sent
    for receipt, body in sent.items():
        envelope = await world.queue.envelope(receipt.event_no)
        assert len(envelope.before_subject) + len(envelope.after_subject) == len(body) - 36


async def test_an_identifier_that_stands_twice_in_the_data_is_left_out_where_it_is_optional(
    world: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes parsing, which is done for one body at a time: not for a whole lane, nor for all retries."""
    await world.subscribe(send_product_identifier=False)
    await world.queue.accept(PIM, [product(1, other={"identifier": "SKU-1"}, half="\ud800")])
    (sent,) = world.put
    await world.retried(sent)
    with monkeypatch.context() as patched:
        patched.setattr(bodies.json, "loads", None)
        (queued,) = await world.requeued()
    assert queued.envelope is None
    assert await world.queue.envelope(queued.receipt.event_no) == sent.envelope
    data = json.loads(sent.delivery().body)["data"]
    assert data["other"] == {"identifier": "SKU-1"}
    assert "identifier" not in data["product"]
    await world.forget_kept()
    (queued,) = await world.waiting()
    assert queued.envelope == sent.envelope


async def test_what_waits_outlives_what_is_kept(world: Bodies) -> None:
    """In lanes and for retries; each body is moved once, and goes with its last delivery."""
    await world.subscribe(2, send_product_identifier=True)
    await world.subscribe(send_product_identifier=False)
    await world.queue.accept(PIM, [product(1), product(2), product(3)])
    sent = {(each.subscription_id, each.event_id): each.delivery().body for each in world.put}
    by_event = {
        number: [each for each in world.put if each.event_id == f"event-{number}"] for number in (1, 2, 3)
    }
    await world.taken(*by_event[1])
    for each in by_event[2]:
        await world.retried(each)
    await world.forget_kept()
    assert [await world.count(table) for table in ("kept", "courses")] == [0, 0]
    assert await world.bodies() == [4, 2]
    waiting = await world.requeued()
    assert {(each.subscription_id, each.event_id): each.delivery().body for each in waiting} == {
        key: body for key, body in sent.items() if key[1] != "event-1"
    }
    await world.taken(*waiting)
    assert await world.bodies() == [0, 0]


async def test_bodies_are_moved_a_few_at_a_time(world: Bodies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_index, "BYTES_MOVED", 1000)
    monkeypatch.setattr(kept_index, "COURSES_REMOVED", 5)
    await world.subscribe(3)
    await world.queue.accept(PIM, [product(number, more="x" * 400) for number in range(10)])
    removed = []

    def remove(connection: sqlite3.Connection) -> bool:
        before = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        found = kept_index.remove_some(connection, 0.0, NOTHING, schema_base=world.queue.schema_base)
        removed.append(connection.execute("SELECT count(*) FROM events").fetchone()[0] - before)
        return found is not None

    while await world.database.write(remove):
        pass
    assert max(removed) <= 3
    assert await world.bodies() == [10, 10]
    waiting = await world.waiting()
    assert len(waiting) == 30
    await world.taken(*waiting)
    assert await world.bodies() == [0, 0]


async def test_a_dead_letter_has_its_body_apart_whatever_becomes_of_the_others(world: Bodies) -> None:
    await world.subscribe(3)
    await world.queue.accept(PIM, [product(1)])
    dead, other, last = world.put
    await world.queue.dead_letter(dead, "our fault")
    assert await world.bodies() == [1, 1]
    await world.taken(other)
    await world.forget_kept()
    await world.taken(last)
    assert await world.bodies() == [1, 1]
    with closing(opening.connect(world.folder / opening.FILE)) as connection:
        (letter,) = dead_letters.listed(connection)
        assert letter.event_id == dead.event_id
        dead_letters.replay_some(connection, [letter.id], world.clock.now())
    (again,) = await world.requeued()
    assert again.delivery().body == dead.delivery().body
    await world.taken(again)
    assert await world.bodies() == [0, 0]


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_dead_letter_between_two_pieces_of_a_fan_out_takes_no_body_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    monkeypatch.setattr(pieces, "WORK_OF_PIECE", 1)
    async with await Bodies(tmp_path, keeps=keeps).open() as world:
        subscriptions = await world.subscribe(4)
        await world.queue.accept(PIM, [product(1)])
        await world.queue.fan_out_piece(PIM)
        (first,) = await world.waiting()
        await world.queue.dead_letter(first, "our fault")
        while await world.queue.fan_out_piece(PIM):
            pass
        waiting = await world.waiting()
        assert len(waiting) == len(subscriptions) - 1
        await world.taken(*waiting)
        with closing(opening.connect(tmp_path / opening.FILE)) as connection:
            dead_letters.drop_some(connection, dead_letters.chosen(connection, []), world.clock.now())
        assert await world.bodies() == [0, 0]


@pytest.mark.parametrize("pieces_before", [1, 3])
async def test_keeping_that_is_turned_off_or_on_between_two_pieces_loses_no_body(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces_before: int
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    monkeypatch.setattr(pieces, "WORK_OF_PIECE", 1)
    keeps = True
    world = await Bodies(tmp_path, keeps=keeps).open()
    await world.subscribe(6)
    await world.queue.accept(PIM, [product(1)])
    await world.queue.accept(PIM, [product(2)])
    is_more = True
    while is_more:
        for _ in range(pieces_before):
            is_more = await world.queue.fan_out_piece(PIM)
        await world.close()
        keeps = not keeps
        world = await Bodies(tmp_path, keeps=keeps).open()
        if not keeps:
            await world.forget_kept()
    waiting = await world.waiting()
    assert len(waiting) == 12
    await world.taken(*waiting[:5])
    await world.forget_kept()
    await world.taken(*waiting[5:])
    assert await world.bodies() == [0, 0]
    await world.close()


async def test_with_keeping_turned_off_courses_end_until_all_is_removed(tmp_path: Path) -> None:
    """So a body is moved for as many deliveries as still wait, and goes with these."""
    async with await Bodies(tmp_path).open() as world:
        await world.subscribe(3)
        await world.queue.accept(PIM, [product(1)])
    async with await Bodies(tmp_path, keeps=False).open() as world:
        first, *others = await world.waiting()
        await world.taken(first)
        await world.forget_kept()
        assert await world.bodies() == [1, 1]
        await world.taken(*others)
        assert await world.bodies() == [0, 0]


async def test_a_replay_shares_the_body_that_was_moved_for_a_dead_letter(tmp_path: Path) -> None:
    receiver = Receiver()
    async with await Replaying(tmp_path, receiver).run() as world:
        subscription = await world.one()
        await world.queue.accept(PIM, [product(1)])
        await world.settled()
        replay_id = await world.replay(subscription, which=Which.ALL)
        await world.until(lambda: len(receiver.taken) == 2)
        assert (await world.ended(subscription, replay_id))[0] == "done"
        await world.settled()
        assert receiver.taken[0].body == receiver.taken[1].body


async def test_the_dead_letter_of_a_replay_leaves_no_body_behind(world: Bodies) -> None:
    (subscription,) = await world.subscribe()
    await world.queue.accept(PIM, [product(1)])
    (first,) = world.put
    await world.taken(first)

    def put_into_a_replay(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO replays (no, id, subscription_no, kind, status, asked, first_no, last_no, cursor_no,"
            " created_at) VALUES (7, 'r', 1, 'replay', 'running', '{}', 0, 0, 0, 0)"
        )
        connection.execute(
            "INSERT INTO deliveries (subscription_no, lane, position, event_no, lanes, epoch, attempts,"
            " failures) VALUES (1, 7 << 16, 1000, ?, 16, 0, 0, 0)",
            (first.receipt.event_no,),
        )
        connection.execute(
            "INSERT INTO courses (event_no, subscription_no, replay_no, variant) VALUES (?, 1, 7, ?)",
            (first.receipt.event_no & ~1, first.receipt.event_no & 1),
        )

    await world.database.write(put_into_a_replay)
    (again,) = await world.waiting()
    assert again.replay_id == "r"
    await world.queue.dead_letter(again, "our fault")
    assert await world.rows("SELECT outcome, message FROM courses WHERE replay_no = 7") == [
        ("ended", "our fault")
    ]
    with closing(opening.connect(world.folder / opening.FILE)) as connection:
        dead_letters.drop_some(connection, dead_letters.chosen(connection, []), world.clock.now())
    await world.forget_kept()
    assert await world.bodies() == [0, 0]
    assert subscription.id


async def test_the_age_of_the_oldest_event_is_found_among_what_is_kept(
    world: Bodies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aep.broker.counted.COURSES_AT_ONCE", 2)
    await world.subscribe()
    for number in range(1, 8):
        await world.queue.accept(PIM, [an_event(number)])
        await world.clock.advance(1)
    ages = []
    for each in list(world.put):
        ages.append(await world.queue.look())
        await world.taken(each)
        await world.clock.advance(2)
    assert ages == [7, 8, 9, 10, 11, 12, 13]
    assert await world.queue.look() == 0
    await world.queue.accept(PIM, [an_event(8)])
    await world.queue.dead_letter(world.put[-1], "our fault")
    await world.clock.advance(2)
    assert await world.queue.look() == 0, "events of dead letters do not count"


# Files from before


CAME_LATER = """
CREATE INDEX feed_marks_by_time ON feed_marks (feed_no, resource, updated);
DROP TABLE ended_sessions;
DROP INDEX subscriptions_by_tenant;
ALTER TABLE subscriptions DROP COLUMN events;
CREATE INDEX subscriptions_by_tenant ON subscriptions (tenant, status);
ALTER TABLE courses DROP COLUMN variant;
"""
"""Undoes this step of the schema and those after it."""


def of_before(folder: Path, *, keeps: bool) -> None:
    """Has a file as it was when a body stood in `events` beside the kept event, with a fan-out under way."""
    with closing(opening.connect(folder / opening.FILE)) as connection:
        connection.execute("BEGIN")
        for (event_no,) in connection.execute("SELECT no FROM kept").fetchall():
            for variant in (0, 1):
                (uses,) = connection.execute(
                    "SELECT count(*) FROM deliveries WHERE event_no = ?", (event_no + variant,)
                ).fetchone()
                if uses:
                    connection.execute(
                        "INSERT INTO events SELECT no + ?, id, type, accepted_at, x'7b7b', x'7d7d' FROM kept"
                        " WHERE no = ?",
                        (variant, event_no),
                    )
                    held = connection.execute("SELECT 1 FROM accepted WHERE no = ?", (event_no,)).fetchone()
                    connection.execute(
                        "INSERT INTO event_uses SELECT ?, ? WHERE ? > 1",
                        (event_no + variant, uses + bool(held), uses + bool(held)),
                    )
        for statement in filter(None, CAME_LATER.splitlines()):
            connection.execute(statement)
        if not keeps:
            connection.execute("DELETE FROM courses")
            connection.execute("DELETE FROM kept")
        version = schema.MIGRATIONS.index(schema._VERSION_18)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_file_of_before_with_a_fan_out_under_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    monkeypatch.setattr(pieces, "WORK_OF_PIECE", 1)
    async with await Bodies(tmp_path).open() as world:
        await world.subscribe(4, send_product_identifier=True)
        await world.subscribe(2, send_product_identifier=False)
        for number in (1, 2):
            await world.queue.accept(PIM, [product(number)])
        for _ in range(9):
            await world.queue.fan_out_piece(PIM)
        begun = await world.count("deliveries")
    of_before(tmp_path, keeps=keeps)
    async with await Bodies(tmp_path).open() as world:
        before = await world.waiting()
        assert len(before) == begun
        assert {each.envelope and each.envelope.after_subject for each in before} == {b"}}"}
        await world.taken(*before)
        while await world.queue.fan_out_piece(PIM):
            pass
        after = await world.waiting()
        assert len(before) + len(after) == 12
        await world.forget_kept()
        await world.taken(*after)
        assert await world.bodies() == [0, 0]


MIGRATED = """
import sys
from pathlib import Path
from aep.store import migrations, opening
for folder in Path(sys.argv[1]).iterdir():
    print(folder.name, flush=True)
    with opening.connect(folder / opening.FILE) as connection:
        migrations.prepare(connection)
"""


def kill_a_migration(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", MIGRATED, str(folder)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.stdout.readline()
        child.kill()


async def test_a_kill_in_the_migration_leaves_the_file_as_it_was_or_migrated(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with await Bodies(folder).open() as world:
            await world.subscribe()
            await world.queue.accept(PIM, [product(each) for each in range(200)])
        of_before(folder, keeps=True)
    for _ in range(4):
        await asyncio.to_thread(kill_a_migration, tmp_path)
    for number in range(6):
        async with await Bodies(tmp_path / str(number)).open() as world:
            waiting = await world.waiting()
            assert len(waiting) == 200
            await world.taken(*waiting)
            assert await world.bodies() == [0, 0]
            assert await world.rows("PRAGMA integrity_check") == [("ok",)]
