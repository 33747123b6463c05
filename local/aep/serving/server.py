"""Serves an ASGI app on a port for a command: prints one `ready` line, and ends cleanly on a signal."""

import asyncio
import contextlib
import errno
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from event_platform.adapters import descriptors
from event_platform.http import App

from ..errors import CannotListen
from ..output import echo_whole
from ..runtime.listeners import listener_of
from .accepting import Acceptor, Place
from .bounds import BoundedHttpProtocol
from .short_way import ShortWayProtocol, ShortWays

BACKLOG = 2048
CONNECTIONS = 4096
"""The connections that clients may have open at once, unless the caller gives another number."""
IDLE_SECONDS = 75
"""The seconds for which a connection is kept between two requests: longer than most proxies keep one.

If we close a connection at the moment when a proxy sends a request on it, its client gets a 502.
"""
SILENT_SECONDS = 30
"""The seconds for which a peer may leave bytes unacknowledged, or have no room for them."""
UNSENT_BYTES = 32 * 1024
"""The bytes of a connection's answers that the system may hold while their client does not read."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of the certificate chain and its key, in PEM."""

    certificate: Path
    key: Path


def announce(url: str) -> None:
    """Prints the line that scripts wait for. It is flushed, as standard output is a pipe there."""
    echo_whole(f"ready {url}")


def run(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    drain: float = 5,
    ready: Callable[[str], None] = announce,
    dates_itself: bool = False,
) -> None:
    """Serves until SIGINT or SIGTERM and then returns; port 0 takes a free one.

    Running requests get `drain` seconds to end; a second SIGINT cuts that short. Raises CannotListen, and
    SystemExit(3) when the app's lifespan fails to start.
    """
    with listen(host, port) as listener:
        asyncio.run(serve_on(listener, app, drain=drain, ready=ready, dates_itself=dates_itself))


async def serve_on(
    listener: socket.socket,
    app: ASGIApp,
    *,
    drain: float = 5,
    ready: Callable[[str], None] = announce,
    tls: Tls | None = None,
    behind_proxies: bool = False,
    connections: int = CONNECTIONS,
    dates_itself: bool = False,
    short_ways: App | None = None,
) -> None:
    """Does the same as `run`, in a running loop and on a socket that listens.

    It is for an app that must know its own URL. `connections` are open at once at most. `behind_proxies` says
    that all connections come from few addresses, so that none of them has a limit. An app that
    `dates_itself` sends the header `Date`. An app of ours in `short_ways` stands behind `app`, and some of
    its requests do not go through that.
    """
    url = url_of(listener, tls)
    server = _Server(
        app,
        drain=drain,
        ready=lambda: ready(url),
        tls=tls,
        by_address=not behind_proxies,
        connections=connections,
        dates_itself=dates_itself,
        short_ways=short_ways,
    )
    await server.serve(sockets=[listener])


@contextlib.asynccontextmanager
async def running(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: Tls | None = None,
    connections: int = CONNECTIONS,
    drain: float = 1,
    dates_itself: bool = False,
) -> AsyncIterator[str]:
    """Serves inside the running loop, for as long as the block lasts; yields the URL.

    Running requests then get `drain` seconds to end.
    """
    with listen(host, port) as listener:
        async with running_on(
            listener, app, tls=tls, connections=connections, drain=drain, dates_itself=dates_itself
        ) as url:
            yield url


@contextlib.asynccontextmanager
async def running_on(
    listener: socket.socket,
    app: ASGIApp,
    *,
    tls: Tls | None = None,
    connections: int = CONNECTIONS,
    drain: float = 1,
    dates_itself: bool = False,
    by_address: bool = True,
    admits: Callable[[socket.socket], bool] | None = None,
) -> AsyncIterator[str]:
    """Does the same as `running`, on a socket that listens, for an app that must know its own URL.

    With `admits`, a connection for which it returns False is closed.
    """
    started = asyncio.Event()
    server = _Server(
        app,
        drain=drain,
        ready=started.set,
        signals=False,
        tls=tls,
        by_address=by_address,
        connections=connections,
        dates_itself=dates_itself,
        admits=admits,
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if serving.done():
        await serving  # a start that failed raises here
    try:
        yield url_of(listener, tls)
    finally:
        server.should_exit = True
        await serving


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections have this, too, as they inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_SECONDS * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        why, cure = _why(error, host, port)
        raise CannotListen(f"cannot listen on {host}:{port}: {why}{cure}", why) from error
    return listener


def _why(error: OSError, host: str, port: int) -> tuple[str, str]:
    """Returns what is wrong, and what to do about it."""
    match error.errno:
        case errno.EADDRINUSE:
            taker = listener_of(port)
            why = f"the port is taken by {taker}" if taker else "the port is taken"
            end = ": end it" if taker else f" by whom, `ss -ltnp sport = :{port}` shows to root"
            return why, f"{end}, or choose another --port; 0 takes a free one"
        case errno.EACCES:
            return "ports below 1024 are for root", ". Choose another --port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine", ". Choose another --host, such as 127.0.0.1"
        case _ if isinstance(error, socket.gaierror):
            return f"no address is known for {host}", ". Choose another --host, such as 127.0.0.1"
        case _:
            return str(error.strerror), ". Choose another --host or --port"


def url_of(listener: socket.socket, tls: Tls | None = None) -> str:
    """Returns the base URL of a listening socket, without a trailing slash."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class _Server(uvicorn.Server):
    def __init__(
        self,
        app: ASGIApp,
        *,
        drain: float,
        ready: Callable[[], None],
        signals: bool = True,
        tls: Tls | None = None,
        by_address: bool = True,
        connections: int = CONNECTIONS,
        dates_itself: bool = False,
        admits: Callable[[socket.socket], bool] | None = None,
        short_ways: App | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedHttpProtocol,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # App counts the proxies instead of trusting addresses
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=drain,  # pyright: ignore[reportArgumentType] - given to asyncio.wait_for
            server_header=False,
            date_header=not dates_itself,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        super().__init__(config)
        self._ready = ready
        self._signals = signals
        self._by_address = by_address
        self._admits = admits
        ours = app if isinstance(app, App) else short_ways
        self._short_ways = None if ours is None else ShortWays(ours, self.server_state)
        self._most = descriptors.most_clients(connections, descriptors.limit())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, but has `Acceptor` accept the connections."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise SystemExit(STARTUP_FAILURE)
        self.servers = [  # pyright: ignore[reportAttributeAccessIssue] - closed and waited for alike
            Acceptor(
                listener,
                self._protocol,
                tls=self.config.ssl,
                most=self._most,
                by_address=self._by_address,
                admits=self._admits,
            )
            for listener in sockets or []
        ]
        self.started = True
        self._ready()

    def _protocol(self, place: Place) -> BoundedHttpProtocol:
        made = self.config, self.server_state, self.lifespan.state
        ways = self._short_ways
        protocol = BoundedHttpProtocol(*made) if ways is None else ShortWayProtocol(*made, short_ways=ways)
        protocol.place = place
        return protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals as uvicorn does, but does not raise them again at the end: the status would not be
        0.
        """
        if not self._signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
