"""A request that is too much for one commit is accepted in one, and fanned out in pieces of bounded size."""

import asyncio
import gc
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from aep.broker import dead_letters, pieces
from aep.broker import fan_out as fan_out_module
from aep.broker import queue as broker_queue
from aep.broker.fan_out import FanOut, rest_after
from aep.doctor.stored import last_time
from aep.store import accepted, moving, opening, recipients
from aep.store.recipients import Recipients
from contract.suites.broker import a_removal, delivered
from event_platform.domain.errors import TooManyRequests
from event_platform.domain.events.event import Event
from event_platform.domain.record.actions import BY_THE_PLATFORM, Action, Actor
from event_platform.domain.subscriptions import (
    Owner,
    Status,
    Subscription,
    delete_subscription,
    suspend,
)
from support.aep_here import run
from support.embedded import EVENT_OF_DELIVERY, SEAL, Embedded
from support.eventually import eventually
from support.records import CATEGORY, OWNER, PIM, UPDATED, an_event, with_data

OTHER = "https://other.example.com"
SUBSCRIPTIONS = 10
EVENTS = 100
WORK_OF_PIECE = 50


class InPieces(Embedded):
    """The queue on a folder. What is fanned out in pieces waits for the test to ask for one."""

    async def change(self, subscription: Subscription, change: Any, action: Action = BY_THE_PLATFORM) -> None:
        await self.subscriptions.change_subscription(
            subscription.owner, subscription.subscriber_id, subscription.id, change, action=action
        )

    async def fan_out(self, tenant: str = PIM) -> list[int]:
        """Fans out all pieces of a tenant; returns how many deliveries each made."""
        sizes: list[int] = []
        more = True
        while more:
            before = self.meters.deliveries_accepted
            more = await self.queue.fan_out_piece(tenant)
            sizes.append(self.meters.deliveries_accepted - before)
        return sizes

    async def deliveries(self) -> Counter[tuple[str, str]]:
        """How often each pair of event and subscription is on the queue."""
        return Counter(
            await self.rows(
                f"SELECT {EVENT_OF_DELIVERY}, s.id FROM deliveries d"  # noqa: S608 - constants
                " JOIN subscriptions s ON s.no = d.subscription_no"
            )
        )

    async def settle_all(self) -> None:
        for key in await self.queue.lanes():
            for queued in await self.queue.waiting(key, 0, 1000, 10**9):
                await self.queue.settle(delivered(queued.delivery()))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 200)
    monkeypatch.setattr(pieces, "WORK_OF_PIECE", WORK_OF_PIECE)
    monkeypatch.setattr(pieces, "WORK_OF_COMPILING", 5)
    monkeypatch.setattr(pieces, "EVENTS_OF_WINDOW", 8)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[InPieces]:
    async with await InPieces(tmp_path).open() as world:
        yield world


@pytest.fixture
async def unkept(tmp_path: Path) -> AsyncIterator[InPieces]:
    """The same where nothing is kept, so that bodies stand in `events`."""
    (tmp_path / "unkept").mkdir()
    async with await InPieces(tmp_path / "unkept", keeps=False).open() as world:
        yield world


def many(number: int = EVENTS, *, first: int = 0, entity: str | None = None) -> list[Event]:
    return [an_event(first + each, entity=entity) for each in range(number)]


# Acceptance


async def test_a_large_request_is_accepted_before_any_of_it_is_fanned_out(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    before = sum(world.meters.commit_jobs.counts)
    await world.queue.accept(PIM, many())
    assert sum(world.meters.commit_jobs.counts) == before + 1
    assert (await world.count("accepted"), await world.count("deliveries")) == (EVENTS, 0)
    assert (world.behind, world.meters.events_accepted, world.meters.events_to_fan_out) == (
        [PIM],
        EVENTS,
        EVENTS,
    )


async def test_no_piece_is_more_than_its_share(world: InPieces) -> None:
    subscriptions = await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many())
    sizes = await world.fan_out()
    assert max(sizes) <= WORK_OF_PIECE
    assert len(sizes) >= EVENTS * SUBSCRIPTIONS / WORK_OF_PIECE
    expected = {(f"event-{event}", each.id): 1 for event in range(EVENTS) for each in subscriptions}
    assert await world.deliveries() == expected
    assert (
        await world.count("accepted") == await world.count("snapshots") == await world.count("fan_outs") == 0
    )
    assert (world.meters.events_to_fan_out, world.meters.queued) == (0, EVENTS * SUBSCRIPTIONS)


async def test_when_all_is_settled_nothing_is_left(unkept: InPieces) -> None:
    await unkept.subscribe(SUBSCRIPTIONS)
    await unkept.queue.accept(PIM, many(30))
    await unkept.queue.fan_out_piece(PIM)
    await unkept.settle_all()
    assert await unkept.count("events") == 8, "they are kept for the recipients that follow"
    await unkept.fan_out()
    await unkept.settle_all()
    assert [await unkept.count(table) for table in ("deliveries", "events", "event_uses")] == [0, 0, 0]


async def test_large_bodies_make_smaller_pieces(unkept: InPieces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BYTES_OF_WINDOW", 50_000)
    await unkept.subscribe(2)
    large = [with_data(event, {"more": "x" * 20_000}) for event in many(20)]
    await unkept.queue.accept(PIM, large)
    await unkept.queue.fan_out_piece(PIM)
    assert await unkept.count("events") == 2


async def test_what_nobody_subscribes_to_does_not_wait(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, [an_event(number, event_type=CATEGORY) for number in range(1000)])
    assert (await world.count("accepted"), world.behind) == (0, [])


# Order, and who waits for whom


async def test_a_small_request_waits_behind_the_large_one_of_its_own_tenant(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many(entity="one"))
    await world.queue.accept(PIM, many(1, first=EVENTS, entity="one"))
    assert await world.count("deliveries") == 0
    await world.fan_out()
    for key in await world.queue.lanes():
        lane = await world.queue.waiting(key, 0, 1000, 10**9)
        assert [each.event_id for each in lane] == [f"event-{number}" for number in range(EVENTS + 1)]
    await world.queue.accept(PIM, many(1, first=EVENTS + 1))
    assert (await world.count("accepted"), await world.count("deliveries")) == (
        0,
        (EVENTS + 2) * SUBSCRIPTIONS,
    )


async def test_another_tenants_request_is_committed_between_the_pieces(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    (other,) = await world.subscribe(owner=Owner(OTHER, "erp"))
    fan_out = FanOut(world.queue, world.clock, on_fault=_fail)
    await world.queue.open(world.put.extend, lambda due_at: None, fan_out.behind, world.read_more.append)
    await fan_out.start()
    await world.queue.accept(PIM, many())
    await world.queue.accept(OTHER, [an_event(1)])
    assert world.meters.events_to_fan_out > EVENTS / 2
    assert (await world.deliveries())["event-1", other.id] == 1
    await eventually(lambda: world.meters.events_to_fan_out == 0)
    await fan_out.stop()


async def test_tenants_take_turns(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.subscribe(SUBSCRIPTIONS, owner=Owner(OTHER, "erp"))
    await world.queue.accept(PIM, many(50))
    await world.queue.accept(OTHER, many(50))
    turns: list[str] = []
    piece = world.queue.fan_out_piece

    async def noted(tenant: str) -> bool:
        turns.append(tenant)
        return await piece(tenant)

    world.queue.fan_out_piece = noted
    fan_out = FanOut(world.queue, world.clock, on_fault=_fail)
    await fan_out.start()
    await eventually(lambda: world.meters.events_to_fan_out == 0)
    await fan_out.stop()
    assert turns[:6] == [OTHER, PIM] * 3
    assert turns.count(PIM) == turns.count(OTHER)


async def test_the_fan_out_rests_longer_while_other_tenants_send(world: InPieces) -> None:
    assert rest_after(0.01, for_others=False) == pytest.approx(0.01)
    assert rest_after(0.01, for_others=True) == pytest.approx(0.09)
    assert rest_after(10.0, for_others=False) < rest_after(10.0, for_others=True) < 1.0
    await world.queue.accept(PIM, [an_event()])
    assert not world.queue.others_came(PIM)
    await world.queue.accept(OTHER, [an_event()])
    assert world.queue.others_came(PIM)
    await world.clock.advance(1)
    assert not world.queue.others_came(PIM)


@pytest.mark.parametrize("windows_kept", [2, 1, 0])
async def test_tenants_that_alternate_keep_their_windows_as_far_as_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows_kept: int
) -> None:
    events = {PIM: many(8), OTHER: many(8, first=100)}
    size = sum(
        pieces.COPIES_OF_DATA * len(each.data_json) + pieces.BYTES_OF_WAITING for each in events[OTHER]
    )
    monkeypatch.setattr(pieces, "BYTES_OF_WINDOWS", windows_kept * (size + 100))
    reads: list[str] = []
    of_tenant = accepted.of_tenant

    def counted(connection: sqlite3.Connection, tenant: str) -> Any:
        reads.append(tenant)
        return of_tenant(connection, tenant)

    monkeypatch.setattr(accepted, "of_tenant", counted)
    monkeypatch.setattr(broker_queue, "WORK_AT_ACCEPTANCE", 0)
    world = await InPieces(tmp_path).open()
    owners = {PIM: OWNER, OTHER: Owner(OTHER, "shop")}
    ids = {tenant: [each.id for each in await world.subscribe(10, owner)] for tenant, owner in owners.items()}
    for tenant, some in events.items():
        await world.queue.accept(tenant, some)
    turns = 0
    while await world.queue.fan_out_piece(PIM) | await world.queue.fan_out_piece(OTHER):
        turns += 1
    assert turns >= 3
    read = Counter(reads)
    assert set(read.values()) == {1} if windows_kept == 2 else min(read.values()) >= turns
    pairs = {(event.id, each) for tenant, some in events.items() for event in some for each in ids[tenant]}
    assert await world.deliveries() == Counter(pairs)
    await world.database.close()


async def test_a_fault_in_the_fan_out_of_one_tenant_holds_up_no_other(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.subscribe(SUBSCRIPTIONS, owner=Owner(OTHER, "erp"))
    await world.queue.accept(PIM, many(50))
    await world.queue.accept(OTHER, many(50))
    piece, failures = world.queue.fan_out_piece, 3

    async def failing(tenant: str) -> bool:
        nonlocal failures
        if tenant == PIM and failures:
            failures -= 1
            raise RuntimeError("a bug, for the test")
        return await piece(tenant)

    world.queue.fan_out_piece = failing
    fan_out = FanOut(world.queue, world.clock, on_fault=_fail)
    await fan_out.start()
    await eventually(lambda: world.meters.events_to_fan_out == 50)
    await world.clock.advance(8)
    await eventually(lambda: world.meters.events_to_fan_out == 0)
    assert world.meters.faults == 3
    await fan_out.stop()


@pytest.mark.parametrize("begun", [0, 1])
@pytest.mark.provokes("event.dead_lettered", "fan_out.failed")
async def test_an_event_on_which_our_code_keeps_failing_becomes_a_dead_letter_and_the_others_go_on(
    world: InPieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    """Also in the middle of a window, whose first subscriptions have their deliveries."""
    monkeypatch.setattr(fan_out_module, "FAULTS_AT_MOST", 3)
    ids = [each.id for each in await world.subscribe(SUBSCRIPTIONS)]
    await world.queue.accept(PIM, many(30))
    for _ in range(begun):
        await world.queue.fan_out_piece(PIM)
    bad, fan_out = "event-5", pieces.fan_out

    def fails(event: Event, *arguments: Any) -> Any:
        if event.id == bad:
            raise RuntimeError("a bug, for the test")
        return fan_out(event, *arguments)

    with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
        broken.setattr(pieces, "fan_out", fails)
        running = FanOut(world.queue, world.clock, on_fault=_fail)
        await running.start()
        while world.meters.events_to_fan_out > 0:
            await world.clock.advance(1)
        await running.stop()
    got = await world.deliveries()
    assert {(f"event-{number}", each) for number in range(30) for each in ids if number != 5} <= set(got)
    assert set(got.values()) == {1}
    assert world.meters.dead_events == 1
    (said,) = [each for each in logs if each["event"] == "event.dead_lettered"]
    assert (said["event_id"], said["tenant"], said["log_level"]) == (bad, PIM, "error")
    assert await world.count("snapshots") == await world.count("accepted") == 0
    with closing(opening.connect(tmp_path / opening.FILE)) as beside:
        (letter,) = dead_letters.listed(beside)
        assert (letter.event_id, letter.subscription_id) == (bad, "")
        assert "a bug, for the test" in letter.error
        assert dead_letters.replay_some(beside, [letter.id], world.clock.now()) == 1
    assert await world.queue.take_up_events(10) == 1
    assert world.behind[-1] == PIM
    await world.fan_out()
    assert {each for event, each in await world.deliveries() if event == bad} == set(ids)
    assert (world.meters.dead_events, await world.count("dead_events")) == (0, 0)
    await world.settle_all()
    assert await world.count("events") == await world.count("event_uses") == 0


async def test_a_dead_event_can_be_dropped(world: InPieces, tmp_path: Path) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many(30))
    await world.database.write(lambda connection: connection.execute("UPDATE accepted SET facts = 'no JSON'"))
    with structlog.testing.capture_logs():
        while await world.queue.fan_out_alone(PIM):
            pass
    assert world.meters.dead_events == await world.count("dead_events") == 30
    with closing(opening.connect(tmp_path / opening.FILE)) as beside:
        assert dead_letters.drop_some(beside, dead_letters.chosen(beside, []), world.clock.now()) == 30
    await world.clock.advance(2)
    await world.queue.look()
    assert world.meters.dead_events == await world.count("dead_events") == 0


async def test_a_stop_comes_between_two_pieces(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many())
    fan_out = FanOut(world.queue, world.clock, on_fault=_fail)
    await fan_out.start()
    await eventually(lambda: world.meters.queued)
    await fan_out.stop()
    left = world.meters.events_to_fan_out
    assert left > 0
    await world.fan_out()
    assert set((await world.deliveries()).values()) == {1}


def _fail(error: BaseException) -> None:
    raise error


# As of acceptance


async def test_subscriptions_count_as_they_were_at_acceptance(world: InPieces) -> None:
    kept, suspended, deleted, other_type, filtered, more_lanes = await world.subscribe(6)
    await world.queue.accept(PIM, many(60))
    now = world.clock.now()
    await world.change(suspended, partial(suspend, now=now))
    await world.change(deleted, partial(delete_subscription, now=now))
    await world.change(other_type, lambda each: replace(each, events=(CATEGORY,)))
    await world.change(filtered, lambda each: replace(each, filter='user = "nobody"'))
    await world.change(more_lanes, lambda each: replace(each, lanes=64))
    (added,) = await world.subscribe()
    await world.fan_out()
    found = await world.deliveries()
    receivers = (kept, suspended, deleted, other_type, filtered, more_lanes)
    assert found == {(f"event-{number}", each.id): 1 for number in range(60) for each in receivers}
    assert await world.rows("SELECT DISTINCT epoch, lanes FROM deliveries") == [(0, 16)]
    assert (await world.subscriptions.current(suspended.id) or suspended).epoch == 1
    await world.queue.accept(PIM, many(1, first=60))
    assert {receiver for event, receiver in await world.deliveries() if event == "event-60"} == {
        kept.id,
        more_lanes.id,
        added.id,
    }


async def test_a_deleted_subscription_is_kept_while_events_for_it_wait(world: InPieces) -> None:
    _, deleted = await world.subscribe(2)
    await world.queue.accept(PIM, many())
    await world.change(deleted, partial(delete_subscription, now=world.clock.now()))
    long_after = world.clock.now().timestamp() + 10**9
    await world.subscriptions.forget_deleted(before=long_after)
    await world.fan_out()
    assert (await world.deliveries())["event-7", deleted.id] == 1
    await world.settle_all()
    await world.forget_kept()
    await world.subscriptions.forget_deleted(before=long_after)
    assert await world.count("subscriptions") == 1


async def test_the_owner_of_a_delivery_is_that_of_its_subscription_though_a_row_has_the_number_of_another(
    world: InPieces,
) -> None:
    (gone,) = await world.subscribe()
    await world.queue.accept(PIM, many(1))
    await world.settle_all()
    await world.change(gone, partial(delete_subscription, now=world.clock.now()))
    await world.forget_kept()
    await world.subscriptions.forget_deleted(before=world.clock.now().timestamp() + 1)
    await world.subscribe(1, other := Owner(PIM, "other"))
    await world.queue.accept(PIM, many(1, first=1))
    assert await world.rows("SELECT no FROM subscriptions") == [(1,)]
    (key,) = await world.queue.lanes()
    (queued,) = await world.queue.waiting(key, 0, 1, 10**6)
    assert queued.owner == (other.tenant, other.client_id)


async def test_a_client_that_is_gone_gets_nothing_of_what_follows_in_its_request(
    world: InPieces,
) -> None:
    gone_type = a_removal("app", OWNER.client_id).type
    (gone,) = await world.subscribe(events=[UPDATED, gone_type])
    (other,) = await world.subscribe(owner=Owner(PIM, "shop"), events=[UPDATED, gone_type])
    await world.queue.accept(PIM, [*many(50), a_removal("app", OWNER.client_id), *many(50, first=50)])
    revoked = await world.subscriptions.current(gone.id)
    assert revoked is not None
    assert revoked.status is Status.REVOKED
    await world.fan_out()
    found = await world.deliveries()
    assert {event for event, receiver in found if receiver == gone.id} == {event.id for event in many(50)}
    assert len([event for event, receiver in found if receiver == other.id]) == 101
    assert await world.count("snapshots") == 0


@pytest.mark.parametrize("is_kept", [True, False])
async def test_both_variants_of_a_body_are_kept_apart_in_every_piece(
    world: InPieces, unkept: InPieces, is_kept: bool
) -> None:
    world = world if is_kept else unkept
    with_it = await world.subscribe(5, send_product_identifier=True)
    without = await world.subscribe(5)
    product = {"uuid": "00000000-0000-4000-8000-000000000001", "identifier": "SKU-1"}
    await world.queue.accept(PIM, [with_data(event, {"product": product}) for event in many(50)])
    await world.fan_out()
    waiting = [
        each for key in await world.queue.lanes() for each in await world.queue.waiting(key, 0, 99, 10**9)
    ]
    bodies = [(each.subscription_id, each.delivery().body) for each in waiting]
    assert {receiver for receiver, body in bodies if b"SKU-1" in body} == {each.id for each in with_it}
    assert {receiver for receiver, body in bodies if b"SKU-1" not in body} == {each.id for each in without}
    assert await world.count("events") == (0 if is_kept else 100)


# Filters


async def test_filters_are_compiled_in_pieces_and_kept(
    world: InPieces, monkeypatch: pytest.MonkeyPatch, compiles: Counter[str]
) -> None:
    monkeypatch.setattr(pieces, "WORK_OF_COMPILING", 22)
    subscriptions = [
        each
        for number in range(SUBSCRIPTIONS)
        for each in await world.subscribe(filter=f'not user = "{number}"', events=(UPDATED,))
    ]
    await world.queue.accept(PIM, many(1))
    assert (world.behind, compiles.total()) == ([PIM], 0)
    compiled: list[int] = []
    more = True
    while more:
        before = compiles.total()
        more = await world.queue.fan_out_piece(PIM)
        compiled.append(compiles.total() - before)
    assert compiled == [2] * 5
    await world.queue.accept(PIM, many(1, first=1))
    assert (await world.count("deliveries"), compiles.total()) == (2 * SUBSCRIPTIONS, SUBSCRIPTIONS)
    await world.change(subscriptions[0], lambda before: replace(before, filter='not user = "new"'))
    await world.queue.accept(PIM, many(1, first=2))
    assert (await world.count("deliveries"), compiles['not user = "new"']) == (3 * SUBSCRIPTIONS, 1)
    assert compiles.total() == SUBSCRIPTIONS + 1, "the others are kept"


async def test_filters_that_snapshots_share_are_compiled_once(
    world: InPieces, monkeypatch: pytest.MonkeyPatch, compiles: Counter[str]
) -> None:
    monkeypatch.setattr(pieces, "WORK_OF_COMPILING", 22)
    (changed,) = await world.subscribe(filter='not user = "old"')
    for number in range(SUBSCRIPTIONS - 1):
        await world.subscribe(filter=f'not user = "{number}"')
    for number in range(4):
        await world.queue.accept(PIM, many(1, first=number))
        await world.change(changed, partial(replace, filter=f'not user = "new {number}"'))
    await world.fan_out()
    assert await world.count("deliveries") == 4 * SUBSCRIPTIONS
    assert set(compiles.values()) == {1}


async def test_filters_for_other_types_of_events_cost_nothing(
    world: InPieces, monkeypatch: pytest.MonkeyPatch, compiles: Counter[str]
) -> None:
    monkeypatch.setattr(pieces, "WORK_OF_COMPILING", 22)
    await world.subscribe(filter=None)
    for number in range(SUBSCRIPTIONS):
        await world.subscribe(filter=f'not user = "{number}"', events=(CATEGORY,))
    await world.queue.accept(PIM, many(1))
    assert (world.behind, await world.count("deliveries"), compiles.total()) == ([], 1, 0)


async def test_few_of_many_snapshots_are_in_memory(world: InPieces) -> None:
    """A client may change a subscription after each event, while its PIM is behind."""

    def lists_in_memory() -> int:
        return sum(isinstance(each, Recipients) for each in gc.get_objects())

    first, *_ = await world.subscribe(SUBSCRIPTIONS)
    before = lists_in_memory()
    await world.queue.accept(PIM, many(20))
    for number in range(12):
        await world.change(first, replace)
        await world.queue.accept(PIM, many(1, first=20 + number))
    assert await world.count("snapshots") == 13
    assert lists_in_memory() - before <= 2
    for _ in range(20):
        await world.queue.fan_out_piece(PIM)
    assert lists_in_memory() - before <= 3
    await world.fan_out()
    assert sum((await world.deliveries()).values()) == 32 * SUBSCRIPTIONS
    assert await world.count("snapshots") == 0


@pytest.mark.parametrize("bound", ["number", "bytes"])
@pytest.mark.provokes("changes.refused_behind")
async def test_who_changes_a_subscription_after_each_event_has_to_wait_when_many_snapshots_do(
    world: InPieces, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    first, *_ = await world.subscribe(SUBSCRIPTIONS)
    (other,) = await world.subscribe(1, Owner(PIM, "another"))
    await world.queue.accept(PIM, many(20))
    ((size,),) = await world.rows("SELECT bytes FROM snapshots")
    if bound == "number":
        monkeypatch.setattr(recipients, "SNAPSHOTS_OF_OWNER", 3)
    else:
        monkeypatch.setattr(recipients, "BYTES_OF_OWNER", 3 * size)
    by_user = Action(Actor.USER)
    for number in range(3):
        await world.change(first, replace, by_user)
        await world.queue.accept(PIM, many(1, first=20 + number))
    with structlog.testing.capture_logs() as logs, pytest.raises(TooManyRequests) as refused:
        await world.change(first, replace, by_user)
    assert refused.value.retry_after == recipients.RETRY_SECONDS
    assert [each["client_id"] for each in logs if each["event"] == "changes.refused_behind"] == ["erp"]
    assert await world.count("snapshots") == 4
    await world.change(other, replace, by_user)
    await world.change(first, partial(suspend, now=world.clock.now()))  # by the platform
    await world.fan_out()
    await world.change(first, replace, by_user)
    assert await world.count("snapshots") == 0


# After an end of the process


async def test_a_new_start_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    first = await InPieces(tmp_path).open()
    subscriptions = await first.subscribe(SUBSCRIPTIONS)
    await first.queue.accept(PIM, many(60))
    for _ in range(5):
        await first.queue.fan_out_piece(PIM)
    await first.settle_all()
    settled = first.meters.delivered
    await first.change(subscriptions[0], partial(suspend, now=first.clock.now()))
    await first.database.close()
    second = await InPieces(tmp_path).open()
    assert await second.queue.tenants_behind() == [PIM]
    assert second.meters.events_to_fan_out == await second.count("accepted") > 0
    await second.queue.accept(PIM, many(1, first=60))
    assert await second.count("deliveries") == 0, "it waits for its turn"
    await second.fan_out()
    found = await second.deliveries()
    assert set(found.values()) == {1}
    assert len(found) + settled == 60 * SUBSCRIPTIONS + SUBSCRIPTIONS - 1
    await second.settle_all()
    assert [await second.count(table) for table in ("deliveries", "events", "event_uses")] == [0, 0, 0]
    await second.database.close()


async def test_a_failed_piece_leaves_everything_as_it_was(
    world: InPieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many(30))
    await world.queue.fan_out_piece(PIM)
    before = await world.deliveries()

    def fails(*arguments: object) -> None:
        raise RuntimeError("a bug, for the test")

    with monkeypatch.context() as broken:
        broken.setattr(pieces, "insert_deliveries", fails)
        with pytest.raises(RuntimeError):
            await world.queue.fan_out_piece(PIM)
    assert await world.deliveries() == before
    await world.fan_out()
    assert set((await world.deliveries()).values()) == {1}
    assert sum((await world.deliveries()).values()) == 30 * SUBSCRIPTIONS


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from aep.broker import pieces, queue
from local.broker.test_pieces import PIM, InPieces, many
queue.WORK_AT_ACCEPTANCE, pieces.WORK_OF_PIECE, pieces.EVENTS_OF_WINDOW = 200, {work}, 8

async def main():
    world = await InPieces(Path({folder!r}), keeps={keeps}).open()
    if not await world.queue.tenants_behind():
        await world.subscribe({subscriptions})
        await world.queue.accept(PIM, many())
    while await world.queue.fan_out_piece(PIM):
        print("piece", flush=True)
    print("done", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("keeps", [True, pytest.param(False, marks=pytest.mark.full)])
def test_a_kill_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path, keeps: bool) -> None:
    """A real process is killed again and again while it fans out one request."""
    program = KILLED.format(
        tests=str(Path(__file__).parents[2]),
        folder=str(tmp_path),
        keeps=keeps,
        work=WORK_OF_PIECE,
        subscriptions=SUBSCRIPTIONS,
    )
    kills = 0
    for pieces_seen in (1, 4, 2, 7, 1000):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(pieces_seen):
                if child.stdout.readline() != "piece\n":
                    break
            else:
                kills += 1
            child.kill()
    assert kills == 4
    with closing(sqlite3.connect(tmp_path / opening.FILE)) as file:
        pairs = file.execute(
            "SELECT event_no, subscription_no, count(*) FROM deliveries GROUP BY 1, 2"
        ).fetchall()
        left = file.execute("SELECT count(*) FROM accepted").fetchone()
        uses = file.execute(
            "SELECT count(*) FROM event_uses WHERE remaining = ?", (SUBSCRIPTIONS,)
        ).fetchone()
        courses = file.execute("SELECT count(*) FROM courses WHERE outcome IS NULL").fetchone()
    assert len(pairs) == EVENTS * SUBSCRIPTIONS
    assert {times for _, _, times in pairs} == {1}
    assert left == (0,)
    assert (uses, courses) == (((0,), (EVENTS * SUBSCRIPTIONS,)) if keeps else ((EVENTS,), (0,)))


# What the operator sees


async def test_the_oldest_event_may_be_one_that_waits_for_its_fan_out(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many())
    await world.clock.advance(30)
    assert await world.queue.look() == 30
    await world.subscribe(owner=Owner(OTHER, "erp"))
    await world.queue.accept(OTHER, [an_event(1)])
    await world.fan_out()
    await world.clock.advance(30)
    assert await world.queue.look() == 60, "its number is older than that of the event accepted later"


async def test_commands_tell_of_what_waits_for_its_fan_out(world: InPieces, tmp_path: Path) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many())
    ended = run("status", "--data", str(tmp_path))
    assert "100 accepted events wait" in ended.out
    with opening.beside_the_server(tmp_path) as beside:
        _, waiting = moving.take_out(beside, SEAL)
    assert (waiting.accepted, waiting.total) == (EVENTS, EVENTS)
    assert last_time(tmp_path) == world.clock.now()
    await world.fan_out()
    assert "accepted events wait" not in run("status", "--data", str(tmp_path)).out


async def test_a_piece_names_its_lanes_once_and_hands_on_no_deliveries(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    await world.queue.accept(PIM, many())
    world.put.clear()
    sizes = await world.fan_out()
    assert not world.put
    assert len(world.read_more) == len(sizes)
    assert all(len(keys) == len(set(keys)) for keys in world.read_more)
    assert {key for keys in world.read_more for key in keys} == set(await world.queue.lanes())


async def test_a_call_that_is_given_up_is_fanned_out_all_the_same(world: InPieces) -> None:
    await world.subscribe(SUBSCRIPTIONS)
    accepting = asyncio.create_task(world.queue.accept(PIM, many()))
    await asyncio.sleep(0)
    accepting.cancel()
    await eventually(lambda: world.behind)
    await world.fan_out()
    assert sum((await world.deliveries()).values()) == EVENTS * SUBSCRIPTIONS
