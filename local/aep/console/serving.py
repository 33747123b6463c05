"""Serves the console beside the platform, on a listener of its own."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

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
from . import events, operations, overview, pims, subscription, subscriptions, trying
from .address import Address
from .app import Console, Place, Site

log = structlog.get_logger()

CONNECTIONS = 64
PAGES = (overview, subscriptions, subscription, events, pims, operations, trying)
PURPOSE = "aep console"
"""The name of the key that signs cookies, which is derived from the one of the data folder."""


async def build(parts: Parts, place: Place, samples: Samples) -> Console[Site]:
    """Returns the console with all its pages. Raises StoreUnavailable."""
    ended = await parts.database.read(partial(ended_sessions.all_of, tenant=ended_sessions.OPERATOR))
    site = Site(parts, samples, place, parts.seal.derived_key(PURPOSE), ended)
    return Console(site, [route for page in PAGES for route in page.routes(site)])


@contextlib.asynccontextmanager
async def serving(
    parts: Parts, address: Address, *, on_fault: Callable[[BaseException], None]
) -> AsyncGenerator[Sequence[Route], None]:
    """Serves the console inside the block; yields the routes that the control socket has for it.

    A port that is taken is logged, and the platform goes on without a console.
    """
    async with contextlib.AsyncExitStack() as stack:
        console: Console[Site] | None = None
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
                console = await build(parts, Place(url), samples)
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
                stack.push_async_callback(console.stop)
                log.info("console.ready", url=f"{url}/console")
        yield [_route_of_links(console)]


def _route_of_links(console: Console[Site] | None) -> Route:
    async def issue(request: Request) -> Response:
        if console is None:
            raise Conflict("this platform serves no console: start it with another --console-port than 0")
        return json_response({"url": console.link()})

    return Route("/console/links", issue, methods=["POST"])
