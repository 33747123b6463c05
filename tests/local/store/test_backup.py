"""`aep backup`: a copy that a platform goes on from, whatever is killed while it is made."""

import errno
import fcntl
import os
import shutil
import signal
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from aep.errors import BackupRefused, NoStore
from aep.store import database, figures, keys, migrations, opening, room, schema
from aep.store.backup import back_up
from event_platform.domain.errors import StoreUnavailable
from support import one_pim
from support.aep_here import run
from support.processes import START_SECONDS, Child, command, free_port, ready, received, server, until

BIG = 160  # MB, so that a copy takes long enough to be killed in the middle
BEGUN = 1_000_000  # bytes of a copy that is under way


def store(folder: Path, *, megabytes: int = 0) -> Path:
    """A data folder with a mark, and events of that size that nobody waits for; its file."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with closing(opening.connect(folder / opening.FILE)) as connection:
        migrations.prepare(connection)
        connection.execute("INSERT INTO meta VALUES ('mark', 'first')")
        connection.execute("BEGIN")
        for number in range(megabytes):
            connection.execute(
                "INSERT INTO events (no, id, type, accepted_at, before_subject, after_subject)"
                " VALUES (?, 'filler', '', 0, '', zeroblob(1000000))",
                (number - megabytes,),
            )
        connection.execute("COMMIT")
    return folder / opening.FILE


def is_whole(file: Path) -> bool:
    return one_pim.rows(file, "PRAGMA integrity_check") == [("ok",)]


def mark(file: Path) -> str:
    return one_pim.rows(file, "SELECT value FROM meta WHERE name = 'mark'")[0][0]


def partial_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.partial")


def wait_until_begun(target: Path) -> None:
    def size() -> int:
        return partial_of(target).stat().st_size if partial_of(target).exists() else 0

    until(lambda: size() > BEGUN, "a copy that is under way")


@contextmanager
def backing_up(folder: Path, data: Path, target: Path, *more: str) -> Iterator[Child]:
    with command(folder, "backup", str(target), "--data", str(data), *more) as child:
        yield child


# The copy


def test_the_copy_holds_one_moment_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy.db"
    source = store(data)
    with closing(opening.connect(source)) as writing:
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("UPDATE meta SET value = 'second' WHERE name = 'mark'")  # not committed yet
        size = back_up(data, target, overwrite=False)
        writing.execute("COMMIT")
    assert mark(target) == "first"
    assert mark(source) == "second"
    assert is_whole(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.stat().st_size == size
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.db", "data"]


def test_the_copy_is_set_up_as_the_platform_needs_it(tmp_path: Path) -> None:
    """What a later connection cannot change any more: the version, and that space can be given back."""
    store(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "copy.db", overwrite=False)
    assert one_pim.rows(tmp_path / "copy.db", "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert one_pim.rows(tmp_path / "copy.db", "PRAGMA auto_vacuum") == [(2,)]


def test_a_backup_of_an_older_schema_leaves_it_as_it_is(tmp_path: Path) -> None:
    source = store(tmp_path / "data")
    with closing(opening.connect(source)) as connection:
        connection.execute("PRAGMA user_version = 0")
    back_up(tmp_path / "data", tmp_path / "copy.db", overwrite=False)
    assert one_pim.rows(source, "PRAGMA user_version") == [(0,)]
    assert one_pim.rows(tmp_path / "copy.db", "PRAGMA user_version") == [(0,)]


# What is refused


def test_a_file_that_is_there_is_replaced_with_force_only(tmp_path: Path) -> None:
    store(tmp_path / "data")
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(BackupRefused, match="--force"):
        back_up(tmp_path / "data", target, overwrite=False)
    assert target.read_text() == "precious"
    back_up(tmp_path / "data", target, overwrite=True)
    assert is_whole(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["aep.db", "aep.db-wal", "secrets.key", "lock"])
def test_the_platforms_own_files_are_never_replaced(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    store(data)
    (tmp_path / "other-way").symlink_to(data)
    for folder in (data, tmp_path / "other-way"):
        with pytest.raises(BackupRefused, match="own"):
            back_up(data, folder / name, overwrite=True)
    assert mark(data / "aep.db") == "first"


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    store(tmp_path / "data")
    ended = run("backup", "/proc/copy.db", "--data", str(tmp_path / "data"))
    assert ended.status == 2
    assert "/proc/copy.db.partial cannot be written" in ended.err
    assert "choose a folder" in ended.err


def test_no_file_and_no_folder_are_named_as_such(tmp_path: Path) -> None:
    store(tmp_path / "data")
    with pytest.raises(BackupRefused, match="make it first"):
        back_up(tmp_path / "data", tmp_path / "nowhere" / "copy.db", overwrite=False)
    with pytest.raises(BackupRefused, match="not a file"):
        back_up(tmp_path / "data", Path("/dev/null"), overwrite=True)
    with pytest.raises(NoStore, match="--data"):
        back_up(tmp_path / "empty", tmp_path / "copy.db", overwrite=False)
    assert not (tmp_path / "empty").exists()


def test_two_backups_to_one_name_do_not_meet(tmp_path: Path) -> None:
    store(tmp_path / "data")
    target = tmp_path / "copy.db"
    with partial_of(target).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BackupRefused, match="another backup"):
            back_up(tmp_path / "data", target, overwrite=False)
    assert partial_of(target).exists(), "that file is the other's"


@pytest.mark.parametrize("left", [b"", b"garbage" * 1000, None])
def test_what_a_killed_backup_left_is_no_hindrance(tmp_path: Path, left: bytes | None) -> None:
    """Even a whole copy, when the kill came between the last byte and the new name."""
    store(tmp_path / "data")
    target = tmp_path / "copy.db"
    if left is None:
        back_up(tmp_path / "data", partial_of(target), overwrite=False)
    else:
        partial_of(target).write_bytes(left)
    partial_of(target).chmod(0o644)
    back_up(tmp_path / "data", target, overwrite=False)
    assert is_whole(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not partial_of(target).exists()


def test_what_is_no_store_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / opening.FILE).write_bytes(b"no database, whatever it is called" * 100)
    ended = run("backup", str(tmp_path / "copy.db"), "--data", str(data))
    assert ended.status == 1
    assert ended.err.startswith("aep: ")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "copy.db").exists()
    assert not partial_of(tmp_path / "copy.db").exists()


# The command


def test_it_says_what_a_restore_needs_besides(tmp_path: Path) -> None:
    data = tmp_path / "data"
    seal = keys.load(data, None)
    store(data)
    ended = run("backup", str(tmp_path / "one.db"), "--data", str(data))
    assert ended.status == 0
    assert str(data / "secrets.key") in ended.out
    settings = {"AEP_SECRETS_KEY": "A" * 43 + "="}
    ended = run("backup", str(tmp_path / "two.db"), "--data", str(data), settings=settings)
    assert ended.status == 0
    assert "AEP_SECRETS_KEY" in ended.out
    assert settings["AEP_SECRETS_KEY"] not in ended.out
    with closing(opening.connect(data / opening.FILE)) as connection:
        keys.mark(connection, seal)
    keys.put_before(data)
    keys.forget_older(data)  # so that the folder's key is another than the one that seals
    for name in ("three.db", "four.db"):
        ended = run("backup", str(tmp_path / name), "--data", str(data))
        assert ended.status == 0
        assert "the AEP_SECRETS_KEY that the platform runs with" in ended.out
        assert "secrets.key" not in ended.out
        (data / "secrets.key").unlink(missing_ok=True)


def test_when_it_was_made_is_noted_for_metrics_and_doctor(tmp_path: Path) -> None:
    data = tmp_path / "data"
    store(data)
    assert figures.figures_of(data).backup_at is None
    before = datetime.now(UTC).replace(microsecond=0)
    back_up(data, tmp_path / "copy.db", overwrite=False)
    found = figures.figures_of(data)
    assert found.backup_at is not None
    assert before <= found.backup_at <= datetime.now(UTC)
    assert found.file_bytes == (data / opening.FILE).stat().st_size
    assert stat.S_IMODE((data / opening.LAST_BACKUP).stat().st_mode) == 0o600
    for wrong in ("", "yesterday", "2026-11-30T12:00:00", "x" * 1000):
        (data / opening.LAST_BACKUP).write_text(wrong)
        assert figures.last_backup(data) is None


@pytest.mark.provokes("store.backup_not_noted")
def test_a_backup_is_made_though_it_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, at: datetime) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = tmp_path / "data"
    store(data)
    monkeypatch.setattr(figures, "note_backup", fail)
    assert back_up(data, tmp_path / "copy.db", overwrite=False) == (tmp_path / "copy.db").stat().st_size
    assert figures.last_backup(data) is None


def test_it_ends_before_the_disk_of_the_store_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes that come meanwhile stay in the write-ahead log."""
    data = tmp_path / "data"
    store(data, megabytes=1)
    monkeypatch.setattr(database, "STEPS_BETWEEN_LOOKS", 1)
    left = iter([room.LEAST_BYTES, room.LEAST_BYTES])
    monkeypatch.setattr(room, "free_bytes", lambda folder: next(left, room.LEAST_BYTES - 1))
    with pytest.raises(StoreUnavailable, match="nearly full"):
        back_up(data, tmp_path / "copy.db", overwrite=False)
    assert not (tmp_path / "copy.db").exists()
    assert not partial_of(tmp_path / "copy.db").exists()
    assert figures.last_backup(data) is None
    back_up(data, tmp_path / "copy.db", overwrite=False)  # to save what there is though little is left


def test_json_says_the_same_to_a_script(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy.db"
    keys.load(data, None)
    store(data)
    ended = run("backup", str(target), "--data", str(data), "--json")
    assert orjson.loads(ended.out) == {
        "file": str(target),
        "bytes": target.stat().st_size,
        "key_file": str(data / "secrets.key"),
    }
    again = run("backup", str(target), "--data", str(data))
    assert again.status == 2
    assert again.err == f"aep: {target} exists: choose another name, or replace it with --force\n"


# Going on from a copy


@pytest.mark.full
def test_a_platform_on_the_copy_delivers_what_waited(tmp_path: Path) -> None:
    """The copy is made while the platform runs, writes and tries; the original is lost after it."""
    settings = {"AEP_RETRY_DELAYS": ",".join(["0.3"] * 90)}
    data, new = tmp_path / "data", tmp_path / "new"
    port = str(free_port())
    with one_pim.serve(tmp_path, settings=settings) as serve:
        one_pim.subscribe(serve, f"http://127.0.0.1:{port}/hook")
        waiting = one_pim.emit(serve, 30)
        with backing_up(tmp_path, data, tmp_path / "copy.db") as child:
            assert child.wait() == 0, child.stderr()
        later = one_pim.emit(serve, 5)
        serve.kill_group()
    new.mkdir(mode=0o700)
    shutil.copy(tmp_path / "copy.db", new / "aep.db")
    shutil.copy(data / "secrets.key", new)
    shutil.rmtree(data)
    with (
        server(tmp_path, "inbox", "--quiet", "--port", port, "--secret", one_pim.PRIMARY) as inbox,
        one_pim.serve(tmp_path, data=new, settings=settings) as serve,
    ):
        until(lambda: set(waiting) <= set(one_pim.ids_received(inbox.url)), "all that waited")
        fresh = one_pim.emit(serve)  # the subscriptions are there, so new events find them
        until(lambda: set(fresh) <= set(one_pim.ids_received(inbox.url)), "what came after it")
        found = received(inbox.url, "/hook")
    assert all(delivery["verified"] for delivery in found), "the secrets were opened with the key"
    assert not {delivery["id"] for delivery in found} & set(later)


def test_a_copy_without_its_key_is_refused(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path):
        back_up(tmp_path / "data", tmp_path / "copy.db", overwrite=False)
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(tmp_path / "copy.db", new / "aep.db")
    with command(tmp_path, *one_pim.arguments(tmp_path, data=new), "--port", "0") as child:
        assert child.wait(START_SECONDS) == 1
    assert "secrets.key" in child.stderr()


# Kills


@pytest.mark.full
def test_a_killed_backup_leaves_the_server_and_the_last_backup_alone(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy.db"
    with server(tmp_path, "inbox", "--quiet") as inbox:
        with one_pim.serve(tmp_path) as serve:
            serve.stop()  # so that it made its key before there is a store
        store(data, megabytes=BIG)
        target.write_text("the backup of last night")
        with one_pim.serve(tmp_path) as serve:
            one_pim.subscribe(serve, f"{inbox.url}/hook")
            for _ in range(3):
                with backing_up(tmp_path, data, target, "--force") as child:
                    wait_until_begun(target)
                    child.kill_group()
                assert target.read_text() == "the backup of last night"
            sent = one_pim.emit(serve, 10)
            until(lambda: set(sent) <= set(one_pim.ids_received(inbox.url)), "deliveries after the kills")
            with backing_up(tmp_path, data, target, "--force") as child:  # over what the killed ones left
                assert child.wait(60) == 0, child.stderr()
            assert serve.stop() == 0
    assert is_whole(target)
    assert is_whole(data / "aep.db")
    assert not partial_of(target).exists()


def test_a_killed_backup_never_shows_a_half_written_file(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy.db"
    store(data, megabytes=BIG)
    with backing_up(tmp_path, data, target) as child:
        wait_until_begun(target)
        child.kill_group()
    assert not target.exists()
    assert partial_of(target).stat().st_size < BIG * 1_000_000, "it was killed in the middle"
    assert is_whole(data / "aep.db")


@pytest.mark.full
def test_a_server_killed_while_a_backup_runs_loses_nothing(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "copy.db"
    arguments = one_pim.arguments(tmp_path)
    with server(tmp_path, "inbox", "--quiet", "--behaviour", "500") as inbox:
        with server(tmp_path, *arguments) as serve:
            serve.stop()
        store(data, megabytes=BIG)
        with server(tmp_path, *arguments) as serve, backing_up(tmp_path, data, target) as child:
            one_pim.subscribe(serve, f"{inbox.url}/500")
            wait_until_begun(target)
            sent = one_pim.emit(serve, 20)
            assert child.process.poll() is None, "the backup runs still"
            serve.kill_group()
            assert child.wait(60) == 0, child.stderr()
    assert is_whole(target)
    assert is_whole(data / "aep.db")
    kept = one_pim.rows(data / "aep.db", "SELECT id FROM kept")
    assert {event_id for (event_id,) in kept} == set(sent)
    with command(tmp_path, *arguments, "--port", "0") as serve:
        ready(serve)
        assert serve.stop(signal.SIGTERM) == 0


def test_every_copy_made_under_load_is_consistent(tmp_path: Path) -> None:
    """Deliveries and what they refer to change in one commit, and a copy holds whole commits."""
    with (
        server(tmp_path, "inbox", "--quiet") as inbox,
        one_pim.serve(tmp_path, settings={"AEP_RATE_MIN": "1000", "AEP_RATE_MAX": "1000"}) as serve,
    ):
        for path in ("/hook", "/second"):
            one_pim.subscribe(serve, inbox.url + path)
        for number in range(8):
            one_pim.emit(serve, 50)
            copy = tmp_path / f"copy-{number}.db"
            back_up(tmp_path / "data", copy, overwrite=False)
            assert is_whole(copy)
            assert uses(copy) == held(copy)
    assert any(held(copy) for copy in tmp_path.glob("copy-*.db")), "nothing ever waited"


def uses(copy: Path) -> dict[int, int]:
    """How often each body is in use, as the store counts it."""
    waiting = "SELECT event_no + variant, count(*) FROM courses WHERE outcome IS NULL GROUP BY 1"
    return dict(one_pim.rows(copy, waiting))


def held(copy: Path) -> dict[int, int]:
    """The same, counted anew."""
    waiting = "SELECT event_no FROM deliveries UNION ALL SELECT event_no FROM retries"
    return dict(one_pim.rows(copy, f"SELECT event_no, count(*) FROM ({waiting}) GROUP BY event_no"))  # noqa: S608
