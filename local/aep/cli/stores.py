"""The store of a data folder, for commands that work on it beside a server."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from event_platform.domain.errors import StoreUnavailable

from ..store import opening
from ..store.identity import with_cure

BUSY_MILLISECONDS = 30_000
"""The time that a command waits for the commit of a server."""


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits what the block changes, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def open_store(data: Path) -> Iterator[sqlite3.Connection]:
    """Opens the store of a folder that has one. Raises StoreUnavailable."""
    path = opening.file_of(data)
    try:
        with opening.beside_the_server(data) as connection:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            yield connection
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"{path} cannot be worked on: {with_cure(error)}") from error
