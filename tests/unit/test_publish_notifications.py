"""A tick publishes all notifications that are due, page by page, for as long as it may."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module

import pytest

from event_platform.domain.messages.message import Message
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.record.notifications import Pending, notifications_of
from event_platform.domain.subscriptions import Status
from event_platform.maintain import publish_notifications
from support.clock import ManualClock
from support.memory_outbox import MemoryOutbox
from support.records import a_subscriber, a_subscription

MODULE = import_module("event_platform.maintain.publish_notifications")


@dataclass
class Outbox(MemoryOutbox):
    """The port `PublishedOutbox`."""

    async def pending(self, notification_id: str) -> Pending | None:  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
        return self.notifications.get(notification_id)

    async def published(self, pending: Sequence[Pending]) -> None:
        for each in pending:
            del self.due_at[each.notification.id]


@dataclass
class Topics:
    """The port `Publisher`; a call takes a second."""

    clock: ManualClock
    calls: list[int] = field(default_factory=list[int])

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.calls.append(len(messages))
        await self.clock.advance(1)


@pytest.mark.parametrize(("seconds", "calls"), [(60, [2, 2, 1]), (2, [2, 2]), (1, [2])])
async def test_all_that_is_due_is_published_unless_the_time_is_over(
    seconds: float, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "AT_ONCE", 2)
    monkeypatch.setattr(MODULE, "BEGINNING_SECONDS", seconds)
    before = [a_subscription(a_subscriber()) for _ in range(5)]
    changes = [(each, replace(each, status=Status.SUSPENDED)) for each in before]
    clock = ManualClock()
    outbox, topics = Outbox(clock), Topics(clock)
    outbox.put(*map(Pending, notifications_of(changes, Action(Actor.USER))))
    assert await publish_notifications(outbox, publisher=topics, clock=clock) == sum(calls)
    assert topics.calls == calls
