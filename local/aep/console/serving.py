"""Serves the console beside the platform, on a listener of its own."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.errors import Conflict
from event_platform.http import json_response

from ..errors import CannotListen
from ..runtime.stopping import CONSOLE_SECONDS
from ..serving import server
from ..serving.samples import Samples
from ..store import ended_sessions
from ..wiring import Parts
from .address import Address
from .first_page import OnFirstPage

if TYPE_CHECKING:
    from .app import Console, Site

log = structlog.get_logger()

CONNECTIONS = 64
PURPOSE = "aep console"
"""The name of the key that signs cookies, which is derived from the one of the data folder."""


async def build(parts: Parts, url: str, samples: Samples) -> "Console[Site]":
    """Returns the console with all its pages, which is reached at the URL. Raises StoreUnavailable."""
    ended = await parts.database.read(partial(ended_sessions.all_of, tenant=ended_sessions.OPERATOR))
    return await asyncio.to_thread(_made, parts, url, samples, ended)


def _made(parts: Parts, url: str, samples: Samples, ended: Sequence[str]) -> "Console[Site]":
    from . import events, operations, overview, pims, subscription, subscriptions, trying
    from .app import Console, Place, Site

    pages = (overview, subscriptions, subscription, events, pims, operations, trying)
    site = Site(parts, samples, Place(url), parts.seal.derived_key(PURPOSE), ended)
    return Console(site, [route for page in pages for route in page.routes(site)])


@contextlib.asynccontextmanager
async def serving(
    parts: Parts, address: Address, *, on_fault: Callable[[BaseException], None]
) -> AsyncGenerator[Sequence[Route], None]:
    """Serves the console inside the block; yields the routes that the control socket has for it.

    A port that is taken is logged, and the platform goes on without a console.
    """
    async with contextlib.AsyncExitStack() as stack:
        console: OnFirstPage[Console[Site]] | None = None
        if address.port:
            try:
                listener = stack.enter_context(server.listen(address.host, address.port))
            except CannotListen as error:
                fix = "set --console-host and --console-port; port 0 turns the console off"
                log.warning(
                    "console.not_served",
                    error=error.why,
                    host=address.host,
                    port=address.port,
                    fix=fix,
                )
            else:
                url = address.url or server.url_of(listener, address.tls)
                samples = Samples(parts.meters, parts.clock, on_fault=on_fault)
                samples.start()
                stack.push_async_callback(samples.stop)
                console = OnFirstPage(partial(build, parts, url, samples))
                await stack.enter_async_context(
                    server.running_on(
                        listener,
                        console,
                        tls=address.tls,
                        connections=CONNECTIONS,
                        drain=CONSOLE_SECONDS,
                        by_address=False,
                    )
                )
                stack.push_async_callback(_stop, console)
                log.info("console.ready", url=f"{url}/console")
        yield [_route_of_links(console)]


async def _stop(console: "OnFirstPage[Console[Site]]") -> None:
    if console.built is not None:
        await console.built.stop()


def _route_of_links(console: "OnFirstPage[Console[Site]] | None") -> Route:
    async def issue(request: Request) -> Response:
        if console is None:
            raise Conflict("this platform serves no console: start it with another --console-port than 0")
        return json_response({"url": (await console.app()).link()})

    return Route("/console/links", issue, methods=["POST"])
