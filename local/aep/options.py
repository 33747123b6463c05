"""What several commands share: options, the catalog's types by name, and the end of a command in one line."""

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from event_platform.domain import catalog
from event_platform.settings import Settings, catalog_with, wrong_setting

Data = Annotated[
    Path, typer.Option("--data", envvar="AEP_DATA", metavar="DIR", help="The platform's data folder.")
]
EventTypes = Annotated[
    str | None,
    typer.Option(
        "--event-types",
        envvar="AEP_EVENT_TYPES",
        metavar="FILE",
        help="A JSON list of event types beside the catalog's.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DATA = Path("aep-data")
WIDE = 240


def settings(**given: Any) -> Settings:
    """From the environment, overridden by what is `given`; ends the command when one is wrong."""
    try:
        return Settings(**given)
    except ValidationError as error:
        fail(wrong_setting(error))


def event_types(source: str | None) -> catalog.Catalog:
    """The catalog with the types of `source`, a path or a list; ends the command when one is wrong."""
    try:
        return catalog_with(source) if source is not None else catalog.load()
    except ValueError as error:
        fail(f"--event-types: {error}")


def known_type(name: str, types: catalog.Catalog) -> catalog.EventType:
    """The catalog's entry; ends the command when there is none."""
    if name not in types:
        fail(
            f"unknown event type {printable(name)}: did you mean {types.nearest(name)}?"
            " `aep events` lists them"
        )
    return types[name]


def printable(text: str) -> str:
    """What strangers sent, without anything that could move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the command with one line on standard error that says what to do."""
    typer.echo(f"aep: {' '.join(message.split())}", err=True)
    raise SystemExit(status)


def show(table: Table) -> None:
    """Prints a table as wide as the terminal, or wide enough for grep when there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE, soft_wrap=True)
    console.print(table)
