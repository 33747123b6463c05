"""A worker: the receiver of deliveries, cheap beside the platform.

Notes for each path and event id when its first delivery was complete (`time.monotonic_ns`, one clock for all
processes of the machine), counts further ones, and verifies every signature. At paths that begin with
/slow-SECONDS/ or /status-CODE/ it plays a receiver in trouble, and at /gate/ one that answers nothing between
the orders "close" and "open"; those deliveries are noted as well.

Orders: "count", "arrivals", "reset", "close", "open".
"""

import asyncio
import hashlib
import hmac
import sys
import time
from collections import defaultdict
from typing import Any

import httptools
import uvloop

from .workers import hear, say

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ORIGINS = 20
"""Ports that it listens on: receivers have origins of their own, and a sender a connection pool for each."""
_SIGNATURE = b"x-akeneo-signature-primary"


class Book:
    """What came. With `lose` the second delivery is left out: a fault that the bench has to notice."""

    def __init__(self, secret: str, lose: bool) -> None:
        self._secret = secret.encode()
        self._until_lost = 2 if lose else 0
        self.reset()

    def reset(self) -> None:
        self.arrivals: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self.unique = self.duplicates = self.bad_signatures = self.without_id = 0

    def note(self, path: str, signature: bytes, body: bytes) -> None:
        now = time.monotonic_ns()
        if self._until_lost:
            self._until_lost -= 1
            if self._until_lost == 0:
                return
        expected = hmac.digest(self._secret, body, hashlib.sha256).hex().encode()
        self.bad_signatures += signature != expected
        start = body.find(b'"id":"') + 6
        end = body.find(b'"', start)
        if start < 6 or end < 0:
            self.without_id += 1
            return
        arrivals, event = self.arrivals[path], body[start:end].decode()
        if event in arrivals:
            self.duplicates += 1
        else:
            arrivals[event] = now
            self.unique += 1

    def count(self) -> dict[str, int]:
        return {
            "unique": self.unique,
            "duplicates": self.duplicates,
            "bad_signatures": self.bad_signatures,
            "without_id": self.without_id,
        }


class Gate:
    """Keeps answers back while it is closed."""

    def __init__(self) -> None:
        self._is_open = True
        self._held: list[asyncio.Transport] = []

    def close(self) -> None:
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        held, self._held = self._held, []
        for transport in held:
            if not transport.is_closing():  # of a sender that has ended
                transport.write(OK)

    def answer(self, transport: asyncio.Transport) -> None:
        if self._is_open:
            transport.write(OK)
        else:
            self._held.append(transport)


class _Receiver(asyncio.Protocol):
    def __init__(self, book: Book, gate: Gate) -> None:
        self._book = book
        self._gate = gate
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._path, self._signature = "", b""
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == len(_SIGNATURE) and name.lower() == _SIGNATURE:
            self._signature = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._book.note(self._path, self._signature, b"".join(self._body))
        part, _, value = self._path[1:].partition("/")[0].partition("-")
        if part == "slow":
            asyncio.get_running_loop().call_later(float(value), self._answer_late)
        elif part == "status":
            self._transport.write(OK.replace(b"200 OK", value.encode() + b" Status"))
        elif part == "gate":
            self._gate.answer(self._transport)
        else:
            self._transport.write(OK)

    def _answer_late(self) -> None:
        if not self._transport.is_closing():  # the platform waits for 5 s
            self._transport.write(OK)


async def _serve(book: Book) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    gate = Gate()
    servers = [
        await loop.create_server(lambda: _Receiver(book, gate), "127.0.0.1", 0, backlog=4096)
        for _ in range(ORIGINS)
    ]
    loop.add_reader(sys.stdin.fileno(), _obey, book, gate, ended)
    say({"origins": [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]})
    await ended
    for server in servers:
        server.close()


def _obey(book: Book, gate: Gate, ended: "asyncio.Future[None]") -> None:
    try:
        order = hear()
    except SystemExit:
        ended.set_result(None)
        return
    acts = {"reset": book.reset, "close": gate.close, "open": gate.open}
    if order in acts:
        acts[order]()
    answers: dict[str, Any] = {"arrivals": lambda: book.arrivals}
    say(answers.get(order, book.count)())


if __name__ == "__main__":
    order = hear()
    uvloop.run(_serve(Book(order["secret"], order["lose"])))
