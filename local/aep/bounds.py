"""Bounds on what one client may take of the server: time and size of a request's head, time of its body,
and the number of connections.

uvicorn bounds the pause between requests only; a client that drips its headers could hold a connection,
and its memory, for ever.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
HEAD_BYTES = 32 * 1024
BODY_SECONDS = 30.0
CONNECTIONS = 4096


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 on httptools; what goes over a bound is answered 408 or 431, and closed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._reading_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
            return
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._reading_body:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._expect_within(HEAD_SECONDS)
        super().data_received(data)
        # What was read past the end of a head belongs to a body, whose size the routes bound.
        if self._head_bytes > HEAD_BYTES and not self._reading_body and not self.transport.is_closing():
            self._refuse(
                b"431 Request Header Fields Too Large", f"at most {HEAD_BYTES // 1024} KiB of headers"
            )

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        self._reading_body = True
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading_body = False
        self._expect_nothing()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """For what is not HTTP: in the form of every other error."""
        self._refuse(b"400 Bad Request", "not a valid HTTP request")

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._deadline = self.loop.call_later(seconds, self._too_slow)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout", "the request did not arrive in time")

    def _refuse(self, status: bytes, message: str) -> None:
        body = b'{"errors":[{"message":"%b"}]}' % message.encode()
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n%b" % (status, len(body), body)
        )
        self.transport.close()
