"""Ids that came in lately are known wherever they are: in memory, behind the last ones, after a restart."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import count

import pytest

from aep.broker import seen
from aep.broker.seen import Batch, SeenIds
from aep.store.migrations import prepare
from event_platform.domain.tenants import Way
from support.records import PIM, an_event

START = 1_700_000_000.0


class Ids:
    """A file with ids; `came` says which of the numbered events are new."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.seen = SeenIds()
        self._numbers = count(1)

    def came(self, at: float, numbers: Sequence[int], *, way: Way = Way.CLOUDEVENTS) -> list[int]:
        events = {f"{event.id}": number for number in numbers for event in [an_event(number)]}
        batch = Batch(PIM, [an_event(number) for number in numbers], START + at, way)
        ((new),) = self.seen.new_events(self.connection, self._numbers, [batch])
        return [events[event.id] for event in new]

    def clean_up(self, at: float, limit: int = 100) -> int:
        return self.seen.drop_expired(self.connection, START + at, limit)

    def rows(self, table: str) -> int:
        return self.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608


@pytest.fixture(params=[1, 3, 8192])
def ids(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ids]:
    """With so many ids in memory before they are moved."""
    monkeypatch.setattr(seen, "MOVED_AT_ONCE", request.param)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        yield Ids(connection)


def test_an_id_is_known_for_ten_minutes(ids: Ids) -> None:
    assert ids.came(0, [1, 2, 1]) == [1, 2]
    assert ids.came(1, [3, 4, 2]) == [3, 4]
    assert ids.came(599, [1, 2, 3, 5]) == [5]
    assert ids.came(600, [1, 3, 5, 1]) == [1]
    assert ids.came(601, [3, 4, 1]) == [3, 4]
    assert ids.came(1199, [1, 3, 5, 6]) == [5, 6]


@pytest.mark.parametrize("times", [1, 3])
def test_it_is_known_after_a_restart_and_after_something_was_undone(ids: Ids, times: int) -> None:
    for number in range(times):
        ids.came(number, [number])
    ids.seen = SeenIds()
    assert ids.came(10, range(times + 1)) == [times]
    ids.connection.execute("SAVEPOINT job")
    assert ids.came(11, [7]) == [7]
    ids.connection.execute("ROLLBACK TO job")
    ids.seen.forget()
    assert ids.came(12, [*range(times + 1), 7]) == [7]


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_an_id_of_another_time_counts_for_ten_minutes_at_most(ids: Ids, seconds: int) -> None:
    ids.came(seconds, [1, 2, 3, 4])
    assert ids.came(0, [1, 2]) == [1, 2]
    assert ids.came(1, [1, 2, 3]) == [3]


def test_each_id_is_in_one_place_and_leaves_when_its_time_is_over(ids: Ids) -> None:
    for at in range(20):
        ids.came(at, [2 * at, 2 * at + 1])
    assert ids.rows("arrived") <= seen.MOVED_AT_ONCE + 1
    assert ids.rows("arrived") + ids.rows("seen") == 40
    assert ids.clean_up(599) == 0
    before = ids.rows("seen")
    while ids.clean_up(700, limit=7):
        assert before - ids.rows("seen") <= 7
        before = ids.rows("seen")
    assert ids.rows("seen") == 0


def test_what_has_expired_is_not_moved(ids: Ids) -> None:
    ids.came(0, [1, 2, 3])
    ids.came(700, [4, 5, 6])
    ids.came(701, [7])
    assert ids.clean_up(701) == 0


def test_few_ids_cost_no_look_at_the_earlier_ones(ids: Ids) -> None:
    ids.came(0, [1])
    statements: list[str] = []
    ids.connection.set_trace_callback(statements.append)
    ids.came(1, [2])
    looks = [text for text in statements if "FROM seen WHERE key" in text]
    assert len(looks) == (1 if seen.MOVED_AT_ONCE == 1 else 0)


@pytest.mark.parametrize("gap", [601, 86399])
def test_a_relayed_id_is_known_for_a_day(ids: Ids, gap: int) -> None:
    assert ids.came(0, [1, 2], way=Way.RELAY) == [1, 2]
    ids.clean_up(gap)
    assert ids.came(gap, [1, 3], way=Way.RELAY) == [3]
    assert ids.came(gap + 86400, [1], way=Way.RELAY) == [1]
