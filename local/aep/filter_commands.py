"""`aep filter`: try a filter on an event before a subscription gets it."""

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from event_platform.domain import filters, json_form
from event_platform.domain.catalog import Catalog
from event_platform.domain.events import Event

from .options import AsJson, EventTypes, fail, known_type, printable
from .options import event_types as read_event_types

filter_ = typer.Typer(
    name="filter",
    no_args_is_help=True,
    help="Try filters of subscriptions.\n\nExample: aep filter test 'user_type = \"api\"' --event event.json",
)


@filter_.command("test")
def try_filter(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="The filter.", show_default=False)],
    event: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="A CloudEvent, a delivered body, or what `aep events TYPE` prints; - for standard input.",
        ),
    ],
    as_json: AsJson = False,
    event_types: EventTypes = None,
) -> None:
    """Say whether an event matches a filter, and which part of it decided.

    Example: aep filter test 'user_type = "api"' --event event.json

    With --event - the event is read from standard input, as in `aep events TYPE | aep filter test …`.

    Exit status 0: it matches; 1: it does not; 2: no filter, or no event.
    """
    subject = _event_of(_text_of(event), f"--event {event}", read_event_types(event_types))
    try:
        explanation = filters.explain(expression, subject)
    except filters.FilterError as error:
        typer.echo(f"aep: EXPR: {error}", err=True)  # three lines, of which the last points into the second
        raise SystemExit(2) from None
    if as_json:
        typer.echo(orjson.dumps(explanation))
    else:
        typer.echo("yes, it matches" if explanation.matches else "no, it does not match")
        for part in explanation.decided_by:
            line = f"{'true' if part.holds else 'false'}: {part.text} ({part.why})"
            typer.echo(f"  {printable(line)}")
    raise SystemExit(0 if explanation.matches else 1)


def _text_of(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except UnicodeDecodeError as error:
        fail(f"--event {file} must hold UTF-8: {error}")


def _event_of(text: str, where: str, types: Catalog) -> Event:
    """Ends the command when it is none whose data fits its type."""
    name, data = _type_and_data(text, where)
    event_type = known_type(name, types)
    for path, message in event_type.problems_of(data, first_only=True):
        fail(f"{where}: {'.'.join(filter(None, ('data', path)))}: {printable(message)}")
    return Event("", name, "", data, json_form.stringify(data), ())


def _type_and_data(text: str, where: str) -> tuple[str, dict[str, Any]]:
    """Of an event, of an entry of the catalog, or of such an entry as `aep events TYPE` prints it."""
    before, is_printed, example = text.partition("\n\nexample:\n")
    try:
        found = orjson.loads(example if is_printed else text)
    except orjson.JSONDecodeError as error:
        fail(f"{where} must hold one event in JSON: {error}")
    if is_printed:
        found = {"type": before.partition("\n")[0], "example": found}
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        fail(f"{where} must hold one event, an object with type and data")
    data = found.get("data", found.get("example"))
    if not isinstance(data, dict):
        fail(f"{where} must hold one event: its data must be an object")
    return found["type"], data
