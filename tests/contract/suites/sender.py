"""What every implementation of the port `Sender` must do, against real sockets."""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import pytest

from event_platform.domain.attempts.outcomes import Answer, Reason, TransportFailure
from event_platform.ports import Sender
from support.processes import free_port
from support.records import OWNER
from support.servers import OK, Certificates, DnsServer, Peer, Play, answers, serve

SHORT = 0.3
"""The deadline of exchanges that are to run into it."""
LONG = 1.2
"""The deadline where a part of it is used up, so that the rest can be told from all of it."""
LATE = 5.0
"""A busy machine may be so late; without a deadline the exchanges would take 30 s or have no end."""
AMPLE = 10.0
"""The deadline of exchanges that are to end long before it."""
OTHER_OWNER = OWNER._replace(client_id="another")
HEADERS = [("Content-Type", "application/json")]
LIMIT = 64 * 1024


class MakeSender(Protocol):
    """Makes a sender; it is closed when the test ends.

    It trusts `trust` (the system's authorities when None) and resolves with `dns` (the system's resolver).
    """

    def __call__(
        self,
        *,
        allow_loopback: bool = True,
        trust: ssl.SSLContext | None = None,
        dns: DnsServer | None = None,
    ) -> Sender: ...


class Clocked:
    """Measures what its block takes."""

    def __enter__(self) -> "Clocked":
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._start


def reason_of(result: Answer | TransportFailure) -> Reason:
    assert isinstance(result, TransportFailure), result
    assert "\n" not in result.detail, result
    assert len(result.detail) <= 120, result
    return result.reason


def status_of(result: Answer | TransportFailure) -> int:
    assert isinstance(result, Answer), result
    return result.status


def body_of(result: Answer | TransportFailure) -> bytes:
    assert isinstance(result, Answer), result
    return result.body


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return Certificates()


class SenderContract:
    """Subclasses provide `make_sender`."""

    @pytest.fixture
    def make_sender(self) -> MakeSender:
        raise NotImplementedError("a suite for one implementation makes its senders here")

    @pytest.fixture
    def sender(self, make_sender: MakeSender) -> Sender:
        return make_sender()

    async def post_to(
        self, sender: Sender, play: Play, *, timeout: float = AMPLE
    ) -> Answer | TransportFailure:
        async with serve(play) as server:
            return await sender.post(server.url("/hook"), HEADERS, b"{}", owner=OWNER, timeout=timeout)

    # What was answered

    @pytest.mark.parametrize(
        ("answer", "status", "body"),
        [
            (OK, 200, b"ok"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
            (b"HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n", 299, b""),
            (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                200,
                b"abcde",
            ),
            (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
            (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, 200, b"ok"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", 404, b"gone"),
            (b"HTTP/1.1 429 Slow Down\r\nContent-Length: 0\r\n\r\n", 429, b""),
            (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\noh", 500, b"oh"),
            (b"HTTP/1.1 599 Ever\r\nContent-Length: 0\r\n\r\n", 599, b""),
            (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, b""),
        ],
    )
    async def test_an_answer_is_returned(
        self, sender: Sender, answer: bytes, status: int, body: bytes
    ) -> None:
        result = await self.post_to(sender, answers(answer))
        assert (status_of(result), body_of(result)) == (status, body)

    async def test_an_answer_in_pieces_is_returned(self, sender: Sender) -> None:
        pieces: list[bytes | float] = []
        for byte in OK:
            pieces += [bytes([byte]), 0.001]
        assert body_of(await self.post_to(sender, answers(*pieces))) == b"ok"

    @pytest.mark.parametrize(
        ("headers", "kept"),
        [
            (b"Retry-AFTER: 7\r\nVary: a\r\n", {"retry-after": "7"}),
            (b"Retry-After: 7\r\nretry-after:  8 \r\n", {"retry-after": "7, 8"}),
            (b"Retry-After: \xff\xfe\r\n", {"retry-after": "\ufffd\ufffd"}),
            (b"Set-Cookie: a=b\r\nX-Large: " + b"x" * 30_000 + b"\r\n", {}),
        ],
    )
    async def test_headers_that_are_used_are_kept_by_lower_case_names_as_text(
        self, sender: Sender, headers: bytes, kept: dict[str, str]
    ) -> None:
        result = await self.post_to(
            sender, answers(b"HTTP/1.1 200 OK\r\n" + headers + b"Content-Length: 0\r\n\r\n")
        )
        assert isinstance(result, Answer)
        assert result.headers == kept

    @pytest.mark.parametrize("location", [b"", b"Location: /elsewhere\r\n", b"Location: http://[\r\n"])
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_a_redirect_is_not_followed(self, sender: Sender, status: int, location: bytes) -> None:
        answer = b"HTTP/1.1 %d Moved\r\n%bContent-Length: 0\r\n\r\n" % (status, location)
        async with serve(answers(answer, keep=True)) as server:
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert status_of(result) == status
        assert len(server.requests) == 1

    async def test_nothing_is_unpacked(self, sender: Sender) -> None:
        packed = b"\x1f\x8b this is no gzip"
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        assert body_of(await self.post_to(sender, answers(head + packed))) == packed

    async def test_cookies_are_not_kept(self, sender: Sender) -> None:
        answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        async with serve(answers(answer, keep=True)) as server:
            for _ in range(2):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert len(server.requests) == 2
        assert b"cookie" not in server.requests[1].lower()

    async def test_trailers_are_no_headers(self, sender: Sender) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n"
        trailers = b"Retry-After: 9\r\nVary: b\r\n\r\n"
        result = await self.post_to(sender, answers(chunked + b"2\r\nok\r\n0\r\n" + trailers))
        assert isinstance(result, Answer)
        assert (result.body, result.headers) == (b"ok", {"retry-after": "1"})

    async def test_headers_of_interim_answers_are_not_the_answers(self, sender: Sender) -> None:
        interim = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"
        result = await self.post_to(sender, answers(interim + OK))
        assert isinstance(result, Answer)
        assert result.headers == {}

    @pytest.mark.parametrize(
        ("answer", "status", "body"),
        [
            (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
            (b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", 200, b"ok"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", 200, b"ok"),
            (b"HTTP/1.1 200\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
            (b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n\x00\x01", 101, b""),
            (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, b""),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", 200, b"ok"),
            (OK + OK, 200, b"ok"),
        ],
        ids=[
            "bare lf", "fold", "space after size", "coding", "upgrade", "101", "204 with body", "more", "two",
        ],
    )  # fmt: skip
    async def test_an_odd_answer_is_returned(
        self, sender: Sender, answer: bytes, status: int, body: bytes
    ) -> None:
        result = await self.post_to(sender, answers(answer))
        assert (status_of(result), body_of(result)) == (status, body)

    # How much is read

    @pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1, 5 * LIMIT])
    async def test_at_most_64_kib_of_a_body_are_returned(self, sender: Sender, size: int) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        result = await self.post_to(sender, answers(head + b"x" * size))
        assert (status_of(result), len(body_of(result))) == (200, min(size, LIMIT))

    async def test_an_endless_body_is_left_alone_and_its_status_counts(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await peer.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")

        async with serve(play) as server:
            with Clocked() as took:
                result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            assert (status_of(result), len(body_of(result))) == (200, LIMIT)
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert took.seconds < AMPLE / 2

    async def test_an_answer_that_does_not_wait_for_the_request_counts_and_ends_the_connection(
        self, sender: Sender
    ) -> None:
        posted = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.reader.readuntil(b"\r\n\r\n")
            await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await posted.wait()
            await peer.until_hung_up()

        async with serve(play) as server:
            result = await sender.post(server.url(), HEADERS, b"x" * 16_000_000, owner=OWNER, timeout=AMPLE)
            posted.set()
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert status_of(result) == 413

    @pytest.mark.parametrize(
        "endless",
        [b"0\r\n" + b"X-A: b\r\n" * 200_000, b"0\r\nX-A: " + b"b" * 2_000_000, b"2;" + b"x" * 2_000_000],
        ids=["trailers", "a trailer", "a chunk's extension"],
    )  # fmt: skip
    async def test_what_is_around_a_body_is_bounded_too(self, sender: Sender, endless: bytes) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + endless)
            await peer.until_hung_up()

        async with serve(play) as server:
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert (status_of(result), body_of(result)) == (200, b"ok")

    # Deadline

    @pytest.mark.parametrize(
        "steps",
        [
            (30.0,),
            (b"HTTP/1.1 2", 30.0),
            (b"HTTP/1.1 200 OK\r\n", *(b"X-A: b\r\n", 0.05) * 100),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", 30.0),
            (b"HTTP/1.1 200 OK\r\n\r\n", *(b"x", 0.05) * 100),
            (*(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05) * 100,),
        ],
        ids=[
            "no answer",
            "part of the status",
            "drip of headers",
            "part of the body",
            "drip of body",
            "drip of 100",
        ],
    )
    async def test_the_whole_exchange_has_one_deadline(
        self, sender: Sender, steps: tuple[bytes | float, ...]
    ) -> None:
        async with serve(answers(*steps)) as server:
            with Clocked() as took:
                result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=SHORT)
            assert reason_of(result) is Reason.DESTINATION_TIMEOUT
        assert SHORT * 0.9 <= took.seconds < SHORT + LATE

    async def test_a_receiver_that_does_not_read_is_dropped_with_all_that_is_unsent(
        self, sender: Sender
    ) -> None:
        size = 16_000_000
        came: list[int] = []
        posted = asyncio.Event()

        async def play(peer: Peer) -> None:
            await posted.wait()
            came.append(await peer.until_hung_up())

        async with serve(play) as server:
            result = await sender.post(server.url(), HEADERS, b"x" * size, owner=OWNER, timeout=SHORT)
            posted.set()
            await asyncio.wait_for(server.hung_up.wait(), 5)
        assert reason_of(result) is Reason.DESTINATION_TIMEOUT
        assert came[0] < size

    @pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
    async def test_a_large_body_arrives_whole_and_the_connection_is_kept(
        self, make_sender: MakeSender, certificates: Certificates, *, is_tls: bool
    ) -> None:
        context = certificates.good("127.0.0.1") if is_tls else None
        body = bytes(range(256)) * 8_000
        async with serve(answers(OK, keep=True), tls=context) as server:
            sender = make_sender(trust=certificates.trust)
            for _ in range(2):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, body, owner=OWNER, timeout=AMPLE))
                    == 200
                )
        assert [request.endswith(b"\r\n\r\n" + body) for request in server.requests] == [True, True]
        assert server.connections == 1

    async def test_an_answer_before_a_large_body_was_read_ends_the_connection(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.reader.read(1)
            await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(0.05)
            await peer.until_hung_up()

        async with serve(play) as server:
            result = await sender.post(server.url(), HEADERS, b"x" * 16_000_000, owner=OWNER, timeout=AMPLE)
            assert status_of(result) == 413
            await asyncio.wait_for(server.hung_up.wait(), 5)

    async def test_a_name_that_nobody_answers_for_meets_the_deadline(self, make_sender: MakeSender) -> None:
        async with DnsServer({}, silent=["hooks.example.org"]) as dns:
            sender = make_sender(dns=dns)
            with Clocked() as took:
                result = await sender.post(
                    "http://hooks.example.org/", HEADERS, b"{}", owner=OWNER, timeout=SHORT
                )
        assert reason_of(result) is Reason.DESTINATION_TIMEOUT
        assert took.seconds < SHORT + LATE

    @pytest.mark.parametrize(
        ("scheme", "before"),
        [
            ("https", b""),
            ("http", b""),
            ("http", b"HTTP/1.1 200 OK\r\n"),
            ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"),
        ],
        ids=["in the handshake", "before the answer", "in the headers", "in the body"],
    )
    async def test_the_callers_own_cancellation_is_no_failure_and_ends_the_connection(
        self, sender: Sender, scheme: str, before: bytes
    ) -> None:
        reached = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.reader.read(1)
            await peer.send(before)
            reached.set()
            await peer.until_hung_up()

        async with serve(play) as server:
            url = f"{scheme}://127.0.0.1:{server.port}/"
            task = asyncio.create_task(sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
            await reached.wait()
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.hung_up.wait(), 2)

    async def test_the_callers_own_cancellation_ends_what_a_receiver_does_not_read(
        self, sender: Sender
    ) -> None:
        size, reached, cancelled = 16_000_000, asyncio.Event(), asyncio.Event()
        came: list[int] = []

        async def play(peer: Peer) -> None:
            await peer.reader.read(1)
            reached.set()
            await cancelled.wait()
            came.append(await peer.until_hung_up())

        async with serve(play) as server:
            task = asyncio.create_task(
                sender.post(server.url(), HEADERS, b"x" * size, owner=OWNER, timeout=AMPLE)
            )
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled.set()
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert came[0] < size

    async def test_one_caller_who_gives_a_lookup_up_does_not_end_it_for_others(
        self, make_sender: MakeSender
    ) -> None:
        async with DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns, serve(answers(OK)) as server:
            sender = make_sender(dns=dns)
            url = server.url(host="hooks.example.org")
            first, second = (
                asyncio.create_task(sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                for _ in range(2)
            )
            await asyncio.sleep(0)
            first.cancel()
            assert status_of(await second) == 200
            with pytest.raises(asyncio.CancelledError):
                await first

    # Failures of the connection

    async def test_refused(self, sender: Sender) -> None:
        result = await sender.post(
            f"http://127.0.0.1:{free_port()}/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE
        )
        assert reason_of(result) is Reason.CONNECTION_REFUSED

    async def test_closed_as_soon_as_it_was_open(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        async def play(peer: Peer) -> None:
            if peer.number % 2:
                peer.reset()

        for tls in (None, certificates.good()):
            sender = make_sender(trust=certificates.trust)
            async with serve(play, tls=tls) as server:
                posts = (
                    sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(20)
                )
                with Clocked() as took:
                    results = await asyncio.gather(*posts)
            assert {reason_of(each) for each in results} <= {
                Reason.UNEXPECTED_EOF, Reason.CONNECTION_RESET, Reason.INVALID_TLS_HANDSHAKE,
            }  # fmt: skip
            assert took.seconds < AMPLE / 2

    @pytest.mark.parametrize(
        "before",
        [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"],
        ids=["before the answer", "in the status", "in the body"],
    )
    async def test_reset(self, sender: Sender, before: bytes) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            if before:
                await peer.send(before)
                await asyncio.sleep(0.05)
            peer.reset()

        assert reason_of(await self.post_to(sender, play)) is Reason.CONNECTION_RESET

    @pytest.mark.parametrize(
        "before",
        [
            b"",
            b"H",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab",
        ],
        ids=[
            "before the answer",
            "in the status",
            "in the headers",
            "after 100",
            "in the body",
            "in a chunk",
        ],
    )
    async def test_closed_before_the_end_of_the_answer_is_not_sent_again(
        self, sender: Sender, before: bytes
    ) -> None:
        async with serve(answers(before)) as server:
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.UNEXPECTED_EOF
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "steps",
        [
            (b"220 mail.example.org ESMTP\r\n",),
            (b"\x15\x03\x01\x00\x02\x02\x46",),
            (b"HTTP/1.1 abc\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",),
            (b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 0\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",),
            (b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0.05, b"2\r\nab\r\nxyz\r\n", 30.0),
            (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000,),
            (b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 50_000,),
        ],
        ids=[
            "smtp", "tls alert", "status", "header", "length", "two lengths", "a length twice",
            "list of lengths", "signed length", "huge length", "length and chunks", "chunks and length",
            "huge chunk", "space in a name", "nul", "many interim answers", "chunk", "later chunk",
            "long header", "many headers",
        ],
    )  # fmt: skip
    async def test_what_is_not_http_is_told_apart_from_a_lost_connection(
        self, sender: Sender, steps: tuple[bytes | float, ...]
    ) -> None:
        with Clocked() as took:
            result = await self.post_to(sender, answers(*steps))
        assert reason_of(result) is Reason.DESTINATION_FAILURE
        assert took.seconds < AMPLE / 2

    async def test_an_unknown_name(self, make_sender: MakeSender) -> None:
        async with DnsServer({}) as dns:
            sender = make_sender(dns=dns)
            result = await sender.post(
                "https://something.invalid/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.DNS_LOOKUP_FAILURE

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.org/",
            "http:///path",
            "http://user:secret@127.0.0.1/",
            "http://127.0.0.1:99999/",
            "http://[::1/",
            "http://a[::1]b/",
            "http://-/",
            "nonsense",
        ],
    )
    async def test_an_unusable_url_is_the_destinations_mistake(self, sender: Sender, url: str) -> None:
        result = await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert isinstance(result, TransportFailure)
        assert "secret" not in result.detail

    async def test_a_failure_does_not_tell_the_path(self, sender: Sender) -> None:
        async with serve(answers(b"garbage")) as server:
            result = await sender.post(
                server.url("/hook?token=s3cret"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert "s3cret" not in repr(result)

    @pytest.mark.parametrize(
        "header",
        [
            ("X-Bad", "a\r\nX-Injected: b"),
            ("X-Bad", "a\nX-Injected: b"),
            ("X-Bad", "a\rb"),
            ("X-Bad", "a\0b"),
            ("X-Bad: a\r\nX-Injected", "b"),
            ("X-Bad\n", "b"),
            ("X-Bad: a", "b"),
            ("X Bad", "b"),
            ("", "b"),
            ("Content-Length", "7"),
            ("transfer-encoding", "chunked"),
            ("HOST", "elsewhere.example"),
        ],
        ids=repr,
    )
    async def test_our_own_mistakes_are_raised(self, sender: Sender, header: tuple[str, str]) -> None:
        async with serve(answers(OK)) as server:
            with pytest.raises(ValueError, match=r"."):
                await sender.post(server.url(), [*HEADERS, header], b"{}", owner=OWNER, timeout=AMPLE)
        assert server.connections == 0

    # TLS

    async def test_a_good_certificate(self, make_sender: MakeSender, certificates: Certificates) -> None:
        async with serve(answers(OK), tls=certificates.good()) as server:
            result = await make_sender(trust=certificates.trust).post(
                server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert body_of(result) == b"ok"

    async def test_a_good_certificate_of_a_name(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        asked_for: list[str | None] = []
        tls = certificates.good("hooks.example.org")
        tls.sni_callback = lambda opened, name, context: asked_for.append(name)
        async with (
            DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns,
            serve(answers(OK), tls=tls) as server,
        ):
            sender = make_sender(trust=certificates.trust, dns=dns)
            result = await sender.post(
                server.url(host="hooks.example.org"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert body_of(result) == b"ok"
        assert f"host: hooks.example.org:{server.port}".encode() in server.requests[0].lower()
        assert asked_for == ["hooks.example.org"]

    async def test_a_certificate_counts_for_no_name_but_those_of_its_san(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        async with (
            DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns,
            serve(answers(OK), tls=certificates.name_without_san()) as server,
        ):
            sender = make_sender(trust=certificates.trust, dns=dns)
            url = server.url(host="hooks.example.org")
            result = await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.INVALID_CERTIFICATE
        assert not server.requests

    async def test_no_name_is_asked_for_at_an_address(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        asked_for: list[str | None] = []
        tls = certificates.good()
        tls.sni_callback = lambda opened, name, context: asked_for.append(name)
        async with serve(answers(OK), tls=tls) as server:
            sender = make_sender(trust=certificates.trust)
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
        assert asked_for == [None]

    async def test_a_connection_with_tls_is_used_again(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        body = b"x" * 200_000
        async with serve(answers(OK, keep=True), tls=certificates.good()) as server:
            sender = make_sender(trust=certificates.trust)
            for _ in range(3):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, body, owner=OWNER, timeout=AMPLE))
                    == 200
                )
        assert server.connections == 1
        assert all(request.endswith(body) for request in server.requests)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
            (b"", Reason.UNEXPECTED_EOF),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Reason.UNEXPECTED_EOF),
        ],
    )
    async def test_the_end_of_a_connection_with_tls(
        self, make_sender: MakeSender, certificates: Certificates, answer: bytes, expected: bytes | Reason
    ) -> None:
        async with serve(answers(answer), tls=certificates.good()) as server:
            sender = make_sender(trust=certificates.trust)
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert (body_of(result) if isinstance(result, Answer) else reason_of(result)) == expected

    @pytest.mark.parametrize(
        ("answer", "status"),
        [
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the", None),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", None),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab", None),
            (OK, 200),
            (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * LIMIT, 200),
        ],
        ids=["until the end", "length", "chunks", "complete", "more than is read"],
    )
    async def test_an_answer_that_is_cut_off_is_none_unless_its_end_had_come(
        self, make_sender: MakeSender, certificates: Certificates, answer: bytes, status: int | None
    ) -> None:
        """RFC 9112 9.8: without TLS's own end, the end of the connection says nothing about the body's."""

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(answer)
            peer.cut_off()
            await peer.until_hung_up()

        async with serve(play, tls=certificates.good()) as server:
            sender = make_sender(trust=certificates.trust)
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        if status is None:
            assert reason_of(result) is Reason.UNEXPECTED_EOF
        else:
            assert status_of(result) == status

    async def test_a_kept_connection_with_tls_found_dead_is_not_the_receivers_failure(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()

        async with serve(play, tls=certificates.good()) as server:
            sender = make_sender(trust=certificates.trust)
            for _ in range(2):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                    == 200
                )
        assert (server.connections, len(server.requests)) == (2, 3)

    @pytest.mark.parametrize(
        "make",
        [
            Certificates.wrong_name,
            Certificates.expired,
            Certificates.self_signed,
            Certificates.unknown_authority,
        ],
    )
    async def test_a_bad_certificate(
        self,
        make_sender: MakeSender,
        certificates: Certificates,
        make: Callable[[Certificates], ssl.SSLContext],
    ) -> None:
        async with serve(answers(OK), tls=make(certificates)) as server:
            result = await make_sender(trust=certificates.trust).post(
                server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.INVALID_CERTIFICATE
        assert not server.requests

    async def test_certificates_are_verified_by_default(
        self, sender: Sender, certificates: Certificates
    ) -> None:
        async with serve(answers(OK), tls=certificates.good()) as server:
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.INVALID_CERTIFICATE

    async def test_a_client_certificate_that_we_do_not_have(
        self, make_sender: MakeSender, certificates: Certificates
    ) -> None:
        async def play(peer: Peer) -> None:
            await peer.refuse_tls(certificates.asking_for_a_client_certificate())

        async with serve(play) as server:
            result = await make_sender(trust=certificates.trust).post(
                f"https://127.0.0.1:{server.port}/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.INVALID_TLS_HANDSHAKE

    async def test_plain_http_on_a_tls_port(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.reader.read(1)
            await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            await peer.until_hung_up()

        async with serve(play) as server:
            result = await sender.post(
                f"https://127.0.0.1:{server.port}/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.INVALID_TLS_HANDSHAKE

    async def test_a_tls_port_that_hangs_up(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.reader.read(1)

        async with serve(play) as server:
            result = await sender.post(
                f"https://127.0.0.1:{server.port}/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.INVALID_TLS_HANDSHAKE

    async def test_a_tls_port_that_never_answers(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.until_hung_up()

        async with serve(play) as server:
            with Clocked() as took:
                result = await sender.post(
                    f"https://127.0.0.1:{server.port}/", HEADERS, b"{}", owner=OWNER, timeout=SHORT
                )
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert reason_of(result) is Reason.DESTINATION_TIMEOUT
        assert took.seconds < SHORT + LATE

    # What is sent

    async def test_the_request_is_sent_as_it_was_given(self, sender: Sender) -> None:
        given = [
            ("Content-Type", "application/json"),
            ("User-Agent", "akeneo/event-platform"),
            ("X-AKENEO-SIGNATURE-PRIMARY", "abc"),
            ("x-lower", "1"),
            ("X-Upper", 'a "quoted", value'),
            ("A-Last", "z"),
        ]
        path = "/a/../b//c%2f%2F;d?q=a+b&q=%20&z=|\"<>{}'"
        body = b'{"a":"\xc3\xa9"}\n\x00'
        async with serve(answers(OK)) as server:
            await sender.post(server.url(path), given, body, owner=OWNER, timeout=AMPLE)
        head, _, sent = server.requests[0].partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = [tuple(header.split(": ", 1)) for header in rest]
        framing = {"host": f"127.0.0.1:{server.port}", "content-length": str(len(body))}
        assert line == f"POST {path} HTTP/1.1"
        assert sent == body
        assert [header for header in headers if header[0].lower() not in framing] == given
        assert {name.lower(): value for name, value in headers if name.lower() in framing} == framing

    async def test_a_headers_value_may_have_any_letters(self, sender: Sender) -> None:
        async with serve(answers(OK)) as server:
            await sender.post(
                server.url(), [("X-Name", "caf\u00e9 \u2615")], b"{}", owner=OWNER, timeout=AMPLE
            )
        assert b"\r\nX-Name: caf\xc3\xa9 \xe2\x98\x95\r\n" in server.requests[0]

    async def test_nothing_is_added_when_nothing_is_given(self, sender: Sender) -> None:
        async with serve(answers(OK)) as server:
            await sender.post(server.url(), [], b"", owner=OWNER, timeout=AMPLE)
        names = {line.split(b":")[0].lower() for line in server.requests[0].split(b"\r\n")[1:-2]}
        assert names == {b"host", b"content-length"}

    async def test_a_proxy_of_the_environment_is_not_used(
        self, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with serve(answers(OK)) as proxy, serve(answers(OK)) as server:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url())
            assert (
                body_of(await make_sender().post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                == b"ok"
            )
        assert (proxy.connections, server.connections) == (0, 1)

    # Kept connections

    async def test_a_connection_is_used_again(self, sender: Sender) -> None:
        async with serve(answers(OK, keep=True)) as server:
            for _ in range(3):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                    == 200
                )
        assert (server.connections, len(server.requests)) == (1, 3)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\nX-A: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok",
        ],
        ids=["http/1.0", "after 100", "304", "204", "chunked", "upgrade offered"],
    )
    async def test_a_connection_is_used_again_after(self, sender: Sender, answer: bytes) -> None:
        async with serve(answers(answer, keep=True)) as server:
            first, second = [
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(2)
            ]
        assert isinstance(first, Answer)
        assert first == second
        assert (server.connections, len(server.requests)) == (1, 2)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"HTTP/1.1 101 Go\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
            OK + b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
            OK + b"H",
            OK + b"and more",
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * LIMIT) + b"x" * 2 * LIMIT,
        ],
        ids=["close", "close in a list", "http/1.0", "101", "bare 101", "204 with body", "two answers",
             "begin of another", "more than its length", "long body"],
    )  # fmt: skip
    async def test_a_connection_is_not_used_again_after(self, sender: Sender, answer: bytes) -> None:
        async with serve(answers(answer, keep=True)) as server:
            first, second = [
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(2)
            ]
        assert isinstance(first, Answer)
        assert first == second
        assert (server.connections, len(server.requests)) == (2, 2)

    @pytest.mark.parametrize(
        "unasked", [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 5", b"x", b"\r\n"]
    )
    async def test_what_comes_unasked_is_no_answer_to_the_next_request(
        self, sender: Sender, unasked: bytes
    ) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await asyncio.sleep(0.02)
            await peer.send(unasked)
            await peer.until_hung_up()

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(server.hung_up.wait(), 2)
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert (status_of(result), server.connections) == (200, 2)

    async def test_what_came_since_the_last_answer_is_no_answer_to_the_next_request(
        self, sender: Sender
    ) -> None:
        """It lies in the socket when the connection is used again: the loop had no time to read it."""
        peers: list[Peer] = []

        async def play(peer: Peer) -> None:
            peers.append(peer)
            await answers(OK, keep=True)(peer)

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            opened = peers[0].writer.get_extra_info("socket")
            os.write(opened.fileno(), b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert (status_of(result), server.connections, len(server.requests)) == (200, 2, 2)

    async def test_a_second_answer_that_nobody_asked_for_is_no_answer_to_another_owner(
        self, sender: Sender
    ) -> None:
        """Even if it comes after the other owner's request was sent."""
        second = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK if peer.number == 1 else b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
            await second.wait()
            await peer.send(OK)
            await peer.until_hung_up()

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            waiting = asyncio.create_task(
                sender.post(server.url(), HEADERS, b"{}", owner=OTHER_OWNER, timeout=AMPLE)
            )
            await asyncio.sleep(0.05)
            second.set()
            assert status_of(await waiting) == 500
        assert server.connections == 2

    async def test_owners_do_not_share_connections(self, sender: Sender) -> None:
        async with serve(answers(OK, keep=True)) as server:
            for owner in (OWNER, OTHER_OWNER) * 3:
                await sender.post(server.url(), HEADERS, b"{}", owner=owner, timeout=AMPLE)
        assert (server.connections, len(server.requests)) == (2, 6)

    async def test_answers_go_to_who_asked(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            while True:
                asked = (await peer.request()).partition(b"\r\n\r\n")[2]
                await asyncio.sleep(int(asked) % 7 / 1000)
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(asked), asked))

        async with serve(play) as server:

            async def ask(number: int) -> None:
                for each in range(number, number + 10):
                    result = await sender.post(
                        server.url(), HEADERS, b"%d" % each, owner=OWNER, timeout=AMPLE
                    )
                    assert body_of(result) == b"%d" % each

            await asyncio.gather(*(ask(number * 100) for number in range(20)))
        assert server.connections <= 20

    async def test_an_idle_connection_that_the_server_closed_is_replaced(self, sender: Sender) -> None:
        async with serve(answers(OK)) as server:
            for _ in range(2):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                    == 200
                )
                await asyncio.sleep(0.05)
        assert server.connections == 2

    @pytest.mark.parametrize("end", ["close", "reset"])
    async def test_a_kept_connection_found_dead_is_not_the_receivers_failure(
        self, sender: Sender, end: str
    ) -> None:
        """The server gives the idle connection up at the very moment in which we use it."""

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            if end == "reset":
                peer.reset()

        async with serve(play) as server:
            for _ in range(2):
                assert (
                    status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                    == 200
                )
        assert server.connections == 2
        assert len(server.requests) == 3

    async def test_a_receiver_that_dies_on_one_event_gets_it_twice_in_an_attempt(
        self, sender: Sender
    ) -> None:
        """However many connections to it are kept."""
        all_there = asyncio.Barrier(5)

        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number <= 5:
                await all_there.wait()
                await peer.send(OK)
                await peer.request()

        async with serve(play) as server:
            posts = (sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(5))
            assert {status_of(result) for result in await asyncio.gather(*posts)} == {200}
            result = await sender.post(server.url(), HEADERS, b"deadly", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.UNEXPECTED_EOF
        assert sum(request.endswith(b"deadly") for request in server.requests) == 2

    async def test_one_of_several_dead_connections_costs_an_attempt_nothing(self, sender: Sender) -> None:
        both_there = asyncio.Barrier(2)

        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number <= 2:
                await both_there.wait()
            await peer.send(OK)
            await peer.request()

        async with serve(play) as server:
            posts = (sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(2))
            await asyncio.gather(*posts)
            assert server.connections == 2
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
        assert server.connections == 3

    async def test_a_fresh_connection_that_closes_too_is_the_receivers_failure(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                await peer.send(OK)
                await peer.request()

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.UNEXPECTED_EOF
        assert (server.connections, len(server.requests)) == (2, 3)

    async def test_the_beginning_of_an_answer_shows_that_a_kept_connection_lived(
        self, sender: Sender
    ) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await peer.send(b"HTTP/1.1 20")

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.UNEXPECTED_EOF
        assert len(server.requests) == 2

    async def test_sending_again_stays_within_the_deadline(self, sender: Sender) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                await peer.send(OK)
                await peer.request()
                await asyncio.sleep(LONG * 2 / 3)
            else:
                await asyncio.sleep(30)

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            with Clocked() as took:
                result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=LONG)
        assert reason_of(result) is Reason.DESTINATION_TIMEOUT
        assert len(server.requests) == 3
        assert took.seconds < LONG + LONG / 2

    async def test_many_slow_receivers_do_not_keep_others_waiting(self, sender: Sender) -> None:
        async with serve(answers(30.0)) as slow, serve(answers(OK)) as quick:
            waiting = [
                asyncio.create_task(sender.post(slow.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
                for _ in range(150)
            ]
            await slow.received(150)
            assert (
                status_of(await sender.post(quick.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # Where we connect to

    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "2130706433", "127.1", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.0.0.1.",
            "0.0.0.0",  # noqa: S104 - connected to, not bound to
            "10.0.0.1", "169.254.169.254", "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
            "[64:ff9b::7f00:1]", "[fd00:ec2::254]", "localhost", "LOCALHOST", "localhost.", "a.localhost",
            "metadata.google.internal",
        ],
    )  # fmt: skip
    async def test_an_address_that_is_not_public_is_never_connected_to(
        self, make_sender: MakeSender, host: str
    ) -> None:
        async with serve(answers(OK)) as server:
            sender = make_sender(allow_loopback=False)
            result = await sender.post(server.url(host=host), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert server.connections == 0

    @pytest.mark.parametrize(
        "found", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["2606:2800::1", "127.0.0.1"], ["::1"]]
    )
    async def test_a_name_with_one_address_that_is_not_public_is_never_connected_to(
        self, make_sender: MakeSender, found: list[str]
    ) -> None:
        async with DnsServer({"hooks.example.org": [found]}) as dns, serve(answers(OK)) as server:
            sender = make_sender(allow_loopback=False, dns=dns)
            result = await sender.post(
                server.url(host="hooks.example.org"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert server.connections == 0

    async def test_allowing_loopback_allows_nothing_else(self, make_sender: MakeSender) -> None:
        async with serve(answers(OK)) as server:
            for host in ("10.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0"):  # noqa: S104 - not bound to
                result = await make_sender().post(
                    server.url(host=host), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
                )
                assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
            assert status_of(
                await make_sender().post(
                    server.url(host="localhost"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
                )
            )
        assert server.connections == 1
