"""A worker: publishes events over HTTP, as fast as it is answered (`rate` null) or paced, in an open loop.

The order: {url, keys, format, run, events, batch, connections, rate, size}; requests take the keys in turn.
`format` is "cloudevents", "events-api", whose keys are secrets, or "pushes" of one delivery each, which have
none. It says how it is prepared, waits for a word, and then says {"rows": [[first, count, moment, status,
answered], …], "started", "ended", "lag"}: one row a request, `moment` the monotonic nanoseconds when the
publishing began or, paced, was due, `answered` those of its answer. `lag` is how many nanoseconds the pacer
itself was late at worst.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

from .events import EVENTS_API, PUSHES, of_the_events_api, structured
from .pushes import push
from .workers import hear, say

SPIN_SECONDS = 0.002
"""The end of a wait, in seconds, that is spent polling: timers of an event loop are exact to a millisecond or
two.
"""


class _Connection(asyncio.Protocol):
    """A connection with one request at a time.

    Calls `answered` with its status, 0 for a connection that was lost.
    """

    def __init__(self, answered: Callable[["_Connection", int, int], None]) -> None:
        self._answered = answered
        self._parser = httptools.HttpResponseParser(self)
        self._index = -1
        self.closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def send(self, index: int, request: bytes) -> None:
        self._index = index
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._index < 0:  # the server's word at closing one that was not used for long
            self.closed = True
        else:
            self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        index, self._index = self._index, -1
        self._answered(self, index, self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._index >= 0:
            self._answered(self, self._index, 0)


class _Load:
    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        target = urlsplit(order["url"])
        self._address = (target.hostname or "", target.port or 80)
        self._requests = _requests(order, target.path, target.netloc)
        batch = order["batch"]
        counts = [min(batch, order["events"] - first) for first in range(0, order["events"], batch)]
        self._rows = [[number * batch, count, 0, 0, 0] for number, count in enumerate(counts)]
        self._unanswered = len(self._rows)
        self._next = 0
        self._lag = 0.0
        self._free: list[_Connection] = []

    async def run(self) -> dict[str, Any]:
        self._done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().set_exception_handler(self._fault)
        for _ in range(self._order["connections"]):
            self._free.append(await self._connect())
        say("prepared")
        hear()
        started = time.monotonic_ns()
        if self._order["rate"] is None:
            connections, self._free = self._free, []
            for connection in connections:
                self._go_on(connection)
        else:
            self._begin = asyncio.get_running_loop().time() + 0.01
            self._pace()
        await self._done
        return {
            "rows": self._rows,
            "started": started,
            "ended": time.monotonic_ns(),
            "lag": round(self._lag * 1e9),
        }

    def _fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Ends the load with a fault of ours in a callback, or the bench would wait for ever."""
        if not self._done.done():
            self._done.set_exception(context.get("exception") or RuntimeError(context["message"]))

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._answered), *self._address)
        return connection

    def _answered(self, connection: _Connection, index: int, status: int) -> None:
        self._rows[index][3:] = status, time.monotonic_ns()
        self._unanswered -= 1
        if self._unanswered == 0:
            self._done.set_result(None)
        elif status and self._order["rate"] is None:
            self._go_on(connection)
        elif status:
            self._free.append(connection)
        elif not self._done.done():
            self._done.set_result(None)  # the rows without a status tell

    def _go_on(self, connection: _Connection) -> None:
        if self._next < len(self._rows):
            index, self._next = self._next, self._next + 1
            self._rows[index][2] = time.monotonic_ns()
            connection.send(index, self._requests[index])

    def _pace(self) -> None:
        """Sends each request when it is due, whatever the answers to those before it."""
        loop = asyncio.get_running_loop()
        index, self._next = self._next, self._next + 1
        due = self._begin + index * self._order["batch"] / self._order["rate"]
        # the loop's clock is read anew: it stands still within a round of the loop
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        self._lag = max(self._lag, time.monotonic() - due)
        self._rows[index][2] = round(due * 1e9)
        while self._free and self._free[-1].closed:
            self._free.pop()
        if self._free:
            self._free.pop().send(index, self._requests[index])
        else:
            self._opening = loop.create_task(self._send_on_a_new_one(index))
        if self._next < len(self._rows):
            following = self._begin + self._next * self._order["batch"] / self._order["rate"]
            loop.call_at(following - SPIN_SECONDS, self._pace)

    async def _send_on_a_new_one(self, index: int) -> None:
        (await self._connect()).send(index, self._requests[index])


def _requests(order: dict[str, Any], path: str, host: str) -> list[bytes]:
    """Returns all requests, made beforehand so that making them takes no time from the platform."""
    events, batch, keys = order["events"], order["batch"], order["keys"]
    written = {EVENTS_API: _webhook, PUSHES: _push}.get(order["format"], _cloudevents)
    rendered: list[bytes] = []
    for first in range(0, events, batch):
        key = keys[first // batch % len(keys)]
        headers, body = written(order, key, range(first, min(first + batch, events)))
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        rendered.append(head.encode() + body)
    return rendered


def _cloudevents(order: dict[str, Any], key: str, numbers: range) -> tuple[str, bytes]:
    bodies = [structured(order["run"], number, order["size"]) for number in numbers]
    one = order["batch"] == 1
    return (
        f"Authorization: Bearer {key}\r\n"
        f"Content-Type: application/cloudevents{'' if one else '-batch'}+json\r\n"
    ), bodies[0] if one else b"[%b]" % b",".join(bodies)


def _webhook(order: dict[str, Any], key: str, numbers: range) -> tuple[str, bytes]:
    events = [of_the_events_api(order["run"], number, order["size"]) for number in numbers]
    body = b'{"events":[%b]}' % b",".join(events)
    now = int(time.time())
    signature = hmac.digest(key.encode(), b"%d.%b" % (now, body), "sha256").hex()
    return (
        "Content-Type: application/json\r\n"
        f"X-Akeneo-Request-Signature: {signature}\r\nX-Akeneo-Request-Timestamp: {now}\r\n"
    ), body


def _push(order: dict[str, Any], key: str, numbers: range) -> tuple[str, bytes]:
    return push(order["run"], numbers[0], order["size"])


if __name__ == "__main__":
    say(uvloop.run(_Load(hear()).run()))
