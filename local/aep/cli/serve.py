"""`aep serve`: the platform on this machine."""

import asyncio
import contextlib
import os
import resource
import shlex
import signal
import ssl
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
import uvloop
from starlette.types import ASGIApp

from event_platform import __version__, telemetry
from event_platform.adapters import descriptors
from event_platform.adapters.clock import SystemClock
from event_platform.domain.tenants import Tenant, Way
from event_platform.settings import Settings

from ..commit import commit
from ..console import address as console
from ..errors import CannotListen, StoreReplaced
from ..output import echo, fail
from ..runtime import log_text, memory, systemd
from ..runtime.log_lines import GatheredLines, to_background
from ..runtime.stopping import DRAIN_SECONDS, METRICS_SECONDS, REQUESTS_SECONDS
from ..runtime.tasks import WatchedTasks
from ..serving import server
from ..serving.accepting import RAISE_THE_LIMIT
from . import options

if TYPE_CHECKING:
    from ..store.steady_clock import SteadyClock
    from ..workers.owner import Processes

log = structlog.get_logger()

DEV_WARNING = (
    "WARNING: --dev allows plain http and loopback addresses for PIMs, endpoints and webhooks. Never use it"
    " where others can reach this port."
)
METRICS_PORT = 9464
METRICS_CONNECTIONS = 64
CONSOLE_PORT = 8090


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8080,
    data: Annotated[
        Path,
        typer.Option(
            envvar="AEP_DATA",
            metavar="DIR",
            callback=options.data_folder,
            help="The folder of queue, store and key.",
        ),
    ] = Path("aep-data"),
    pims_file: Annotated[
        str | None,
        typer.Option("--pims", metavar="FILE", help="A JSON list of PIMs, re-read when it changes."),
    ] = None,
    event_types: options.EventTypes = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Allow plain http and loopback addresses. For development only.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve https with this certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key (PEM).")] = None,
    metrics_host: Annotated[str, typer.Option(help="The address to serve /metrics on.")] = "127.0.0.1",
    metrics_port: Annotated[
        int,
        typer.Option(
            envvar="AEP_METRICS_PORT", min=0, max=65535, help="The port of /metrics; 0 does not serve it."
        ),
    ] = METRICS_PORT,
    console_host: Annotated[
        str, typer.Option(envvar="AEP_CONSOLE_HOST", help="The address to serve the console on.")
    ] = "127.0.0.1",
    console_port: Annotated[
        int,
        typer.Option(
            envvar="AEP_CONSOLE_PORT", min=0, max=65535, help="The port of the console; 0 does not serve it."
        ),
    ] = CONSOLE_PORT,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="AEP_WORKERS",
            min=0,
            max=64,
            help="Processes that deliver, with 0 the one that takes events in; 0 or 1, by this machine.",
        ),
    ] = None,
) -> None:
    """Run the platform on this machine: management API, ingest and delivery.

    Example: aep serve --port 8080 --data /var/lib/aep --pims pims.json

    Prints "ready http://HOST:PORT" when it takes requests; SIGTERM drains and ends it.
    """
    given: dict[str, Any] = {"event_types": options.event_types(event_types)}
    if pims_file is not None:
        given["pims"] = pims_file
    settings = options.settings(**given, **({"dev": True} if dev else {}))
    tls = _tls(tls_cert, tls_key)
    console_at = console.Address(console_host, console_port, tls, settings.console_url)
    if (problem := console_at.problem()) is not None:
        fail(problem)
    _allow_many_connections()
    # Before the workers are forked: what is imported behind that is in memory twice.
    from .. import wiring  # noqa: F401
    from ..console import first_page, serving  # noqa: F401
    from ..control import server as control  # noqa: F401
    from ..store.steady_clock import SteadyClock
    from ..workers import process
    from ..workers.usual import Choice, usual

    memory.collect_garbage_rarely()
    memory.configure_malloc()
    chosen = usual() if workers is None else Choice(workers, "--workers or AEP_WORKERS says so")
    clock = SteadyClock()
    with (
        process.forked(chosen.workers, clock) as processes,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        lines = GatheredLines(to_background())  # behind the fork, as it starts threads
        telemetry.configure(settings.log_level, lines, log_text.renderer(settings.log_format))
        if settings.dev:
            echo(DEV_WARNING, err=True)
        try:
            fault = runner.run(
                _serve(
                    settings,
                    data,
                    host,
                    port,
                    tls,
                    (metrics_host, metrics_port),
                    console_at,
                    processes,
                    chosen.reason,
                    clock,
                    lines,
                )
            )
        finally:
            lines.flush()
    if isinstance(fault, StoreReplaced):
        raise fault
    if fault is not None:
        fail(f"stopped by a fault of its own ({type(fault).__name__}); see the log. Nothing was lost", 1)


async def _serve(
    settings: Settings,
    data: Path,
    host: str,
    port: int,
    tls: server.Tls | None,
    metrics_at: tuple[str, int],
    console_at: console.Address,
    workers: "Processes",
    why_so_many: str,
    clock: "SteadyClock",
    lines: GatheredLines,
) -> BaseException | None:
    from ..console.first_page import with_app_console
    from ..console.serving import serving as serving_console
    from ..control import server as control
    from ..wiring import Platform  # so that the other commands start without it

    faults: list[BaseException] = []
    is_served = False  # while it is not, the signal would end the process as it stands

    def on_fault(error: BaseException) -> None:
        if not isinstance(error, StoreReplaced):  # which the store has logged
            log.critical("platform.fault", exc_info=error)
        faults.append(error)
        if is_served:
            signal.raise_signal(signal.SIGTERM)

    def ready(url: str) -> None:
        nonlocal is_served
        is_served = True
        log.info("platform.started", version=__version__, commit=commit(), url=url, **started)
        lines.flush()  # what was logged on the way can be read by whoever waits for this
        if faults:
            signal.raise_signal(signal.SIGTERM)
        else:
            server.announce(url)
            systemd.notify("READY=1")

    if host in ("0.0.0.0", "::") and settings.public_url is None:  # noqa: S104 - looked for, not used
        log.warning("settings.public_url_missing", fix="set AEP_PUBLIC_URL: it stands in every event")
    for name, nearest in options.unknown_variables(os.environ).items():
        log.warning("settings.unknown_variable", variable=name, nearest=nearest)
    if settings.timeout > DRAIN_SECONDS:
        log.warning("settings.timeout_above_drain", timeout=settings.timeout, drain=DRAIN_SECONDS)
    _say_if_lowered(settings.connections)
    with server.listen(host, port) as listener:
        platform = Platform(
            settings,
            data,
            base_url=server.url_of(listener, tls),
            on_fault=on_fault,
            workers=workers,
            clock=clock,
            write_log=lambda text: lines.info(text.removesuffix(b"\n")),
        )
        await platform.start()
        began = time.monotonic()
        memory.collect_garbage_rarely()
        try:
            count = {"workers": len(workers.started), "workers_because": why_so_many}
            started = count | _facts(data, await platform.pims(), settings.pims)
            async with (
                systemd.watchdog(SystemClock(), WatchedTasks(on_fault)),
                _metrics(platform.metrics_app, *metrics_at),
                serving_console(platform.parts, console_at, on_fault=on_fault) as console_routes,
                control.serving(control.app([*platform.control_app.routes, *console_routes]), data),
            ):
                await server.serve_on(
                    listener,
                    with_app_console(platform.app, platform.parts) if settings.app_console else platform.app,
                    drain=REQUESTS_SECONDS,
                    ready=ready,
                    tls=tls,
                    behind_proxies=settings.trusted_proxies > 0,
                    connections=settings.connections,
                    short_ways=platform.app,
                )
        finally:
            is_served = False
            systemd.notify("STOPPING=1")
            await platform.stop()
            seconds = round(time.monotonic() - began, 1)
            log.info("platform.stopped", seconds=seconds, deliveries_waiting=platform.deliveries_waiting())
    return faults[0] if faults else None


def _facts(data: Path, pims: Sequence[Tenant], listed: str | None) -> dict[str, Any]:
    """Returns what the start line says of the platform, and what to do next where no PIM can send events."""
    facts: dict[str, Any] = {"data": str(data.absolute()), "pims": len(pims)}
    facts["ingest_formats"] = [way for way in Way if any(tenant.takes(way) for tenant in pims)]
    if not facts["ingest_formats"]:
        folder = "" if data == options.DEFAULT_DATA else f" --data {shlex.quote(str(data))}"
        in_file = "" if listed is None or listed.lstrip().startswith("[") else ", or in the list"
        what = "no PIM can send events: give one a key" if pims else "register a PIM, while this runs"
        facts["fix"] = f"{what}: aep pims add https://YOUR-PIM{folder}{in_file}"
    return facts


@contextlib.asynccontextmanager
async def _metrics(app: ASGIApp, host: str, port: int) -> AsyncGenerator[None, None]:
    """Serves /metrics on a port of its own, unless that is 0 or taken."""
    async with contextlib.AsyncExitStack() as stack:
        if port:
            try:
                url = await stack.enter_async_context(
                    server.running(
                        app, host=host, port=port, connections=METRICS_CONNECTIONS, drain=METRICS_SECONDS
                    )
                )
            except CannotListen as error:
                fix = "set --metrics-host and --metrics-port; port 0 turns /metrics off"
                log.warning("metrics.not_served", error=error.why, host=host, port=port, fix=fix)
            else:
                log.info("metrics.ready", url=f"{url}/metrics")
        yield


def _tls(certificate: Path | None, key: Path | None) -> server.Tls | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        fail("--tls-cert and --tls-key go together: give both", 2)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except ssl.SSLError:
        fail(f"--tls-cert {certificate} and --tls-key {key} must be a certificate chain and its key, in PEM")
    except OSError as error:
        fail(f"--tls-cert {certificate}, --tls-key {key}: {error.strerror or error}", 2)
    return server.Tls(certificate, key)


def _allow_many_connections() -> None:
    """Raises the limit of open files: every lane may have a connection, and the usual 1,024 files are for
    select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if (allowed := descriptors.limit()) < descriptors.LEAST:
        fail(f"at most {allowed} files may be open, and {descriptors.LEAST} are needed: {RAISE_THE_LIMIT}")


def _say_if_lowered(asked: int) -> None:
    files = descriptors.limit()
    if (most := descriptors.most_clients(asked, files)) < asked:
        log.warning(
            "connections.lowered", asked=asked, connections=most, open_files=files, fix=RAISE_THE_LIMIT
        )
