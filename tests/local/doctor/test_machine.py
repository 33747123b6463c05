"""`aep doctor`: each finding, what it advises, and when the exit status is 1."""

import resource
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from aep.doctor import clocks, findings, folder, machine, program, stored, tools
from aep.doctor.findings import State
from aep.store import keys, migrations, opening, schema
from aep.store.figures import Figures
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.settings import Settings
from support import one_pim
from support.aep_here import Ended, run

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as a first start leaves it."""
    folder = tmp_path / "data"
    seal = keys.load(folder, None)
    with closing(opening.connect(folder / opening.FILE)) as connection:
        migrations.prepare(connection)
        keys.check(connection, seal)
    return folder


def ask(folder: Path, *arguments: str, **settings: str) -> Ended:
    return run("doctor", "--data", str(folder), *arguments, settings=settings)


def finding(ended: Ended, name: str) -> str:
    """The one line about it, without the name."""
    (line,) = (line for line in ended.out.splitlines() if line[9:].startswith(f"{name} "))
    return f"{line[:9].strip()}: {line[30:]}"


def names_in(ended: Ended) -> set[str]:
    return {line[9:30].strip() for line in ended.out.splitlines()}


@pytest.fixture(autouse=True)
def asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody outside is asked: what others answer is tested by itself."""

    async def nothing(folder: Path, *_: object) -> list[findings.Check]:
        return [machine.clock(folder)]

    monkeypatch.setattr(machine, "_of_others", nothing)
    monkeypatch.setattr(clocks, "kernel_clock", lambda: None)


def test_a_misspelt_variable_is_a_finding_with_the_known_one(data: Path) -> None:
    ended = ask(data, AEP_TRUSTED_PROXY="1")
    assert (
        finding(ended, "settings")
        == "problem: nothing reads AEP_TRUSTED_PROXY: did you mean AEP_TRUSTED_PROXIES?"
    )


# A platform that is well, and one that is not


def test_a_folder_that_is_well_and_runs_is_status_0(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path):
        before = sorted(file.name for file in (tmp_path / "data").iterdir())
        ended = ask(tmp_path / "data", "--pims", str(tmp_path / "pims.json"))
        assert sorted(file.name for file in (tmp_path / "data").iterdir()) == before
    assert ended.status == 0
    assert ended.err == ""
    for name in ("python", "sqlite", "data folder", "disk", "key", "store", "pims", "clock"):
        assert finding(ended, name).startswith("ok: "), ended.out
    assert finding(ended, "pims") == "ok: 0 in the data folder, 1 in AEP_PIMS"
    assert finding(ended, "platform") == "ok: one runs on the folder and takes commands"


def test_a_folder_that_does_not_exist_yet_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    ended = ask(tmp_path / "none" / "at" / "all")
    assert ended.status == 0
    assert list(tmp_path.iterdir()) == []
    assert finding(ended, "data folder").startswith("ok: ")
    assert finding(ended, "key").startswith("ok: ")
    assert finding(ended, "pims").startswith("missing: none: register one with `aep pims add URL`")


def test_every_finding_is_one_line_of_the_same_form(data: Path) -> None:
    for line in ask(data).out.splitlines():
        assert line[:9].strip() in ("ok", "missing", "problem")
        assert line[30:].strip()


def test_json_holds_the_same_findings(data: Path) -> None:
    found = orjson.loads(ask(data, "--json").out)
    assert [each["name"] for each in found] == [line[9:30].strip() for line in ask(data).out.splitlines()]
    assert all(set(each) == {"name", "state", "detail", "needed"} for each in found)


def test_a_wrong_setting_is_a_finding_among_the_others(data: Path) -> None:
    ended = ask(data, AEP_TIMEOUT="soon")
    assert ended.status == 1
    assert finding(ended, "settings").startswith("problem: AEP_TIMEOUT: ")
    assert finding(ended, "store").startswith("ok: ")


# The folder


def test_a_folder_that_cannot_be_written_is_broken() -> None:
    ended = ask(Path("/proc/data"))  # where even root makes no file
    assert ended.status == 1
    assert finding(ended, "data folder").startswith("problem: /proc is not writable")


def test_a_folder_that_others_can_look_into_is_named_with_the_cure(data: Path) -> None:
    data.chmod(0o755)
    ended = ask(data)
    assert ended.status == 0
    assert finding(ended, "data folder") == f"problem: {data} is open to others: chmod 0700 {data}"


@pytest.mark.parametrize(
    ("free", "state", "needed"),
    [(10_000_000, "problem", True), (500_000_000, "problem", False), (5_000_000_000, "ok", False)],
)
def test_free_disk(free: int, state: str, needed: bool) -> None:
    found = folder.disk(free)
    assert (found.state, found.needed) == (state, needed)


def test_a_key_that_others_can_read_is_named_with_the_cure(data: Path) -> None:
    (data / "secrets.key").chmod(0o644)
    ended = ask(data)
    assert ended.status == 0
    assert f"chmod 0600 {data / 'secrets.key'}" in finding(ended, "key")


def test_a_lost_or_another_key_is_broken_and_no_key_is_shown(data: Path) -> None:
    other = ask(data, AEP_SECRETS_KEY=KEY)
    assert other.status == 1
    assert finding(other, "key").startswith("problem: the store's secrets were sealed with another key")
    assert KEY not in other.out + other.err
    (data / "secrets.key").unlink()
    lost = ask(data)
    assert lost.status == 1
    assert "put it back" in finding(lost, "key")
    assert not (data / "secrets.key").exists()


def test_a_key_from_the_environment_is_enough(tmp_path: Path) -> None:
    assert finding(ask(tmp_path / "data", AEP_SECRETS_KEY=KEY), "key") == "ok: from AEP_SECRETS_KEY"
    assert ask(tmp_path / "data", AEP_SECRETS_KEY="short").status == 1


@pytest.mark.parametrize(("difference", "status"), [(-1, 0), (0, 0), (1, 1)])
def test_the_schema_version_of_the_file(data: Path, difference: int, status: int) -> None:
    version = len(schema.MIGRATIONS) + difference
    with closing(sqlite3.connect(data / "aep.db")) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    ended = ask(data)
    assert ended.status == status
    assert f"schema version {version}" in finding(ended, "store")
    assert one_pim.rows(data / "aep.db", "PRAGMA user_version") == [(version,)]


def test_a_file_that_is_no_database_is_broken(data: Path) -> None:
    (data / "aep.db").write_bytes(b"not a database at all, is it?" * 200)
    for rest in ("aep.db-wal", "aep.db-shm"):
        (data / rest).unlink(missing_ok=True)
    ended = ask(data)
    assert ended.status == 1
    assert "backup" in finding(ended, "store")


def test_a_list_of_pims_that_cannot_be_read_is_broken(data: Path, tmp_path: Path) -> None:
    (tmp_path / "pims.json").write_text('[{"url": "nonsense"}]')
    assert finding(ask(data, AEP_PIMS=str(tmp_path / "pims.json")), "pims").startswith("problem: ")
    assert ask(data, "--pims", str(tmp_path / "pims.json")).status == 1
    assert ask(data, "--pims", str(tmp_path / "none.json")).status == 1


def test_stored_pims_are_counted(data: Path) -> None:
    assert run("pims", "add", "https://pim.example.com", "--data", str(data)).status == 0
    assert finding(ask(data), "pims") == "ok: 1 in the data folder, 0 in AEP_PIMS"


@pytest.mark.parametrize("document", ["{", "{}", "5"])
def test_an_entry_that_cannot_be_understood_is_a_finding_with_the_cure(data: Path, document: str) -> None:
    for url in ("https://pim.example.com", "https://other.example.com"):
        assert run("pims", "add", url, "--data", str(data)).status == 0
    with closing(sqlite3.connect(data / "aep.db")) as connection, connection:
        connection.execute("UPDATE tenants SET document = ? WHERE name LIKE '%other%'", (document,))
    ended = ask(data)
    said = finding(ended, "pims")
    assert said.startswith("problem: the platform ignores https://other.example.com, ")
    assert "aep pims remove" in said
    assert ended.status == 0


# The machine


def test_an_old_sqlite_is_broken() -> None:
    assert program.sqlite((3, 34, 1)).needed
    assert program.sqlite((3, 35, 0)).state is State.OK


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_a_sqlite_with_the_wal_reset_bug_is_named_with_its_version(
    version: tuple[int, ...], has_it: bool
) -> None:
    found = program.sqlite(version)
    assert found.state is State.OK
    assert ".".join(map(str, version)) in found.detail
    assert ("WAL-reset bug" in found.detail) is has_it


def test_the_files_and_the_last_backup_are_shown_with_what_to_do() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    new = Figures(1_500_000, 300_000, 10**9, now - timedelta(hours=30), takes_in=True)
    assert [(each.state, each.detail) for each in stored.files(new, now)] == [
        (State.OK, "1.5 MB, and 0.3 MB of write-ahead log"),
        (State.OK, "the last one is 1 day and 6 hours old"),
    ]
    old = Figures(1, stored.LARGE_LOG_BYTES + 1, 10**9, now - timedelta(days=8), takes_in=True)
    found = list(stored.files(old, now))
    assert [each.state for each in found] == [State.PROBLEM, State.PROBLEM]
    assert "a reader that keeps the file open" in found[0].detail
    assert "run `aep backup FILE`" in found[1].detail
    assert not any(each.needed for each in found)
    never = list(stored.files(Figures(1, 0, 10**9, None, takes_in=True), now))
    assert never[1].state is State.MISSING
    assert list(stored.files(Figures(0, 0, 10**9, None, takes_in=True), now)) == []


def test_few_open_files_are_named_with_the_cure() -> None:
    found = program.open_files(1024, 4096)
    assert "AEP_CONNECTIONS=4096 is lowered to 512: raise" in found.detail
    assert "LimitNOFILE" in found.detail
    assert (found.state, found.needed) == (State.PROBLEM, False)
    assert program.open_files(1024, 512).state is State.OK
    assert program.open_files(65536, 4096).state is State.OK
    assert program.open_files(resource.RLIM_INFINITY, 4096).detail == "no limit"
    assert program.open_files(63, 16).needed


def test_a_clock_behind_the_file_or_away_from_the_platforms_is_a_problem() -> None:
    behind = clocks.clock(NOW, NOW + timedelta(minutes=2), 0, "")
    assert (behind.state, behind.needed) == (State.PROBLEM, False)
    assert "120 s behind the platform's time" in behind.detail
    assert clocks.clock(NOW, NOW - timedelta(minutes=2), 0, "").state is State.OK
    assert "is 70 s behind the platform's" in clocks.clock(NOW, None, 70, "").detail
    assert "has jumped 70 s ahead of the platform's" in clocks.clock(NOW, None, -70, "").detail
    assert clocks.clock(datetime(1970, 1, 1, tzinfo=UTC), None, 0, "").needed


@pytest.mark.parametrize(
    ("zone", "state"),
    [("", "ok"), ("Europe/Paris", "ok"), ("CET-1CEST", "ok"), (":UTC", "ok"), ("Mars/Olympus", "problem")],
)
def test_the_time_zone(zone: str, state: str) -> None:
    found = clocks.clock(NOW, None, 0, zone)
    assert (found.state, found.needed) == (state, False)


def test_the_clock_is_held_against_the_newest_event(data: Path) -> None:
    with closing(sqlite3.connect(data / "aep.db")) as connection, connection:
        later = datetime.now(UTC).timestamp() + 3600
        connection.execute("INSERT INTO events VALUES (1, 'x', 'x', ?, '', '')", (later,))
    ended = ask(data)
    assert ended.status == 0
    assert finding(ended, "clock").startswith("problem: ")
    assert "NTP" in finding(ended, "clock")


# What only tools need


def test_an_emulator_is_asked_where_the_variable_says() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        environment = {"PUBSUB_EMULATOR_HOST": address}
        assert tools.emulator("e", "PUBSUB_EMULATOR_HOST", "pubsub-emulator", environment).state is State.OK
    for nowhere in (address, "nonsense"):
        environment = {"PUBSUB_EMULATOR_HOST": nowhere}
        found = tools.emulator("e", "PUBSUB_EMULATOR_HOST", "pubsub-emulator", environment)
        assert found.state is State.PROBLEM
        assert nowhere in found.detail


def test_an_emulator_is_looked_for_in_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environment = {"CLOUDSDK_ROOT_DIR": str(tmp_path / "sdk"), "PATH": ""}
    found = tools.emulator("e", "NONE", "pubsub-emulator", environment)
    assert found.state is State.MISSING
    assert "gcloud components install pubsub-emulator" in found.detail
    (tmp_path / "sdk" / "platform" / "pubsub-emulator").mkdir(parents=True)
    assert tools.emulator("e", "NONE", "pubsub-emulator", environment).state is State.OK


def test_a_program_is_ok_missing_or_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tools.program("tool-of-tests", [], "tests").state is State.MISSING
    tool = tmp_path / "tool-of-tests"
    for script, state in (('echo "tool 12.3.4" >&2', State.OK), ("exit 1", State.PROBLEM)):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        assert tools.program("tool-of-tests", [], "tests").state is state
    tool.write_text("#!/bin/sh\necho 12.3.4\n")
    assert tools.program("tool-of-tests", [], "tests").detail == f"12.3.4, {tool}"


def test_google_credentials_are_looked_for_and_not_read(tmp_path: Path) -> None:
    environment = {"CLOUDSDK_CONFIG": str(tmp_path)}
    assert tools.google_credentials(environment).state is State.MISSING
    file = tmp_path / "application_default_credentials.json"
    file.write_text("a secret of tests")
    found = tools.google_credentials(environment)
    assert found == findings.ok("google credentials", str(file))
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none.json")}
    assert tools.google_credentials(environment).state is State.PROBLEM


def test_it_says_who_publishes_to_subscribers_topics() -> None:
    account = "aep@our-project.iam.gserviceaccount.com"
    found = tools.pubsub_destinations(TopicRules(account=account))
    assert found.state is State.OK
    assert f"as {account}, which needs roles/pubsub.publisher" in found.detail
    why = "is not set up"
    assert tools.pubsub_destinations(TopicRules(missing=why)) == findings.missing("pubsub destinations", why)


def test_what_only_tools_need_keeps_the_status_0(data: Path, tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PUBSUB_EMULATOR_HOST": "127.0.0.1:1"}
    ended = run("doctor", "--data", str(data), settings=nothing)
    assert ended.status == 0
    assert not {"pubsub emulator", "java", "node", "pulumi"} & names_in(ended)
    ended = run("doctor", "--all", "--data", str(data), settings=nothing)
    assert ended.status == 0
    assert finding(ended, "pubsub emulator").startswith("problem: ")
    assert finding(ended, "java").startswith("missing: ")


# Kept events


@pytest.mark.parametrize(
    ("keep", "free", "state", "told"),
    [
        (0, 0, State.OK, "AEP_KEEP is 0"),
        (86400, 2 * 1024**3, State.OK, "for 24 h, at most 1073.7 MB"),
        (86400, 10**8, State.PROBLEM, "make room, or lower AEP_KEEP_BYTES"),
    ],
)
def test_the_room_that_kept_events_need(keep: float, free: int, state: State, told: str) -> None:
    found = folder.kept(Settings(keep=keep), free)
    assert found.state is state
    assert told in found.detail
