"""Statements over many rows at once: the same rows as one by one, and by the index."""

import sqlite3

import pytest

from aep.store import bulk

TABLES = """
CREATE TABLE pairs (a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, PRIMARY KEY (a, b, c))
WITHOUT ROWID
"""
SIZES = [0, 1, 2, 3, 7, 63, 64, 65, 200]


@pytest.fixture
def connection() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(TABLES)
    return connection


def stored(connection: sqlite3.Connection) -> list[tuple[int, ...]]:
    return connection.execute("SELECT * FROM pairs ORDER BY a, b, c").fetchall()


@pytest.mark.parametrize("size", SIZES)
def test_every_row_is_inserted_once(connection: sqlite3.Connection, size: int) -> None:
    values = [(1, number, 2) for number in range(size)]
    bulk.insert(connection, "pairs (a, b, c)", values)
    assert stored(connection) == values


@pytest.mark.parametrize("size", SIZES)
def test_what_the_keys_name_is_changed_and_nothing_else(connection: sqlite3.Connection, size: int) -> None:
    values = [(1, number, 2) for number in range(size)]
    others = [(1, number, 3) for number in range(size)] + [(0, 0, 0)]
    bulk.insert(connection, "pairs (a, b, c)", [*values, *others])
    changed = bulk.change(
        connection, "DELETE FROM pairs WHERE (a, b, c) IN {keys}", [*values, *[(9, n, 9) for n in range(3)]]
    )
    assert changed == size
    assert stored(connection) == sorted(others)


@pytest.mark.parametrize("size", SIZES)
def test_the_rows_of_the_keys_come_once_each(connection: sqlite3.Connection, size: int) -> None:
    values = [(1, number, 2) for number in range(300)]
    bulk.insert(connection, "pairs (a, b, c)", values)
    found = bulk.rows(connection, "SELECT * FROM pairs WHERE (a, b, c) IN {keys}", values[:size])
    assert sorted(found) == values[:size]


def test_keys_of_several_columns_are_looked_up_in_the_index(connection: sqlite3.Connection) -> None:
    bulk.insert(connection, "pairs (a, b, c)", [(1, 2, 3)])
    plan = bulk.rows(
        connection, "EXPLAIN QUERY PLAN SELECT * FROM pairs WHERE (a, b, c) IN {keys}", [(1, 2, 3), (4, 5, 6)]
    )
    assert "SEARCH pairs USING PRIMARY KEY (a=? AND b=? AND c=?)" in [row[3] for row in plan]
