"""`aep dev` and `aep trigger`: from a shell to the first event in an app of one's own."""

import uuid
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import orjson
import typer
from cryptography import x509

from event_platform.domain import filters
from event_platform.domain.events import catalog
from event_platform.domain.fields import MAX_SECRET_LENGTH, MIN_SECRET_LENGTH
from event_platform.domain.validation_words import json_words

from ..output import fail
from ..sandbox import dev_session
from ..sandbox.events import events_of
from . import options
from .event_files import text_of


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
    chosen = [options.known_type(name, types).name for name in names]
    if forward_to is not None:
        _check_endpoint(forward_to)
    if filter_ is not None:
        _check_filter(filter_)
    if secret is not None and not MIN_SECRET_LENGTH <= len(secret) <= MAX_SECRET_LENGTH:
        fail(f"--secret must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH} characters")
    if ca is not None:
        _check_authorities(ca, forward_to)
    raise typer.Exit(run_dev(Wanted(forward_to, ca, chosen, filter_, port, secret, lose, verbose)))


def trigger(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type of `aep events`.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The event's data, a JSON object; - for standard input."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="A text in the data, as product.identifier=SKU-1; repeatable."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="The author's identifier.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many events.")] = 1,
) -> None:
    """Make an event at the `aep dev` that runs, and say who gets it and what came of it.

    Example: aep trigger com.akeneo.pim.v1.product.updated --set product.identifier=SKU-1

    Exit status 0 when the app took it. Resumes the subscription if an answer of the app has suspended it.
    """
    from ..sandbox.triggers import run_trigger

    known = options.known_type(event_type, catalog.load())
    given = None if data is None else _data(data)
    events = list(events_of(known, count, seed=uuid.uuid4().int))
    for event in events:
        if given is not None:
            event["data"] = orjson.loads(given)
        for each in set_ or []:
            _set(event["data"], each)
        if user is not None:
            event["data"]["author"] = {"identifier": user, "type": "user"}
    for path, message in known.problems_of(events[0]["data"], first_only=True):
        field = ".".join(filter(None, ("data", path)))
        fail(f"{field}: {message}; `aep events {known.name}` shows what fits")
    raise typer.Exit(run_trigger(events, dev_session.running()))


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
        fail(f"--ca {file}: {error.strerror or error}")


def _data(file: Path) -> bytes:
    where = f"--data {file}"
    text = text_of(file, where)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"{where} must hold a JSON object, and is {json_words(error)}")
    if not isinstance(found, dict):
        fail(f"{where} must hold a JSON object, the data of an event")
    return orjson.dumps(found)


def _set(data: dict[str, Any], assignment: str) -> None:
    path, equals, value = assignment.partition("=")
    *parents, name = path.split(".")
    holder: Any = data
    for part in parents:
        holder = holder.setdefault(part, {})
        if not isinstance(holder, dict):
            fail(f"--set {assignment}: {part} is no object in the data; `aep events TYPE` shows an example")
    if not equals or not all((*parents, name)):
        fail(f"--set {assignment}: give PATH=VALUE, such as product.identifier=SKU-1")
    holder[name] = value
