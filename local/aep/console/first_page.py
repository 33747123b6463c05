"""Builds a console when its first page is asked for: templates and pages take 4 MB, and 60 ms of a start."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

from .address import APPS

if TYPE_CHECKING:
    from ..wiring import Parts

Built = TypeVar("Built", bound=ASGIApp)


class OnFirstPage(Generic[Built]):
    """An ASGI app for http that `build` makes when the first request comes."""

    def __init__(self, build: Callable[[], Awaitable[Built]]) -> None:
        self._build = build
        self._building = asyncio.Lock()
        self.built: Built | None = None

    async def app(self) -> Built:
        """Returns the app. Raises what `build` raises, and then tries again for the next request."""
        async with self._building:
            if self.built is None:
                self.built = await self._build()
            return self.built

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":  # nothing is to be done when a server starts or ends
            await (await self.app())(scope, receive, send)


def with_app_console(platform: ASGIApp, parts: "Parts") -> ASGIApp:
    """Returns the platform's own app with the console for apps below APPS."""

    def make() -> ASGIApp:
        from .for_apps import AppConsole

        return AppConsole(platform, parts)

    console = OnFirstPage(partial(asyncio.to_thread, make))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["type"] == "http" and (scope["path"] == APPS or scope["path"].startswith(f"{APPS}/"))
        await (console if is_page else platform)(scope, receive, send)

    return app
