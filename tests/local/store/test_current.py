"""Subscriptions in memory by id: as many as there is room for, and never an older one than is in force."""

from dataclasses import replace

import pytest

from aep.store import current
from aep.store.current import CurrentSubscriptions
from event_platform.domain.subscriptions import Subscription
from support.records import a_subscriber, a_subscription


def some(number: int) -> list[Subscription]:
    return [a_subscription(a_subscriber()) for _ in range(number)]


async def test_what_was_read_is_kept_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "SUBSCRIPTIONS_KEPT", 3)
    held = CurrentSubscriptions()

    async def read() -> Subscription | None:
        return each

    for each in some(10):
        assert await held.read(each.id, read) is each
        assert held.by_id[each.id] is each
        assert len(held.by_id) <= 3


@pytest.mark.parametrize("is_full", [False, True])
async def test_a_change_during_the_reading_wins(monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    """Also one that was forgotten before the reading ended, as there was no room."""
    monkeypatch.setattr(current, "SUBSCRIPTIONS_KEPT", 3)
    held, (before, *others) = CurrentSubscriptions(), some(4)
    after = replace(before, epoch=1)
    in_file = [before, after]

    async def read() -> Subscription | None:
        found = in_file.pop(0)
        if found is before:
            held.remember([after])
            if is_full:
                held.remember(others)
        return found

    assert await held.read(before.id, read) is after
    assert held.by_id[before.id] is after


async def test_one_that_is_not_there_is_not_kept() -> None:
    held = CurrentSubscriptions()

    async def read() -> Subscription | None:
        return None

    assert await held.read("unknown", read) is None
    assert held.by_id == {}
