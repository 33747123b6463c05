"""The short way of a request: which requests take it, and that their clients see no difference."""

import asyncio
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving import server as serving
from event_platform.direct import Direct
from event_platform.http import App, note_owner
from event_platform.ports import Call
from support.eventually import eventually

HEAD = b"POST /in HTTP/1.1\r\nHost: x\r\n"
ONE = HEAD + b"Content-Length: 3\r\n\r\none"
TWO = HEAD + b"Content-Length: 3\r\n\r\ntwo"
GET = b"GET /in HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = re.compile(rb"HTTP/1.1 202 Accepted\r\n.*?\r\n\r\n\{\"(\w+)\":1\}", re.DOTALL)


@dataclass
class Routes:
    """A route that has both ways. On the short one the test answers, in its own time."""

    begun: list[bytes] = field(default_factory=list[bytes])
    calls: list[Call] = field(default_factory=list[Call])
    ordinary: list[bytes] = field(default_factory=list[bytes])
    answered: Counter[int] = field(default_factory=Counter[int])
    refuses: bool = False

    def begin(self, call: Call) -> bool:
        if self.refuses or not call.has_room("owner"):
            return False
        self.begun.append(call.body)
        self.calls.append(call)
        return True

    async def take(self, request: Request) -> Response:
        note_owner(request, "owner")
        self.ordinary.append(await request.body())
        return Response(b'{"ordinary":1}', 202, media_type="application/json")

    def end(self, answer: bytes | None = b'{"short":1}') -> None:
        self.calls.pop(0).end(answer)

    async def has_begun(self, number: int) -> None:
        await eventually(lambda: len(self.begun) == number)

    def app(self) -> App:
        def count(scope: Any, status: int) -> None:
            self.answered[status] += 1

        routes = [
            Route("/in", Direct(self.take, self), methods=["POST"]),
            Route("/in", self.take, methods=["GET"]),
        ]
        return App(routes, answered=count)


@pytest.fixture
def routes() -> Routes:
    return Routes()


@asynccontextmanager
async def connected(
    routes: Routes, drain: float = 1
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with serving.running(routes.app(), drain=drain) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        yield reader, writer
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Returns an answer without its date and its name."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    (length,) = re.findall(rb"content-length: (\d+)", head)
    body = await reader.readexactly(int(length))
    return re.sub(rb"date: .*?\r\n", b"", head) + body


async def way_of(reader: asyncio.StreamReader) -> bytes:
    """Returns the way that a request took, by its answer."""
    found = ANSWER.fullmatch(await answer_of(reader))
    assert found is not None
    return found[1]


async def test_both_ways_give_the_same_answer_and_count_it(routes: Routes) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(ONE)
        await routes.has_begun(1)
        routes.end(b'{"ordinary":1}')
        short = await answer_of(reader)
        routes.refuses = True
        writer.write(ONE)
        assert await answer_of(reader) == short
    assert (routes.begun, routes.ordinary) == ([b"one"], [b"one"])
    assert routes.answered == {202: 2}


UNUSUAL = {
    "another method": GET,
    "a query": ONE.replace(b"/in", b"/in?x"),
    "no length": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n",
    "a connection that ends": ONE.replace(b"Host", b"Connection: close\r\nHost"),
    "HTTP/1.0": ONE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host", b"Connection: keep-alive\r\nHost"),
    "a large body": HEAD + b"Content-Length: 65537\r\n\r\n" + b"x" * 65537,
}


@pytest.mark.parametrize("what", UNUSUAL)
async def test_an_unusual_request_goes_the_ordinary_way(routes: Routes, what: str) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(UNUSUAL[what].replace(b"/in?x", b"/in?x=1"))
        assert b'{"ordinary":1}' in await answer_of(reader)
    assert routes.begun == []


async def test_a_request_in_pieces_goes_the_ordinary_way(routes: Routes) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"one")
        assert await way_of(reader) == b"ordinary"
        writer.write(ONE)
        await routes.has_begun(1)
        routes.end()
        assert await way_of(reader) == b"short"


@pytest.mark.provokes("request.short_way_failed")
async def test_a_fault_of_ours_is_logged_and_the_ordinary_way_answers(
    routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(call: Call) -> bool:
        raise TypeError("a fault of ours")

    monkeypatch.setattr(routes, "begin", faulty)
    with structlog.testing.capture_logs() as lines:
        async with connected(routes) as (reader, writer):
            writer.write(ONE)
            assert await way_of(reader) == b"ordinary"
    assert [line["event"] for line in lines] == ["request.short_way_failed"]


async def test_pipelined_requests_are_answered_in_their_order(routes: Routes) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(ONE + TWO + GET + ONE)
        await routes.has_begun(1)
        await asyncio.sleep(0)
        assert (routes.begun, routes.ordinary) == ([b"one"], [])
        routes.end()
        await routes.has_begun(2)
        routes.end()
        assert [await way_of(reader) for _ in range(3)] == [b"short", b"short", b"ordinary"]
        await routes.has_begun(3)
        routes.end()
        assert await way_of(reader) == b"short"
    assert routes.begun == [b"one", b"two", b"one"]


async def test_what_ends_without_an_answer_goes_the_ordinary_way(routes: Routes) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(ONE + TWO)
        await routes.has_begun(1)
        routes.end(None)
        assert await way_of(reader) == b"ordinary"
        await routes.has_begun(2)
        routes.end()
        assert await way_of(reader) == b"short"
    assert routes.ordinary == [b"one"]


@pytest.mark.parametrize("answer", [b'{"short":1}', None])
async def test_a_client_that_has_gone_gets_no_answer(routes: Routes, answer: bytes | None) -> None:
    async with connected(routes) as (_, writer):
        writer.write(ONE)
        await routes.has_begun(1)
        (call,) = routes.calls
        reset = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        writer.transport.abort()
        await eventually(lambda: call.transport.is_closing())  # type: ignore[attr-defined]
        routes.end(answer)
    assert routes.ordinary == []
    assert routes.answered == ({202: 1} if answer else {})


async def test_a_client_that_closes_its_sending_side_gets_its_answer(routes: Routes) -> None:
    async with connected(routes) as (reader, writer):
        writer.write(ONE)
        writer.write_eof()
        await routes.has_begun(1)
        routes.end()
        assert await way_of(reader) == b"short"
        assert await asyncio.wait_for(reader.read(), 30) == b""


@pytest.mark.parametrize("way", [b"short", b"ordinary"])
async def test_a_server_that_ends_gives_its_last_answers(routes: Routes, way: bytes) -> None:
    ending = serving.running(routes.app(), drain=30)
    reader, writer = await asyncio.open_connection("127.0.0.1", int((await ending.__aenter__())[17:]))
    writer.write(ONE)
    await routes.has_begun(1)
    (call,) = routes.calls
    ended = asyncio.create_task(ending.__aexit__(None, None, None))
    await eventually(lambda: call._is_last)  # type: ignore[attr-defined]
    routes.end(b'{"short":1}' if way == b"short" else None)
    assert await way_of(reader) == way
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    await ended


async def test_an_owner_without_room_for_answers_goes_the_ordinary_way(
    routes: Routes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(App, "has_room", lambda app, owner: False)
    async with connected(routes) as (reader, writer):
        writer.write(ONE)
        assert (await answer_of(reader)).startswith(b"HTTP/1.1 503 ")
    assert routes.begun == []
