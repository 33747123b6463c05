"""Live parts of pages: streams of server-sent events, bounded in number, in pace and in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.types import Receive, Scope, Send

from event_platform.domain.errors import EventPlatformError, Overloaded
from event_platform.ports import Clock

STREAMS = 20
"""The streams that are open at once, of all sessions."""
UPDATE_SECONDS = 0.2
"""The shortest time between two updates of a stream."""
BEAT_SECONDS = 1.0
"""The time after which something is sent in any case: a reader who has left is seen by that alone."""
RETRY_SECONDS = 5
Update = tuple[str, str]
"""An update: the name of the event, and the HTML that replaces a part of the page."""


class Streams:
    """Counts the open streams, and ends them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    @property
    def number(self) -> int:
        return len(self._open)

    def stream(self, updates: AsyncIterator[Update], is_good: Callable[[], bool]) -> "Stream":
        """Returns the response that sends the updates for as long as the session is good.

        Raises Overloaded.
        """
        if len(self._open) >= STREAMS or self._is_stopping:
            raise Overloaded(
                f"{STREAMS} live pages are open, and no more may be: close one, or load this page again",
                RETRY_SECONDS,
            )
        return Stream(self, updates, is_good, self._clock)

    def opened(self, task: "asyncio.Task[None]") -> None:
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def stop(self) -> None:
        """Ends all streams, and opens no more."""
        self._is_stopping = True
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


class Stream:
    """A response of server-sent events. A client that does not read is cut by the server."""

    def __init__(
        self,
        streams: Streams,
        updates: AsyncIterator[Update],
        is_good: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._streams = streams
        self._updates = updates
        self._is_good = is_good
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if (
            scope["method"] == "HEAD"
        ):  # nothing is ever written then, which would show that its client has left
            await send({"type": "http.response.body", "body": b""})
            return
        sending = asyncio.create_task(self._send(send))
        self._streams.opened(sending)
        leaving = asyncio.create_task(_until_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        # What is gone, or cannot be read now, ends the stream; the page asks again and is told why.
        with contextlib.suppress(EventPlatformError):
            await self._send_updates(send)

    async def _send_updates(self, send: Send) -> None:
        sent_at = self._clock.monotonic()
        async with contextlib.aclosing(self._updates) as updates:  # type: ignore[type-var]
            async for name, html in updates:
                if not self._is_good():
                    return
                now = self._clock.monotonic()
                if html:
                    data = "".join(f"data: {line}\n" for line in html.splitlines())
                    text = f"event: {name}\n{data}\n"
                elif now - sent_at >= BEAT_SECONDS:
                    text = ": \n\n"
                else:
                    text = ""
                if text:
                    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
                    sent_at = now
                await self._clock.sleep(UPDATE_SECONDS)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
