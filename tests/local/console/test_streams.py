"""Live parts of pages: how many, how often, for how long."""

import asyncio
from typing import Any

import aiohttp
import pytest

from aep.broker.tail import SHOWN, Tails
from aep.console import subscription as subscription_page
from aep.console.streams import STREAMS, UPDATE_SECONDS
from event_platform.domain.attempts.outcomes import Kind
from support.console import ConsoleHere, Reader
from support.eventually import eventually


async def opened(reader: Reader, path: str = "/console/live/overview") -> aiohttp.ClientResponse:
    return await reader.session.get(reader.url + path)


async def next_update(answer: aiohttp.ClientResponse, name: str) -> str:
    """The HTML of the next update of that name."""
    found: list[str] = []
    is_wanted = False
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            is_wanted = text == f"event: {name}"
        elif text.startswith("data: ") and is_wanted:
            found.append(text.removeprefix("data: "))
        elif not text and found:
            return "\n".join(found)
    raise AssertionError("the stream ended")


async def test_the_overview_is_live(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        answer = await opened(reader)
        assert answer.headers["Content-Type"] == "text/event-stream"
        here.platform.parts.meters.retries = 4711
        assert "4\u202f711" in await next_update(answer, "tiles")
        answer.close()
    await eventually(lambda: here.console.site.streams.number == 0)


async def test_so_many_streams_are_open_and_no_more(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        answers = [await opened(reader) for _ in range(STREAMS)]
        refused = await opened(reader)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
        answers.pop().close()
        await eventually(lambda: here.console.site.streams.number == STREAMS - 1)
        answers.append(await opened(reader))
        assert answers[-1].status == 200
        for each in answers:
            each.close()


async def test_a_stream_ends_with_its_session(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        token = await reader.form_token()
        answer = await opened(reader)
        await reader.post("/console/leave", {"csrf": token})
        await answer.content.read()  # to its end


async def test_asking_for_the_head_of_a_stream_opens_none(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        answer = await reader.session.head(f"{reader.url}/console/live/overview")

        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert (await reader.get("/console/health")).status == 200
        assert here.console.site.streams.number == 0


async def test_streams_end_with_the_platform(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        answer = await opened(reader)
        await here.console.stop()
        await answer.content.read()  # to its end
        assert (await opened(reader)).status == 503


async def test_the_tail_shows_the_latest_attempts_and_counts_the_others(here: ConsoleHere) -> None:
    (subscription,) = await here.subscribe()
    tails = here.platform.parts.queue.tails
    async with here.reader() as reader:
        answer = await opened(reader, f"/console/subscriptions/{subscription.id}/live")
        await eventually(lambda: subscription.id in tails.watched)
        taken = [(1, 0, number, number, subscription.id, 0.0, 204, 3) for number in range(3000)]
        tails.note_taken(taken, 0.0)
        tails.note_taken([(1, 0, 1, 1, "another", 0.0, 204, 3)], 0.0)
        shown = await next_update(answer, "attempts")
        answer.close()
    await eventually(lambda: not tails.watched)

    assert shown.count("<tr>") == 1 + SHOWN
    assert f"{3000 - SHOWN} attempts since this page was opened are not" in shown


async def test_a_page_of_what_is_deleted_ends_its_stream(
    here: ConsoleHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_page, "NUMBERS_EVERY", 0.2)
    (subscription,) = await here.subscribe()
    path = f"/console/subscriptions/{subscription.id}"
    async with here.reader() as reader:
        answer = await opened(reader, f"{path}/live")
        await reader.submit(f"{path}/delete")
        await answer.content.read()  # to its end
        assert (await opened(reader, f"{path}/live")).status == 404


async def test_there_are_at_most_five_updates_a_second(here: ConsoleHere) -> None:
    (subscription,) = await here.subscribe()
    tails, updates = here.platform.parts.queue.tails, 0
    loop = asyncio.get_running_loop()
    async with here.reader() as reader:
        answer = await opened(reader, f"/console/subscriptions/{subscription.id}/live")
        await eventually(lambda: subscription.id in tails.watched)
        began = loop.time()
        for _ in range(3):
            tails.note_taken([(1, 0, 1, 1, subscription.id, 0.0, 204, 3)], 0.0)
            await next_update(answer, "attempts")
            updates += 1
        passed = loop.time() - began
        answer.close()

    assert updates <= 1 + passed / UPDATE_SECONDS


def test_nobody_who_watches_costs_nothing() -> None:
    tails = Tails()
    tail = tails.watch("s")
    tails.leave("s", tail)
    tails.note_taken([(1, 0, 1, 1, "s", 0.0, 204, 3)], 0.0)

    assert (tails.watched, tail.seen) == ({}, 0)


def test_each_who_watches_has_a_tail_of_their_own() -> None:
    tails = Tails()
    first, second = tails.watch("s"), tails.watch("s")
    row: Any = (1, 0, 1, 7, "s", 0.0, 204, 3)
    tails.note_taken([row], 12.0)
    tails.leave("s", first)
    tails.note_taken([row], 13.0)

    assert (first.seen, second.seen) == (1, 2)
    assert [(each.at, each.event_no, each.outcome) for each in second.latest] == [
        (12.0, 7, Kind.DELIVERED),
        (13.0, 7, Kind.DELIVERED),
    ]
