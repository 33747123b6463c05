"""Bounds on what one client may take of the server: time and size of a request's head, time of its body,
and the number of connections.

uvicorn bounds the pause between requests only; a client that drips its headers could hold a connection,
and its memory, for ever.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from event_platform.http import SAFE

HEAD_SECONDS = 10.0
HEAD_BYTES = 32 * 1024
BODY_SECONDS = 30.0
CONNECTIONS = 4096

_SAFE = "".join(f"{name}: {value}\r\n" for name, value in SAFE.items()).encode()
_OF_UPGRADES = (b"connection", b"upgrade", b"http2-settings")


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 on httptools; what goes over a bound is answered 408 or 431, and closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._bytes_beside_body = 0
        self._reading_body = False
        self._asks_to_upgrade = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        if self._alarm is not None:
            self._alarm.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._bytes_beside_body += len(data)
        if not self._reading_body and self._deadline is None:
            self._expect_within(HEAD_SECONDS)
        self._parse(data)
        # Bodies are bounded by the routes; heads, trailers and chunk extensions are here, as they come.
        if self._bytes_beside_body > HEAD_BYTES:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._reading_body:  # a trailer is nobody's business
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._bytes_beside_body = 0
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > HEAD_BYTES:
            self._refuse_head()
            raise ValueError("the head is too large")  # which stops the parser
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._asks_to_upgrade = True
            return
        self._reading_body = True
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._bytes_beside_body = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._asks_to_upgrade:
            return
        self._bytes_beside_body = 0
        self._reading_body = False
        self._expect_nothing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """For what is not HTTP: in the form of every other error."""
        self._refuse(b"400 Bad Request", "not a valid HTTP request")

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
        """A request that asks for another protocol, with `rest` behind its head, as if it did not ask.

        To ignore that is right (RFC 9110 7.8), but httptools reads no body then, and Java's client asks for
        h2c with the first request of every connection.
        """
        self._asks_to_upgrade = False
        version = self.parser.get_http_version().encode()
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        head += [name + b": " + value for name, value in self.headers if name not in _OF_UPGRADES]
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([*head, b"", rest])

    def _expect_within(self, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        # A timer for each phase of each request would cost more: one that is early looks again.
        if self._alarm is None or self._alarm_at > self._deadline:
            self._set_alarm(self._deadline)

    def _expect_nothing(self) -> None:
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
        self._refuse(b"408 Request Timeout", "the request did not arrive in time")

    def _refuse_head(self) -> None:
        self._refuse(b"431 Request Header Fields Too Large", f"at most {HEAD_BYTES // 1024} KiB of headers")

    def _refuse(self, status: bytes, message: str) -> None:
        if self.transport.is_closing():
            return
        body = b'{"errors":[{"message":"%b"}]}' % message.encode()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b"
            b"connection: close\r\n\r\n%b" % (status, len(body), _SAFE, body)
        )
        self.transport.close()
