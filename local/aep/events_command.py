"""`aep events`: the catalog of event types."""

from collections.abc import Iterable
from typing import Annotated

import orjson
import typer
from rich.table import Table

from event_platform.domain import catalog

from . import events_page
from .options import AsJson, EventTypes, known_type, show
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
        _show(known_type(event_type, types), as_json=as_json)
    elif as_markdown:
        typer.echo(events_page.page(types), nl=False)
    elif as_json:
        typer.echo(orjson.dumps([_summary(each) for each in types.types.values()]))
    else:
        show(_table(types.types.values()))


def _table(types: Iterable[catalog.EventType]) -> Table:
    table = Table()
    table.add_column("type", no_wrap=True)
    table.add_column("trigger")
    table.add_column("certainty")
    for each in types:
        table.add_row(each.name, each.trigger, each.certainty)
    return table


def _show(event_type: catalog.EventType, *, as_json: bool) -> None:
    paths = [".".join(path) for path in event_type.identity]
    if as_json:
        more = {"identity": paths, "schema": event_type.schema, "example": event_type.example}
        typer.echo(orjson.dumps(_summary(event_type) | more))
        return
    typer.echo(f"{event_type.name}\n{event_type.trigger}\n")
    typer.echo(f"certainty: {event_type.certainty}")
    typer.echo(f"ordered by: {', '.join(paths) or 'nothing; its events have no order'}")
    typer.echo(f"\nschema of data:\n{_pretty(event_type.schema)}\n\nexample:\n{_pretty(event_type.example)}")


def _summary(event_type: catalog.EventType) -> dict[str, str]:
    return {"type": event_type.name, "trigger": event_type.trigger, "certainty": event_type.certainty}


def _pretty(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
