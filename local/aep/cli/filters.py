"""`aep filter`: tries a filter on an event before a subscription gets it."""

from pathlib import Path
from typing import Annotated

import typer

from event_platform.domain import filters
from event_platform.domain.events import json_form
from event_platform.domain.events.catalog import Catalog
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts

from ..output import echo, echo_json, echo_whole, fail
from .event_files import EventFile, event_in
from .options import AsJson, EventTypes, known_type
from .options import event_types as read_event_types
from .usage import Commands

filter_ = Commands(
    name="filter",
    help="Try filters of subscriptions.\n\nExample: aep filter test 'user_type = \"api\"' --event event.json",
)


@filter_.command("test")
def try_filter(
    expression: Annotated[str, typer.Argument(metavar="EXPR", help="The filter.", show_default=False)],
    event: EventFile,
    as_json: AsJson = False,
    event_types: EventTypes = None,
) -> None:
    """Say whether an event matches a filter, and which part of it decided.

    Example: aep filter test 'user_type = "api"' --event event.json

    With --event - the event is read from standard input, as in `aep events TYPE | aep filter test …`.

    Exit status 0: it matches; 1: it does not; 2: no filter, or no event.
    """
    subject = _event_of(event, read_event_types(event_types))
    try:
        explanation = filters.explain(expression, subject)
    except filters.FilterError as error:
        echo_whole(f"aep: EXPR: {error}", err=True)  # three lines, of which the last points into the second
        raise SystemExit(2) from None
    if as_json:
        echo_json(explanation)
    else:
        echo("yes, it matches" if explanation.matches else "no, it does not match")
        for part in explanation.decided_by:
            line = f"{'true' if part.holds else 'false'}: {part.text} ({part.why})"
            echo(f"  {line}")
    raise SystemExit(0 if explanation.matches else 1)


def _event_of(file: Path, types: Catalog) -> Event:
    """Returns the event; ends the command when its data do not fit its type."""
    found = event_in(file)
    data, event_type = found["data"], known_type(found["type"], types)
    for path, message in event_type.problems_of(data, first_only=True):
        fail(f"--event {file}: {'.'.join(filter(None, ('data', path)))}: {message}")
    return Event("", event_type.name, "", Facts(event_type.name, data), json_form.stringify(data), ())
