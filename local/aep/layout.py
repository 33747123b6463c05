"""Lays items out as a table, or as one block an item where the width does not hold the table.

Pure: data in, lines out. Ids and URLs are never cut, at any width: a line breaks between words only.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len

GAP = "  "
BESIDE = " · "
INDENT = "  "
WRAPPED_AT_LEAST = 30
"""The width below which a last column of sentences is not wrapped: blocks are read more easily."""
PADDED_AT_MOST = 80
"""The width of a column where lines have none: one long cell adds no spaces to all other rows."""


class Column(NamedTuple):
    """A column of a table. Numbers stand at the right."""

    header: str
    is_number: bool = False


class Fact(NamedTuple):
    """Something about an item, with its label. An empty text is left out, but for a table's cell."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a list.

    `cells` are those of the columns; a table shows `more` beneath its row, or in columns of their own where
    there is room. A block has the `heading`, then `lines`, which say what the cells do, then `more`.
    Without `lines` it has the cells by the headers, the first one as the heading.
    """

    cells: Sequence[str]
    more: Sequence[Fact] = ()
    heading: str | None = None
    lines: Sequence[Fact] | None = None


class Line(NamedTuple):
    """A line of text, and whether it is the head of what follows."""

    text: str
    is_head: bool = False


def lines(
    columns: Sequence[Column], items: Sequence[Item], width: int | None, *, has_header: bool = True
) -> Iterator[Line]:
    """Yields the lines of the items. Without a width each item is one row, however long.

    With a width, facts that no item has get no column.
    """
    shown = [
        index
        for index in range(len(items[0].more))
        if width is None or any(item.more[index].text for item in items)
    ]
    wide = [*columns, *(Column(items[0].more[index].label) for index in shown)]
    rows = [[*item.cells, *(item.more[index].text for index in shown)] for item in items]
    if _fits(wide, rows, width):
        yield from _table(wide, rows, width, [()] * len(rows), has_header=has_header)
        return
    rows = [list(item.cells) for item in items]
    if width is not None and _fits(columns, rows, width):
        beneath = [_flowing(item.more, width) for item in items]
        yield from _table(columns, rows, width, beneath, has_header=has_header)
        return
    for index, item in enumerate(items):
        if index > 0:
            yield Line("")
        yield from block(columns, item, width)


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> bool:
    if width is None:
        return True
    *fixed, last = _widths(columns, rows)
    longest_word = max((cell_len(word) for row in rows for word in row[-1].split()), default=0)
    least = max(min(last, WRAPPED_AT_LEAST), cell_len(columns[-1].header), longest_word)
    return sum(fixed) + len(GAP) * len(fixed) + least <= width


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(cell_len(column.header), *(cell_len(row[index]) for row in rows))
        for index, column in enumerate(columns)
    ]


def _table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int | None,
    beneath: Sequence[Sequence[str]],
    *,
    has_header: bool,
) -> Iterator[Line]:
    """Yields the rows. The last column is wrapped."""
    widths = _widths(columns, rows)
    if width is None:
        widths = [min(each, PADDED_AT_MOST) for each in widths]
    indent = sum(widths[:-1]) + len(GAP) * (len(widths) - 1)
    if has_header:
        header = [column.header.upper() for column in columns]
        yield Line(_row(columns, header, widths), is_head=True)
    for row, more in zip(rows, beneath, strict=True):
        first, *rest = _wrapped(row[-1], None if width is None else width - indent)
        yield Line(_row(columns, [*row[:-1], first], widths))
        for text in rest:
            yield Line(" " * indent + text)
        for text in more:
            yield Line(text)


def _row(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        " " * (width - cell_len(cell)) + cell if column.is_number else cell + " " * (width - cell_len(cell))
        for column, cell, width in zip(columns, cells, widths, strict=True)
    ]
    return GAP.join(padded).rstrip()


def _flowing(facts: Iterable[Fact], width: int) -> Sequence[str]:
    """Returns facts one behind the other, in as many lines as they need. Each stands whole if it fits."""
    found: list[str] = []
    line = ""
    for text in (f"{fact.label} {fact.text}" for fact in facts if fact.text):
        if line and cell_len(line + BESIDE + text) <= width:
            line += BESIDE + text
            continue
        if line:
            found.append(line)
        *before, line = _at_spaces(text, width, initial_indent=INDENT * 2, subsequent_indent=INDENT * 3)
        found += before
    return [*found, line] if line else found


def wrapped_line(text: str, width: int | None, hanging: str = "") -> Sequence[str]:
    """Returns the lines of a line that may be indented; those behind the first are, and by `hanging` more."""
    if width is None or cell_len(text) <= width:
        return [text]
    indent = " " * (len(text) - len(text.lstrip(" ")))
    return _at_spaces(text.strip(), max(width, 1), initial_indent=indent, subsequent_indent=indent + hanging)


def block(columns: Sequence[Column], item: Item, width: int | None) -> Iterator[Line]:
    """Yields the lines of one item: a heading, and a line for each fact."""
    heading, facts = item.heading, item.lines
    if facts is None:
        facts = [Fact(column.header, cell) for column, cell in zip(columns[1:], item.cells[1:], strict=True)]
    shown = [fact for fact in (*facts, *item.more) if fact.text]
    for text in _wrapped(heading or item.cells[0], width):
        yield Line(text, is_head=True)
    margin = max((cell_len(fact.label) for fact in shown), default=0) + len(GAP)
    for fact in shown:
        label = fact.label + " " * (margin - cell_len(fact.label))
        first, *rest = _wrapped(fact.text, None if width is None else width - len(INDENT) - margin)
        yield Line(f"{INDENT}{label}{first}")
        for text in rest:
            yield Line(f"{INDENT}{' ' * margin}{text}")


_at_spaces = partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)


def _wrapped(text: str, width: int | None) -> Sequence[str]:
    """Returns the lines of a text, broken at spaces only: a longer word stands out."""
    if width is None or cell_len(text) <= width:
        return [text]
    return _at_spaces(text, max(width, 1)) or [""]
