"""`aep restore`: a backup in the place of the store, whole or not at all, and what was there is kept."""

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import orjson
import pytest

from aep.errors import DataFolderInUse, RestoreRefused, StoreDamaged
from aep.store import keys, opening, restore, schema
from aep.store.backup import back_up
from aep.store.restore import restore as put_in_place
from support.aep_here import run


def store(folder: Path, mark: str) -> Path:
    """A data folder with its key and a mark; its file."""
    seal = keys.load(folder, None)
    with opening.beside_the_server(folder) as connection:
        keys.check(connection, seal)
        connection.execute("INSERT INTO meta VALUES ('mark', ?)", (mark,))
    return folder / opening.FILE


def mark(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT value FROM meta WHERE name = 'mark'").fetchone()[0]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder whose store has the mark "now", and whose backup has "before"."""
    store(tmp_path / "data", "before")
    back_up(tmp_path / "data", tmp_path / "backup.db", overwrite=False)
    with opening.beside_the_server(tmp_path / "data") as connection:
        connection.execute("UPDATE meta SET value = 'now' WHERE name = 'mark'")
    return tmp_path / "data"


@pytest.fixture
def backup(data: Path) -> Path:
    return data.with_name("backup.db")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# What it does


def test_the_backup_is_the_store_and_what_was_there_is_kept(data: Path, backup: Path) -> None:
    backup.chmod(0o444)
    done = put_in_place(data, backup)
    file = data / opening.FILE
    assert mark(file) == mark(backup) == "before"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert done.size == file.stat().st_size
    assert done.is_checked
    assert done.kept is not None
    assert mark(done.kept) == "now"
    assert names(data) == {"aep.db", done.kept.name, "last-backup", "lock", "secrets.key"}


def test_what_was_there_is_kept_with_its_log_and_can_be_restored_itself(data: Path, backup: Path) -> None:
    file = data / opening.FILE
    with closing(opening.connect(file)) as connection:
        connection.execute("UPDATE meta SET value = 'in the log' WHERE name = 'mark'")
        shutil.copytree(data, data.with_name("killed"))
    killed = data.with_name("killed")
    done = put_in_place(killed, backup)
    assert done.kept is not None
    assert f"{done.kept.name}-wal" in names(killed)
    assert mark(killed / opening.FILE) == "before"
    put_in_place(data, done.kept)
    assert mark(file) == "in the log"


def test_a_folder_without_a_store_gets_one(tmp_path: Path, backup: Path) -> None:
    done = put_in_place(tmp_path / "new", backup)
    assert done.kept is None
    assert mark(tmp_path / "new" / opening.FILE) == "before"


def test_an_older_store_is_restored_and_the_start_migrates_it(
    data: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more (x);"))
    put_in_place(data, backup)
    with opening.beside_the_server(data) as connection:
        assert connection.execute("SELECT * FROM more").fetchall() == []


def test_what_a_killed_restore_left_is_no_hindrance(data: Path, backup: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        (data / f"aep.db.restoring{ending}").write_bytes(b"garbage" * 1000)
    put_in_place(data, backup)
    assert mark(data / opening.FILE) == "before"
    assert not any("restoring" in name for name in names(data))


def test_between_its_two_moves_nothing_starts_and_it_can_be_run_again(
    data: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            put_in_place(data, backup)
    with pytest.raises(StoreDamaged, match="is gone"), opening.beside_the_server(data):
        pass
    assert put_in_place(data, backup).kept is None
    assert mark(data / opening.FILE) == "before"


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_large_file_is_restored_when_the_time_for_the_check_is_over(
    data: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "CHECK_SECONDS", -1)
    monkeypatch.setattr(restore, "STEPS", 1)
    assert not put_in_place(data, backup).is_checked
    assert mark(data / opening.FILE) == "before"


# What is refused, and changes nothing


def refused(data: Path, source: Path, error: type[Exception], match: str) -> None:
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    with pytest.raises(error, match=match):
        put_in_place(data, source)
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_a_folder_that_a_platform_runs_on_is_refused(data: Path, backup: Path) -> None:
    with opening.exclusive(data):
        refused(data, backup, DataFolderInUse, "already runs the platform")


def test_a_folder_that_a_command_works_on_is_refused(data: Path, backup: Path) -> None:
    """It would write into the file that is moved away, and its end would remove the new one's log."""
    with open_elsewhere(data / opening.FILE):
        refused(data, backup, DataFolderInUse, "another command")
    put_in_place(data, backup)


@contextmanager
def open_elsewhere(file: Path) -> Iterator[None]:
    """Another process has the file open, as a command has."""
    command = [sys.executable, "-c", OPEN, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield
        process.stdin.close()  # which ends it


OPEN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM meta").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_a_platform_runs_on_is_refused(data: Path, tmp_path: Path) -> None:
    other = store(tmp_path / "other", "of another platform")
    with opening.exclusive(tmp_path / "other"):
        refused(data, other, RestoreRefused, "aep backup")


def test_what_is_no_store_or_damaged_is_refused(data: Path, backup: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.db"
    refused(data, wrong, RestoreRefused, "not a file")
    refused(data, tmp_path, RestoreRefused, "not a file")
    refused(data, data / opening.FILE, RestoreRefused, "the store itself")
    for content in (b"", b"not a database" * 1000):
        wrong.write_bytes(content)
        refused(data, wrong, RestoreRefused, "wrong.db is (damaged|not a store)")
    wrong.write_bytes(backup.read_bytes()[:-4096])
    refused(data, wrong, RestoreRefused, "damaged")
    pages = bytearray(backup.read_bytes())
    pages[-4096:] = b"\xff" * 4096
    wrong.write_bytes(pages)
    refused(data, wrong, RestoreRefused, "damaged")


def test_a_database_of_another_program_or_a_newer_one_is_refused(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE meta (x)")
        for version in (0, 1):
            connection.execute(f"PRAGMA user_version = {version}")
            refused(data, other, RestoreRefused, "not a store of the platform")
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    refused(data, other, RestoreRefused, f"knows up to {len(schema.MIGRATIONS)}")


def test_no_room_is_said_with_how_much_is_missing(
    data: Path, backup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = backup.stat().st_size
    usage = shutil.disk_usage(data)._replace(free=size - 10_000)
    monkeypatch.setattr(restore.shutil, "disk_usage", lambda folder: usage)
    refused(data, backup, RestoreRefused, r"make room for 0\.0 MB more")


# The command


def test_it_says_what_it_did_and_that_the_key_fits(data: Path, backup: Path) -> None:
    ended = run("restore", str(backup), "--data", str(data))
    assert ended.status == 0
    assert "The key fits" in ended.out
    assert f"{data}/aep.db.kept-" in ended.out


def test_it_says_which_key_is_needed(data: Path, backup: Path, tmp_path: Path) -> None:
    ended = run("restore", str(backup), "--data", str(tmp_path / "new"))
    assert ended.status == 0
    assert "The key is missing" in ended.out
    assert not (tmp_path / "new" / "secrets.key").exists()
    other = {"AEP_SECRETS_KEY": "A" * 43 + "="}
    ended = run("restore", str(backup), "--data", str(data), settings=other)
    assert "The key does not fit" in ended.out


def test_json_says_the_same_to_a_script(data: Path, backup: Path) -> None:
    ended = run("restore", str(backup), "--data", str(data), "--json")
    (kept,) = (path for path in data.iterdir() if ".kept-" in path.name)
    assert orjson.loads(ended.out) == {
        "file": str(data / "aep.db"),
        "bytes": (data / "aep.db").stat().st_size,
        "kept": str(kept),
        "checked": True,
        "key": True,
    }


def test_a_refusal_is_one_line(data: Path, tmp_path: Path) -> None:
    ended = run("restore", str(tmp_path / "none.db"), "--data", str(data))
    assert ended.status == 2
    assert ended.err.count("\n") == 1
