"""Migrations: the tables of a new file, and the steps from those of an older program."""

import sqlite3
from collections.abc import Iterator

from event_platform.domain.errors import StoreUnavailable

from . import schema


def prepare(connection: sqlite3.Connection) -> None:
    """Makes the tables of a new file, or migrates an older one. The caller holds the folder.

    All steps are one transaction, so that an end in the middle leaves the file as it was. Raises
    StoreUnavailable for a file of a newer program.
    """
    connection.execute("BEGIN IMMEDIATE")
    found = version(connection)
    if found > len(schema.MIGRATIONS):
        connection.execute("ROLLBACK")
        raise StoreUnavailable(
            f"the store has schema version {found}, but this program knows versions up to"
            f" {len(schema.MIGRATIONS)}: run the version of the program that wrote it, or a later one"
        )
    if found == len(schema.MIGRATIONS):
        connection.execute("ROLLBACK")  # so that a full disk does not stop a start
        return
    for script in schema.MIGRATIONS[found:]:
        for statement in _statements(script):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    connection.execute("COMMIT")


def version(connection: sqlite3.Connection) -> int:
    """The version of the file's schema; 0 for a new one."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def is_current(connection: sqlite3.Connection) -> bool:
    """True if the file has the tables of this program."""
    return version(connection) == len(schema.MIGRATIONS)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
