"""The commands around the platform: `aep sim`, `aep sim emit`, `aep inbox` and `aep demo`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from starlette.types import ASGIApp

from event_platform import telemetry
from event_platform.domain.words import counted

from ..output import console, echo, echo_json, fail, text
from ..runtime.log_lines import GatheredLines, to_background
from ..sandbox import inbox as inbox_app
from ..sandbox import sim as sim_app
from ..sandbox.inbox import Behaviour, Received
from ..sandbox.ingest_requests import EVENTS_API_TYPES, Format
from ..sandbox.sim import DEFAULT_CLIENT, Client
from ..serving import server
from . import options
from .usage import Commands

Host = Annotated[str, typer.Option(help="The address to listen on.")]

sim = Commands(invoke_without_command=True)


@sim.callback()
def run_sim(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8081,
    host: Host = "127.0.0.1",
    client_id: Annotated[str, typer.Option(help="Client id of its connection.")] = DEFAULT_CLIENT.client_id,
    secret: Annotated[str, typer.Option(help="Secret of its connection.")] = DEFAULT_CLIENT.secret,
    username: Annotated[str, typer.Option(help="User of its connection.")] = DEFAULT_CLIENT.username,
    password: Annotated[str, typer.Option(help="That user's password.")] = DEFAULT_CLIENT.password,
) -> None:
    """Run a simulated PIM: tokens, token-info, a permission switch.

    Example: aep sim --port 8081 --client-id erp --secret s3cret

    PUT /_sim/clients/CLIENT_ID {"event_platform": false} takes the permission away;
    POST /_sim/outage {"status": 503} makes its API fail until {} is posted there.
    """
    if context.invoked_subcommand is None:
        client = Client(client_id, secret, username, password)
        _serve(sim_app.create_app([client]), host, port)


@sim.command("emit")
def run_emit(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type of `aep events`.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="URL", help="The platform; for events-api and relay the URL that `aep pims add` printed."
        ),
    ] = "http://127.0.0.1:8080",
    key: Annotated[
        str, typer.Option(envvar="AEP_INGEST_KEY", help="The ingest key that `aep pims add` printed.")
    ] = "",
    secret: Annotated[
        str,
        typer.Option(
            envvar="AEP_SIGNING_SECRET",
            help="For events-api and relay, in place of the key: the secret that signs.",
        ),
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="How many events.")] = 1,
    rate: Annotated[float, typer.Option(min=0.001, help="Events a second, whatever the answers.")] = 10,
    format: Annotated[Format, typer.Option(help="How events travel.")] = Format.STRUCTURED,  # noqa: A002
    batch: Annotated[
        int, typer.Option(min=1, max=1000, help="Events in a request of batch, or events-api (at most 10).")
    ] = 20,
    seed: Annotated[int, typer.Option(help="The same seed speaks of the same entities.")] = 0,
    event_types: options.EventTypes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send catalog-true events to a platform's ingest, as a PIM or Akeneo's Event Platform would.

    Example: aep sim emit com.akeneo.pim.v1.product.updated --count 100 --rate 20 --format batch

    As events-api a request gets half a second and is not sent again, as a PIM does it.
    """
    known = options.known_type(event_type, options.event_types(event_types))
    if not format.carries(known.name):
        fail(f"the Events API does not send {known.name}, only {', '.join(EVENTS_API_TYPES)}", 2)
    key = _key(format, key, secret)
    _check_url(format, to)
    events = sim_app.events_of(known, count, seed)
    started = time.monotonic()
    result = asyncio.run(sim_app.emit(events, to=to, key=key, rate=rate, format=format, batch=batch))
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        echo_json({**asdict(result), "seconds": seconds})
    else:
        echo(f"{result.accepted} accepted, {result.failed} failed in {seconds} s")
    if result.failed:
        advice = _advice(format, result.error or "")
        fail(f"not accepted: {counted(result.failed, 'event')}; {result.error}. {advice}", 1)


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
) -> None:
    """Receive deliveries and notifications, verify their signatures and show what came.

    Example: aep inbox --port 8082 --secret 0123456789abcdef --behaviour flaky

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
    _serve(inbox_app.create_app(settings, None if quiet else _printer(console())), host, port)


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


def _serve(app: ASGIApp, host: str, port: int) -> None:
    """Serves the app, also when nobody reads what it prints."""
    telemetry.configure("info", GatheredLines(to_background()))
    server.run(app, host=host, port=port, drain=2)


def _printer(out: Console) -> Callable[[Received], None]:
    """Returns a function that prints a line per delivery."""

    def line(received: Received) -> None:
        good = 200 <= received.status < 300
        latency = "" if received.latency_ms is None else f"{received.latency_ms:.0f} ms"
        signature = {True: "signature ok", False: "BAD SIGNATURE", None: "not verified"}[received.verified]
        out.print(
            text(received.received_at[11:23], "dim"),
            text(str(received.status), "green" if good else "red"),
            text(signature, "red" if received.verified is False else ""),
            text(received.path, "cyan"),
            text(received.type or "-"),
            text(received.id or "-", "dim"),
            text(f"attempt {received.attempt}" if received.attempt > 1 else "", "yellow"),
            text(latency),
            soft_wrap=True,
        )

    return line


def _key(format_: Format, key: str, secret: str) -> str:
    """Returns the key or secret of the sender; ends the command when it is missing."""
    if format_.place is None:
        if not key.strip():
            fail("no ingest key: give --key or set AEP_INGEST_KEY (`aep pims add URL` prints one)", 2)
        return key.strip()
    if not secret:
        where = "was given" if format_ is Format.EVENTS_API else "printed"
        fail(f"no secret: give --secret or set AEP_SIGNING_SECRET, to what `aep pims add URL` {where}", 2)
    return secret


def _check_url(format_: Format, to: str) -> None:
    url = urlsplit(to)
    if url.scheme not in ("http", "https") or not url.netloc:
        fail(f"--to {to}: give the platform's base URL, such as http://127.0.0.1:8080", 2)
    if format_.place and not url.path.partition(format_.place)[2]:
        example = f"http://127.0.0.1:8080{format_.place}KEY"
        fail(f"--to {to}: give the URL that `aep pims add URL` printed, such as {example}", 2)


def _advice(format_: Format, error: str) -> str:
    if error.startswith("no answer"):
        again = "" if format_.is_sent_again else " A PIM waits half a second and does not send it again."
        return f"Is the platform running (`aep serve`), and --to its address?{again}"
    if "answered 401" in error:
        option = "--secret and the key in --to" if format_.place else "--key"
        return f"Check {option}: `aep pims add URL` tells them."
    if "answered 20" in error:
        return "It does not know the type, or another server answered."
    return "Nothing of a refused request was stored."
