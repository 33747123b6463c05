"""What every retry schedule must do: the port `RetrySchedule`.

A subclass gives the fixture `world`, with an empty schedule at the start of each test.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import pytest

from event_platform.domain.deliveries import Delivery
from event_platform.domain.messages.message import MalformedMessage
from event_platform.ports import RetrySchedule
from support.clock import START, ManualClock
from support.records import UPDATED

SECOND = timedelta(seconds=1)


class ScheduleSide(Protocol):
    """The parts that the suite works with."""

    clock: ManualClock

    def schedule(self) -> RetrySchedule:
        """The schedule as another instance of the function sees it."""
        ...


def a_delivery(number: int = 1, *, attempts: int = 1, body: bytes = b"{}") -> Delivery:
    """One that has failed."""
    return Delivery(
        subscription_id="0198c0de-0000-7000-8000-000000000001",
        event_id=f"event-{number}",
        event_type=UPDATED,
        accepted_at=START - 5 * SECOND,
        lane=3,
        lanes=16,
        epoch=2,
        body=body,
        attempts=attempts,
        failures=attempts,
        first_attempt_at=START - 2 * SECOND,
    )


async def due_everywhere(schedule: RetrySchedule, limit: int = 100) -> Sequence[Delivery]:
    """The deliveries that are due, shard by shard."""
    found = [await schedule.due(shard, limit) for shard in range(schedule.shards)]
    return [due.delivery for part in found for due in part if due.delivery is not None]


class RetryScheduleContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> ScheduleSide:
        raise AssertionError("a subclass gives the world")

    async def test_a_delivery_comes_back_as_it_was_scheduled(self, world: ScheduleSide) -> None:
        delivery = a_delivery(body=b'{"\xc3\xa9": 1}\x00')
        await world.schedule().schedule(delivery, START)
        assert await due_everywhere(world.schedule()) == [delivery]

    async def test_one_without_a_first_attempt_comes_back_too(self, world: ScheduleSide) -> None:
        delivery = replace(a_delivery(attempts=0), first_attempt_at=None)
        await world.schedule().schedule(delivery, START)
        assert await due_everywhere(world.schedule()) == [delivery]

    async def test_a_replayed_delivery_waits_beside_the_first_one_of_its_event(
        self, world: ScheduleSide
    ) -> None:
        first = a_delivery()
        replayed = replace(first, replay_id="replay-1", entered_at=START - SECOND)
        for delivery in (first, replayed):
            await world.schedule().schedule(delivery, START)
        found = await due_everywhere(world.schedule())
        assert sorted(found, key=lambda each: each.replay_id or "") == [first, replayed]

    async def test_a_body_of_the_greatest_event_is_taken(self, world: ScheduleSide) -> None:
        delivery = a_delivery(body=b"x" * 940_000)
        await world.schedule().schedule(delivery, START)
        assert await due_everywhere(world.schedule()) == [delivery]

    async def test_only_what_is_due_is_handed_out(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        await schedule.schedule(a_delivery(1), START + 5 * SECOND)
        await schedule.schedule(a_delivery(2), START + 6 * SECOND)
        assert await due_everywhere(schedule) == []
        await world.clock.advance(5)
        assert await due_everywhere(schedule) == [a_delivery(1)]
        await world.clock.advance(1)
        assert len(await due_everywhere(schedule)) == 2

    async def test_the_longest_due_comes_first_and_no_more_than_the_limit(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        times = [START + timedelta(microseconds=37 * (number % 7)) for number in range(40)]
        for number, due_at in enumerate(times):
            await schedule.schedule(a_delivery(number), due_at)
        await world.clock.advance(1)
        by_id = {f"event-{number}": due_at for number, due_at in enumerate(times)}
        seen = 0
        for shard in range(schedule.shards):
            due = await schedule.due(shard, 100)
            found = [by_id[each.delivery.event_id] for each in due if each.delivery is not None]
            assert found == sorted(found)
            assert len(await schedule.due(shard, 2)) == min(2, len(found))
            seen += len(found)
        assert seen == 40

    async def test_pages_follow_each_other_whatever_stays_on_the_schedule(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        for number in range(20):
            await schedule.schedule(a_delivery(number), START)  # all due at the same moment
        paged: list[str] = []
        for shard in range(schedule.shards):
            after = ""
            while page := await schedule.due(shard, 3, after):
                paged += [due.entry for due in page]
                after = page[-1].place
        assert len(paged) == len(set(paged)) == 20

    async def test_what_the_store_can_never_take_is_malformed(self, world: ScheduleSide) -> None:
        with pytest.raises(MalformedMessage, match="the body has 1100000 bytes"):
            await world.schedule().schedule(a_delivery(body=b"x" * 1_100_000), START)

    async def test_the_same_attempt_is_one_entry(self, world: ScheduleSide) -> None:
        await world.schedule().schedule(a_delivery(), START)
        await world.schedule().schedule(a_delivery(), START + SECOND)
        await world.clock.advance(1)
        assert len(await due_everywhere(world.schedule())) == 1

    async def test_another_attempt_event_or_subscription_is_another_entry(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        first = a_delivery()
        others = [a_delivery(attempts=2), a_delivery(2), replace(first, subscription_id="another")]
        for delivery in (first, *others):
            await schedule.schedule(delivery, START)
        assert len(await due_everywhere(schedule)) == 4

    async def test_what_was_removed_is_gone_and_may_be_removed_again(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        for number in range(3):
            await schedule.schedule(a_delivery(number), START)
        entries = [due.entry for shard in range(schedule.shards) for due in await schedule.due(shard, 100)]
        await schedule.remove(entries[:2])
        assert len(await due_everywhere(schedule)) == 1
        await schedule.remove(entries)
        assert await due_everywhere(schedule) == []
        await schedule.remove([])

    # Leases

    async def test_a_lease_is_one_instances(self, world: ScheduleSide) -> None:
        instances = [world.schedule() for _ in range(8)]
        for shard in range(2):
            got = await asyncio.gather(*(instance.lease(shard, 60) for instance in instances))
            assert sorted(got) == [False] * 7 + [True]

    async def test_an_instance_has_no_second_lease_of_its_own(self, world: ScheduleSide) -> None:
        schedule = world.schedule()
        assert await schedule.lease(0, 60)
        assert not await schedule.lease(0, 60)
        assert await schedule.lease(1, 60)

    async def test_a_lease_that_expired_is_taken_by_one(self, world: ScheduleSide) -> None:
        assert await world.schedule().lease(0, 60)
        await world.clock.advance(59)
        assert not await world.schedule().lease(0, 60)
        await world.clock.advance(1)
        instances = [world.schedule() for _ in range(8)]
        got = await asyncio.gather(*(instance.lease(0, 60) for instance in instances))
        assert sorted(got) == [False] * 7 + [True]

    async def test_a_lease_of_an_instance_whose_clock_was_ahead_is_taken(self, world: ScheduleSide) -> None:
        world.clock.stepped = timedelta(days=10)
        assert await world.schedule().lease(0, 60)
        world.clock.stepped = timedelta()
        assert await world.schedule().lease(0, 60)
        assert not await world.schedule().lease(0, 60)

    async def test_a_lease_that_was_given_back_can_be_taken_at_once(self, world: ScheduleSide) -> None:
        first, second = world.schedule(), world.schedule()
        assert await first.lease(0, 60)
        await first.release(0)
        assert await second.lease(0, 60)

    async def test_whoever_lost_its_lease_gives_back_nobody_elses(self, world: ScheduleSide) -> None:
        slow, other, third = world.schedule(), world.schedule(), world.schedule()
        assert await slow.lease(0, 60)
        await world.clock.advance(61)
        assert await other.lease(0, 60)
        await slow.release(0)
        assert not await third.lease(0, 60)

    async def test_without_a_lease_there_is_nothing_to_give_back(self, world: ScheduleSide) -> None:
        assert await world.schedule().lease(0, 60)
        await world.schedule().release(0)
        assert not await world.schedule().lease(0, 60)
