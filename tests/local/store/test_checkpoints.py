"""Checkpoints: who makes them, when none is made, and that the log begins anew while much is written."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aep.runtime.meters import Meters
from aep.store import checkpoints, migrations, opening
from aep.store.checkpoints import LONGEST_SECONDS, SHORTEST_SECONDS, WANTED_FRAMES, Copier, pause_after
from aep.store.database import Database
from support.eventually import eventually

CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
Checkpoint = Callable[[], tuple[int, int]]


class Store:
    """A new file with one who writes and one who copies."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / opening.FILE
        self.writing = opening.connect(self.path)
        migrations.prepare(self.writing)
        self.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that no migration counts in its size
        self.copying = opening.connect(self.path)
        self.commits = threading.Lock()
        self.excluding = opening.connect(self.path)
        self.copier = Copier(self.copying, self.excluding, self.commits)
        self.made: list[str] = []
        self.copying.set_trace_callback(self._note)
        self._number = 0

    def write(self, pages: int = 1) -> None:
        self._number += 1
        row = (str(self._number), "x" * 4096 * pages)
        self.writing.execute("INSERT INTO meta VALUES (?, ?)", row)

    def log_bytes(self) -> int:
        return self.path.with_name(f"{opening.FILE}-wal").stat().st_size

    def _note(self, statement: str) -> None:
        if statement == CHECKPOINT:
            self.made.append(statement)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    with closing(store.writing), closing(store.copying), closing(store.excluding):
        yield store


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction that reads, and stays open."""
    with closing(opening.connect_to_read(path)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM meta").fetchone()
        yield connection


def test_no_connection_of_ours_makes_checkpoints_by_itself(store: Store, tmp_path: Path) -> None:
    assert store.writing.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    with opening.beside_the_server(tmp_path) as connection:
        assert connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_a_command_beside_the_server_makes_none_when_it_ends(store: Store, tmp_path: Path) -> None:
    before = store.path.read_bytes()
    with opening.beside_the_server(tmp_path) as connection:
        connection.execute("INSERT INTO meta VALUES ('command', ?)", ("x" * 10_000_000,))
    assert store.path.read_bytes() == before, "it is in the log alone"
    store.copier.copy()
    assert store.path.stat().st_size > 10_000_000


def test_after_a_complete_checkpoint_none_begins_until_something_was_committed(store: Store) -> None:
    store.write()
    store.copier.copy()
    assert store.copier.is_complete
    assert len(store.made) == 1
    for _ in range(3):
        store.copier.copy()
    assert len(store.made) == 1
    store.write()
    store.copier.copy()
    assert len(store.made) == 2


def test_none_begins_while_the_first_commit_behind_a_complete_one_is_under_way(store: Store) -> None:
    """The first commit begins the log anew, which a checkpoint must not meet."""
    store.write()
    store.copier.copy()
    store.writing.execute("BEGIN IMMEDIATE")
    store.write()
    store.copier.copy()
    assert len(store.made) == 1
    store.writing.execute("COMMIT")
    store.copier.copy()
    assert len(store.made) == 2


def test_the_first_one_waits_for_a_commit_too(store: Store) -> None:
    """Somebody else may have copied all there was before we came."""
    assert store.copier.copy() == 0
    assert store.made == []


def test_what_a_reader_keeps_is_copied_when_it_has_ended(store: Store) -> None:
    store.write()
    with reading(store.path):
        store.write(10)
        store.copier.copy()
        assert not store.copier.is_complete
    store.copier.copy()
    assert store.copier.is_complete


def check_log_begins_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, interrupted: Callable[[Checkpoint], tuple[int, int]]
) -> None:
    """Checks that the log stays short though each checkpoint but the last is interrupted in this way."""
    monkeypatch.setattr(checkpoints, "WANTED_FRAMES", 20)
    checkpoint = store.copier._checkpoint  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(
        store.copier,
        "_checkpoint",
        lambda: checkpoint() if store.commits.locked() else interrupted(checkpoint),
    )
    for _ in range(10):
        store.write(30)
        store.copier.copy()
    assert store.log_bytes() < 100 * 4096


def test_the_log_begins_anew_though_the_writer_never_rests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It commits during each step of a checkpoint but the last one, for which it waits."""

    def interrupted(checkpoint: Checkpoint) -> tuple[int, int]:
        with reading(store.path):  # what is committed from here on is left, as if it came during the copy
            store.write()
            return checkpoint()

    check_log_begins_anew(store, monkeypatch, interrupted)


def test_the_log_begins_anew_though_a_transaction_is_open_at_every_checkpoint_but_the_last(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a checkpoint copies all that was committed, and so says that nothing is left."""

    def interrupted(checkpoint: Checkpoint) -> tuple[int, int]:
        store.writing.execute("BEGIN IMMEDIATE")
        store.write()
        found = checkpoint()
        store.writing.execute("COMMIT")
        return found

    check_log_begins_anew(store, monkeypatch, interrupted)


def test_a_long_log_is_copied_to_the_end_however_much_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "WANTED_FRAMES", 10)
    monkeypatch.setattr(checkpoints, "FEW_FRAMES", 0)
    monkeypatch.setattr(checkpoints, "MOST_FRAMES", 200)
    held: list[bool] = []
    checkpoint = store.copier._checkpoint  # pyright: ignore[reportPrivateUsage]

    def watched() -> tuple[int, int]:
        held.append(store.commits.locked())
        frames, left = checkpoint()
        return frames, left if held[-1] else left + 1

    monkeypatch.setattr(store.copier, "_checkpoint", watched)
    store.write(20)
    store.copier.copy()
    assert True not in held
    store.write(200)
    store.copier.copy()
    assert held[-1] is True


@pytest.mark.parametrize(
    ("frames", "seconds", "pause"),
    [
        (0, 2.0, LONGEST_SECONDS),
        (10, 2.0, LONGEST_SECONDS),
        (2 * WANTED_FRAMES, 1.0, 0.5),
        (1000 * WANTED_FRAMES, 1.0, SHORTEST_SECONDS),
    ],
)
def test_the_pause_follows_what_is_written(frames: int, seconds: float, pause: float) -> None:
    assert pause_after(frames, seconds) == pytest.approx(pause)


@pytest.mark.provokes("store.wal_large")
async def test_a_reader_that_stays_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(checkpoints, "SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr(checkpoints, "LARGE_LOG_FRAMES", 20)
    meters = Meters()
    store = Database(tmp_path, meters)
    store.open()
    try:
        with capture_logs() as logs, reading(store.path):
            for number in range(10):
                made = sum(meters.checkpoint_seconds.counts)
                row = (str(number), "x" * 20_000)
                await store.write(lambda c, row=row: c.execute("INSERT INTO meta VALUES (?, ?)", row))
                await eventually(lambda made=made: sum(meters.checkpoint_seconds.counts) > made)
        assert [entry["event"] for entry in logs].count("store.wal_large") == 1
    finally:
        await store.close()


@pytest.mark.provokes("store.checkpoint_failed")
async def test_checkpoints_that_fail_are_logged_once_and_made_when_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "LONGEST_SECONDS", 0.01)
    monkeypatch.setattr(checkpoints, "SHORTEST_SECONDS", 0.01)
    copy, failed, meters = Copier.copy, 0, Meters()

    def fail_three_times(copier: Copier) -> int:
        nonlocal failed
        if failed < 3:
            failed += 1
            raise sqlite3.OperationalError("disk I/O error")
        return copy(copier)

    monkeypatch.setattr(Copier, "copy", fail_three_times)
    store = Database(tmp_path, meters)
    store.open()
    try:
        with capture_logs() as logs:
            number = 0
            while sum(meters.checkpoint_seconds.counts) == 0:
                number += 1
                row = (str(number), "x")
                await store.write(lambda c, row=row: c.execute("INSERT INTO meta VALUES (?, ?)", row))
        assert failed == 3
        assert [entry["event"] for entry in logs].count("store.checkpoint_failed") == 1
    finally:
        await store.close()


async def test_nothing_is_lost_while_checkpoints_and_commits_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LONGEST_SECONDS", "SHORTEST_SECONDS"):
        monkeypatch.setattr(checkpoints, name, 0.0)
    monkeypatch.setattr(checkpoints, "WANTED_FRAMES", 4)
    meters = Meters()
    store = Database(tmp_path, meters)
    store.open()
    for number in range(300):
        row = (str(number), "x" * 3000)
        await store.write(lambda c, row=row: c.execute("INSERT INTO meta VALUES (?, ?)", row))
    await eventually(lambda: sum(meters.checkpoint_seconds.counts) > 0)
    await asyncio.wait_for(store.close(), 10)
    with closing(opening.connect_to_read(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (300,)
