"""Serves the control socket, beside the platform and in its event loop."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import structlog
from starlette.routing import Route
from starlette.types import Scope

from event_platform.http import App

from ..errors import CannotListen
from ..runtime.stopping import CONTROL_SECONDS
from ..serving import server
from . import address

log = structlog.get_logger()

CONNECTIONS = 16


def app(routes: Sequence[Route]) -> App:
    """Returns the app of these routes, which logs each call that may have changed something."""
    return App(routes, answered=_log_call)


@contextlib.asynccontextmanager
async def serving(control_app: App, folder: Path) -> AsyncGenerator[None, None]:
    """Serves the app on the folder's socket inside the block.

    If that is impossible, it logs why, and commands work on the folder's file as if no platform ran.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            listener = stack.enter_context(address.listening(folder))
        except CannotListen as error:
            log.warning("control.not_served", error=str(error))
        else:
            running = server.running_on(
                listener,
                control_app,
                connections=CONNECTIONS,
                drain=CONTROL_SECONDS,
                by_address=False,
                admits=_admits,
            )
            await stack.enter_async_context(running)
        yield


def _admits(connection: address.socket.socket) -> bool:
    if address.is_of_operator(connection):
        return True
    log.warning("control.refused", fix="call as the user that the platform runs as")
    return False


def _log_call(scope: Scope, status: int) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        log.info("control.called", method=scope["method"], path=scope["path"], status=status)
