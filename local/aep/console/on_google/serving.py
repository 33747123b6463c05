"""Serves the console of a project on this machine, for as long as the command runs."""

import secrets
import socket
from collections.abc import Callable

from event_platform.adapters.clock import SystemClock
from event_platform.domain.pace.rates import Limits
from event_platform.ports import Clock, Seal

from ...google import registry
from ...google.connection import firestore_of
from ...runtime.meters import Meters
from ...runtime.stopping import CONSOLE_SECONDS
from ...serving import server
from .. import pims
from ..app import COOKIE, Console, Place, Shell
from ..serving import CONNECTIONS
from . import pages
from .records import ProjectRecords

HOST = "127.0.0.1"
KEY_BYTES = 32


def build(records: ProjectRecords, place: Place, clock: Clock, ingest_url: str) -> Console[Shell]:
    """Returns the console with its pages. The key of its sessions is new, and kept nowhere."""
    site = Shell(clock, place, secrets.token_bytes(KEY_BYTES), menu=pages.MENU, project=records.project)
    base = ingest_url.rstrip("/").removesuffix("/ingest")
    of_pims = pims.routes_of(site, records, Meters(), base)  # calls are in the log of ingest
    return Console(site, [*pages.routes(site, records), *of_pims])


def place_of(listener: socket.socket) -> Place:
    """Returns the place of a console on a socket.

    Cookies are not bound to a port, so each port has a name of its own: a browser can be signed in to this
    console and to others of this machine at once.
    """
    return Place(server.url_of(listener), f"{COOKIE}_{listener.getsockname()[1]}")


async def serve(
    project: str,
    limits: Limits,
    *,
    seal: Seal | None,
    buckets: int,
    ingest_url: str,
    ready: Callable[[str], None],
) -> None:
    """Serves until SIGINT or SIGTERM; `ready` gets the one-time link.

    The registry is read first. Raises WrongKey, StoreUnavailable, NoGooglePackages, GoogleFailed,
    CannotListen.
    """
    clock = SystemClock()
    async with firestore_of(project) as firestore:
        records = ProjectRecords(firestore, clock, limits, seal=seal, buckets=buckets)
        await registry.read_from(firestore, records.seal)
        with server.listen(HOST, 0) as listener:
            console = build(records, place_of(listener), clock, ingest_url)
            await server.serve_on(
                listener,
                console,
                drain=CONSOLE_SECONDS,
                ready=lambda _: ready(console.link()),
                connections=CONNECTIONS,
                behind_proxies=True,
            )
