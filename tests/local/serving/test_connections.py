"""What one client may take of the server: connections, requests that wait, answers, and unusual framing.

Everything goes over real sockets, byte for byte.
"""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog
import trustme
import uvloop
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from aep.serving import accepting, bounds
from aep.serving import server as serving
from aep.serving.accepting import Place, Places
from event_platform.http import App

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024
LARGE = "x" * 32 * MIB

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
opened: list[asyncio.StreamWriter] = []


class Handler:
    """Answers GET / at once or when `release` is set, and POST / with the length of the body."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.requests = 0
        self.running = 0

    async def get(self, request: Request) -> Response:
        self.requests += 1
        self.running += 1
        try:
            await self.release.wait()
        finally:
            self.running -= 1
        return PlainTextResponse("got")

    async def post(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def large(self, request: Request) -> Response:
        return PlainTextResponse(LARGE)


@pytest.fixture
def handler() -> Handler:
    return Handler()


@asynccontextmanager
async def served(handler: Handler, tls: serving.Tls | None = None) -> AsyncIterator[int]:
    routes = [
        Route("/", handler.get, methods=["GET"]),
        Route("/", handler.post, methods=["POST"]),
        Route("/large", handler.large, methods=["GET"]),
    ]
    async with serving.running(App(routes), tls=tls, connections=serving.CONNECTIONS) as url:
        yield int(url.rpartition(":")[2])
        while opened:
            opened.pop().close()


Protocols = list[bounds.BoundedHttpProtocol]


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> Protocols:
    """Those of all connections, in their order."""
    made: Protocols = []
    connection_made = bounds.BoundedHttpProtocol.connection_made

    def noted(protocol: bounds.BoundedHttpProtocol, transport: asyncio.Transport) -> None:
        made.append(protocol)
        connection_made(protocol, transport)

    monkeypatch.setattr(bounds.BoundedHttpProtocol, "connection_made", noted)
    return made


async def connect(port: int, tls: ssl.SSLContext | None = None) -> Connection:
    """A connection that ends with the server."""
    connection = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    opened.append(connection[1])
    return connection


@pytest.fixture
async def port(handler: Handler) -> AsyncIterator[int]:
    async with served(handler) as number:
        yield number


async def connect_from(address: str, port: int) -> Connection:
    connection = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    opened.append(connection[1])
    return connection


async def ask(connection: Connection, request: bytes = GET, body: bytes = b"got") -> None:
    reader, writer = connection
    writer.write(request)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n" + body), 5)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def whole(port: int, request: bytes) -> bytes:
    """All that is answered until the server closes."""
    reader, writer = await connect(port)
    writer.write(request)
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 5)
    return b""


async def ended(connection: Connection) -> bool:
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(connection[0].read(), 5) == b""
    return True


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def objects_of(kind: type) -> int:
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


# Pipelined requests


async def test_of_pipelined_requests_one_is_read_at_a_time(port: int, handler: Handler) -> None:
    handler.release.clear()
    before = objects_of(RequestResponseCycle)
    reader, writer = await connect(port)
    writer.write(GET * 2000)
    await until(lambda: handler.running == 1, "the first request")
    await asyncio.sleep(0.1)
    assert handler.requests == 1
    assert objects_of(RequestResponseCycle) - before <= 1
    handler.release.set()
    answers = b""
    while answers.count(b"HTTP/1.1 200 OK") < 2000:
        more = await asyncio.wait_for(reader.read(65536), 5)
        assert more, answers[-1000:]
        answers += more
    assert handler.requests == 2000


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1000])
async def test_requests_are_told_apart_wherever_they_are_cut(port: int, size: int) -> None:
    sent = (
        (POST + b"Content-Length: 5\r\n\r\n\r\n\r\nx" + GET) * 3
        + (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n" + b"\r\n" + GET) * 3
        + (CHUNKED + b"1\r\nx\r\n0\r\nA: b\r\n\r\n")
        + POST
        + b"Connection: close\r\nContent-Length: 2\r\n\r\nyz"
    )
    reader, writer = await connect(port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for start in range(0, len(sent), size):
        writer.write(sent[start : start + size])
        await asyncio.sleep(0)
    answers = await asyncio.wait_for(reader.read(), 10)
    bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"5", b"got"] * 3 + [b"4", b"got"] * 3 + [b"1", b"2"]


async def test_what_waits_in_all_connections_is_bounded(
    port: int, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HELD_BYTES", 100_000)
    handler.release.clear()
    polite = await connect(port)
    polite[1].write(GET * 2)
    connections = [await connect(port) for _ in range(6)]
    for _, writer in connections:
        writer.write(GET * 1000)
    ends = [asyncio.create_task(ended(each)) for each in connections]
    await asyncio.sleep(0.3)
    assert 3 <= sum(end.done() for end in ends) < 6
    handler.release.set()
    await ask(polite)
    for end in ends:
        end.cancel()


async def test_a_bad_request_is_refused_after_the_answer_before_it(port: int, handler: Handler) -> None:
    handler.release.clear()
    reader, writer = await connect(port)
    writer.write(GET + b"nonsense\r\n\r\n")
    await until(lambda: handler.running == 1, "the first request")
    handler.release.set()
    answers = await asyncio.wait_for(reader.read(), 5)
    assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answers.count(b"HTTP/1.1 400 Bad Request\r\n") == 1


async def test_a_body_that_breaks_off_gets_no_second_answer(port: int) -> None:
    """The route does not exist, so that the answer comes before the body."""
    reader, writer = await connect(port)
    writer.write(CHUNKED.replace(b" / ", b" /no ") + b"1\r\nx\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 404 ")
    writer.write(b"nonsense\r\n")
    assert b"HTTP/1.1" not in await asyncio.wait_for(reader.read(), 5)


# A client that closes its sending side


HELLO = POST + b"Content-Length: 5\r\n\r\nhello"
HALF_CLOSED = [(GET, 1), (GET * 3, 3), (GET + HELLO, 2), (GET + GET[:9], 1)]


async def half_closed(request: bytes) -> int:
    """The number of answers to a client that sends no more before it has the first one."""
    handler = Handler()
    handler.release.clear()
    async with served(handler) as port:
        reader, writer = await connect(port)
        writer.write(request)
        writer.write_eof()
        await until(lambda: handler.running == 1, "the first request")
        await asyncio.sleep(0.05)  # until the end has come, too
        handler.release.set()
        answers = await asyncio.wait_for(reader.read(), 5)
    return answers.count(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(("request_", "answers"), HALF_CLOSED)
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_client_that_closes_its_sending_side_gets_its_answers(
    new_loop: Callable[[], asyncio.AbstractEventLoop], request_: bytes, answers: int
) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(half_closed(request_)) == answers


async def test_a_client_that_ends_within_a_request_is_not_kept(port: int, handler: Handler) -> None:
    for part in (b"", GET[:-3], CHUNKED + b"1\r\nx\r\n"):
        reader, writer = await connect(port)
        writer.write(part)
        writer.write_eof()
        assert b"200 OK" not in await asyncio.wait_for(reader.read(), 5)
    assert handler.requests == 0


async def test_a_large_answer_reaches_a_client_that_closed_its_sending_side(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(GET.replace(b" / ", b" /large "))
    writer.write_eof()
    answer = bytearray()
    while piece := await asyncio.wait_for(reader.read(MIB), 5):
        answer += piece
    assert len(answer) > len(LARGE)


# Idle connections


async def test_an_idle_connection_is_kept_for_75_seconds(port: int, protocols: Protocols) -> None:
    loop = asyncio.get_running_loop()
    connection, began = await connect(port), loop.time()
    await ask(connection)
    (protocol,) = protocols
    ends_at = protocol._deadline
    assert ends_at is not None
    assert began + 75 <= ends_at <= loop.time() + 75
    await ask(connection)
    assert protocol._deadline is not None
    assert protocol._deadline >= ends_at
    protocol._deadline = loop.time()
    protocol._look_at_deadline()  # as the timer does in the end
    assert await ended(connection)


@pytest.mark.usefixtures("few")
async def test_a_flood_of_idle_connections_keeps_nobody_out(handler: Handler) -> None:
    """Each of the flood has made a request, and is kept for the next one."""
    async with served(handler) as port:
        flood = [await connect_from("127.0.0.2", port) for _ in range(2)]
        flood += [await connect_from("127.0.0.3", port) for _ in range(2)]
        for each in flood:
            await ask(each)
        first = await connect(port)
        await ask(first)
        await ask(await connect(port))
        await ask(first)
        assert await ended(flood[0])


# Answers that are not read


async def test_who_does_not_read_an_answer_is_dropped(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ANSWER_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(GET.replace(b" / ", b" /large "))
        await asyncio.sleep(1)
        connection.settimeout(5)
        received = 0
        with suppress(ConnectionResetError):
            while piece := await asyncio.to_thread(connection.recv, MIB):
                received += len(piece)
        assert received < len(LARGE)
    await ask(await connect(port))


async def test_who_reads_slowly_but_in_time_gets_the_whole_answer(port: int) -> None:
    reader, writer = await connect(port)
    writer.write(GET.replace(b" / ", b" /large ") + GET[:-2] + b"Connection: close\r\n\r\n")
    answers = bytearray()
    while piece := await asyncio.wait_for(reader.read(MIB), 5):
        answers += piece
        await asyncio.sleep(0.001)
    assert answers.count(b"x" * 1000) == len(LARGE) // 1000
    assert answers.endswith(b"\r\n\r\ngot")


async def test_a_large_answer_is_handed_out_in_pieces(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what waits for a client that does not read is small."""
    waiting: list[int] = []
    pause = bounds.BoundedHttpProtocol.pause_writing

    def measure(protocol: bounds.BoundedHttpProtocol) -> None:
        waiting.append(protocol.transport.get_write_buffer_size())  # type: ignore[attr-defined]
        pause(protocol)

    monkeypatch.setattr(bounds.BoundedHttpProtocol, "pause_writing", measure)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(GET.replace(b" / ", b" /large "))
        await until(lambda: waiting, "a full buffer")
    assert max(waiting) <= 128 * 1024


async def test_the_system_ends_connections_whose_peer_is_silent(port: int) -> None:
    listener = serving.listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# Places


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 4)
    monkeypatch.setattr(accepting, "CONNECTIONS_OF_ADDRESS", 4)
    monkeypatch.setattr(accepting, "DROPPED_AT_ONCE", 1)


async def open_at(port: int) -> Connection:
    connection = await connect(port)
    await asyncio.sleep(0.02)  # until it is accepted
    return connection


@pytest.mark.usefixtures("few")
async def test_when_an_address_has_no_place_left_the_one_idle_for_longest_ends(
    handler: Handler,
) -> None:
    async with served(handler) as port:  # 2 places are what one address may have of 4
        first, second = await open_at(port), await open_at(port)
        await ask(first)
        third = await open_at(port)
        assert await ended(second)
        await ask(first)
        await ask(third)


@pytest.mark.usefixtures("few")
async def test_who_waits_for_an_answer_keeps_its_place(handler: Handler) -> None:
    handler.release.clear()
    async with served(handler) as port:
        waiting = [await open_at(port) for _ in range(2)]
        asking = [asyncio.create_task(ask(each)) for each in waiting]
        await until(lambda: handler.running == 2, "both requests")
        with structlog.testing.capture_logs() as lines:
            assert await ended(await open_at(port))
        assert [(each["event"], each["refused"]) for each in lines] == [("connections.full", 1)]
        handler.release.set()
        await asyncio.gather(*asking)
        await ask(await open_at(port))


@pytest.mark.usefixtures("few")
async def test_who_only_begins_a_request_does_not_keep_its_place(handler: Handler) -> None:
    async with served(handler) as port:
        slow = [await open_at(port) for _ in range(2)]
        slow[0][1].write(b"GET / HTTP/1.1\r\nX: ")
        slow[1][1].write(POST + b"Content-Length: 10\r\n\r\n")
        for _ in range(2):
            await ask(await open_at(port))
        assert [await ended(each) for each in slow] == [True, True]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> serving.Tls:
    folder: Path = tmp_path_factory.mktemp("tls")
    issued = trustme.CA().issue_cert("localhost")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return serving.Tls(chain, key)


@pytest.mark.usefixtures("few")
async def test_a_connection_in_its_tls_handshake_has_a_place_too(
    handler: Handler, certificate: serving.Tls
) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with served(handler, certificate) as port:
        silent = [await open_at(port) for _ in range(2)]
        await ask(await connect(port, trusting))
        assert await ended(silent[0])


async def test_a_tls_handshake_has_to_be_quick(
    handler: Handler, certificate: serving.Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "HANDSHAKE_SECONDS", 0.2)
    async with served(handler, certificate) as port:
        assert await ended(await open_at(port))


async def test_without_file_descriptors_connections_wait_and_one_line_is_logged(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", 0.2)
    accept, failures = socket.socket.accept, iter(range(2))

    def failing(listener: socket.socket) -> object:
        if next(failures, None) is not None:
            raise OSError(24, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    with structlog.testing.capture_logs() as lines:
        await ask(await connect(port))
    assert [(each["event"], each["error"]) for each in lines] == [("connections.full", "Too many open files")]


class Dropped:
    """Connections as the places know them, by name."""

    def __init__(self, most: int, most_of_site: int) -> None:
        self.places = Places(most, most_of_site)
        self.names: list[str] = []

    def take(self, name: str, site: str, *, busy: bool = False) -> Place | None:
        place = self.places.take(site, lambda: self.names.append(name))
        if place is not None and busy:
            place.busy()
        return place


def test_when_all_places_are_taken_the_address_with_most_loses_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "DROPPED_AT_ONCE", 2)
    dropped = Dropped(5, 4)
    dropped.take("honest", "a")
    for number in range(4):
        dropped.take(f"stranger {number}", "b")
    assert dropped.take("newcomer", "c") is not None
    assert dropped.names == ["stranger 0", "stranger 1"]


def test_who_got_an_answer_last_is_idle_for_the_shortest_time() -> None:
    dropped = Dropped(2, 2)
    slow, quick = dropped.take("slow", "a", busy=True), dropped.take("quick", "a", busy=True)
    assert slow is not None
    assert quick is not None
    quick.idle()
    slow.idle()
    dropped.take("newcomer", "b")
    assert dropped.names[0] == "quick"


def test_an_address_cannot_take_all_places() -> None:
    dropped = Dropped(100, 3)
    for number in range(10):
        dropped.take(f"stranger {number}", "b")
    assert dropped.names == [f"stranger {number}" for number in range(7)]


def test_nobody_loses_a_place_who_waits_for_an_answer() -> None:
    dropped = Dropped(3, 3)
    for number in range(2):
        dropped.take(f"busy {number}", "b", busy=True)
    dropped.take("idle", "a")
    assert dropped.take("newcomer", "c") is not None
    assert dropped.names == ["idle"]
    full = Dropped(1, 1)
    full.take("busy", "a", busy=True)
    assert full.take("newcomer", "c") is None


def test_a_place_that_was_left_is_there_again() -> None:
    dropped = Dropped(1, 1)
    for number in range(3):
        place = dropped.take(str(number), "a")
        assert place is not None
        place.hold(10)
        place.leave()
        place.leave()
    assert (dropped.names, dropped.places.held) == ([], 0)


# Framing (RFC 9112)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: " + b"x" * 301 + b"\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", b"505"),
        (b"GET /\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\nHost: x\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", b"501"),
        (POST + b"Transfer-Encoding: identity\r\n\r\nx", b"501"),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", b"501"),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", b"400"),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    ],
)
async def test_framing_that_another_may_read_otherwise_is_refused(
    port: int, handler: Handler, request_: bytes, status: bytes
) -> None:
    answer = await whole(port, request_ + GET)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert handler.requests == 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/1.0\r\nHost: x\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n",
        b"GET / HTTP/1.1\r\nhOST: x\r\nConnection: close\r\n",
    ],
)
async def test_a_host_may_be_empty_and_an_old_client_need_not_name_it(port: int, head: bytes) -> None:
    assert (await whole(port, head + b"\r\n")).endswith(b"\r\n\r\ngot")


async def test_a_coding_is_compared_without_case(port: int) -> None:
    request = POST + b"Transfer-Encoding:  Chunked \r\n\r\n1\r\nx\r\n0\r\n\r\n"
    await ask(await connect(port), request, b"1")


async def test_more_than_100_header_lines_are_431(port: int, handler: Handler) -> None:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(99))
    await ask(await connect(port), GET[:-2] + lines + b"\r\n")
    for more in (1, 2000):
        answer = await whole(port, GET[:-2] + lines + b"X: y\r\n" * more + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ")
    assert handler.requests == 1


async def test_an_error_quotes_little_of_a_long_path(port: int) -> None:
    answer = await whole(
        port, b"GET /" + b"y" * 30_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert len(answer) < 2000


# Chunks


@pytest.mark.parametrize(("size", "taken"), [(1, False), (3, False), (16, True), (4096, True)])
async def test_a_body_in_tiny_chunks_is_cut_off(port: int, size: int, taken: bool) -> None:
    body = (b"%x\r\n" % size + b"x" * size + b"\r\n") * (252 * 1024 // size) + b"0\r\n\r\n"
    if taken:
        await ask(await connect(port), CHUNKED + body, str(252 * 1024).encode())
    else:
        answer = await whole(port, CHUNKED + body)
        assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""
        assert b"chunks" in answer or answer == b""


async def test_a_small_body_may_come_in_the_smallest_chunks(port: int) -> None:
    body = b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"
    await ask(await connect(port), CHUNKED + body, b"5000")


async def test_what_surrounds_chunks_counts(port: int) -> None:
    extended = b"1;" + b"e" * 1000 + b"\r\nx\r\n"
    answer = await whole(port, CHUNKED + extended * 1000)
    assert answer.startswith(b"HTTP/1.1 400 ") or answer == b""


def test_few_of_the_tiny_chunks_of_a_read_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []
    monkeypatch.setattr(bounds.BoundedHttpProtocol, "on_body", lambda protocol, body: bodies.append(body))
    cpu_of_read(CHUNKED, b"1\r\nx\r\n" * (256 * 1024 // 6))
    assert 0 < len(bodies) / 2 < 9_000  # of two reads


@pytest.mark.parametrize("filling", [b"x", b"\r\n", b"\r\n\r\n"])
def test_no_read_of_a_body_takes_long(filling: bytes) -> None:
    """One read has at most 256 KiB. CPU time of the thread counts, so that others do not disturb."""
    chunk = filling * (16 // len(filling))
    read = (b"10\r\n" + chunk + b"\r\n") * (256 * 1024 // 22)
    assert cpu_of_read(CHUNKED, read) < 0.05


@pytest.mark.parametrize("read", [GET * 9000, b"\r\n" * 130_000], ids=["requests", "line breaks"])
def test_no_read_of_heads_takes_long(read: bytes) -> None:
    assert cpu_of_read(GET, read) < 0.05


def cpu_of_read(start: bytes, read: bytes) -> float:
    """Seconds of CPU that the protocol takes for one read, after a start of its own."""

    async def measure() -> float:
        release = asyncio.Event()

        async def waiting(scope: object, receive: object, send: object) -> None:
            await release.wait()

        mine, others = socket.socketpair()
        mine.setblocking(False)
        server = serving._Server(waiting, drain=1, ready=lambda: None)  # type: ignore[arg-type]
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        loop = asyncio.get_running_loop()
        _, protocol = await loop.connect_accepted_socket(lambda: server._protocol(Place()), mine)
        protocol.data_received(start)
        started = time.thread_time()
        protocol.data_received(read)
        taken = time.thread_time() - started
        protocol.transport.abort()
        release.set()
        await asyncio.sleep(0)
        others.close()
        return taken

    return min(asyncio.run(measure()) for _ in range(2))
