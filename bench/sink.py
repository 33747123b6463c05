"""A worker: the receiver of deliveries, cheap beside the platform.

Keeps the deliveries and the moment when each was complete (`time.monotonic_ns`, one clock for all processes
of the machine). They are read only on an order, so that this takes no time from the platform before: the
first delivery for each path and event id, how many came again, and whether every signature is right.

At paths that begin with /slow-SECONDS/ or /status-CODE/ it plays a receiver in trouble, and at /gate/ one
that answers nothing between the orders "close" and "open"; those deliveries are noted as well. At
/random-ANYTHING/ it answers at random, and notes those that it answered 200. Deliveries of a replay come at
a path of their own; it refuses each tenth event of these once.

It listens on ports for http, and on one for https; it says the authority of that one's certificate.

Orders: "came", how many deliveries, without reading them; "count", "by path", how many events at each;
"arrivals", "repeats", path and event of each delivery that came again; "reset", "close", "open".
"""

import asyncio
import hashlib
import hmac
import random
import ssl
import sys
import time
from collections import defaultdict
from typing import Any

import httptools
import trustme
import uvloop

from .workers import hear, say

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
ORIGINS = 20
"""The ports that it listens on: receivers have origins of their own, and a sender a connection pool for
each.
"""
FATES = {"fast": 90, "slow": 5, "429": 2, "500": 1, "503": 1, "reset": 0.5, "cut": 0.5}
"""The results of a delivery to a receiver at random, in percent."""
SLOW_SECONDS = 0.05, 1.0
REPLAYED = "/replayed"
"""Follows the path of what a replay delivers."""
_SIGNATURE, _REPLAY = b"x-akeneo-signature-primary", b"x-event-platform-replay"


class Book:
    """The deliveries that came.

    With `lose` the second one is left out: a fault that the bench has to notice.
    """

    def __init__(self, secret: str, lose: bool) -> None:
        self._secret = secret.encode()
        self._until_lost = 2 if lose else 0
        self.reset()

    def reset(self) -> None:
        self._arrivals: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._unread: list[tuple[int, str, bytes, bytes]] = []
        self._repeats: list[tuple[str, str]] = []
        self._refused: set[bytes] = set()
        self.came = self._unique = self._bad_signatures = self._without_id = 0

    def note(self, path: str, signature: bytes, body: bytes) -> None:
        if self._until_lost:
            self._until_lost -= 1
            if self._until_lost == 0:
                return
        self.came += 1
        self._unread.append((time.monotonic_ns(), path, signature, body))

    def is_refused(self, body: bytes) -> bool:
        """True the first time that one of a tenth of all events comes."""
        event = _event_id(body)
        if not event.endswith(b"0") or event in self._refused:
            return False
        self._refused.add(event)
        return True

    def arrivals(self) -> dict[str, dict[str, int]]:
        self._read_all()
        return self._arrivals

    def by_path(self) -> dict[str, int]:
        return {path: len(arrivals) for path, arrivals in self.arrivals().items()}

    def repeats(self) -> list[tuple[str, str]]:
        self._read_all()
        return self._repeats

    def count(self) -> dict[str, int]:
        self._read_all()
        return {
            "unique": self._unique,
            "duplicates": len(self._repeats),
            "bad_signatures": self._bad_signatures,
            "without_id": self._without_id,
        }

    def _read_all(self) -> None:
        for came in self._unread:
            self._read(*came)
        self._unread.clear()

    def _read(self, moment: int, path: str, signature: bytes, body: bytes) -> None:
        expected = hmac.digest(self._secret, body, hashlib.sha256).hex().encode()
        self._bad_signatures += signature != expected
        event = _event_id(body).decode()
        if not event:
            self._without_id += 1
            return
        arrivals = self._arrivals[path]
        if event in arrivals:
            self._repeats.append((path, event))
        else:
            arrivals[event] = moment
            self._unique += 1


def _event_id(body: bytes) -> bytes:
    """Returns the event's id, which is empty where there is none."""
    start = body.find(b'"id":"') + 6
    end = body.find(b'"', start)
    return b"" if start < 6 or end < 0 else body[start:end]


class HeldAnswers:
    """Holds answers back between `close` and `open`."""

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
    def __init__(self, book: Book, held: HeldAnswers, chance: random.Random) -> None:
        self._book = book
        self._held = held
        self._chance = chance
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
        elif len(name) == len(_REPLAY) and name.lower() == _REPLAY:
            self._path += REPLAYED

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        part, _, value = self._path[1:].partition("/")[0].partition("-")
        if part == "random":
            self._answer_at_random()
            return
        if self._path.endswith(REPLAYED) and self._book.is_refused(b"".join(self._body)):
            self._refuse("503")
            return
        self._note()
        if part == "slow":
            asyncio.get_running_loop().call_later(float(value), self._answer_late)
        elif part == "status":
            self._refuse(value)
        elif part == "gate":
            self._held.answer(self._transport)
        else:
            self._transport.write(OK)

    def _note(self) -> None:
        self._book.note(self._path, self._signature, b"".join(self._body))

    def _answer_late(self) -> None:
        if not self._transport.is_closing():  # the platform waits for 5 s
            self._transport.write(OK)

    def _refuse(self, status: str) -> None:
        self._transport.write(OK.replace(b"200 OK", status.encode() + b" Status"))

    def _answer_at_random(self) -> None:
        (fate,) = self._chance.choices(list(FATES), list(FATES.values()))
        if fate == "fast":
            self._take()
        elif fate == "slow":
            asyncio.get_running_loop().call_later(self._chance.uniform(*SLOW_SECONDS), self._take)
        elif fate == "reset":
            self._transport.abort()
        elif fate == "cut":
            self._transport.write(OK[: len(OK) // 2])
            self._transport.close()
        else:
            self._refuse(fate)

    def _take(self) -> None:
        if not self._transport.is_closing():  # it may have been killed
            self._note()
            self._transport.write(OK)


async def _serve(book: Book, chance: random.Random) -> None:
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    held = HeldAnswers()
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    servers = [
        await loop.create_server(lambda: _Receiver(book, held, chance), "127.0.0.1", 0, backlog=4096, ssl=tls)
        for tls in [*[None] * ORIGINS, context]
    ]
    *origins, with_tls = (f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
    loop.add_reader(sys.stdin.fileno(), _obey, book, held, ended)
    say(
        {
            "origins": [f"http://{origin}" for origin in origins],
            "tls_origin": f"https://{with_tls}",
            "authority": authority.cert_pem.bytes().decode(),
        }
    )
    await ended
    for server in servers:
        server.close()


def _obey(book: Book, held: HeldAnswers, ended: "asyncio.Future[None]") -> None:
    try:
        order = hear()
    except SystemExit:
        ended.set_result(None)
        return
    acts = {"reset": book.reset, "close": held.close, "open": held.open}
    if order in acts:
        acts[order]()
    answers: dict[str, Any] = {
        "arrivals": book.arrivals,
        "by path": book.by_path,
        "came": lambda: book.came,
        "repeats": book.repeats,
    }
    say(answers.get(order, book.count)())


if __name__ == "__main__":
    order = hear()
    chance = random.Random(order["seed"])  # noqa: S311 - no secret
    uvloop.run(_serve(Book(order["secret"], order["lose"]), chance))
