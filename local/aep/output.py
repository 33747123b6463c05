"""Prints the output of commands. No text from outside can move the cursor or is read as markup.

A test holds that no other module prints. What lays out and styles, rich among it, is imported by the first
line for a terminal, and by tables: a service prints none.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import orjson
import typer

from event_platform import telemetry

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from .layout import Column, Fact, Item, Line

PAGE = 500
"""The items that are read, laid out and printed at once."""


def printable(text: str) -> str:
    """Returns the text with each character that is not printable escaped as in Python: `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def echo(text: str = "", *, err: bool = False, nl: bool = True, hanging: int = 0) -> None:
    """Prints sentences, broken between words where a terminal is too narrow; their own line breaks stay.

    What follows a break stands as far to the right as its line begins, and `hanging` columns more.
    """
    lines = list(map(printable, text.split("\n")))
    if _may_have_width(sys.stderr if err else sys.stdout):
        from . import layout

        width = _width(console(err=err))
        lines = [part for line in lines for part in layout.wrapped_line(line, width, " " * hanging)]
    typer.echo("\n".join(lines), err=err, nl=nl)


def echo_whole(text: str, *, err: bool = False) -> None:
    """Prints lines that a person copies or a program reads, and breaks none."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


def echo_styled(*parts: "Text") -> None:
    """Prints parts with a space between them; where a terminal is too narrow a part begins a line."""
    from . import layout

    shown = console()
    width = _width(shown)
    line = text("")
    for part in (part for part in parts if part.plain):
        if width is not None and line and line.cell_len + 1 + part.cell_len > width:
            shown.print(line, soft_wrap=True)
            line = text(layout.INDENT * 2)
        elif line:
            line.append(" ")
        line.append_text(part)
    shown.print(line, soft_wrap=True)


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


def confirm(question: str, *, yes: bool) -> None:
    """Asks the person at the terminal, unless `yes`; ends the command when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} There is no terminal to answer at: give --yes")
    echo(f"{question} [y/N]", nl=False)
    echo(" ", nl=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("nothing was done", 1)


def text(value: object, style: str = "") -> "Text":
    """Returns a styled text for a console or a table, never read as markup."""
    from rich.text import Text

    return Text(printable(str(value)), style)


def console(*, err: bool = False) -> "Console":
    """Returns a console for styled lines, which takes no markup."""
    from rich.console import Console

    colours = None if os.environ.get("NO_COLOR") else "auto"  # rich itself keeps bold and dim
    return Console(stderr=err, markup=False, emoji=False, color_system=colours)


def show(
    columns: "Sequence[Column]", items: "Iterable[Item]", *, empty: str, has_header: bool = True
) -> None:
    """Prints a table, or blocks where the terminal is too narrow; `empty` is the sentence for no items.

    Items are read and printed in pages, each laid out by itself. Without a terminal an item is one line, for
    grep, behind one header, unless COLUMNS says how wide lines may be.
    """
    from . import layout

    shown = console()
    source = iter(items)
    width, is_first = _width(shown), True
    while page := [_printable_item(item) for item in islice(source, PAGE)]:
        _print_lines(shown, layout.lines(columns, page, width, has_header=has_header))
        has_header, is_first = has_header and width is not None, False
    if is_first:
        echo(empty)


def show_one(item: "Item") -> None:
    """Prints one item as a block."""
    from . import layout

    shown = console()
    _print_lines(shown, layout.block((), _printable_item(item), _width(shown)))


def _width(shown: "Console") -> int | None:
    """Returns the width for lines; None if they are not broken: in a pipe, unless COLUMNS is set.

    What a program reads from standard error is one line an error, whatever COLUMNS is.
    """
    has_width = shown.is_terminal or ("COLUMNS" in os.environ and not shown.stderr)
    return shown.width if has_width else None


def _may_have_width(stream: TextIO) -> bool:
    """True unless `_width` is None in any case, which can be said without rich."""
    return stream.isatty() or not {"COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"}.isdisjoint(os.environ)


def _print_lines(shown: "Console", lines: "Iterable[Line]") -> None:
    if not shown.is_terminal:
        typer.echo("\n".join(line.text for line in lines))
        return
    for line in lines:
        shown.print(text(line.text, "bold" if line.is_head else ""), soft_wrap=True)


def show_json(values: Iterable[Any]) -> None:
    """Prints a JSON array on one line, as it is read."""
    source = iter(values)
    before = "["
    while page := list(islice(source, PAGE)):
        typer.echo(before + to_json(page)[1:-1], nl=False)
        before = ","
    typer.echo("[]" if before == "[" else "]")


def _printable_item(item: "Item") -> "Item":
    def facts(of: "Sequence[Fact]") -> "Sequence[Fact]":
        return [fact._replace(text=printable(fact.text)) for fact in of]

    return replace(
        item,
        cells=[printable(cell) for cell in item.cells],
        more=facts(item.more),
        heading=None if item.heading is None else printable(item.heading),
        lines=None if item.lines is None else facts(item.lines),
    )
