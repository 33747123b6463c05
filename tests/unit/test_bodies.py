"""How many bytes of request bodies are held, and whose."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import structlog

from event_platform.bodies import PROVED_BYTES, RESERVE_BYTES, UNPROVED_BYTES, Bodies, Share
from event_platform.domain.errors import Overloaded
from support.clock import ManualClock

MIB = 1024 * 1024


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


class Held:
    def __init__(self, stack: ExitStack) -> None:
        self.clock = ManualClock()
        self.bodies = Bodies(self.clock.monotonic)
        self.stack = stack

    async def unproved(self, size: int, key: str = "pim", *, known: bool = True) -> Share:
        share = self.stack.enter_context(self.bodies.unproved(key, yes if known else no))
        await share.grow(size)
        return share

    async def proved(self, size: int, pim: str = "pim") -> Share:
        share = self.stack.enter_context(self.bodies.of(pim))
        await share.grow(size)
        return share


@pytest.fixture
def world() -> Iterator[Held]:
    with ExitStack() as stack:
        yield Held(stack)


async def test_strangers_share_one_budget_and_give_it_back(world: Held) -> None:
    with world.bodies.unproved("no pim", no) as share:
        await share.grow(UNPROVED_BYTES - 10)
        with pytest.raises(Overloaded) as refused, world.bodies.unproved("no pim", no) as late:
            await late.grow(11)
        assert refused.value.retry_after == 5
        await share.grow(10)
    assert world.bodies.size == 0
    await world.unproved(UNPROVED_BYTES, known=False)


async def test_a_pim_has_a_reserve_when_strangers_use_up_the_budget(world: Held) -> None:
    await world.unproved(UNPROVED_BYTES, "no pim", known=False)
    own = await world.unproved(RESERVE_BYTES // 2)
    await own.grow(RESERVE_BYTES // 2)
    await world.unproved(RESERVE_BYTES, "another pim")
    with pytest.raises(Overloaded):
        await own.grow(1)
    assert world.bodies.size == UNPROVED_BYTES + 2 * RESERVE_BYTES


async def test_a_body_that_no_longer_fits_takes_what_it_has_into_the_reserve(world: Held) -> None:
    own = await world.unproved(10 * MIB)
    await world.unproved(UNPROVED_BYTES - 10 * MIB, "no pim", known=False)
    await own.grow(10 * MIB)
    await world.unproved(10 * MIB, "no pim", known=False)
    with pytest.raises(Overloaded):
        await own.grow(1)


async def test_a_slow_body_in_a_reserve_gives_way_to_a_newer_one(world: Held) -> None:
    await world.unproved(UNPROVED_BYTES, "no pim", known=False)
    slow = await world.unproved(RESERVE_BYTES - MIB)
    with pytest.raises(Overloaded):
        await world.unproved(2 * MIB)
    await world.clock.jump(1.1)
    newer = await world.unproved(2 * MIB)
    with pytest.raises(Overloaded):
        await slow.grow(1)
    await newer.grow(RESERVE_BYTES - 2 * MIB)
    assert world.bodies.size == UNPROVED_BYTES + RESERVE_BYTES


async def test_a_proved_pim_has_a_share_of_its_own(world: Held) -> None:
    await world.unproved(UNPROVED_BYTES, "no pim", known=False)
    await world.proved(PROVED_BYTES)
    with pytest.raises(Overloaded):
        await world.proved(1)
    await world.proved(PROVED_BYTES, "another pim")


async def test_who_is_proved_leaves_the_budget_of_strangers(world: Held) -> None:
    share = await world.unproved(UNPROVED_BYTES)
    share.prove("pim")
    await world.unproved(UNPROVED_BYTES, "no pim", known=False)
    assert world.bodies.size == 2 * UNPROVED_BYTES
    other = await world.unproved(RESERVE_BYTES)
    with pytest.raises(Overloaded):
        other.prove("pim")
    assert world.bodies.size == 2 * UNPROVED_BYTES


async def test_what_is_sent_wrongly_from_the_address_of_a_pim_takes_no_room_of_what_it_signed(
    world: Held,
) -> None:
    await world.unproved(UNPROVED_BYTES, "no pim", known=False)
    wrong = world.stack.enter_context(world.bodies.unproved("pim", yes, is_known=True))
    await wrong.grow(PROVED_BYTES)
    right = world.stack.enter_context(world.bodies.unproved("pim", yes, is_known=True))
    await right.grow(RESERVE_BYTES)
    right.prove("pim")
    assert world.bodies.size == UNPROVED_BYTES + PROVED_BYTES + RESERVE_BYTES


@pytest.mark.provokes("bodies.refused")
async def test_refusals_are_logged_once_a_minute(world: Held) -> None:
    await world.proved(PROVED_BYTES)
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            with pytest.raises(Overloaded):
                await world.proved(1)
            await world.clock.jump(2)
    assert [line["event"] for line in lines] == ["bodies.refused", "bodies.refused"]
    assert lines[1]["refused"] == 30


def test_nothing_is_kept_of_bodies_that_are_gone(world: Held) -> None:
    for number in range(100):
        with world.bodies.of(f"pim {number}"), world.bodies.unproved(f"pim {number}", yes):
            pass
    assert (world.bodies._used, world.bodies._in_reserves) == ({}, {})
