"""The pages about the data model name what the schemas have: every table and collection, field and index."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aep.store.schema import MIGRATIONS
from event_platform import data_model

DOCS = Path(__file__).parents[2] / "docs"
SQLITE, FIRESTORE = DOCS / "data-model-sqlite.md", DOCS / "data-model.md"


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in MIGRATIONS:
            connection.executescript(migration)
        yield connection


def names(database: sqlite3.Connection, query: str, *arguments: str) -> list[str]:
    return [name for (name,) in database.execute(query, arguments)]


def section(page: Path, heading: str) -> str:
    return page.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


def code(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_the_page_has_the_tables_and_columns_of_the_sqlite_file(database: sqlite3.Connection) -> None:
    tables = names(
        database, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )

    described = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(SQLITE, "Tables"), re.MULTILINE)

    assert {name: code(columns) for name, columns in described} == {
        table: names(database, "SELECT name FROM pragma_table_info(?)", table) for table in tables
    }


def test_the_page_has_the_indexes_of_the_sqlite_file(database: sqlite3.Connection) -> None:
    indexes = names(database, "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    described = section(SQLITE, "Indexes")
    of_the_log = [name for name in indexes if name.startswith("log_entries_of_")]

    assert set(indexes) - set(of_the_log) - set(code(described)) == set()
    assert f"`log_entries_of_…`: {len(of_the_log)} " in described


@pytest.mark.parametrize("collection", data_model.UNINDEXED)
def test_the_page_names_every_field_of_a_firestore_collection(collection: str) -> None:
    indexed = {
        name for index in data_model.INDEXES if index.collection == collection for name, _ in index.fields
    }
    described = re.findall(rf"^\| `{collection}/[^`]*` \| (.*?) \|", FIRESTORE.read_text(), re.MULTILINE)

    assert {*data_model.UNINDEXED[collection], *indexed} - set(code(" ".join(described))) == set()


def test_the_page_says_what_expires() -> None:
    named = re.findall(r"^\| (`.*?) \|", section(FIRESTORE, "Lifetimes"), re.MULTILINE)

    assert sorted(code(" ".join(named))) == sorted(data_model.EXPIRING)
