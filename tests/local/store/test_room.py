"""Room on the disk: what is refused while little is left, what goes on, and how it ends."""

import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aep.runtime.meters import Meters
from aep.store import database as database_module
from aep.store import opening, writer
from aep.store import room as room_module
from aep.store.database import Database
from aep.store.identity import with_cure
from aep.store.room import ENOUGH_BYTES, LEAST_BYTES, RESERVE, Room
from event_platform.domain.errors import StoreUnavailable
from support.eventually import eventually

MB = 1_000_000
SMALL = 4096


class Disk:
    """The free space on the disk of a test, in place of the machine's."""

    def __init__(self) -> None:
        self.free = 1000 * MB

    def free_bytes(self, folder: Path) -> int:
        return self.free


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(room_module, "free_bytes", disk.free_bytes)
    monkeypatch.setattr(room_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.01)
    return disk


@pytest.fixture
def room(tmp_path: Path, disk: Disk) -> Room:
    room = Room(tmp_path, SMALL)
    room.look()
    return room


def full() -> sqlite3.OperationalError:
    """The error of SQLite on a full disk."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_the_reserve_has_its_room_and_is_for_its_owner_alone(room: Room, tmp_path: Path) -> None:
    found = (tmp_path / RESERVE).stat()
    assert found.st_blocks * 512 >= SMALL
    assert found.st_mode & 0o777 == 0o600
    assert room.problem is None


@pytest.mark.provokes("store.out_of_room", "store.room_again")
def test_with_little_left_nothing_is_taken_in_until_there_is_enough(room: Room, disk: Disk) -> None:
    disk.free = LEAST_BYTES - 1
    with capture_logs() as logs:
        room.look()
        room.look()
    assert room.is_short
    assert room.problem == (
        "the store cannot be written: its disk has 16.8 MB left, and 33.6 MB are needed: make room there,"
        " and what is sent is taken in again"
    )
    (said,) = logs
    assert said["event"] == "store.out_of_room"
    assert said["free_bytes"] == LEAST_BYTES - 1
    assert said["missing_bytes"] == ENOUGH_BYTES - LEAST_BYTES + 1
    disk.free = ENOUGH_BYTES - 1
    room.look()
    assert room.is_short
    disk.free = ENOUGH_BYTES
    room.look()
    assert not room.is_short
    assert room.problem is None


def test_the_reserve_stays_until_a_write_fails_and_comes_again_with_the_room(
    room: Room, disk: Disk, tmp_path: Path
) -> None:
    disk.free = 1 * MB
    room.look()
    assert (tmp_path / RESERVE).exists()
    room.failed(full())
    assert not (tmp_path / RESERVE).exists()
    assert not room.give_up(full()), "there is nothing left to give"
    room.works()
    assert room.is_short
    disk.free = ENOUGH_BYTES
    room.look()
    assert (tmp_path / RESERVE).exists()
    assert room.problem is None


def test_a_quota_that_is_used_up_is_met_when_the_reserve_is_made_again(
    room: Room, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    room.failed(full())
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", refused)
        room.look()
    assert room.is_short
    assert room.problem is not None
    assert "quota is used up" in room.problem
    assert list(tmp_path.iterdir()) == []
    room.look()
    assert not room.is_short


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_BUSY, "another process holds it"),
        (
            sqlite3.SQLITE_READONLY,
            "the file may not be written to: run this as the user who owns the data folder",
        ),
        (sqlite3.SQLITE_MISMATCH, "a fault of the platform's own, please report it: what SQLite says"),
    ],
)
def test_other_failures_leave_the_reserve_alone(room: Room, tmp_path: Path, code: int, words: str) -> None:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    room.failed(error)
    assert (tmp_path / RESERVE).exists()
    assert not room.is_short
    assert room.problem == f"the store cannot be written: {words}"
    room.works()
    assert room.problem is None


@pytest.mark.provokes("store.no_reserve")
def test_a_file_system_that_cannot_keep_room_is_used_without(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refused)
    room = Room(tmp_path, SMALL)
    with capture_logs() as logs:
        room.look()
        room.look()
    assert room.problem is None
    assert [entry["event"] for entry in logs] == ["store.no_reserve"]


def test_a_command_that_finds_the_disk_full_says_what_to_do() -> None:
    assert with_cure(full()) == "its disk is full: make room on the disk of the data folder"


# In the store


@pytest.fixture
async def database(tmp_path: Path, disk: Disk) -> AsyncIterator[Database]:
    database = Database(tmp_path, Meters(), reserve=SMALL)
    database.open()
    yield database
    await database.close()


def put(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('written', hex(randomblob(8)))")


async def test_what_needs_no_room_is_done_though_little_is_left(database: Database, disk: Disk) -> None:
    disk.free = 1 * MB
    await eventually(lambda: database.room.is_short)
    with pytest.raises(StoreUnavailable, match="make room"):
        await database.write(put)
    with pytest.raises(StoreUnavailable, match="make room"):
        await database.write_jointly(lambda connection, items: [put(connection) for _ in items], None)
    await database.write(put, needs_room=False)
    disk.free = 1000 * MB
    await eventually(lambda: database.room.problem is None)
    await database.write(put)


@pytest.mark.provokes("store.commit_failed")
async def test_the_store_says_that_it_cannot_be_written_until_it_can(database: Database) -> None:
    """Nobody writes meanwhile, so it finds out by itself."""

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await database.write(limit)
    said = r"disk is full; 1000\.0 MB are left on its disk: make room there"
    with pytest.raises(StoreUnavailable, match=said):
        await database.write(lambda c: c.execute("INSERT INTO meta VALUES ('large', ?)", ("x" * 10**6,)))
    await eventually(lambda: database.room.problem is None)


async def test_a_start_without_room_for_the_log_gives_the_reserve_up(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path, reserve=SMALL)
    database.open()
    await database.close()
    disk.free = 0
    connect = opening.connect

    def on_a_full_disk(path: Path) -> sqlite3.Connection:
        if (tmp_path / RESERVE).exists():
            raise full()
        return connect(path)

    monkeypatch.setattr(database_module, "connect", on_a_full_disk)
    database = Database(tmp_path, reserve=SMALL)
    database.open()
    assert database.room.is_short
    await database.write(put, needs_room=False)
    await database.close()


async def test_a_start_that_the_reserve_does_not_help_says_how_much_is_left(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.free = 300_000

    def on_a_full_disk(path: Path) -> sqlite3.Connection:
        raise full()

    monkeypatch.setattr(database_module, "connect", on_a_full_disk)
    with pytest.raises(
        StoreUnavailable, match=r"disk is full; 0\.3 MB are left on its disk: make room there"
    ):
        Database(tmp_path, reserve=SMALL).open()
    monkeypatch.undo()
    again = Database(tmp_path)
    again.open()
    await again.close()


async def test_unused_pages_all_go_back_while_little_is_left(database: Database, disk: Disk) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE filler (bytes BLOB)")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(100000))", [()] * 20)

    await database.write(fill)
    await database.write(lambda connection: connection.execute("DELETE FROM filler"))
    assert not await database.release_pages(100)
    unused = await database.read(lambda c: c.execute("PRAGMA freelist_count").fetchone()[0])
    assert unused > 400
    disk.free = 1 * MB
    await eventually(lambda: database.room.is_short)
    while await database.release_pages(100):
        pass
    left = await database.read(lambda c: c.execute("PRAGMA freelist_count").fetchone()[0])
    assert left == 0
