"""Routes that are found by their path alone, and their short ways (docs/decisions/0083)."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .ports import Call

Handler = Callable[[Request], Awaitable[Response]]


class ShortWay(Protocol):
    """A way of the usual requests of a route: without a task, and without messages of ASGI, for each."""

    def begin(self, call: Call) -> bool:
        """Begins with a request whose body is there. False if it has to go the ordinary way.

        Nothing was done then. It calls `end` of the call later, once.
        """
        ...


class Direct:
    """A handler as an ASGI app, of a path without parameters.

    `App` finds it by its path, and does without what Starlette wraps around functions. A server that knows
    short ways takes `short_way` for the requests that it can.
    """

    def __init__(self, handler: Handler, short_way: ShortWay | None = None) -> None:
        self._handler = handler
        self._short_way = short_way

    def begin(self, call: Call) -> bool:
        """Begins with a request on the short way, as `ShortWay` says. False if there is none."""
        return self._short_way is not None and self._short_way.begin(call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)
