"""Calls of a PIM's REST API over sockets: bounded in time and bytes, and never redirected."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from event_platform.adapters.pim_rest import PIECE_BYTES, HttpsPimRest
from event_platform.domain.errors import PimUnavailable, TooLarge
from event_platform.ports import PimAnswer
from support.processes import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """A server on this machine that answers everything so; yields its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def get(
    handler: Handler, path: str = "/api/rest/v1/products", *, seconds: float = 30.0, most: int = 1024 * 1024
) -> tuple[PimAnswer, list[bytes]]:
    """The answer to a call, and the pieces of its body."""
    pieces: list[bytes] = []
    rest = HttpsPimRest(seconds=seconds, most_bytes=most)
    try:
        async with answering(handler) as url:
            return await rest.call("GET", url + path, {}, b"", pieces.append), pieces
    finally:
        await rest.close()


async def test_a_page_is_read_in_small_pieces() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.raw_path == "/api/rest/v1/products?search=%7B%22a%22%3A1%7D&after=a%2Fb"
        return web.Response(body=b"x" * 300_000, headers={"Date": "Sat, 31 Jan 2026 12:00:00 GMT"})

    answer, pieces = await get(handler, "/api/rest/v1/products?search=%7B%22a%22%3A1%7D&after=a%2Fb")
    assert answer.status == 200
    assert answer.date is not None
    assert answer.date.isoformat() == "2026-01-31T12:00:00+00:00"
    assert sum(map(len, pieces)) == 300_000
    assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_redirect_is_an_answer_like_others() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.path == "/api/rest/v1/products"
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    answer, pieces = await get(handler)
    assert (answer.status, pieces) == (302, [])


async def test_what_is_no_page_is_read_up_to_64_kib_and_says_when_to_come_again() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=429, body=b"y" * 200_000, headers={"Retry-After": "7"})

    answer, _ = await get(handler)
    assert answer.retry_after == 7.0
    assert len(answer.body) <= 64 * 1024


async def test_a_page_that_never_ends_is_left() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"z" * 65536)

    with pytest.raises(TooLarge):
        await get(handler)


async def test_a_pim_that_hangs_is_left() -> None:
    never = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{")
        await never.wait()
        return response

    with pytest.raises(PimUnavailable, match="no complete answer"):
        await get(handler, seconds=0.2)


async def test_a_packed_answer_is_refused() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=gzip.compress(b"0" * 10_000), headers={"Content-Encoding": "gzip"})

    with pytest.raises(PimUnavailable, match="packed"):
        await get(handler)


async def test_a_connection_that_ends_in_the_middle_is_said_so() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(PimUnavailable, match="ended before the answer was complete"):
        await get(handler)


async def test_nobody_there_is_said_in_our_words() -> None:
    rest = HttpsPimRest()
    url = f"http://127.0.0.1:{free_port()}/api/rest/v1/products"
    try:
        with pytest.raises(PimUnavailable, match="connection refused"):
            await rest.call("GET", url, {}, b"", lambda piece: None)
    finally:
        await rest.close()
