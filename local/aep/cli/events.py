"""`aep events`: the catalog of event types."""

from typing import Annotated

import typer

from event_platform.domain.events import catalog

from ..output import echo, echo_json, echo_whole, show, to_json
from . import events_page, views
from .options import AsJson, EventTypes, known_type
from .options import event_types as read_event_types


def events(
    event_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Show this type's schema and an example.")
    ] = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a page with all of them.")] = False,
    event_types: EventTypes = None,
) -> None:
    """Show the event types that a subscription can have, or one of them in full.

    Example: aep events com.akeneo.pim.v1.product.updated

    The certainty says where a type's form is known from. A type's JSON is an entry as --event-types takes it.
    """
    types = read_event_types(event_types)
    if event_type is not None:
        _show(known_type(types.in_full(event_type), types), as_json=as_json)
    elif as_markdown:
        echo_whole(events_page.page(types).rstrip("\n"))
    elif as_json:
        echo_json([_summary(each) for each in types.types.values()])
    else:
        rows = (views.row(each.name, each.certainty, each.trigger) for each in types.types.values())
        show(views.EVENT_TYPES, rows, empty="There are no event types.")


def _show(event_type: catalog.EventType, *, as_json: bool) -> None:
    paths = [".".join(path) for path in event_type.identity]
    if as_json:
        more = {"identity": paths, "schema": event_type.schema, "example": event_type.example}
        echo_json(_summary(event_type) | more)
        return
    echo(f"{event_type.name}\n{event_type.trigger}\n")
    echo(f"certainty: {event_type.certainty}")
    echo(f"ordered by: {', '.join(paths) or 'nothing; its events have no order'}")
    for title, shown in (("schema of data", event_type.schema), ("example", event_type.example)):
        echo(f"\n{title}:")
        echo_whole(to_json(shown, indent=True))


def _summary(event_type: catalog.EventType) -> dict[str, str]:
    return {"type": event_type.name, "trigger": event_type.trigger, "certainty": event_type.certainty}
