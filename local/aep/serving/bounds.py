"""Bounds on one client of the server: time and size of each part of a request, waiting requests, and answers.

uvicorn bounds only the pause between requests; a client that drips its headers, or sends requests without
reading an answer, could hold a connection and its memory for ever.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from event_platform.domain.words import counted
from event_platform.http import SAFE

from .accepting import Place
from .joined import Joined

HEAD_SECONDS = 10.0
HEAD_BYTES = 32 * 1024
HEADER_LINES = 100
HOST_BYTES = 300
"""The most bytes of the header Host: a name has at most 253, and a port.

Served descriptions repeat it in many places.
"""
BODY_SECONDS = 30.0
CHUNK_OVERHEAD_BYTES = 24 * 1024
"""The bytes that the chunks of a body may cost beside it, besides as many as the body has. Each chunk is a
call: the 6,000 of one byte that use it up take some 3 ms."""
ANSWER_SECONDS = 30.0
"""The time in which a client has to read an answer."""
ANSWER_BUFFER_BYTES = 4 * 1024
"""The bytes that may wait unread in a connection without being counted. Most answers are smaller."""

_SAFE = "".join(f"{name}: {value}\r\n" for name, value in SAFE.items()).encode()
_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")
_END_OF_HEAD = b"\r\n\r\n"
_LEAST_OF_CHUNKS = 64
"""The least bytes of a piece of a chunked body, or a chunk of line breaks would be many pieces."""
_MOST_OF_CHUNKS = 16 * 1024
"""The most bytes of one: its chunks are parsed before they are counted."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 on httptools; a request over a bound is answered 400, 408 or 431, and its connection
    closed.

    One request is read at a time: bytes that a client sends before it has its answer are held, and no more is
    read from the socket. `place` is the connection's place among all of the server.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place: Place = Place()
        self._deadline: float | None = None
        self._is_idle = False
        """True while the deadline is that of an idle connection, which is closed without a word."""
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._bytes_beside_body = 0
        self._reading_body = False
        self._body_left = 0
        """Bytes of a body of declared length that are still to come."""
        self._read_ahead: int | None = None
        """The length that a head declares with which some of its body is parsed, as it was found there."""
        self._is_whole = False
        """True if such a body has come as a whole, so that it is parsed in the same call as its head."""
        self._chunk_allowance = 0
        self._is_answering = False
        self._held = b""
        self._held_from = 0
        self._hosts = 0
        self._codings: list[bytes] = []
        self._asks_to_upgrade = False
        self._has_client_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(ANSWER_BUFFER_BYTES)
        self.place.drop = transport.abort
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        if self._alarm is not None:
            self._alarm.cancel()
        self._held = b""
        self.place.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._held:  # reading is paused, and something was under way
            self._hold(self._held[self._held_from :] + data, 0)
            return
        if self._is_idle:
            self._expect_within(HEAD_SECONDS)
        self._read(data, 0)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called when the client closes its sending side. Keeps the connection while it waits for an answer.

        Over TLS neither event loop can do that.
        """
        self._has_client_ended = True
        return self.scheme == "http" and (self._is_answering or bool(self._held))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading_body:  # a trailer is nobody's business
            return
        name = name.lower()
        if name == b"host":
            self._hosts += 1
            if len(value) > HOST_BYTES:
                self._stop(
                    self._refuse, b"400 Bad Request", f"the header Host is longer than {HOST_BYTES} bytes"
                )
        elif name == b"content-length":
            self._body_left = int(value)
        elif name == b"transfer-encoding":
            self._codings.append(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_message_begin(self) -> None:
        self._hosts = 0
        self._codings = []
        self._body_left = 0
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        is_long = self._bytes_beside_body > HEAD_BYTES and self._head_bytes() > HEAD_BYTES
        if is_long or len(self.headers) > HEADER_LINES:
            self._stop(self._refuse_head)
        self._bytes_beside_body = 0
        self._check_framing()
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._asks_to_upgrade = True
            return
        self._reading_body = True
        self._begin()

    def _begin(self) -> None:
        """Begins a request whose head is good: uvicorn runs the app, which awaits the body."""
        self._chunk_allowance = CHUNK_OVERHEAD_BYTES
        self._expect_within(BODY_SECONDS)
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # makes the scope
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()
        self.cycle.transport = Joined(self.transport, self.loop)  # type: ignore[assignment]

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        self._bytes_beside_body = 0
        if self._codings:
            self._chunk_allowance += 2 * len(body)
        else:
            self._body_left -= len(body)
        if not self.cycle.response_complete:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._asks_to_upgrade:
            return
        self._bytes_beside_body = 0
        self._reading_body = False
        if self.cycle.response_complete:
            self._await_request()
        else:
            self._begin_to_answer()
        super().on_message_complete()

    def _begin_to_answer(self) -> None:
        self._expect_nothing()
        self._is_answering = True
        self.place.busy()

    def on_response_complete(self) -> None:
        """Reads the next request. Called by uvicorn when an answer was handed to the transport."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the deadline is there instead
        self._end_answering()

    def _end_answering(self) -> None:
        self._is_answering = False
        self.place.idle()
        if not self.flow.write_paused and not self._reading_body:
            self._await_request()
        self._go_on()

    def _go_on(self) -> None:
        """Reads the next request if it came already. Closes the connection if none can come any more."""
        if self._held and not self.transport.is_closing():
            self._read_held()
        if self._has_client_ended and not (self._is_answering or self._held):
            self.transport.close()

    def _read_held(self) -> None:
        if not self._must_hold():
            self.flow.resume_reading()
            held, start = self._held, self._held_from
            self._held = b""
            self.place.hold(0)
            self._expect_within(HEAD_SECONDS)
            self._read(held, start)

    def _must_hold(self) -> bool:
        """True if the next request has to wait until the answer before it is given and mostly read."""
        return self._is_answering or (self.flow.write_paused and not self._reading_body)

    def pause_writing(self) -> None:
        """Counts what the client has not read. Called by the transport when the client reads too slowly."""
        super().pause_writing()
        self.place.idle()
        self.place.set_unread(self.transport.get_write_buffer_size())  # type: ignore[attr-defined]
        if not self._reading_body:
            self._expect_within(ANSWER_SECONDS)

    def resume_writing(self) -> None:
        """Reads the next request. Called by the transport when the client has read nearly all."""
        super().resume_writing()
        self.place.set_unread(0)
        if self._is_answering:
            self.place.busy()
        elif not self._reading_body:
            self._await_request()
            self._go_on()

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are not HTTP, in the form of every other error."""
        self._refuse(b"400 Bad Request", "not a valid HTTP request")

    def _read(self, data: bytes, start: int) -> None:
        """Parses `data` from `start` on, piece by piece, until an answer has to go first."""
        while start < len(data) and not self.transport.is_closing():
            if self._must_hold():
                self._hold(data, start)
                return
            end = self._end_of_piece(data, start)
            piece = data if end - start == len(data) else data[start:end]
            start = end
            self._bytes_beside_body += len(piece)
            if self._reading_body and self._codings:
                self._chunk_allowance -= len(piece)
            self._parse(piece)
            # Bodies are bounded by the routes; heads, trailers and chunk extensions are here, as they come.
            if self._bytes_beside_body > HEAD_BYTES:
                self._refuse_head()
            elif self._reading_body and self._chunk_allowance < 0:
                self._refuse(b"400 Bad Request", "the chunks of the body are too small: send larger ones")

    def _end_of_piece(self, data: bytes, start: int) -> int:
        """Returns where a request may end, as httptools reads on into the next one by itself."""
        self._read_ahead, self._is_whole = None, False
        if self._reading_body:
            if self._body_left:
                return min(len(data), start + self._body_left)
            return min(_end_of_head(data, start + _LEAST_OF_CHUNKS), start + _MOST_OF_CHUNKS)
        if (line_end := data.find(b"\n", start, start + 3)) >= 0:
            return line_end + 1  # perhaps the rest of the end of a head
        end = _end_of_head(data, start)
        if end < len(data) and (found := _LENGTH.search(data, start, end)):
            self._read_ahead = int(found[1])
            self._is_whole = end + self._read_ahead <= len(data)
            return min(len(data), end + self._read_ahead)
        return end

    def _hold(self, data: bytes, start: int) -> None:
        """Keeps bytes of the next request until the answer before it is given."""
        self.flow.pause_reading()
        self._held, self._held_from = data, start
        if not self.place.hold(len(data)):
            self.transport.abort()

    def _check_framing(self) -> None:
        """Refuses requests that a proxy before us may read otherwise (RFC 9112 3.2, 6.1); llhttp does the
        rest.
        """
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._stop(self._refuse, b"505 HTTP Version Not Supported", "send the request as HTTP/1.1")
        if self._hosts > 1 or (self._hosts == 0 and version == "1.1"):
            message = f"the header Host must be there once; it is there {counted(self._hosts, 'time')}"
            self._stop(self._refuse, b"400 Bad Request", message)
        if self._read_ahead is not None and (self._codings or self._body_left != self._read_ahead):
            message = "a request has one Content-Length or one Transfer-Encoding"
            self._stop(self._refuse, b"400 Bad Request", message)
        if not self._codings:
            return
        if version == "1.0":
            message = "HTTP/1.0 has no Transfer-Encoding; send Content-Length"
            self._stop(self._refuse, b"400 Bad Request", message)
        if [each.strip().lower() for each in self._codings] != [b"chunked"]:
            message = "Transfer-Encoding must be 'chunked' alone, or absent"
            self._stop(self._refuse, b"501 Not Implemented", message)

    def _stop(self, refuse: Callable[..., None], *arguments: Any) -> NoReturn:
        """Refuses the request, and has the parser read no more of it."""
        refuse(*arguments)
        raise ValueError("the request was refused")

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._read_again(data[upgrade.args[0] :]) if self._asks_to_upgrade else b""
            except httptools.HttpParserError:
                self.send_400_response("")
                return

    def _read_again(self, rest: bytes) -> bytes:
        """Reads a request that asks for another protocol, with `rest` behind its head, as if it did not ask.

        To ignore that is right (RFC 9110 7.8), but httptools reads no body then, and Java's client asks for
        h2c with the first request of every connection.
        """
        self._asks_to_upgrade = False
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        head += [name + b": " + value for name, value in self.headers if name not in _OF_UPGRADES]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*head, b"", rest])

    def _await_request(self) -> None:
        """Keeps the connection for the client's next request, and closes it when none comes."""
        self._expect_within(self.timeout_keep_alive)
        self._is_idle = True

    def _expect_within(self, seconds: float) -> None:
        self._is_idle = False
        self._deadline = self.loop.time() + seconds
        # A timer for each phase of each request would cost more: one that is early looks again.
        if self._alarm is None or self._alarm_at > self._deadline:
            self._set_alarm(self._deadline)

    def _expect_nothing(self) -> None:
        self._is_idle = False
        self._deadline = None

    def _set_alarm(self, moment: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = moment
        self._alarm = self.loop.call_at(moment, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._alarm = None
        if self._deadline is None:
            return
        if self._deadline > self.loop.time():
            self._set_alarm(self._deadline)
            return
        self._deadline = None
        if self._is_answering or self.flow.write_paused or self.transport.is_closing():
            self.transport.abort()  # an answer that is not read: nothing else can be said either
            return
        if self._is_idle:
            self.transport.close()
            return
        self._refuse(b"408 Request Timeout", "the request did not arrive in time")

    def _refuse_head(self) -> None:
        message = f"at most {HEAD_BYTES // 1024} KiB and {HEADER_LINES} lines of headers"
        self._refuse(b"431 Request Header Fields Too Large", message)

    def _refuse(self, status: bytes, message: str) -> None:
        if self.transport.is_closing():
            return
        if self._reading_body and self.cycle.response_started:
            self.transport.close()  # a second answer would be taken for that to another request
            return
        body = b'{"errors":[{"message":"%b"}]}' % message.encode()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b"
            b"connection: close\r\n\r\n%b" % (status, len(body), _SAFE, body)
        )
        self.transport.close()


def _end_of_head(data: bytes, start: int) -> int:
    """Returns where the first end of a head, or of trailers, is from `start` on; the end of `data` if there
    is none.
    """
    found = data.find(_END_OF_HEAD, start)
    return len(data) if found < 0 else found + len(_END_OF_HEAD)
