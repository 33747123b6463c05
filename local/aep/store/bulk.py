"""Statements over many rows at once.

Each step of a statement gives Python's lock away and takes it back, which under load costs more than what
SQLite does meanwhile; so rows share steps. Statements come in few sizes, so that they stay prepared.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

Rows = Sequence[Sequence[Any]]

_AT_MOST = 64


def insert(connection: sqlite3.Connection, into: str, values: Rows) -> None:
    """Inserts rows.

    `into` names table and columns, as in `events (no, id)`; each row of `values` has one for each.
    """
    for chunk in _chunks(values):
        connection.execute(f"INSERT INTO {into} {_values(chunk)}", _flat(chunk))


def update(
    connection: sqlite3.Connection, change: str, where: str, values: Rows, shared: Sequence[Any] = ()
) -> None:
    """Runs UPDATE for each row of `values`, whose values are `v.column1` and so on in `change` and `where`.

    `change` names the table too, as in `events SET id = v.column2`. No two rows are for the same. Each
    question mark in `change` is one of `shared`, the same for all rows.
    """
    for chunk in _chunks(values):
        statement = f"UPDATE {change} FROM ({_values(chunk)}) AS v WHERE {where}"
        connection.execute(statement, [*shared, *_flat(chunk)])


def change(connection: sqlite3.Connection, statement: str, keys: Rows) -> int:
    """Runs `statement`, with `{keys}` behind an IN, for these keys; returns the number of changed rows."""
    return sum(
        connection.execute(statement.format(keys=_keys(chunk)), _flat(chunk)).rowcount
        for chunk in _padded(keys)
    )


def rows(connection: sqlite3.Connection, statement: str, keys: Rows) -> list[Any]:
    """Returns the rows that `statement`, with `{keys}` behind an IN, gives for these keys."""
    found: list[Any] = []
    for chunk in _padded(keys):
        found += connection.execute(statement.format(keys=_keys(chunk)), _flat(chunk))
    return found


def _chunks(values: Rows) -> Iterator[Rows]:
    """Yields the rows in chunks of a power of two."""
    start = 0
    while (left := len(values) - start) > 0:
        size = min(_AT_MOST, 1 << (left.bit_length() - 1))  # the largest power of two that is there
        yield values[start : start + size]
        start += size


def _padded(keys: Rows) -> Iterator[Rows]:
    """Yields the keys in chunks of a power of two; a key that an IN names twice changes nothing."""
    for start in range(0, len(keys), _AT_MOST):
        chunk = [*keys[start : start + _AT_MOST]]
        size = 1 << (len(chunk) - 1).bit_length()
        yield chunk + chunk[-1:] * (size - len(chunk))


def _keys(chunk: Rows) -> str:
    """Returns the keys as a SELECT.

    For a bare VALUES with keys of several columns SQLite would scan the table.
    """
    return f"(SELECT * FROM ({_values(chunk)}))"  # noqa: S608 - question marks only


def _values(chunk: Rows) -> str:
    return _question_marks(len(chunk), len(chunk[0]))


@cache
def _question_marks(rows: int, columns: int) -> str:
    """Returns VALUES of so many rows. There are few: rows are a power of two."""
    one = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([one] * rows)}"


def _flat(chunk: Rows) -> list[Any]:
    return [*chain.from_iterable(chunk)]
