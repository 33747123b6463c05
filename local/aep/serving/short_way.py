"""The short way of a request: from its last byte to the app, and from there to the transport.

uvicorn makes a task, an event, a timer and messages of ASGI for each request. A request that came in one
piece, and is unusual in nothing, is given to its route without them, if that has a short way
(`event_platform.direct.ShortWay`). It is read as all others are, by the parser and within the bounds of
`bounds` (docs/decisions/0083).
"""

from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from event_platform.direct import Direct
from event_platform.domain.subscriptions import Owner
from event_platform.http import App, json_headers

from .bounds import BoundedHttpProtocol

log = structlog.get_logger()

LARGEST_BYTES = 64 * 1024
"""The largest body that goes the short way. For larger ones there is next to nothing to gain."""
STATUS = 202


class ShortWays:
    """The routes of an app that have a short way, and what their answers begin with. One for a server."""

    def __init__(self, app: App, state: ServerState) -> None:
        self._app = app
        self._state = state
        self._routes = app.direct_routes()
        self._heads: dict[tuple[str, int], bytes] = {}
        self._default = state.default_headers
        self.has_room = app.has_room

    def of(self, method: bytes, url: bytes) -> Direct | None:
        """Returns the route of a request, if it may have a short way."""
        return self._routes.get((method, url))

    def answer(self, direct: Direct, scheme: str, body: bytes) -> bytes:
        """Counts an answer, and returns all of it."""
        self._app.count_answer(direct, STATUS)
        if self._default is not self._state.default_headers:  # once a second, with the date
            self._default = self._state.default_headers
            self._heads.clear()
        key = (scheme, len(body))
        head = self._heads.get(key)
        if head is None:
            headers = [*self._default, *json_headers(len(body), scheme)]
            lines = [b"%b: %b\r\n" % header for header in headers]
            head = self._heads[key] = b"".join([STATUS_LINE[STATUS], *lines, b"\r\n"])
        return head + body


class ShortWayProtocol(BoundedHttpProtocol):
    """Serves a connection: requests on the short way, where they have one, and others by uvicorn's app.

    It is the `Call` of the request that is on the short way. There is one at a time.
    """

    def __init__(self, *args: Any, short_ways: ShortWays, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._short_ways = short_ways
        self._direct: Direct | None = None
        """The route of the request that is read, or is answered, on the short way."""
        self.body = b""
        self._is_there = False
        """True between the end of its body and the call of its route."""
        self._is_last = False

    def _begin(self) -> None:
        if self._is_whole and not self.expect_100_continue:
            self._direct = self._short_ways.of(self.parser.get_method(), self.url)
        if self._direct is None or not self._is_kept():
            self._direct = None
            super()._begin()

    def _is_kept(self) -> bool:
        """True if the connection is kept after the answer."""
        return self.parser.get_http_version() == "1.1" and self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if self._direct is None:
            super().on_body(body)
        else:
            self.body += body

    def on_message_complete(self) -> None:
        if self._direct is None:
            super().on_message_complete()
        else:
            self._bytes_beside_body = 0
            self._reading_body = False
            self._is_there = True

    def _parse(self, data: bytes) -> None:
        super()._parse(data)
        if self._is_there:  # not before: the parser takes an error of ours for one of the client
            self._is_there = False
            self._take_short_way()

    def _take_short_way(self) -> None:
        direct, is_begun = self._direct, False
        try:
            is_begun = direct is not None and len(self.body) <= LARGEST_BYTES and direct.begin(self)
        except Exception as error:
            log.error("request.short_way_failed", exc_info=error)
        if is_begun:
            self._begin_to_answer()
        else:
            self._go_ordinary_way()

    def _go_ordinary_way(self) -> None:
        """Has uvicorn's app serve the request."""
        self._direct, body, self.body = None, self.body, b""
        self._reading_body = True
        super()._begin()
        if body:
            super().on_body(body)
        if self._is_last:
            self.cycle.keep_alive = False
        super().on_message_complete()

    def has_room(self, owner: Owner | str) -> bool:
        return self._short_ways.has_room(owner)

    def end(self, answer: bytes | None) -> None:
        direct, self._direct = self._direct, None
        if direct is None or answer is None:
            if not self.transport.is_closing():
                self._go_ordinary_way()
            return
        whole = self._short_ways.answer(direct, self.scheme or "http", answer)
        self.body = b""
        if self.transport.is_closing():
            return
        self.transport.write(whole)
        if self._is_last:
            self.transport.close()
        self._end_answering()

    def shutdown(self) -> None:
        """Called by uvicorn when the server ends: an answer on the short way is still given."""
        if self._direct is not None and self._is_answering:
            self._is_last = True
        else:
            super().shutdown()
