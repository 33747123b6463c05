"""Questions to PIMs from an address that was wrong too often."""

import asyncio

import pytest

from event_platform.domain.errors import TooManyRequests
from event_platform.manage import questions
from event_platform.manage.questions import AT_ONCE, Questions


class Asking:
    def __init__(self) -> None:
        self.questions = Questions()
        self.answered = asyncio.Event()
        self.asked: list[int] = []

    def ask(self, number: int, key: str = "here") -> "asyncio.Task[None]":
        async def ask() -> None:
            async with self.questions.place(key):
                self.asked.append(number)
                await self.answered.wait()

        return asyncio.create_task(ask())


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_few_are_asked_at_a_time_in_their_order() -> None:
    world = Asking()
    asking = [world.ask(number) for number in range(20)]
    await settled()
    assert world.asked == list(range(AT_ONCE))
    elsewhere = world.ask(99, "elsewhere")
    await settled()
    assert world.asked[-1] == 99
    world.answered.set()
    await asyncio.gather(*asking, elsewhere)
    assert [number for number in world.asked if number != 99] == list(range(20))
    assert not world.questions._queues


async def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "WAITING", 3)
    world = Asking()
    asking = [world.ask(number) for number in range(AT_ONCE + 4)]
    with pytest.raises(TooManyRequests) as refused:
        await asking[-1]
    assert refused.value.retry_after > 0
    world.answered.set()
    await asyncio.gather(*asking[:-1])


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "WAIT_SECONDS", 0)
    world = Asking()
    asking = [world.ask(number) for number in range(AT_ONCE + 1)]
    with pytest.raises(TooManyRequests):
        await asking[-1]
    world.answered.set()
    await asyncio.gather(*asking[:-1])
    assert not world.questions._queues
