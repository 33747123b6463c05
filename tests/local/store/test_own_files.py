"""The files of the store, when others remove, replace or overwrite them, before a start or while it runs."""

import errno
import re
import shlex
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from aep.doctor import stored
from aep.errors import SetupError, StoreDamaged, StoreReplaced
from aep.store import identity, keeping, opening, writer
from aep.store.backup import back_up
from aep.store.database import Database
from event_platform.domain.errors import StoreUnavailable
from support import one_pim
from support.aep_here import run
from support.eventually import eventually
from support.processes import START_SECONDS, free_port, http, not_ready, send_events, server, until

Harm = Callable[[Path], None]
LOSING_NOTHING = {
    "the file is removed": lambda file: file.unlink(),
    "the file is moved": lambda file: file.rename(file.with_name("elsewhere.db")),
    "a backup is moved there": lambda file: backup_of(file).replace(file),
    "the log is removed": lambda file: beside(file, "-wal").unlink(),
    "the log is replaced": lambda file: replace(beside(file, "-wal")),
    "the log's index is removed": lambda file: beside(file, "-shm").unlink(),
    "the folder is moved": lambda file: move_folder(file.parent),
}


def beside(file: Path, ending: str) -> Path:
    return file.with_name(file.name + ending)


def backup_of(file: Path) -> Path:
    """The backup that `running` made before anything was noted."""
    return file.parents[1] / "backup.db"


def replace(file: Path) -> None:
    file.unlink()
    file.write_bytes(b"of somebody else")


def move_folder(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))
    folder.mkdir()


class Running:
    """A database with the note "one", a backup without it, and the faults that it was told of."""

    def __init__(self, folder: Path) -> None:
        self.faults: list[BaseException] = []
        self.database = Database(folder, on_fault=self.faults.append)
        self.file = self.database.path

    async def open(self) -> "Running":
        self.database.open()
        await self.database.write(lambda c: c.execute("CREATE TABLE notes (text TEXT UNIQUE)"))
        back_up(self.file.parent, backup_of(self.file), overwrite=False)
        await self.note("one")
        return self

    async def note(self, text: str) -> None:
        await self.database.write(lambda c: c.execute("INSERT INTO notes VALUES (?)", (text,)))

    async def fault(self) -> str:
        await eventually(lambda: self.faults)
        (fault,) = self.faults
        assert isinstance(fault, StoreReplaced)
        return str(fault)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr(writer, "LOOK_SECONDS_OF_COMMITS", 0)
    return await Running(tmp_path / "data").open()


def notes(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY text")]


def restoring(said: str) -> list[str]:
    """The arguments of the command that is said to put all that was accepted back."""
    words = re.search(r"Nothing was lost: .+ Put it back with `aep (restore .+)`", said)
    assert words is not None, said
    return shlex.split(words[1])


def named_in(said: str) -> Path:
    """The file that is said to hold all that was accepted."""
    return Path(restoring(said)[1])


# While it runs


@pytest.mark.parametrize("harm", LOSING_NOTHING.values(), ids=LOSING_NOTHING)
@pytest.mark.provokes("store.replaced")
async def test_what_is_written_into_a_file_that_is_not_ours_is_refused_and_what_was_before_is_kept(
    running: Running, tmp_path: Path, harm: Harm
) -> None:
    with capture_logs() as lines:
        harm(running.file)
        with pytest.raises(StoreUnavailable, match="was removed, or replaced"):
            await running.note("refused")
        said = await running.fault()
        with pytest.raises(StoreUnavailable, match="nothing is taken in any more"):
            await running.note("later")
        with pytest.raises(StoreUnavailable, match="nothing is taken in any more"):
            await running.database.read(lambda c: c.execute("SELECT 1").fetchone())
        await running.database.close()
    assert "Nothing was lost" in said
    assert "one" in notes(named_in(said))
    assert [line["event"] for line in lines if line["log_level"] == "critical"] == ["store.replaced"]


@pytest.mark.parametrize("harm", LOSING_NOTHING.values(), ids=LOSING_NOTHING)
async def test_it_is_noticed_when_nothing_is_written(
    tmp_path: Path, harm: Harm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK_SECONDS", 0.01)
    running = await Running(tmp_path / "data").open()
    harm(running.file)
    assert "Nothing was lost" in await running.fault()
    await running.database.close()


async def test_what_is_taken_in_between_two_looks_is_kept(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOOK_SECONDS_OF_COMMITS", 3600)
    replace(running.file)
    await running.note("two")
    await running.database.close()
    assert notes(named_in(await running.fault())) == ["one", "two"]


async def test_it_is_noticed_at_the_stop(running: Running, tmp_path: Path) -> None:
    backup_of(running.file).replace(running.file)
    await running.database.close()
    assert notes(named_in(await running.fault())) == ["one"]
    assert notes(running.file) == []


async def test_a_backup_that_is_copied_over_the_file_is_noticed_and_left_as_it_is(
    running: Running,
) -> None:
    """The file keeps its identity, and a backup that was made in this very run is another file."""
    running.file.write_bytes(backup_of(running.file).read_bytes())
    with pytest.raises(StoreUnavailable, match="was overwritten"):
        await running.note("refused")
    assert "is lost" in await running.fault()
    await running.database.close()
    assert running.file.read_bytes() == backup_of(running.file).read_bytes()
    assert not beside(running.file, "-wal").exists(), "it would be applied to the backup"
    database = Database(running.file.parent)
    database.open()  # and goes on from the backup
    await database.close()
    assert notes(running.file) == []


async def test_files_of_a_platform_that_runs_on_the_new_ones_are_left_alone(
    running: Running, tmp_path: Path
) -> None:
    move_folder(tmp_path / "data")
    other = Database(tmp_path / "data")
    other.open()
    await other.write(lambda c: c.execute("CREATE TABLE notes (text TEXT)"))
    with pytest.raises(StoreUnavailable):
        await running.note("refused")
    await running.fault()
    await running.database.close()
    await other.write(lambda c: c.execute("INSERT INTO notes VALUES ('other')"))
    await other.close()
    assert notes(other.path) == ["other"]
    assert "one" in notes(tmp_path / "moved" / opening.FILE)


@pytest.mark.provokes("store.not_kept")
async def test_what_cannot_be_kept_is_tried_again_until_there_is_room(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []
    monkeypatch.setattr(keeping, "RETRY_SECONDS", 0.01)
    write_copy = keeping.write_copy

    def full_at_first(connection: sqlite3.Connection, target: Path) -> int:
        tries.append(target)
        if len(tries) < 3:
            raise sqlite3.OperationalError("database or disk is full")
        return write_copy(connection, target)

    monkeypatch.setattr(keeping, "write_copy", full_at_first)
    running.file.unlink()
    with capture_logs() as lines, pytest.raises(StoreUnavailable):
        await running.note("refused")
    said = await running.fault()
    await running.database.close()
    assert len(tries) == 3
    assert "one" in notes(named_in(said))
    assert [line["event"] for line in lines].count("store.not_kept") <= 1


async def test_what_could_not_be_kept_until_the_stop_is_said_to_be_lost(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(connection: sqlite3.Connection, target: Path) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(keeping, "write_copy", full)
    running.file.unlink()
    with pytest.raises(StoreUnavailable):
        await running.note("refused")
    assert not running.faults, "the platform waits for room"
    await running.database.close()
    assert "is lost" in await running.fault()
    with pytest.raises(StoreDamaged, match="is gone"):
        Database(running.file.parent).open()  # an empty store would hide the loss


async def test_a_full_disk_at_the_start_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    database = Database(tmp_path)
    with monkeypatch.context() as patched, capture_logs() as lines:
        patched.setattr(identity, "write_mark", lambda lock, mark: full() if mark else None)
        database.open()
        await database.write(lambda c: c.execute("CREATE TABLE notes (text TEXT)"))
        await database.close()
    assert [line["event"] for line in lines] == ["store.lock_not_marked"]
    assert notes(database.path) == []


def test_a_file_that_takes_no_number_is_not_taken_for_an_overwritten_one(tmp_path: Path) -> None:
    with opening.exclusive(tmp_path) as files, capture_logs() as lines:
        files.mark(cast("sqlite3.Connection", Full()))
        assert files.path.stat().st_size == 0
        assert not files.is_overwritten()
    assert [line["event"] for line in lines] == ["store.not_marked"]


class Full:
    """A connection to a file on a full disk."""

    def execute(self, statement: str) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error


# Before a start


@pytest.fixture
async def crashed(running: Running, tmp_path: Path) -> Path:
    """The folder of a platform that was killed: "one" is in its write-ahead log only."""
    shutil.copytree(tmp_path / "data", tmp_path / "crashed")
    await running.database.close()
    assert beside(tmp_path / "crashed" / opening.FILE, "-wal").stat().st_size > 0
    return tmp_path / "crashed"


async def test_the_log_that_a_kill_left_is_taken_up_wherever_the_folder_is(crashed: Path) -> None:
    Database(crashed).open()
    assert notes(crashed / opening.FILE) == ["one"]


def start(folder: Path) -> None:
    Database(folder).open()


def command(folder: Path) -> None:
    with opening.beside_the_server(folder):
        pass


@pytest.mark.parametrize("opens", [start, command])
async def test_a_backup_beside_an_old_log_is_refused_before_it_is_damaged(
    crashed: Path, tmp_path: Path, opens: Callable[[Path], None]
) -> None:
    backup = (tmp_path / "backup.db").read_bytes()
    (crashed / opening.FILE).write_bytes(backup)
    with pytest.raises(StoreDamaged, match="aep restore"):
        opens(crashed)
    assert (crashed / opening.FILE).read_bytes() == backup
    assert "aep restore" in stored.store(crashed).detail
    assert run("restore", str(tmp_path / "backup.db"), "--data", str(crashed)).status == 0
    opens(crashed)
    assert notes(crashed / opening.FILE) == []


@pytest.mark.parametrize("opens", [start, command])
async def test_a_log_without_its_file_is_refused_and_stays(
    crashed: Path, opens: Callable[[Path], None]
) -> None:
    (crashed / opening.FILE).unlink()
    before = beside(crashed / opening.FILE, "-wal").read_bytes()
    with pytest.raises(StoreDamaged, match="is gone"):
        opens(crashed)
    assert beside(crashed / opening.FILE, "-wal").read_bytes() == before
    assert stored.store(crashed).needed


async def test_a_start_after_the_file_was_removed_names_what_was_kept_of_it(running: Running) -> None:
    running.file.unlink()
    with pytest.raises(StoreUnavailable):
        await running.note("refused")
    kept = named_in(await running.fault())
    await running.database.close()
    older = kept.with_name("aep.db.kept-20200101T000000.000000Z")  # moved away by a restore
    older.write_bytes(b"")
    with pytest.raises(StoreDamaged) as refused:
        start(running.file.parent)
    command = re.search(r"`aep (.+?)`", str(refused.value))
    assert command is not None
    assert shlex.split(command[1]) == ["restore", str(kept), "--data", str(running.file.parent)]
    assert run(*shlex.split(command[1])).status == 0
    assert "one" in notes(running.file)


async def test_a_pair_from_one_snapshot_is_taken_once_the_lock_file_is_removed(crashed: Path) -> None:
    (crashed / "lock").write_text("12345678")  # that of a later run
    with pytest.raises(SetupError, match=f"remove {crashed / 'lock'}"):
        start(crashed)
    (crashed / "lock").unlink()
    start(crashed)
    assert notes(crashed / opening.FILE) == ["one"]


async def test_a_damaged_file_is_said_to_be_one_with_the_cure(crashed: Path) -> None:
    for ending in ("-wal", "-shm"):
        beside(crashed / opening.FILE, ending).unlink()
    with (crashed / opening.FILE).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 2000)  # the page of the schema
    with pytest.raises(StoreUnavailable, match=r"damaged.*aep restore FILE"):
        start(crashed)
    key = {"AEP_SECRETS_KEY": "A" * 43 + "="}
    listed = run("pims", "list", "--data", str(crashed), settings=key)
    assert listed.status == 1
    assert "aep restore FILE" in listed.err
    assert "aep restore FILE" in stored.store(crashed).detail


# The command


@pytest.mark.full
def test_a_platform_whose_file_was_replaced_ends_and_a_restore_goes_on_with_what_it_kept(
    tmp_path: Path,
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup.db"
    port = str(free_port())
    with (
        server(tmp_path, "inbox", "--quiet", "--behaviour", "500", "--port", port) as failing,
        one_pim.serve(tmp_path) as serve,
    ):
        back_up(data, backup, overwrite=False)
        one_pim.subscribe(serve, f"{failing.url}/hook")
        waiting = one_pim.emit(serve, 3)
        backup.replace(data / opening.FILE)
        assert serve.wait(START_SECONDS) == 1
        assert "Traceback" not in serve.stderr()
        last = serve.stderr().splitlines()[-1]
    assert last.startswith("aep: aep.db was removed, or replaced")
    assert restoring(last)[2:] == ["--data", str(data)]
    ended = run(*restoring(last))
    assert ended.status == 0, ended.err
    retry_soon = {"AEP_RETRY_DELAYS": "0.1,0.1"}
    with (
        server(tmp_path, "inbox", "--quiet", "--port", port) as inbox,
        one_pim.serve(tmp_path, settings=retry_soon),
    ):
        rows = one_pim.rows(data / opening.FILE, "SELECT id FROM kept")
        received = one_pim.ids_received(inbox.url)
        assert set(waiting) <= {event_id for (event_id,) in rows} | set(received)


def test_while_nothing_can_be_kept_all_is_refused_and_ready_says_why(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path) as serve:
        shutil.rmtree(tmp_path / "data")
        refused = until(lambda: not_ready(serve.url), "a platform that is not ready")
        assert "aep.db was removed" in refused
        assert send_events(serve.url, one_pim.INGEST_KEY, one_pim.event()) == 503
        assert one_pim.client_of(serve).call("GET", "/subscribers").status_code == 503
        assert http().get(f"{serve.url}/health", timeout=10).status_code == 200
        assert serve.stop(signal.SIGTERM) == 1
        assert "is lost" in serve.stderr().splitlines()[-1]
