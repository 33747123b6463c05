"""The commands around the platform: `aep inbox` and `aep demo`."""

from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from starlette.types import ASGIApp

from event_platform import telemetry
from event_platform.domain.words import counted

from ..output import echo_styled, echo_whole, fail, text
from ..runtime import log_text
from ..runtime.log_lines import GatheredLines, to_background
from ..sandbox import inbox as inbox_app
from ..sandbox.inbox import Behaviour, Received
from ..serving import server

SHOWN_CHARACTERS = 64 * 1024
"""The characters of a body that `-v` shows at most."""

Host = Annotated[str, typer.Option(help="The address to listen on.")]


def run_inbox(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8082,
    host: Host = "127.0.0.1",
    secret: Annotated[
        str,
        typer.Option(
            envvar="AEP_INBOX_SECRET", help="The subscription's primary secret, or that of notifications."
        ),
    ] = "",
    secondary_secret: Annotated[str, typer.Option(help="Its secondary secret.")] = "",
    behaviour: Annotated[Behaviour, typer.Option(help="At paths that name none.")] = Behaviour.OK,
    delay: Annotated[float, typer.Option(min=0, help="Seconds that `slow` takes.")] = 10,
    every: Annotated[int, typer.Option(min=1, help="`flaky` fails at first on every n-th event.")] = 1,
    keep: Annotated[int, typer.Option(min=1, help="How many deliveries to keep for reading back.")] = 1000,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line per delivery.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the headers and the body of each delivery, too.")
    ] = False,
) -> None:
    """Receive deliveries and notifications, verify their signatures and show what came.

    Example: aep inbox --port 8082 --secret 0123456789abcdef --behaviour flaky -v

    Plays a receiver in trouble at /slow, /429, /500, /404, /redirect and /flaky, a good one elsewhere.
    GET /_inbox/stats and /_inbox/events?after=N tell what came.
    """
    settings = inbox_app.Settings(
        secret=secret or None,
        secondary_secret=secondary_secret or None,
        behaviour=behaviour,
        delay=delay,
        every=every,
        keep=keep,
    )
    if quiet and verbose:
        fail("--quiet and --verbose exclude each other: give one", 2)
    on_received = None if quiet else _printer(verbose=verbose)
    serve_app(inbox_app.create_app(settings, on_received), host, port)


def run_demo() -> None:
    """Show the whole way of an event in under 30 seconds, on free ports of this machine.

    Example: aep demo

    Starts the platform, a simulated PIM and an inbox, subscribes, sends events and verifies what arrives.
    Exit status 0 only when nothing was lost and every signature matched.
    """
    from ..sandbox.demo import run_demo as demo  # the other commands start faster without it

    raise typer.Exit(demo())


def run_demo_google() -> None:
    """Show the same on Google's emulators of Pub/Sub and Firestore, with a process for each function.

    Example: aep demo-google

    Needs the emulators of the gcloud SDK and Java (`aep doctor` says whether they are here). The emulator
    pushes two messages at a time, so fewer events are sent, and they take longer.
    """
    from ..sandbox.demo_google import run_demo as demo

    raise typer.Exit(demo())


def serve_app(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    ready: Callable[[str], None] = server.announce,
    dates_itself: bool = False,
) -> None:
    """Serves the app, also when nobody reads what it prints."""
    telemetry.configure("info", GatheredLines(to_background()), log_text.renderer_of_commands())
    server.run(app, host=host, port=port, drain=2, ready=ready, dates_itself=dates_itself)


def _printer(*, verbose: bool = False) -> Callable[[Received], None]:
    """Returns a function that prints a line per delivery, and below it the headers and the body if wanted."""

    def line(received: Received) -> None:
        good = 200 <= received.status < 300
        latency = "" if received.latency_ms is None else f"{received.latency_ms:.0f} ms"
        signature = {True: "signature ok", False: "BAD SIGNATURE", None: "not verified"}[received.verified]
        echo_styled(
            text(received.received_at[11:23], "dim"),
            text(str(received.status), "green" if good else "red"),
            text(signature, "red" if received.verified is False else ""),
            text(received.path, "cyan"),
            text(received.type or "-"),
            text(received.id or "-", "dim"),
            text(f"attempt {received.attempt}" if received.attempt > 1 else "", "yellow"),
            text(latency),
        )
        if verbose:
            for name, value in received.headers.items():
                echo_styled(text(f"  {name}:", "dim"), text(value))
            for shown in _shown_body(received.body):
                echo_whole(f"  {shown}")

    return line


def _shown_body(body: str) -> Iterator[str]:
    """Yields the lines of a body as it came, as far as they are shown."""
    yield from body[:SHOWN_CHARACTERS].splitlines()
    if len(body) > SHOWN_CHARACTERS:
        yield f"… and {counted(len(body) - SHOWN_CHARACTERS, 'more character')}"
