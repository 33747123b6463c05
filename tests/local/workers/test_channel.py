"""Calls between two processes: the channel, and what the owner and a worker make of it."""

import asyncio
import pickle
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from aep.broker.queued import LaneKey, Receipt, Taken
from aep.workers import channel as channels
from aep.workers.channel import Channel
from aep.workers.remote import RemoteStore
from aep.workers.sides import WorkerSide
from contract.suites.broker import Consumer, a_removal
from contract.test_embedded import BrokerWithWorkers
from event_platform.domain.attempts.outcomes import Kind, Outcome
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import NotFound, StoreUnavailable
from event_platform.domain.subscriptions import Status, suspend
from support.clock import START
from support.eventually import eventually
from support.records import OWNER, PIM, UPDATED, an_event


class Unsendable:
    """What cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError("it stays here")


class Strange:
    """Methods that the other end does not have, or that take something else there."""

    def unknown(self) -> None: ...

    def log(self, what: object) -> None: ...


class Other:
    """What one end serves."""

    def __init__(self) -> None:
        self.got: list[object] = []
        self.ended = 0
        self.had_room = 0

    def take(self, what: object) -> None:
        self.got.append(what)

    async def twice(self, what: int) -> int:
        if what == 0:
            raise NotFound("there is nothing")
        if what < 0:
            raise ZeroDivisionError("of ours")
        return 2 * what

    async def unsendable(self, as_error: bool) -> object:
        if as_error:
            raise ValueError("of ours", Unsendable())
        return Unsendable()

    async def never(self) -> None:
        await asyncio.Event().wait()

    def end(self) -> None:
        self.ended += 1


class Pair:
    """Two ends in one process: `near` calls what `other` has."""

    def __init__(self) -> None:
        self.other, self.mine = Other(), Other()
        self.faults: list[BaseException] = []
        self.near = Channel(
            self.mine, on_end=self.mine.end, on_fault=self.faults.append, on_room=self._has_room
        )
        self.far = Channel(self.other, on_end=self.other.end, on_fault=self.faults.append)

    def _has_room(self) -> None:
        self.mine.had_room += 1


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    near, far = socket.socketpair()
    await pair.near.open(near)
    await pair.far.open(far)
    yield pair
    pair.near.close()
    pair.far.close()
    await eventually(lambda: pair.mine.ended and pair.other.ended)
    assert pair.faults == []


async def test_calls_are_answered_and_what_is_told_keeps_its_order(pair: Pair) -> None:
    pair.near.send(Other.take, "first")
    answer = pair.near.call(Other.twice, 2)
    pair.near.send(Other.take, b"x" * 3_000_000)
    assert await answer == 4
    await pair.near.call(Other.take, "last")
    assert pair.other.got[0] == "first"
    assert pair.other.got[-2:] == [b"x" * 3_000_000, "last"]


async def test_what_can_wait_travels_with_the_next_message_or_after_a_moment(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[list[object]] = []

    def noted(messages: list[object]) -> bytes:
        frames.append(messages)
        return pickle.dumps(messages)

    monkeypatch.setattr(channels, "_pickled", noted)
    monkeypatch.setattr(channels, "WAITS_SECONDS", 3600)
    pair.near.send_with_next(Other.take, 1)
    await asyncio.sleep(0.01)
    assert frames == []
    pair.near.send(Other.take, 2)
    await eventually(lambda: pair.other.got == [1, 2])
    monkeypatch.setattr(channels, "WAITS_SECONDS", 0.001)
    pair.near.send_with_next(Other.take, 3)
    await eventually(lambda: pair.other.got == [1, 2, 3])
    assert [len(messages) for messages in frames] == [2, 1]


async def test_both_ends_call(pair: Pair) -> None:
    assert await asyncio.gather(pair.near.call(Other.twice, 1), pair.far.call(Other.twice, 2)) == [2, 4]


async def test_an_error_is_raised_where_the_call_was_made(pair: Pair) -> None:
    with pytest.raises(NotFound, match="there is nothing"):
        await pair.near.call(Other.twice, 0)
    with pytest.raises(ZeroDivisionError) as raised:
        await pair.near.call(Other.twice, -1)
    assert "in twice" in raised.value.__notes__[0]  # where it happened


async def test_a_call_that_cannot_be_sent_raises_where_it_is_made_and_the_others_go_on(pair: Pair) -> None:
    others = [pair.near.call(Other.twice, 1)]
    refused = pair.near.call(Other.take, Unsendable())
    pair.near.send(Other.take, "next")
    others.append(pair.near.call(Other.twice, 2))
    with pytest.raises(TypeError, match="it stays here") as raised:
        await refused
    assert "take" in raised.value.__notes__[0]
    assert await asyncio.gather(*others) == [2, 4]
    assert pair.other.got == ["next"]


@pytest.mark.parametrize("as_error", [False, True])
async def test_an_answer_that_cannot_be_sent_is_an_error_where_it_was_asked_for(
    pair: Pair, as_error: bool
) -> None:
    asked, other = pair.near.call(Other.unsendable, as_error), pair.near.call(Other.twice, 1)
    with pytest.raises(pickle.PicklingError, match="it stays here") as raised:
        await asked
    assert bool(getattr(raised.value, "__notes__", ())) == as_error  # where the error happened
    assert await other == 2


async def test_what_is_told_and_cannot_be_sent_is_a_fault_and_the_rest_goes_on(pair: Pair) -> None:
    pair.near.send(Other.take, "first")
    pair.near.send(Other.take, Unsendable())
    pair.near.send(Other.take, "last")
    await eventually(lambda: pair.other.got == ["first", "last"])
    fault = pair.faults.pop()
    assert isinstance(fault, TypeError)
    assert "take" in fault.__notes__[0]


async def test_who_waits_when_the_other_end_goes_waits_no_longer(pair: Pair) -> None:
    waiting = pair.near.call(Other.never)
    await pair.near.call(Other.twice, 1)
    pair.far.close()
    await eventually(waiting.cancelled)
    assert pair.near.call(Other.twice, 1).cancelled()
    assert pair.mine.ended == 1


async def test_a_fault_at_one_end_ends_both(pair: Pair) -> None:
    waiting = pair.near.call(Other.never)
    pair.near.send(Strange.unknown)
    await eventually(lambda: pair.mine.ended and pair.other.ended)
    assert waiting.cancelled()


async def test_there_is_no_room_until_the_other_end_has_taken_what_was_sent(pair: Pair) -> None:
    pair.near.send_large(5_000_000, Other.take, b"x" * 5_000_000)
    assert pair.near.room <= 0
    await eventually(lambda: pair.mine.had_room and pair.other.got)
    assert pair.near.room == channels.FULL_BYTES


async def test_what_one_turn_of_the_loop_sends_travels_in_frames_of_some_size(pair: Pair) -> None:
    frames: list[int] = []
    for _ in range(6):
        pair.near.send_large(channels.FRAME_BYTES // 2, Other.take, b"x" * (channels.FRAME_BYTES // 2))
        frames.append(pair.near._gathered_bytes)
    assert max(frames) < channels.FRAME_BYTES
    await eventually(lambda: len(pair.other.got) == 6)


# The owner and two workers


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[BrokerWithWorkers]:
    async with BrokerWithWorkers(tmp_path) as world:
        yield world


class Owner:
    """Notes what a worker says was taken."""

    def __init__(self) -> None:
        self.rows: dict[int, list[Taken]] = {}

    def delivered(self, number: int, rows: list[Taken]) -> None:
        self.rows[number] = rows


async def test_deliveries_that_were_taken_within_a_moment_are_settled_together() -> None:
    def taken(position: int) -> Settlement:
        receipt = Receipt(LaneKey(1, 2), position, position)
        delivery = Delivery("s", "e", UPDATED, START, 2, 16, 0, b"{}", receipt=receipt)
        return Settlement(delivery, Outcome(Kind.DELIVERED, None, 200), milliseconds=3)

    ends, owner, faults = socket.socketpair(), Owner(), list[BaseException]()
    store = RemoteStore(on_end=lambda: None, on_fault=faults.append)
    channel = Channel(owner, on_end=lambda: None, on_fault=faults.append)
    await store.channel.open(ends[0])
    await channel.open(ends[1])
    first = store.settle_soon(taken(1))
    second, third = store.settle_soon(taken(2)), asyncio.create_task(store.settle(taken(3)))
    await eventually(lambda: len(owner.rows) == 2)
    assert [[row[2] for row in rows] for rows in owner.rows.values()] == [[1], [2, 3]]
    channel.send(WorkerSide.settled, 0)
    await first
    assert not second.done()
    channel.send(WorkerSide.not_settled, 1, StoreUnavailable("for the test"))
    with pytest.raises(StoreUnavailable):
        await third
    assert isinstance(second.exception(), StoreUnavailable)
    store.channel.close()
    channel.close()
    assert not faults


async def test_a_change_is_known_to_the_workers_when_its_call_is_answered(world: BrokerWithWorkers) -> None:
    (subscription,) = await world.subscribe()
    await world.start(Consumer())
    for store in world.stores:
        assert (await store.current(subscription.id)) == subscription
    change = partial(suspend, now=world.clock.now())
    await world.subscriptions.change_subscription(OWNER, subscription.subscriber_id, subscription.id, change)
    for store in world.stores:
        known = await store.current(subscription.id)
        assert known is not None
        assert (known.status, known.epoch) == (Status.SUSPENDED, 1)


async def test_a_client_that_is_gone_is_known_to_the_workers_when_its_event_is_taken(
    world: BrokerWithWorkers,
) -> None:
    (subscription,) = await world.subscribe()
    await world.start(Consumer())
    for store in world.stores:
        assert (await store.current(subscription.id)) == subscription
    await world.intake.accept(PIM, [a_removal("app", OWNER.client_id)])
    for store in world.stores:
        known = await store.current(subscription.id)
        assert known is not None
        assert (known.status, known.epoch) == (Status.REVOKED, 1)


async def test_what_a_worker_cannot_take_now_it_reads_later(
    world: BrokerWithWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "FULL_BYTES", 2000)  # a few deliveries
    await world.subscribe(2)
    consumer = Consumer()
    await world.start(consumer)
    for start in range(0, 100, 25):
        await world.intake.accept(PIM, [an_event(start + each, entity="one") for each in range(25)])
    await eventually(lambda: len(consumer.got) == 200)
    for number in {delivery.subscription_id for delivery in consumer.got}:
        got = [each.event_id for each in consumer.got if each.subscription_id == number]
        assert got == [f"event-{each}" for each in range(100)]


async def test_a_worker_sees_the_store_away_as_it_is(
    world: BrokerWithWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start(Consumer())

    async def away(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(world.database, "read", away)
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        await world.stores[0].current("unknown")


async def test_what_cannot_be_sent_is_a_fault_of_the_owner_or_the_worker(world: BrokerWithWorkers) -> None:
    await world.start(Consumer())
    world.stores[0].channel.send(Strange.log, Unsendable())
    await eventually(lambda: len(world.faults) == 1)
    world.workers.changed([Unsendable()])  # pyright: ignore[reportArgumentType] - on purpose
    await eventually(lambda: len(world.faults) == 3)  # of both that are told
    await world.workers.in_force()
    assert {str(world.faults.pop()) for _ in range(3)} == {"it stays here"}
