"""Sessions of the console that were ended before their time."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from aep.store import ended_sessions, schema


@pytest.fixture
def store() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema._VERSION_20)
        yield connection


def test_the_end_of_a_session_is_forgotten_with_its_cookie(store: sqlite3.Connection) -> None:
    ended_sessions.end(store, "early", "", until=100.0, now=50.0)
    ended_sessions.end(store, "late", "", until=200.0, now=99.0)
    assert ended_sessions.all_of(store, "") == ["early", "late"]
    ended_sessions.end(store, "other", "", until=300.0, now=100.0)

    assert not ended_sessions.is_ended(store, "early")
    assert ended_sessions.is_ended(store, "late")


def test_a_tenant_who_ends_many_has_its_own_earliest_forgotten(
    store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_sessions, "ENDED_AT_MOST", 3)
    ended_sessions.end(store, "mine", "", until=1.0, now=0.0)
    for number in range(5):
        ended_sessions.end(store, f"theirs-{number}", "https://pim.example.com", until=10.0 + number, now=0.0)

    assert ended_sessions.all_of(store, "") == ["mine"]
    assert sorted(ended_sessions.all_of(store, "https://pim.example.com")) == [
        "theirs-2",
        "theirs-3",
        "theirs-4",
    ]
