"""The embedded store's one writer: what shares a commit, what a failure undoes, and who may open the file."""

import asyncio
import errno
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aep.errors import DataFolderInUse
from aep.runtime.meters import Meters
from aep.store import backlog, locking, migrations, opening, schema, writer
from aep.store import database as module
from aep.store.database import Database
from event_platform.domain.errors import Conflict, StoreUnavailable
from support.eventually import eventually


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path)
    database.open()
    await database.write(lambda connection: connection.execute("CREATE TABLE notes (text TEXT UNIQUE)"))
    yield database
    await database.close()


async def notes(database: Database) -> list[str]:
    return [text for (text,) in await database.read(lambda c: c.execute("SELECT text FROM notes").fetchall())]


def note(text: str, *, then: Exception | None = None) -> backlog.Job[str]:
    def job(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))
        if then is not None:
            raise then
        return text

    return job


async def test_a_write_is_read_as_soon_as_it_returned(database: Database) -> None:
    assert await database.write(note("one")) == "one"
    assert await notes(database) == ["one"]


async def test_a_job_that_raises_undoes_its_own_changes_only(database: Database) -> None:
    results = await asyncio.gather(
        database.write(note("before")),
        database.write(note("bad", then=Conflict("no"))),
        database.write(note("after")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [str, Conflict, str]
    assert await notes(database) == ["before", "after"]


async def test_a_violated_constraint_reaches_its_writer_only(database: Database) -> None:
    await database.write(note("one"))
    results = await asyncio.gather(
        database.write(note("one")), database.write(note("two")), return_exceptions=True
    )
    assert isinstance(results[0], sqlite3.IntegrityError)
    assert await notes(database) == ["one", "two"]


async def test_a_refusal_that_wrote_nothing_leaves_the_caches_of_jobs(database: Database) -> None:
    undone: list[bool] = []
    database.on_rollback.append(lambda: undone.append(True))

    def refuse(connection: sqlite3.Connection) -> None:
        raise Conflict("the state forbids it")

    def refuse_late(connection: sqlite3.Connection) -> None:
        note("one")(connection)
        refuse(connection)

    for job, times in ((refuse, 0), (refuse_late, 1)):
        with pytest.raises(Conflict):
            await database.write(job)
        assert len(undone) == times
    assert await notes(database) == []


async def test_what_jobs_want_done_after_their_commit_is_done_once_and_not_for_what_was_undone(
    database: Database,
) -> None:
    done: list[str] = []

    def job(text: str, *, fails: bool = False) -> Callable[[sqlite3.Connection], None]:
        def run(connection: sqlite3.Connection) -> None:
            note(text)(connection)
            database.after_commit.append(lambda: done.append(text))
            if fails:
                raise Conflict("the state forbids it")

        return run

    jobs = [job("one"), job("two", fails=True), job("three")]
    await asyncio.gather(*map(database.write, jobs), return_exceptions=True)
    await database.write(job("four"))
    assert done == await notes(database) == ["one", "three", "four"]


async def test_a_disk_that_takes_nothing_more_is_unavailable_and_undoes_the_commit(
    database: Database,
) -> None:
    undone: list[bool] = []
    database.on_rollback.append(lambda: undone.append(True))

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    await database.write(limit)
    results = await asyncio.gather(
        database.write(note("small")), database.write(note("x" * 100_000)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert undone
    await database.write(lambda connection: connection.execute("PRAGMA max_page_count = 1073741823"))
    await database.write(note("small"))
    assert await notes(database) == ["small"]


async def test_a_read_that_takes_too_long_is_ended_and_keeps_nothing_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STEPS_BETWEEN_LOOKS", 1000)
    database = Database(tmp_path)
    database.open()
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n, meta"
    await database.write(lambda connection: connection.execute("INSERT INTO meta VALUES ('a', '')"))
    with monkeypatch.context() as patched:
        patched.setattr(module, "READ_SECONDS", 0.0)
        with pytest.raises(StoreUnavailable, match="took too long"):
            await database.read(lambda connection: connection.execute(endless).fetchone())
    assert await database.read(lambda connection: connection.execute("SELECT 1").fetchone()) == (1,)
    assert not await database.read(lambda connection: connection.in_transaction)
    await database.close()


async def test_commits_are_announced_in_their_order_and_before_the_writers_go_on(database: Database) -> None:
    seen: list[str] = []

    async def write(text: str) -> None:
        await database.write(note(text), lambda result: seen.append(f"committed {result}"))
        seen.append(f"returned {text}")

    await asyncio.gather(*(write(str(number)) for number in range(5)))
    for number in range(5):
        assert seen.index(f"committed {number}") < seen.index(f"returned {number}")
    assert [entry for entry in seen if entry.startswith("committed")] == [f"committed {n}" for n in range(5)]


async def test_what_waits_together_shares_a_commit(database: Database, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / opening.FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # keeps the writer from its next commit
        writes = [asyncio.ensure_future(database.write(note(str(number)))) for number in range(50)]
        await asyncio.sleep(0)
        before = other.execute("PRAGMA data_version").fetchone()
        other.execute("COMMIT")
        await asyncio.gather(*writes)
        assert other.execute("PRAGMA data_version").fetchone() != before
    assert len(await notes(database)) == 50


async def while_the_writer_is_busy(
    database: Database, *writes: Callable[[], Awaitable[object]]
) -> list[object]:
    """Their results, when all of them came to wait before the writer had time for any."""
    with closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        busy = asyncio.ensure_future(database.write(lambda connection: None))
        await eventually(database._jobs.empty)
        waiting = asyncio.gather(*(write() for write in writes), return_exceptions=True)
        await asyncio.sleep(0)
        other.execute("COMMIT")
        await busy
    return await waiting


class Noted:
    """A joint job that notes which items it was called with; a bad one makes it fail."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, connection: sqlite3.Connection, items: Sequence[str]) -> list[str]:
        self.calls.append([*items])
        connection.executemany("INSERT INTO notes VALUES (?)", [(item,) for item in items])
        if "bad" in items:
            raise Conflict("no")
        return [item.upper() for item in items]


async def test_items_of_a_joint_job_that_wait_together_are_one_call(database: Database) -> None:
    job = Noted()
    results = await while_the_writer_is_busy(
        database,
        lambda: database.write_jointly(job, "one"),
        lambda: database.write(note("between")),
        lambda: database.write_jointly(job, "two"),
    )
    assert results == ["ONE", "between", "TWO"]
    assert job.calls == [["one", "two"]]


async def test_a_joint_call_that_fails_fails_for_the_item_only_that_fails_alone(database: Database) -> None:
    job = Noted()
    results = await while_the_writer_is_busy(
        database, *(partial(database.write_jointly, job, item) for item in ("one", "bad", "two"))
    )
    assert [type(result) for result in results] == [str, Conflict, str]
    assert await notes(database) == ["one", "two"]
    assert job.calls == [["one", "bad", "two"], ["one"], ["bad"], ["two"]]


async def test_a_joint_call_gets_no_more_than_its_weight(database: Database) -> None:
    job = Noted()
    half = backlog.WEIGHT_AT_ONCE // 2
    await while_the_writer_is_busy(
        database,
        *(partial(database.write_jointly, job, item, weight=half) for item in ("one", "two", "three")),
    )
    assert job.calls == [["one", "two"], ["three"]]


async def test_commits_of_joint_jobs_are_announced_in_the_order_in_which_they_were_run(
    database: Database,
) -> None:
    announced: list[str] = []
    job = Noted()
    await while_the_writer_is_busy(
        database,
        lambda: database.write_jointly(job, "one", announced.append),
        lambda: database.write(note("between"), announced.append),
        lambda: database.write_jointly(job, "two", announced.append),
    )
    assert announced == ["ONE", "TWO", "between"]
    assert await notes(database) == ["one", "two", "between"]


async def test_a_long_job_does_not_drag_others_into_its_commit(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMMIT_SECONDS", 0.0)
    with closing(sqlite3.connect(tmp_path / opening.FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # so that all of these wait together
        writes = [asyncio.ensure_future(database.write(note(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        other.execute("COMMIT")
        await asyncio.gather(*writes)
    assert await notes(database) == [str(number) for number in range(20)]


async def test_a_listener_that_fails_is_a_fault_and_keeps_no_writer_waiting(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    database = Database(tmp_path, on_fault=faults.append)
    database.open()
    await database.write(lambda connection: connection.execute("CREATE TABLE notes (text TEXT UNIQUE)"))

    def fail(result: str) -> None:
        raise RuntimeError("a bug, for the test")

    assert await asyncio.gather(database.write(note("one"), fail), database.write(note("two"))) == [
        "one",
        "two",
    ]
    assert [str(fault) for fault in faults] == ["a bug, for the test"]
    await database.close()


async def test_a_writer_that_ends_by_a_fault_keeps_nobody_waiting(tmp_path: Path) -> None:
    faults: list[BaseException] = []
    database = Database(tmp_path, on_fault=faults.append)
    database.open()

    def end_the_writer(connection: sqlite3.Connection) -> None:
        raise SystemExit  # not an error of a job: nothing but the thread's end follows

    ends = await asyncio.gather(
        *(database.write(job) for job in (end_the_writer, end_the_writer)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [StoreUnavailable, StoreUnavailable]
    await eventually(lambda: [type(fault) for fault in faults] == [SystemExit])
    with pytest.raises(StoreUnavailable, match="writer has ended"):
        await database.write(lambda connection: None)
    await database.close()


async def test_a_file_that_is_no_store_is_said_to_be_unreadable(tmp_path: Path) -> None:
    (tmp_path / opening.FILE).write_bytes(b"not a database, and longer than a header of one" * 100)
    with pytest.raises(StoreUnavailable, match="cannot be read: the file is no database"):
        Database(tmp_path).open()


async def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="may not be written to"):
        await database.read(note("one"))


async def test_a_folder_in_use_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(DataFolderInUse, match="another process already runs the platform on"):
        Database(tmp_path).open()


async def test_removing_the_lock_file_lets_no_second_platform_in(database: Database, tmp_path: Path) -> None:
    (tmp_path / "lock").unlink()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / opening.FILE).symlink_to(database.path)
    for folder in (tmp_path, tmp_path / "other"):
        assert "already runs the platform" in in_another_process(OPEN, folder)
    await database.write(note("goes on"))


def test_a_program_that_knows_the_lock_file_only_keeps_others_out(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as older:
        fcntl.flock(older, fcntl.LOCK_EX)
        with pytest.raises(DataFolderInUse), opening.exclusive(tmp_path):
            pass


def test_a_system_without_locks_of_open_files_has_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(locking.fcntl, "fcntl", refuse)
    with capture_logs() as lines, opening.exclusive(tmp_path):
        pass
    assert [line["event"] for line in lines] == ["store.locks_missing"]


async def test_commands_in_other_processes_leave_the_log_of_a_running_platform(database: Database) -> None:
    """SQLite removes it when the last connection is closed, and tells by its locks which one is."""
    wal = database.path.with_name(f"{opening.FILE}-wal")
    await database.write(note("one"))
    before = wal.stat()
    for script in (READ, BESIDE):
        assert in_another_process(script, database.folder) == ""
    assert os.path.samestat(wal.stat(), before)


def test_a_command_that_has_migrated_keeps_the_locks_of_sqlite(tmp_path: Path) -> None:
    with opening.beside_the_server(tmp_path) as connection:  # a new folder is migrated, too
        connection.execute("INSERT INTO meta VALUES ('one', '')")
        assert in_another_process(READ, tmp_path) == ""
        assert (tmp_path / f"{opening.FILE}-wal").exists()


OPEN = """
import pathlib, sys
from aep.store.opening import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("is in")
"""
READ = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1] + "/aep.db")
connection.execute("SELECT count(*) FROM meta").fetchall()
connection.close()
"""
BESIDE = """
import pathlib, sys
from aep.store.opening import beside_the_server
with beside_the_server(pathlib.Path(sys.argv[1])) as connection:
    connection.execute("INSERT INTO meta VALUES ('beside', '')")
"""


def in_another_process(script: str, folder: Path) -> str:
    """The last line that it printed, of its error if it failed; empty for none."""
    command = [sys.executable, "-c", script, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (ended.stdout + ended.stderr).strip().rpartition("\n")[2]


async def test_a_folder_is_free_again_after_close(tmp_path: Path) -> None:
    for _ in range(2):
        database = Database(tmp_path)
        database.open()
        await database.close()


async def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / opening.FILE)) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
        with pytest.raises(StoreUnavailable, match=f"knows versions up to {len(schema.MIGRATIONS)}"):
            Database(tmp_path).open()
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)


async def test_an_older_file_is_migrated_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _put_meta(tmp_path, "before")
    step = "ALTER TABLE meta ADD COLUMN note TEXT;\nUPDATE meta SET note = 'migrated';"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    database = Database(tmp_path)
    database.open()
    rows = await database.read(lambda c: c.execute("SELECT name, note FROM meta").fetchall())
    await database.close()
    assert rows == [("before", "migrated")]


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _put_meta(tmp_path, "before")
    step = "CREATE TABLE half (done INTEGER);\nCREATE TABLE meta (again INTEGER);"
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        with pytest.raises(StoreUnavailable, match="meta already exists"):
            Database(tmp_path).open()
    database = Database(tmp_path)
    database.open()
    tables = await database.read(lambda c: c.execute("SELECT name FROM sqlite_schema").fetchall())
    await database.close()
    assert ("half",) not in tables


async def _put_meta(folder: Path, name: str) -> None:
    database = Database(folder)
    database.open()
    await database.write(lambda connection: connection.execute("INSERT INTO meta VALUES (?, '')", (name,)))
    await database.close()


async def test_a_command_beside_a_running_server_never_migrates_its_file(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "CREATE TABLE more (x);"))
    with pytest.raises(DataFolderInUse), opening.beside_the_server(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / opening.FILE)) as connection:
        assert migrations.version(connection) == len(schema.MIGRATIONS) - 1


async def test_space_that_is_no_longer_used_goes_back_to_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE filler (bytes BLOB)")
        connection.executemany("INSERT INTO filler VALUES (zeroblob(100000))", [()] * 400)

    await database.write(fill)
    await database.write(lambda connection: connection.execute("DELETE FROM filler"))
    while await database.release_pages(1000):
        pass
    await database.close()  # the last connection checkpoints
    kept = module.KEPT_PAGES * 4096
    assert kept * 0.9 < (tmp_path / opening.FILE).stat().st_size < kept * 1.2


async def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    with closing(opening.connect(tmp_path / opening.FILE)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.fixture
def lingering_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LINGER_SECONDS", 60)


@pytest.mark.usefixtures("lingering_for_long")
async def test_what_lingers_is_in_the_commit_of_what_comes_next(tmp_path: Path) -> None:
    meters = Meters()
    database = Database(tmp_path, meters)
    database.open()
    await database.write(lambda connection: connection.execute("CREATE TABLE notes (text TEXT UNIQUE)"))
    lingering = database.write_jointly(Noted(), "one", lingers=True)
    assert database._jobs.empty()  # the writer is not woken for it alone
    await database.write(note("two"))
    assert lingering.done()
    assert meters.commit_jobs.total == 2
    assert sum(meters.commit_jobs.counts) == 1  # that of both
    await database.close()


async def test_what_lingers_is_written_when_nothing_else_comes(database: Database) -> None:
    assert await database.write_jointly(Noted(), "one", lingers=True) == "ONE"
    assert await notes(database) == ["one"]


@pytest.mark.usefixtures("lingering_for_long")
async def test_what_lingers_is_written_as_soon_as_there_is_much_of_it(database: Database) -> None:
    job = Noted()
    writes = [database.write_jointly(job, str(number), lingers=True) for number in range(backlog.BUSY_JOBS)]
    await asyncio.gather(*writes)
    assert len(await notes(database)) == backlog.BUSY_JOBS


@pytest.mark.usefixtures("lingering_for_long")
async def test_what_lingers_is_written_at_the_end(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()
    await database.write(lambda connection: connection.execute("CREATE TABLE notes (text TEXT UNIQUE)"))
    lingering = database.write_jointly(Noted(), "one", lingers=True)
    await database.close()
    assert await lingering == "ONE"


@pytest.mark.usefixtures("lingering_for_long")
async def test_what_lingers_is_refused_when_the_writer_has_ended(database: Database) -> None:
    lingering = database.write_jointly(Noted(), "one", lingers=True)
    database._end(StoreUnavailable("for the test"), [], backlog.Backlog())
    with pytest.raises(StoreUnavailable, match="for the test"):
        await lingering


async def test_what_gives_way_is_done_after_what_comes_later_and_in_its_order(database: Database) -> None:
    holding, go_on = await held(database)
    order = list[str]()
    job, number = Noted(), 3 * backlog.GIVING_WAY_PER_COMMIT
    giving_way = [
        database.write_jointly(job, str(each), order.append, gives_way=True) for each in range(number)
    ]
    waits = asyncio.ensure_future(database.write(lambda connection: "waits", order.append))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(holding, waits, *giving_way)
    assert order == ["waits", *map(str, range(number))]


class Commits(Meters):
    """Notes the number of jobs in each commit that changed something."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[int] = []

    def committed(self, seconds: float, jobs: int) -> None:
        self.jobs.append(jobs)


async def held(database: Database) -> "tuple[asyncio.Future[None], threading.Event]":
    """A job that the writer is busy with until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)

    holding = asyncio.ensure_future(database.write(hold))
    await asyncio.to_thread(begun.wait, 10)
    return holding, go_on


@pytest.mark.parametrize(
    ("tenant", "crowd", "jobs"),
    [
        ("quiet", backlog.BUSY_JOBS, [1, backlog.BUSY_JOBS]),
        ("busy", backlog.BUSY_JOBS, [1 + backlog.BUSY_JOBS]),
        ("quiet", backlog.BUSY_JOBS - 1, [backlog.BUSY_JOBS]),
    ],
    ids=["of another tenant", "of the same tenant", "only a few"],
)
async def test_a_crowd_that_gives_way_is_left_to_the_next_commit(
    tmp_path: Path, tenant: str, crowd: int, jobs: list[int]
) -> None:
    meters = Commits()
    database = Database(tmp_path, meters)
    database.open()
    await database.write(note_table)
    holding, go_on = await held(database)
    job = Noted()
    waiting = [database.write_jointly(job, str(n), gives_way=True, tenant="busy") for n in range(crowd)]
    waiting.append(database.write_jointly(job, "first", tenant=tenant))
    meters.jobs.clear()
    go_on.set()
    await asyncio.gather(holding, *waiting)
    await database.close()
    assert meters.jobs == jobs


async def test_a_crowd_that_gives_way_has_its_place_in_every_other_commit(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()
    await database.write(note_table)
    holding, go_on = await held(database)
    job, order, number = Noted(), list[str](), count()
    crowd = [
        database.write_jointly(job, str(n), order.append, gives_way=True, tenant="busy")
        for n in range(backlog.BUSY_JOBS)
    ]

    def again(result: str) -> None:
        """Another of the quiet tenant waits whenever one is done."""
        order.append("quiet")
        if order.count("quiet") < 5:
            crowd.append(database.write_jointly(job, f"quiet {next(number)}", again, tenant="quiet"))

    crowd.append(database.write_jointly(job, f"quiet {next(number)}", again, tenant="quiet"))
    go_on.set()
    await holding
    while not all(each.done() for each in crowd):
        await asyncio.wait(crowd)
    await database.close()
    assert order.index("0") < len(order) - 1  # not behind all that came


async def test_who_had_nothing_in_a_busy_commit_does_not_wait_for_more_to_gather(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHERING_SECONDS", 60.0)
    database = Database(tmp_path)
    database.open()
    await database.write(note_table)
    job = Noted()
    for tenant in ("busy", "quiet"):
        holding, go_on = await held(database)
        busy = [database.write_jointly(job, f"{tenant} {n}", tenant=tenant) for n in range(backlog.BUSY_JOBS)]
        go_on.set()
        await asyncio.gather(holding, *busy)  # after which the writer rests
        await database.write_jointly(job, f"after {tenant}", tenant=f"not {tenant}")
    await database.close()


async def test_what_gives_way_is_written_at_the_end(tmp_path: Path) -> None:
    database = Database(tmp_path)
    database.open()
    await database.write(note_table)
    number = 2 * backlog.GIVING_WAY_PER_COMMIT
    giving_way = [database.write_jointly(Noted(), str(each), gives_way=True) for each in range(number)]
    await database.close()
    assert len(await asyncio.gather(*giving_way)) == number


@pytest.mark.parametrize("mask", [0o022, 0o000])
async def test_files_are_for_their_owner_alone_whoever_made_the_folder(tmp_path: Path, mask: int) -> None:
    folder = tmp_path / "made by somebody else"
    folder.mkdir(mode=0o755)
    before = os.umask(mask)
    try:
        database = Database(folder)
        database.open()
        await database.write(note_table)
        found = modes(folder)
        await database.close()
    finally:
        os.umask(before)
    assert found == dict.fromkeys(("aep.db", "aep.db-wal", "aep.db-shm", "lock"), 0o600)


def test_a_command_beside_the_server_makes_private_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with opening.beside_the_server(tmp_path):
            assert set(modes(tmp_path).values()) == {0o600}
    finally:
        os.umask(before)


async def test_files_with_wider_rights_are_narrowed_at_the_start_and_that_is_said_once(
    tmp_path: Path,
) -> None:
    for number in range(2):
        database = Database(tmp_path)
        with capture_logs() as logged:
            database.open()
        await database.close()
        said = [line for line in logged if line["event"] == "store.files_narrowed"]
        assert [line["files"] for line in said] == ([] if number != 1 else [["aep.db", "lock"]])
        assert set(modes(tmp_path).values()) == {0o600}
        if number == 0:
            (tmp_path / "aep.db").chmod(0o644)
            (tmp_path / "lock").chmod(0o660)
    (tmp_path / "secrets.key").touch(mode=0o640)
    opening.narrow(tmp_path)
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def note_table(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE notes (text TEXT UNIQUE)")
