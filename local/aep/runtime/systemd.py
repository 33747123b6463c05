"""Messages to systemd about this service: ready, alive, stopping (sd_notify(3)).

Without NOTIFY_SOCKET in the environment none is sent.
"""

import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import structlog

from event_platform.ports import Clock

from ..errors import SetupError
from .tasks import WatchedTasks

log = structlog.get_logger()


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Sends one message such as READY=1. Never blocks; logs a message that cannot be sent."""
    address = environment.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # a name in Linux's abstract namespace
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning("systemd.not_notified", state=state, error=str(error))


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """Returns the seconds within which systemd wants the next sign of life; None if it does not watch this
    process.

    Raises SetupError.
    """
    microseconds = environment.get("WATCHDOG_USEC")
    if not microseconds or environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not microseconds.isdecimal() or int(microseconds) == 0:
        raise SetupError(f"WATCHDOG_USEC is {microseconds!r} but must be a number of microseconds; unset it")
    return int(microseconds) / 1e6


@asynccontextmanager
async def watchdog(clock: Clock, tasks: WatchedTasks) -> AsyncGenerator[None, None]:
    """Reports to systemd inside the block that the event loop runs, twice as often as it asks for.

    Raises SetupError.
    """
    seconds = watchdog_seconds()
    if seconds is None:
        yield
        return
    beating = tasks.start(_beat(seconds / 2, clock))
    try:
        yield
    finally:
        await tasks.stop(beating)


async def _beat(seconds: float, clock: Clock) -> None:
    while True:
        notify("WATCHDOG=1")
        await clock.sleep(seconds)
