"""Segments of kept events: what they say of keys, and how the oldest leave the file by its bounds."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from aep.broker.keeper import Keeper
from aep.runtime.meters import Meters
from aep.store import courses, kept, kept_index
from aep.store.kept_index import Bounds, Key
from aep.store.migrations import prepare
from event_platform.domain.tenants import Way
from support.clock import START, ManualClock
from support.embedded import Embedded
from support.records import PIM, UPDATED, an_event, with_data

AT = START.timestamp()
OTHER = "https://other.example.com"
SPEC = "https://events.example.com/spec"
DAY = Bounds(86400, 1024**3)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_index, "EVENTS_OF_SEGMENT", 8)
    monkeypatch.setattr(kept_index, "COURSES_OF_SEGMENT", 40)
    monkeypatch.setattr(kept_index, "COURSES_OF_SUBSCRIPTION", 0)
    monkeypatch.setattr(kept_index, "EVENTS_REMOVED", 3)
    monkeypatch.setattr(kept_index, "COURSES_REMOVED", 5)
    monkeypatch.setattr(kept_index, "ENTRIES_REMOVED", 10)


@pytest.fixture
def store() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        yield connection


def keep(
    store: sqlite3.Connection, numbers: Sequence[int], *, tenant: str = PIM, subscriptions: int = 1
) -> None:
    """Keeps events with these even numbers, accepted a second after each other, with courses."""
    for number in numbers:
        event = an_event(number, entity=f"entity-{number}")
        kept.put(store, [kept.row_of(number, tenant, AT + number, Way.CLOUDEVENTS, event)])
    keys = [(number, each + 1, 0) for number in numbers for each in range(subscriptions)]
    courses.begin(store, [(*key, None, 0) for key in keys])
    courses.deliver(store, [(*key, 200, 1) for key in keys], AT)


def index_all(store: sqlite3.Connection, now: float = AT) -> int:
    segments = 0
    while kept_index.write_segment(store, now, DAY):
        segments += 1
    return segments


def found(store: sqlite3.Connection, key: Key) -> list[int]:
    """The numbers of events that the index gives for a key."""
    rows = store.execute(
        "SELECT s.first_no, i.entries FROM kept_segments s JOIN kept_index i ON i.segment_no = s.no"
        " WHERE i.key = ? ORDER BY s.no",
        (key.number,),
    )
    return [first + offset for first, entries in rows for offset in kept_index.offsets(entries, key)]


def test_each_key_leads_to_its_events(store: sqlite3.Connection) -> None:
    keep(store, range(2, 34, 4))
    keep(store, range(34, 66, 4), tenant=OTHER, subscriptions=2)
    assert index_all(store) == 2
    assert found(store, kept_index.tenant_key(OTHER)) == list(range(34, 66, 4))
    assert found(store, kept_index.type_key(PIM, UPDATED)) == list(range(2, 34, 4))
    assert found(store, kept_index.subscription_key(2)) == list(range(34, 66, 4))
    assert found(store, kept_index.subscription_key(3)) == []
    for number in (2, 30):
        assert number in found(store, kept_index.id_key(f"event-{number}"))
        (identity,) = an_event(number, entity=f"entity-{number}").identity
        assert number in found(store, kept_index.entity_key(identity))


def test_few_events_stay_in_the_head_until_they_are_old(store: sqlite3.Connection) -> None:
    keep(store, [2, 4])
    assert not kept_index.look(store, AT + 3599, DAY).is_due
    assert not kept_index.write_segment(store, AT + 3599, DAY)
    assert kept_index.look(store, AT + 3603, DAY).is_due
    assert index_all(store, AT + 3603) == 1
    assert kept_index.indexed_to(store) == 4
    assert not kept_index.look(store, AT + 3603, DAY).is_due


def test_what_waits_for_its_fan_out_stays_in_the_head(store: sqlite3.Connection) -> None:
    keep(store, range(2, 34, 2))
    store.execute("INSERT INTO accepted SELECT 18, '', 0, 0, '', '', '', '', '', '', NULL")
    index_all(store)
    assert kept_index.indexed_to(store) == 16
    store.execute("DELETE FROM accepted")
    index_all(store)
    assert kept_index.indexed_to(store) == 32


@pytest.mark.parametrize("subscriptions", [20, 41, 100])
def test_a_segment_has_a_bounded_number_of_courses_or_one_event(
    store: sqlite3.Connection, subscriptions: int
) -> None:
    keep(store, range(2, 34, 2), subscriptions=subscriptions)
    index_all(store, AT + 10**5)
    sizes = {number for (number,) in store.execute("SELECT events FROM kept_segments")}
    assert sizes == {max(1, 40 // subscriptions)}
    assert found(store, kept_index.subscription_key(subscriptions)) == list(range(2, 34, 2))


def test_subscriptions_with_few_courses_each_make_segments_smaller(
    store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_index, "COURSES_OF_SUBSCRIPTION", 8)
    numbers = range(2, 34, 2)
    keep(store, numbers, subscriptions=0)
    courses.begin(store, [(number, number, 0, None, 0) for number in numbers])  # nine for each event, of 40
    assert index_all(store) == 3
    assert store.execute("SELECT events FROM kept_segments").fetchall() == [(4,)] * 3
    assert found(store, kept_index.subscription_key(24)) == [24]


def test_ids_are_found_in_the_order_of_acceptance_behind_a_number(
    store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, range(2, 70, 2))
    index_all(store)
    wanted = ["event-60", "event-4", "event-68", "event-66", "unknown", "event-20", "event-60"]
    exact = {4, 20, 60, 66, 68}

    def ids(after: int, to: int = 1000) -> tuple[list[int], int]:
        numbers, looked_to = kept_index.find_ids(store, wanted, after, to)
        return [number for number in numbers if number in exact], looked_to

    assert ids(0) == ([4, 20, 60], 64)  # 66 and 68 are in the head
    assert ids(4) == ([20, 60], 64)
    assert ids(4, to=58) == ([20], 64)
    monkeypatch.setattr(kept_index, "TAGS_OF_LOOKUP", 2 * len(wanted))
    assert ids(0) == ([4, 20], 32)  # two segments
    monkeypatch.setattr(kept_index, "FOUND_BY_LOOKUP", 1)
    assert ids(0) == ([4], 16)


def test_courses_of_a_replay_are_added_to_segments_that_are_there(store: sqlite3.Connection) -> None:
    keep(store, range(2, 34, 2))
    index_all(store)
    kept_index.add_courses(store, 7, [20, 2, 4, 30, 100])
    kept_index.add_courses(store, 7, [2, 6])
    assert found(store, kept_index.subscription_key(7)) == [2, 4, 6, 20, 30]


def removed(store: sqlite3.Connection, now: float, bounds: Bounds, held_from: int | None = None) -> int:
    """Removes what is beyond the bounds; returns in how many pieces."""
    pieces = 0
    while kept_index.remove_some(store, now, bounds, schema_base=SPEC, held_from=held_from) is not None:
        pieces += 1
        assert pieces < 1000
    return pieces


def left(store: sqlite3.Connection) -> list[int]:
    """The events that are left, and nothing else of those that are not."""
    events = [number for (number,) in store.execute("SELECT no FROM kept ORDER BY no")]
    of_courses = [number for (number,) in store.execute("SELECT DISTINCT event_no FROM courses ORDER BY 1")]
    assert of_courses == events
    assert store.execute("SELECT DISTINCT segment_no FROM kept_index ORDER BY 1").fetchall() == (
        store.execute("SELECT no FROM kept_segments ORDER BY 1").fetchall()
    )
    return events


def test_the_oldest_segments_go_by_their_age_in_pieces(store: sqlite3.Connection) -> None:
    keep(store, range(2, 50, 2), subscriptions=3)
    index_all(store)
    assert not kept_index.look(store, AT + 86400, DAY).is_due
    assert kept_index.look(store, AT + 86400 + 33, DAY).is_due
    assert removed(store, AT + 86400 + 33, DAY) >= 2 * (24 // 5 + 8 // 3)
    assert left(store) == list(range(34, 50, 2))
    assert kept.highest_number(store) == 49


def test_the_oldest_segments_go_by_their_bytes(store: sqlite3.Connection) -> None:
    keep(store, range(2, 50, 2))
    index_all(store)
    bounds = Bounds(86400, kept_index.size_of(store) - 1)
    assert kept_index.look(store, AT, bounds).is_due
    removed(store, AT, bounds)
    assert left(store) == list(range(18, 50, 2))


def test_with_nothing_to_keep_all_goes_and_numbers_go_on(store: sqlite3.Connection) -> None:
    keep(store, range(2, 40, 2))
    index_all(store)
    removed(store, AT, Bounds(0, 1024**3))
    assert left(store) == []
    assert kept.highest_number(store) == 39
    assert kept_index.indexed_to(store) == 39
    assert not kept_index.look(store, AT, Bounds(0, 1024**3)).is_due


def test_what_is_held_goes_by_bytes_alone(store: sqlite3.Connection) -> None:
    keep(store, range(2, 50, 2))
    index_all(store)
    now = AT + 10 * 86400
    assert removed(store, now, DAY, held_from=20) > 0
    assert left(store) == list(range(18, 50, 2))
    part = kept_index.remove_some(
        store, now, Bounds(86400, kept_index.size_of(store) - 1), schema_base=SPEC, held_from=20
    )
    assert part is not None
    assert part.was_held
    assert (part.first_at, part.last_at) == (AT + 18, AT + 32)


def test_large_events_are_removed_a_few_at_a_time(
    store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, range(2, 18, 2))
    store.execute("UPDATE kept SET data_json = zeroblob(1000)")
    index_all(store)
    monkeypatch.setattr(kept_index, "BYTES_REMOVED", 1500)
    monkeypatch.setattr(kept_index, "COURSES_REMOVED", 100)
    monkeypatch.setattr(kept_index, "ENTRIES_REMOVED", 100)
    part = kept_index.remove_some(store, AT, Bounds(0, 1), schema_base=SPEC)
    assert part is not None
    assert part.events == 2


@pytest.mark.provokes("kept.removed_unread")
async def test_the_keeper_indexes_and_removes_and_says_what_was_not_read(tmp_path: Path) -> None:
    clock = ManualClock()
    store = Embedded(tmp_path, clock=clock)
    await store.open()
    keeper = Keeper(
        store.database, clock, Bounds(3600, 16 * 1024**2), store.meters, schema_base=SPEC, on_fault=_fail
    )
    for number in range(20):
        await store.queue.accept(PIM, [an_event(number)])
    await keeper.work()
    assert store.meters.kept is not None
    assert (store.meters.kept.not_indexed, store.meters.kept.oldest_at) == (20, AT)
    assert await store.count("kept_segments") == 2
    await clock.advance(7200)
    keeper.held_from = lambda connection: 1
    await keeper.work()
    assert await store.count("kept") == 20
    tight = Keeper(store.database, clock, Bounds(3600, 1), Meters(), schema_base=SPEC, on_fault=_fail)
    tight.held_from = keeper.held_from
    with structlog.testing.capture_logs() as lines:
        await tight.work()
    assert [(line["event"], line["events"]) for line in lines] == [("kept.removed_unread", 20)]
    await store.database.close()


@pytest.mark.provokes("kept.failed")
async def test_a_fault_of_the_keeper_ends_nothing_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    store = Embedded(tmp_path, clock=clock)

    def fail(*arguments: object) -> bool:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(kept_index, "look", fail)
    keeper = Keeper(store.database, clock, DAY, Meters(), schema_base=SPEC, on_fault=_fail)
    with structlog.testing.capture_logs() as lines:
        keeper.start()
        while not lines:
            await clock.advance(1)
            await store.count("kept")
    await keeper.stop()
    assert [line["event"] for line in lines] == ["kept.failed"]
    await store.database.close()


def _fail(error: BaseException) -> None:
    raise AssertionError(error)


def keep_large(store: sqlite3.Connection, number: int) -> None:
    """Keeps so many events of some 1,000 bytes each."""
    event = with_data(an_event(1), {"more": "x" * 1000})
    kept.put(store, [kept.row_of(2 * each, PIM, AT, Way.CLOUDEVENTS, event) for each in range(1, number + 1)])


def test_the_head_counts_in_the_bytes_and_becomes_a_segment_by_its_size(
    store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_index, "EVENTS_OF_SEGMENT", 100)
    keep_large(store, 20)
    found = kept_index.look(store, AT, DAY)
    assert (found.is_due, found.not_indexed) == (False, 20)
    assert found.bytes == kept_index.size_of(store) > 20 * 1000
    assert not kept_index.write_segment(store, AT, DAY)
    small = Bounds(86400, 24 * 10_000)
    assert kept_index.look(store, AT, small).is_due
    while kept_index.write_segment(store, AT, small):
        pass
    sizes = [size for (size,) in store.execute("SELECT bytes FROM kept_segments")]
    assert len(sizes) == 2
    assert max(sizes) < 12_000
    assert kept_index.look(store, AT, small).not_indexed == 20 - 2 * 8


def test_a_long_head_is_estimated(store: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_index, "HEAD_COUNTED", 10)
    keep_large(store, 100)
    found = kept_index.look(store, AT, DAY)
    assert found.not_indexed == pytest.approx(100, rel=0.02)
    assert found.bytes == pytest.approx(100 * 1380, rel=0.02)
