"""Prints the output of commands. No text from outside can move the cursor or is read as markup.

A test holds that no other module prints.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from event_platform import telemetry

WIDE = 240


def printable(text: str) -> str:
    """Returns the text with each character that is not printable escaped as in Python: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Prints text; its line breaks stay."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err, nl=nl)


def echo_json(value: Any, *, indent: bool = False) -> None:
    """Prints JSON on one line, or with `indent` on many."""
    typer.echo(to_json(value, indent=indent))


def to_json(value: Any, *, indent: bool = False) -> str:
    """Returns JSON in which every character that is not printable is escaped."""
    return telemetry.to_json(value, orjson.OPT_INDENT_2 if indent else 0).decode()


def fail(message: str, status: int = 2) -> NoReturn:
    """Ends the command with one line on standard error that says what to do."""
    echo(f"aep: {' '.join(message.split())}", err=True)
    raise SystemExit(status)


def text(value: object, style: str = "") -> Text:
    """Returns a styled text for a console or a table, never read as markup."""
    return Text(printable(str(value)), style)


def console(*, err: bool = False) -> Console:
    """Returns a console for styled lines, which takes no markup."""
    return Console(stderr=err, markup=False, emoji=False)


def show(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table as wide as the terminal, or wide enough for grep when there is none."""
    table = Table(*headers)
    for row in rows:
        table.add_row(*map(text, row))
    shown = console()
    if not shown.is_terminal:
        shown = Console(width=WIDE, soft_wrap=True, markup=False, emoji=False)
    shown.print(table)
