"""The worker that tells what the outbox holds: what it does with faults of our own code."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from aep.broker import notifier
from aep.broker.notifier import AT_ONCE_OF_OWNER, Notifier
from aep.runtime.meters import Meters
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.record.notifications import Allowance, Mail, Pending, notifications_of
from event_platform.domain.subscriptions import Owner, Status, Subscriber
from event_platform.notify import NotifyServices
from support.clock import ManualClock
from support.memory_outbox import MemoryOutbox
from support.records import OWNER, a_subscriber, a_subscription

FAULTS = 5
OTHER_PIM = "https://other.example.com"


def set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Post:
    """The port `Mailer`. Fails by a fault of ours on the mails named; notes when it was asked for which."""

    clock: ManualClock
    faulty: set[str] = field(default_factory=set[str])
    answers: asyncio.Event = field(default_factory=lambda: set_event())
    asked: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    async def send(self, mail: Mail) -> None:
        self.asked.append((mail.id, self.clock.monotonic()))
        await self.answers.wait()
        if mail.id in self.faulty:
            raise RuntimeError("a fault of ours")

    def times(self, notification: Pending) -> list[float]:
        return [at for name, at in self.asked if name == notification.notification.id]


@dataclass
class Known:
    subscriber_of_all: Subscriber

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        return self.subscriber_of_all


class Changes:
    """Two notifications of one subscriber, on the first of which our own code fails."""

    def __init__(self) -> None:
        subscriber = a_subscriber(channels=("email",))
        changes = [
            (before, replace(before, status=Status.SUSPENDED))
            for before in (a_subscription(subscriber), a_subscription(subscriber))
        ]
        self.bad, self.good = map(Pending, notifications_of(changes, Action(Actor.USER)))
        self.clock = ManualClock()
        self.outbox = MemoryOutbox(self.clock)
        self.outbox.put(self.bad, self.good)
        self.post = Post(self.clock, {self.bad.notification.id})
        self._known = Known(subscriber)

    def notifier(self) -> Notifier:
        services = NotifyServices(
            subscribers=self._known,
            outbox=self.outbox,
            sender=sender_of_none(),
            clock=self.clock,
            mailer=self.post,
        )

        def fault(error: BaseException) -> None:
            raise error

        return Notifier(self.outbox, services, Meters(), self.clock, on_fault=fault)


def sender_of_none() -> Any:
    return None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Changes:
    monkeypatch.setattr(notifier, "FAULTS_AT_MOST", FAULTS)
    monkeypatch.setattr(notifier, "LOOK_AFTER", 0.5)
    return Changes()


async def stop(running: Notifier, clock: ManualClock) -> None:
    stopping = asyncio.create_task(running.stop())
    await clock.advance(0)
    await stopping


async def test_a_fault_of_ours_is_tried_again_ever_later_and_holds_up_no_other(world: Changes) -> None:
    running = world.notifier()
    await running.start()
    await world.clock.advance(8)
    await stop(running, world.clock)
    assert world.post.times(world.bad) == [0, 1, 3, 7]
    assert world.post.times(world.good) == [0]
    assert world.outbox.pending == [world.bad]


async def test_no_owner_and_no_pim_takes_all_places(world: Changes) -> None:
    """A webhook or a mail server that does not answer holds its place for up to half a minute."""
    world.post.answers = asyncio.Event()
    world.outbox = MemoryOutbox(world.clock)
    slow = [Owner(OTHER_PIM, f"client {number}") for number in range(6) for _ in range(4)]
    owners = [*slow, *[OWNER] * 4]
    notifications = [
        replace(world.good.notification, id=f"{number:02}", owner=owner, subscriber_id=f"subscriber {number}")
        for number, owner in enumerate(owners)
    ]
    world.outbox.put(*map(Pending, notifications))
    running = world.notifier()
    await running.start()
    await world.clock.advance(1)
    begun = Counter(owners[int(name)] for name, _ in world.post.asked)
    assert begun == Counter(dict.fromkeys([*slow[:16:4], OWNER], AT_ONCE_OF_OWNER))
    world.post.answers.set()
    await stop(running, world.clock)


@pytest.mark.provokes("notification.set_aside", "notification.nacked")
async def test_what_failed_too_often_stays_for_the_next_start_and_is_said_once(world: Changes) -> None:
    running = world.notifier()
    with capture_logs() as lines:
        await running.start()
        await world.clock.advance(60)
        await stop(running, world.clock)
    assert len(world.post.times(world.bad)) == FAULTS
    (said,) = [line for line in lines if line["event"] == "notification.set_aside"]
    assert (said["log_level"], said["notification_id"]) == ("error", world.bad.notification.id)
    assert world.outbox.pending == [world.bad]

    world.post.faulty.clear()  # another version
    running = world.notifier()
    await running.start()
    await world.clock.advance(1)
    await stop(running, world.clock)
    assert world.outbox.pending == []


async def test_the_outbox_is_read_in_proportion_to_what_is_told(world: Changes) -> None:
    """Reading all that is due after each one took 31 ms with 10,000."""
    notifications = [
        replace(
            world.good.notification,
            id=f"{number:04}",
            owner=Owner(f"https://pim-{number % 40}.example.com", "shop"),
            subscriber_id=f"subscriber {number % 200}",
        )
        for number in range(1000)
    ]
    world.outbox = MemoryOutbox(world.clock)
    world.outbox.put(*map(Pending, notifications))
    read: list[int] = []
    due = world.outbox.due

    async def counted(limit: int) -> Sequence[Pending]:
        found = await due(limit)
        read.append(len(found))
        return found

    async def allowed(allowances: Sequence[Allowance]) -> bool:
        return True

    world.outbox.count = allowed  # type: ignore[method-assign]
    world.outbox.due = counted  # type: ignore[method-assign]
    running = world.notifier()
    await running.start()
    while world.outbox.pending:
        await world.clock.advance(1)
    await stop(running, world.clock)
    told = [name for name, _ in world.post.asked]
    assert sorted(told) == [each.id for each in notifications]
    assert sum(read) <= 1.5 * notifier.READ_AT_ONCE / notifier.READ_AFTER * len(told)


async def test_what_was_told_with_another_is_not_told_again(world: Changes) -> None:
    """It may have been read before."""
    held = [replace(each, is_held=True) for each in (world.bad, world.good)]
    world.post.faulty.clear()
    world.outbox = MemoryOutbox(world.clock)
    world.outbox.put(*held)
    running = world.notifier()
    await running.start()
    await world.clock.advance(8)
    await stop(running, world.clock)
    assert len(world.post.asked) == 1
    assert world.outbox.pending == []
