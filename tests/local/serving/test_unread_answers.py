"""Answers that clients do not read: how many bytes of them there may be, and what others get meanwhile.

Everything goes over real sockets.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest
import structlog
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aep.serving import accepting, bounds, server
from event_platform import http
from event_platform.http import App, kept_response, note_owner

KIB = 1024
ANSWER = 256 * KIB
KEPT = b"x" * ANSWER


class Answering:
    """An app whose callers say who they are; `app` counts what it sends."""

    def __init__(self) -> None:
        self.requests = self.changes = 0
        self.release = asyncio.Event()
        routes = [
            Route("/kept", self.kept),
            Route("/{size:int}", self.get, methods=["GET"]),
            Route("/{size:int}", self.change, methods=["POST"]),
        ]
        self.app = App(routes)

    async def get(self, request: Request) -> Response:
        self.requests += 1
        if owner := request.headers.get("owner"):
            note_owner(request, owner)
        return PlainTextResponse("x" * request.path_params["size"])

    async def change(self, request: Request) -> Response:
        """A change that is refused after it was begun would be made again."""
        note_owner(request, request.headers["owner"])
        self.changes += 1
        await self.release.wait()
        return PlainTextResponse("x" * request.path_params["size"])

    async def kept(self, request: Request) -> Response:
        self.requests += 1
        return kept_response(request, KEPT)

    @property
    def held(self) -> int:
        return self.app._answers.in_use


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[accepting.Places]:
    """The places of the servers that the test starts."""
    made: list[accepting.Places] = []

    class Watched(accepting.Places):
        def __init__(self, most: int, most_of_site: int) -> None:
            super().__init__(most, most_of_site)
            made.append(self)

    monkeypatch.setattr(accepting, "Places", Watched)
    return made


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    monkeypatch.setattr(http, "ANSWERS_BYTES", 16 * ANSWER)
    monkeypatch.setattr(http, "RESERVE_OF_ANSWERS_BYTES", 4 * ANSWER)
    monkeypatch.setattr(http, "LARGEST_ANSWER_BYTES", ANSWER)
    return Answering()


@pytest.fixture
async def port(answering: Answering, places: list[accepting.Places]) -> AsyncIterator[int]:
    async with server.running(answering.app) as url:
        yield int(url.rpartition(":")[2])


class Silent:
    """Connections that send requests and read nothing, each with little room at this end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sockets: list[socket.socket] = []

    async def ask(self, path: str, owner: str = "", *, times: int = 1, method: str = "GET") -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        connection.setblocking(False)
        self.sockets.append(connection)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self._port))
        whose = f"Owner: {owner}\r\n" if owner else ""
        await loop.sock_sendall(
            connection, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{whose}\r\n".encode() * times
        )
        return connection

    def close(self) -> None:
        for each in self.sockets:
            each.close()


@pytest.fixture
async def silent(port: int) -> AsyncIterator[Silent]:
    made = Silent(port)
    yield made
    made.close()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def answer_to(
    port: int, path: str, owner: str = "", *, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """The whole answer to a client that reads: status, headers, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whose = f"Owner: {owner}\r\n" if owner else ""
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{whose}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.provokes("answers.refused")
async def test_an_owner_who_reads_no_answers_has_a_quarter_of_the_bytes_and_others_are_answered(
    answering: Answering, port: int, silent: Silent
) -> None:
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            await silent.ask(f"/{ANSWER}", "hog")
        await until(lambda: answering.requests == 20, "20 requests")
        assert answering.held == 4 * ANSWER
        status, headers, body = await answer_to(port, f"/{ANSWER}", "hog")
    assert (status, headers["retry-after"]) == (503, str(http.ANSWERS_RETRY_SECONDS))
    assert b"not read" in body
    assert [(each["event"], each["tenant"]) for each in logs] == [("answers.refused", "hog")]
    status, _, body = await answer_to(port, f"/{ANSWER}", "other")
    assert (status, len(body)) == (200, ANSWER)
    silent.close()
    await until(lambda: answering.held == 0, "the bytes to come back")
    assert (await answer_to(port, f"/{ANSWER}", "hog"))[0] == 200


async def test_all_owners_together_have_bounded_bytes(
    answering: Answering, port: int, silent: Silent
) -> None:
    for owner in range(30):
        await silent.ask(f"/{ANSWER}", f"owner {owner}")
    await until(lambda: answering.requests == 30, "30 requests")
    assert answering.held <= 20 * ANSWER


async def test_what_was_changed_is_answered_in_any_case_and_the_next_change_is_refused_before_it_is_made(
    answering: Answering, port: int, silent: Silent
) -> None:
    for _ in range(10):
        await silent.ask(f"/{ANSWER}", "hog", method="POST")
    await until(lambda: answering.changes == 10, "10 changes")
    answering.release.set()
    await until(lambda: answering.held == 10 * ANSWER, "their answers")
    status, _, _ = await answer_to(port, f"/{ANSWER}", "hog", method="POST")
    assert (status, answering.changes) == (503, 10)
    assert (await answer_to(port, f"/{ANSWER}", "other", method="POST"))[0] == 200


async def test_answers_that_are_small_or_kept_anyway_take_no_room(
    answering: Answering, port: int, silent: Silent
) -> None:
    for _ in range(10):
        await silent.ask("/kept")
        await silent.ask(f"/{http.PIECE_BYTES}", "hog")
    await until(lambda: answering.requests == 20, "20 requests")
    assert answering.held == 0


async def test_an_answer_larger_than_all_room_is_given(answering: Answering, port: int) -> None:
    status, _, body = await answer_to(port, f"/{40 * ANSWER}", "large")
    assert (status, len(body), answering.held) == (200, 40 * ANSWER, 0)


async def test_what_connections_hold_unread_is_bounded_and_the_address_with_most_ends(
    answering: Answering,
    port: int,
    silent: Silent,
    places: list[accepting.Places],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "UNREAD_BYTES", 200 * KIB)
    most = 0
    add = accepting.Places.add_unread

    def watch(of: accepting.Places, place: accepting.Place, size: int) -> None:
        nonlocal most
        add(of, place, size)
        most = max(most, of.unread)

    monkeypatch.setattr(accepting.Places, "add_unread", watch)
    for _ in range(40):
        await silent.ask("/kept")
    await until(lambda: places[0].dropped, "connections to end")
    assert 100 * KIB < most <= 200 * KIB
    silent.close()
    await until(lambda: places[0].unread == 0, "the bytes to come back")
    assert (await answer_to(port, "/kept"))[0] == 200


async def test_a_request_is_not_begun_before_the_answer_before_it_was_read(
    answering: Answering, port: int, silent: Silent
) -> None:
    connection = await silent.ask(f"/{ANSWER}", times=3)
    await until(lambda: answering.requests == 1, "the first request")
    received = 0
    while received < ANSWER // 2:
        received += len(await asyncio.get_running_loop().sock_recv(connection, 4 * KIB))
    assert answering.requests == 1
    while received < 3 * ANSWER:
        received += len(await asyncio.get_running_loop().sock_recv(connection, 64 * KIB))
    assert answering.requests == 3


def test_the_address_with_most_unread_bytes_loses_its_oldest_connections_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accepting, "UNREAD_BYTES", 100)
    monkeypatch.setattr(accepting, "DROPPED_AT_ONCE", 1)
    places, dropped = accepting.Places(100, 100), list[str]()

    def take(name: str, site: str, unread: int) -> None:
        place = places.take(site, lambda: dropped.append(name))
        assert place is not None
        place.set_unread(unread)

    take("honest", "a", 40)
    take("has read", "b", 0)
    for number in range(4):
        take(f"silent {number}", "b", 25)
    assert dropped == ["silent 0", "silent 1"]
    assert places.unread == 90


def test_most_answers_fit_into_what_a_connection_may_hold_uncounted() -> None:
    """4,096 connections may have that much each."""
    assert server.CONNECTIONS * bounds.ANSWER_BUFFER_BYTES <= 16 * KIB * KIB
