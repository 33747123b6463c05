"""The steps of SQLite that a call takes: the work of a statement, whatever machine it runs on."""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PER_LOOK = 100


def counted_steps(connection: sqlite3.Connection, call: Callable[[], T]) -> tuple[T, int]:
    """Returns the result of the call, and the steps that it took, to within PER_LOOK for each statement."""
    looks = 0

    def count() -> int:
        nonlocal looks
        looks += 1
        return 0

    connection.set_progress_handler(count, PER_LOOK)
    try:
        return call(), PER_LOOK * looks
    finally:
        connection.set_progress_handler(None, 0)
