"""The commands `aep sim` and `aep sim emit`: a simulated PIM, and events as one sends them."""

import asyncio
import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import tzinfo
from typing import Annotated
from urllib.parse import urlencode, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
import typer

from event_platform.domain.words import counted

from ..output import echo, echo_json, echo_whole, fail
from ..sandbox import emitting
from ..sandbox.events import events_of
from ..sandbox.ingest_requests import EVENTS_API_TYPES, Format
from ..sandbox.pim.app import create_app
from ..sandbox.pim.connections import DEFAULT_CLIENT, Client
from ..sandbox.pim.kinds import Edition
from ..serving import server
from . import options
from .sandbox import Host, serve_app
from .usage import Commands

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
    callback_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where your App takes its code; client id and secret are the same."),
    ] = None,
    edition: Annotated[
        Edition, typer.Option(help="ce has no assets and no reference entities; only saas dates its records.")
    ] = Edition.ENTERPRISE,
    timezone: Annotated[
        str, typer.Option(metavar="NAME", help="The time zone of its server, such as Europe/Paris.")
    ] = "UTC",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Its links name a host that nobody reaches.")
    ] = False,
    throttle: Annotated[
        int, typer.Option(min=0, metavar="N", help="Every n-th read is answered with 429; 0 for none.")
    ] = 0,
) -> None:
    """Run a simulated PIM: tokens, an App's OAuth, and a small catalogue that its REST API shows.

    Example: aep sim --port 8081 --client-id erp --secret s3cret

    PUT /_sim/clients/CLIENT_ID {"event_platform": false} takes the permission away, {"scopes": []} what it
    may read. POST /_sim/outage {"status": 503} makes its API fail until {} is posted there; "calls" ends it
    after so many, "retry_after" is for a 429.
    """
    if context.invoked_subcommand is not None:
        return
    if callback_url is not None and urlsplit(callback_url).scheme not in ("http", "https"):
        fail(f"--callback-url {callback_url}: give a URL such as http://127.0.0.1:3000/callback", 2)
    client = Client(client_id, secret, username, password, callback_url=callback_url)
    app = create_app(
        [client],
        edition=edition,
        zone=_zone(timezone),
        is_behind_proxy=behind_proxy,
        throttle=throttle,
    )

    def ready(url: str) -> None:
        server.announce(url)
        for line in _to_copy(url, client):
            echo_whole(line)

    serve_app(app, host, port, ready=ready, dates_itself=True)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        fail(f"--timezone {name}: give a name of the IANA database, such as Europe/Paris", 2)


def _to_copy(url: str, client: Client) -> Iterator[str]:
    """Yields what an app needs, and the command that gets a token."""
    yield f"client id  {client.client_id}"
    yield f"secret     {client.secret}"
    yield f"username   {client.username}"
    yield f"password   {client.password}"
    body = {"grant_type": "password", "username": client.username, "password": client.password}
    yield "a token:"
    yield shlex.join(
        [
            *("curl", "-s", f"{url}/api/oauth/v1/token", "-u", f"{client.client_id}:{client.secret}"),
            *("-H", "Content-Type: application/json", "-d", orjson.dumps(body).decode()),
        ]
    )
    if client.callback_url is not None:
        query = urlencode(
            {
                "response_type": "code",
                "client_id": client.client_id,
                "scope": "read_products",
                "state": "STATE",
            }
        )
        yield "a code for your App, in a browser:"
        yield f"{url}/connect/apps/v1/authorize?{query}"


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
    pim: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A simulated PIM that runs: its catalogue changes with each event."),
    ] = None,
    lose: Annotated[
        int, typer.Option(min=0, metavar="N", help="Every n-th request is not sent; 0 loses none.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="The same seed speaks of the same entities.")] = 0,
    event_types: options.EventTypes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send catalog-true events to a platform's ingest, as a PIM or Akeneo's Event Platform would.

    Example: aep sim emit com.akeneo.pim.v1.product.updated --count 100 --rate 20 --format batch

    As events-api a request gets half a second and is not sent again, as a PIM does it.
    """
    if pim is not None and urlsplit(pim).scheme not in ("http", "https"):
        fail(f"--pim {pim}: give the URL that `aep sim` printed, such as http://127.0.0.1:8081", 2)
    types = options.event_types(event_types)
    known = options.known_type(types.in_full(event_type), types)
    if not format.carries(known.name):
        fail(f"the Events API does not send {known.name}, only {', '.join(EVENTS_API_TYPES)}", 2)
    key = _key(format, key, secret)
    _check_url(format, to)
    events = events_of(known, count, seed)
    started = time.monotonic()
    result = asyncio.run(
        emitting.emit(events, to=to, key=key, rate=rate, format=format, batch=batch, pim=pim, lose=lose)
    )
    seconds = round(time.monotonic() - started, 2)
    if as_json:
        echo_json({**asdict(result), "seconds": seconds})
    else:
        lost = f", {result.lost} lost" if lose else ""
        echo(f"{result.accepted} accepted, {result.failed} failed{lost} in {seconds} s")
    if result.failed:
        advice = _advice(format, result.error or "")
        fail(f"not accepted: {counted(result.failed, 'event')}; {result.error}. {advice}", 1)


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
        return f"Check {option}: `aep pims add URL` printed what is right, once; --rotate makes another."
    if "answered 404" in error:
        return "Check --to: it names no platform, or a PIM that this one does not know."
    if "answered 20" in error:
        return "It does not know the type, or another server answered."
    return "Nothing of a refused request was stored."
