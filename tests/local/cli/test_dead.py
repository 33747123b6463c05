"""`aep dead`: what our own code failed on is listed, put back or given up, beside a running server or not."""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.broker import dead_letters
from aep.broker.queued import DELIVERY_COLUMNS
from aep.store import bodies, migrations, opening
from event_platform.domain.errors import NotFound
from support import one_pim
from support.aep_here import run
from support.processes import command, server, until
from support.records import UPDATED

TAKEN_UP_WITHIN = 5.0
ERROR = "KeyError: 'a bug [bold]of ours[/bold]'"


def bury_all(file: Path) -> int:
    """Turns what waits into dead letters, as 100 failures of our own code would; how many it were."""
    with closing(sqlite3.connect(file)) as connection, connection:
        bodies.move_out(connection, "https://events.example.com/spec", 0, 1 << 62, room=1 << 30)
        connection.execute(
            f"INSERT INTO dead_letters ({DELIVERY_COLUMNS}, at, error)"  # noqa: S608 - constant columns
            f" SELECT {DELIVERY_COLUMNS}, 1767225600, ? FROM (SELECT * FROM deliveries UNION ALL SELECT"
            f" subscription_no, lane, position, event_no, lanes, epoch, attempts, failures, first_attempt_at,"
            " 100, entered_at FROM retries)",
            (ERROR,),
        )
        connection.execute("DELETE FROM deliveries")
        connection.execute("DELETE FROM retries")
        return connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0]


def aep_dead(folder: Path, *arguments: str, status: int = 0) -> str:
    """What the command printed, on standard error when it failed."""
    ended = run("dead", *arguments, "--data", str(folder / "data"))
    assert ended.status == status, ended.err
    return ended.err if status else ended.out


def listed(folder: Path) -> list[dict[str, Any]]:
    return orjson.loads(aep_dead(folder, "list", "--json"))


@dataclass(frozen=True)
class Made:
    """A folder with four dead letters of one subscription, and their events' ids."""

    data: Path
    inbox: str
    subscription: str
    sent: list[str]


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("inbox"), "inbox", "--quiet", "--secret", one_pim.PRIMARY) as inbox:
        yield inbox.url


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inbox: str) -> Made:
    folder = tmp_path_factory.mktemp("made")
    file = folder / "data" / "aep.db"
    with one_pim.serve(folder) as serve:
        subscription = one_pim.subscribe(serve, f"{inbox}/500")
        sent = one_pim.emit(serve, 4)
        until(lambda: one_pim.rows(file, "SELECT count(*) FROM retries") == [(4,)], "a first attempt at each")
        serve.stop()
    assert bury_all(file) == 4
    return Made(file.parent, inbox, subscription, sent)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "aep.db"


@pytest.fixture
def dead(tmp_path: Path, made: Made, file: Path) -> list[str]:
    """Four events, each a dead letter of the one subscription; their ids. No server runs."""
    shutil.copytree(made.data, tmp_path / "data")
    point_to(file, made.subscription, path_of(tmp_path))
    return made.sent


def path_of(folder: Path) -> str:
    """Where the test's deliveries go: the receiver is mended, so not to /500 any more."""
    return f"/hook-{folder.name}"


def arrived(folder: Path, inbox: str) -> list[str]:
    return one_pim.ids_received(inbox, path_of(folder))


def point_to(file: Path, subscription: str, path: str) -> None:
    """The endpoint is another path of the inbox."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE subscriptions SET document = replace(document, '/500', ?) WHERE id = ?",
            (path, subscription),
        )


# Listing


def test_the_list_names_each_with_its_error(tmp_path: Path, dead: list[str]) -> None:
    letters = listed(tmp_path)
    assert [letter["event_id"] for letter in letters] == dead
    assert len({letter["id"] for letter in letters}) == 4
    assert letters[0] | {"id": 0, "subscription_id": "", "accepted_at": "", "event_id": ""} == {
        "id": 0,
        "at": "2026-01-01T00:00:00Z",
        "error": ERROR,
        "subscription_id": "",
        "event_id": "",
        "event_type": UPDATED,
        "accepted_at": "",
        "attempts": 1,
    }


def test_the_table_shows_what_strangers_sent_as_text(tmp_path: Path, dead: list[str], file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE events SET id = ? WHERE id = ?", ("\x1b[2J[red]", dead[0]))
    shown = aep_dead(tmp_path, "list")
    assert ERROR in shown
    assert "\\x1b[2J[red]" in shown
    assert "\x1b" not in shown


# Replaying


def test_a_running_server_takes_up_what_is_replayed_and_goes_on(
    tmp_path: Path, dead: list[str], inbox: str, file: Path
) -> None:
    first = listed(tmp_path)[0]["id"]
    with one_pim.serve(tmp_path) as serve:
        assert aep_dead(tmp_path, "replay", str(first)) == "Replayed 1 dead letter.\n"
        until(lambda: arrived(tmp_path, inbox) == dead[:1], "the first", seconds=TAKEN_UP_WITHIN)
        assert [letter["event_id"] for letter in listed(tmp_path)] == dead[1:]
        assert orjson.loads(aep_dead(tmp_path, "replay", "--all", "--json")) == {"replayed": 3}
        until(
            lambda: sorted(arrived(tmp_path, inbox)) == sorted(dead),
            "the rest",
            seconds=TAKEN_UP_WITHIN,
        )
        fresh = one_pim.emit(serve, 20)  # its numbering of positions goes on without a collision
        until(lambda: set(fresh) <= set(arrived(tmp_path, inbox)), "new events")
        assert serve.stop() == 0
    assert_empty(file)


def test_what_is_replayed_while_no_server_runs_is_delivered_by_the_next(
    tmp_path: Path, dead: list[str], inbox: str, file: Path
) -> None:
    assert aep_dead(tmp_path, "replay", "--all") == "Replayed 4 dead letters.\n"
    assert listed(tmp_path) == []
    with one_pim.serve(tmp_path):
        until(lambda: sorted(arrived(tmp_path, inbox)) == sorted(dead), "all of them")
        until(lambda: one_pim.rows(file, "SELECT count(*) FROM deliveries") == [(0,)], "all settled")
    assert_empty(file)


def test_a_replayed_delivery_has_100_failures_of_ours_before_it_again(
    tmp_path: Path, dead: list[str], file: Path
) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(
            "UPDATE subscriptions SET document = replace(document, ?, '/slow')", (path_of(tmp_path),)
        )
    aep_dead(tmp_path, "replay", "--all")
    with one_pim.serve(tmp_path) as serve:
        until(lambda: one_pim.rows(file, "SELECT count(*) FROM deliveries") == [(4,)], "all in their lanes")
        assert one_pim.rows(file, "SELECT DISTINCT nacks, attempts FROM deliveries") == [(0, 1)]
        serve.send(signal.SIGKILL)


def test_a_killed_replay_or_drop_leaves_each_letter_in_one_place(
    tmp_path: Path, dead: list[str], file: Path
) -> None:
    """Each commit moves whole letters, so a kill anywhere is one between two commits."""
    many(file, 6000)
    for verb in ("replay", "drop"):
        before = one_pim.rows(file, "SELECT count(*) FROM dead_letters")[0][0]
        with command(tmp_path, "dead", verb, "--all", "--data", str(tmp_path / "data")) as child:
            until(
                lambda left=before: one_pim.rows(file, "SELECT count(*) FROM dead_letters")[0][0] < left,  # type: ignore[misc]
                f"the first commit of {verb}",
            )
            child.send(signal.SIGKILL)
            child.wait()
        assert 0 < one_pim.rows(file, "SELECT count(*) FROM dead_letters")[0][0] < before, (
            "killed in the middle"
        )
        assert one_pim.rows(file, "PRAGMA integrity_check") == [("ok",)]
    (where,) = one_pim.rows(
        file,
        "SELECT (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM retries),"
        " (SELECT sum(occurrences) FROM log_entries WHERE log_type = 'error')",
    )
    assert all(where)
    assert sum(where) == 6004
    assert one_pim.rows(file, "SELECT count(*) FROM events") == [(where[0] + where[1],)]


def many(file: Path, number: int) -> None:
    """As many more dead letters, copies of the first with an event each."""
    with closing(sqlite3.connect(file)) as connection, connection:
        event_no, letter = connection.execute(
            "SELECT min(event_no), min(position) FROM dead_letters"
        ).fetchone()
        more = [column for column in DELIVERY_COLUMNS.split(", ") if column not in ("position", "event_no")]
        for new in range(10**6, 10**6 + number):
            connection.execute(
                "INSERT INTO events SELECT ?, id || ?, type, accepted_at, before_subject, after_subject"
                " FROM events WHERE no = ?",
                (new, new, event_no),
            )
            connection.execute(
                f"INSERT INTO dead_letters (position, event_no, at, error, {', '.join(more)})"  # noqa: S608
                f" SELECT ?, ?, at, error, {', '.join(more)} FROM dead_letters WHERE position = ?",
                (new, new, letter),
            )


# Dropping


def test_what_is_dropped_is_counted_in_a_log_entry_and_its_event_goes(
    tmp_path: Path, dead: list[str], inbox: str, file: Path
) -> None:
    ids = [str(letter["id"]) for letter in listed(tmp_path)]
    with one_pim.serve(tmp_path) as serve:
        assert aep_dead(tmp_path, "drop", *ids[:3]) == "Dropped 3 dead letters.\n"
        assert aep_dead(tmp_path, "replay", ids[3]) == "Replayed 1 dead letter.\n"
        until(lambda: arrived(tmp_path, inbox) == dead[3:], "the one that is left")
        assert serve.stop() == 0
    entries = one_pim.rows(
        file, "SELECT operation, message, occurrences, events FROM log_entries WHERE log_type = 'error'"
    )
    ((operation, message, occurrences, events),) = entries
    assert (operation, message, occurrences) == ("deliveries_dropped", dead_letters.DROPPED_MESSAGE, 3)
    assert orjson.loads(events) == [
        {"event_id": event_id, "type": UPDATED, "attempts": 1} for event_id in dead[:3]
    ]
    assert_empty(file)


def test_an_event_that_another_delivery_waits_with_stays(tmp_path: Path, inbox: str, file: Path) -> None:
    with one_pim.serve(tmp_path) as serve:
        for path in ("/500", "/500"):
            one_pim.subscribe(serve, inbox + path)
        one_pim.emit(serve)
        until(lambda: one_pim.rows(file, "SELECT count(*) FROM retries") == [(2,)], "both attempts")
        serve.stop()
    bury_all(file)
    one, other = (str(letter["id"]) for letter in listed(tmp_path))
    aep_dead(tmp_path, "drop", one)
    assert one_pim.rows(file, "SELECT count(*) FROM events") == [(1,)]
    aep_dead(tmp_path, "drop", other)
    assert_empty(file)


# Wrong usage


def test_an_unknown_id_is_named_and_nothing_is_changed(tmp_path: Path, dead: list[str]) -> None:
    first = str(listed(tmp_path)[0]["id"])
    for verb in ("replay", "drop"):
        complaint = aep_dead(tmp_path, verb, first, "999999", status=2)
        assert complaint.startswith("aep: no dead letter 999999")
        assert complaint.count("\n") == 1
    assert len(listed(tmp_path)) == 4


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["x"]])
def test_which_ones_has_to_be_said(tmp_path: Path, file: Path, arguments: list[str]) -> None:
    file.parent.mkdir()
    with closing(opening.connect(file)) as connection:
        migrations.prepare(connection)
    for verb in ("replay", "drop"):
        complaint = aep_dead(tmp_path, verb, *arguments, status=2)
        assert complaint.startswith("aep: ")
        assert complaint.count("\n") == 1


def test_a_folder_without_a_store_is_named_and_not_made(tmp_path: Path) -> None:
    assert "--data" in aep_dead(tmp_path, "list", status=1)
    assert not (tmp_path / "data").exists()


def test_what_another_command_took_first_is_not_moved_twice(
    tmp_path: Path, dead: list[str], file: Path
) -> None:
    now = datetime.now(UTC)
    with closing(opening.connect(file)) as one, closing(opening.connect(file)) as other:
        chosen = dead_letters.chosen(one, ())
        assert dead_letters.drop_some(other, chosen[:2], now) == 2
        assert dead_letters.replay_some(one, chosen, now) == 2
        with pytest.raises(NotFound):
            dead_letters.chosen(one, chosen[:1])
        due = one.execute("SELECT DISTINCT due_at FROM retries").fetchall()
    assert due == [(now.timestamp(),)]


def assert_empty(file: Path) -> None:
    for table in ("events", "event_uses", "deliveries", "retries", "dead_letters"):
        assert one_pim.rows(file, f"SELECT count(*) FROM {table}") == [(0,)], table  # noqa: S608
