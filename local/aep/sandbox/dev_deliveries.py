"""The deliveries of `aep dev` as the platform sends them, and what its log says of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from cachetools import LRUCache

from event_platform.domain.attempts.outcomes import Answer, TransportFailure
from event_platform.domain.subscriptions import Owner
from event_platform.ports import Sender

from ..output import echo_whole

REMEMBERED = 1000
SAID_OF = ("delivery.attempted", "subscription.suspended")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to the app, and its answer; None if none came."""

    url: str
    headers: Sequence[tuple[str, str]]
    event: Mapping[str, Any]
    answer: Answer | None


class Exchanges:
    """The last exchange about each event, until it is taken out."""

    def __init__(self) -> None:
        self._by_event: LRUCache[str, Exchange] = LRUCache(REMEMBERED)

    def watched(self, sender: Sender) -> Sender:
        """Returns a sender whose exchanges are remembered."""
        return _Watched(sender, self._by_event)

    def pop(self, entry: Mapping[str, Any]) -> Exchange | None:
        """Returns the exchange that an entry of the log is about."""
        return self._by_event.pop(entry.get("event_id", ""), None)


class _Watched:
    def __init__(self, sender: Sender, by_event: LRUCache[str, Exchange]) -> None:
        self._sender = sender
        self._by_event = by_event

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Answer | TransportFailure:
        result = await self._sender.post(url, headers, body, owner=owner, timeout=timeout)
        answer = result if isinstance(result, Answer) else None
        event = orjson.loads(body)
        self._by_event[event["id"]] = Exchange(url, headers, event, answer)
        return result


class LogEntries:
    """A logger as structlog calls one. Yields the entries about deliveries, and prints errors."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entries: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    def info(self, line: bytes) -> None:
        entry = orjson.loads(line)
        if entry["event"] in SAID_OF:
            self._loop.call_soon_threadsafe(self._entries.put_nowait, entry)

    def error(self, line: bytes) -> None:
        echo_whole(line.decode(), err=True)

    debug = warning = warn = info
    exception = critical = fatal = error

    def __aiter__(self) -> AsyncIterator[Mapping[str, Any]]:
        return self

    async def __anext__(self) -> Mapping[str, Any]:
        return await self._entries.get()
