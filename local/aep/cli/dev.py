"""`aep dev` and `aep trigger`: from a shell to the first event in an app of one's own."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from cryptography import x509

from event_platform.domain import filters
from event_platform.domain.events import catalog
from event_platform.domain.fields import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH

from ..output import fail
from ..store.files import with_cure
from . import options


def dev(
    forward_to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The endpoint of your app; without it an inbox takes the events."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="The authority of your app's https certificate (PEM)."),
    ] = None,
    events: Annotated[
        str | None, typer.Option(metavar="TYPE,…", help="The event types to subscribe to; all without it.")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help="The subscription's filter.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port of the platform; 0 takes a free one.")
    ] = 0,
    secret: Annotated[
        str | None, typer.Option(help="The secret that signs, 16 to 256 characters; a new one without it.")
    ] = None,
    lose: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Lose every N-th event on its way from the PIM."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show headers and body of each delivery, and the answer.")
    ] = False,
) -> None:
    """Run a platform, a simulated PIM and a subscription for an app that you write, until Ctrl-C.

    Example: aep dev --forward-to http://127.0.0.1:3000/events

    Waits for an app that is not up yet, and prints a line for each delivery. What failed is tried again after
    2, 5 and 10 s. It keeps nothing. `aep trigger` makes events.
    """
    from ..sandbox.dev import Wanted, run_dev  # the other commands start faster without it

    types = catalog.load()
    names = list(types.types) if events is None else [each.strip() for each in events.split(",")]
    chosen = [options.known_type(types.in_full(name), types).name for name in names]
    if forward_to is not None:
        _check_endpoint(forward_to)
    if filter_ is not None:
        _check_filter(filter_)
    if secret is not None and not MIN_SECRET_LENGTH <= len(secret) <= MAX_SECRET_LENGTH:
        fail(f"--secret must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH} characters")
    if ca is not None:
        _check_authorities(ca, forward_to)
    raise typer.Exit(run_dev(Wanted(forward_to, ca, chosen, filter_, port, secret, lose, verbose)))


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        fail(f"--forward-to {url}: give the URL of your app, such as http://127.0.0.1:3000/events")


def _check_filter(expression: str) -> None:
    try:
        filters.parse(expression)
    except filters.FilterError as error:
        fail(f"--filter: {str(error).partition(chr(10))[0]}")


def _check_authorities(file: Path, forward_to: str | None) -> None:
    if forward_to is None or not forward_to.startswith("https:"):
        fail(f"--ca {file} goes with a --forward-to that begins with https://")
    try:
        x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError:
        fail(f"--ca {file} must hold the certificate of an authority, in PEM")
    except OSError as error:
        fail(f"--ca {file}: {with_cure(error, is_named=True)}")
