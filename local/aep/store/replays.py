"""The table of replays, and of what subscriptions have to catch up with after a suspension.

A suspension notes where catching up would begin. A resume that catches up waits until nothing of before is in
a lane any more (`clearing`), and reads from there on. While it does, the subscription gets no new events:
these stay behind the cursor.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import uuid_utils

from event_platform.domain.record.actions import Action, Actor, caught_up_entry, replay_entry
from event_platform.domain.replays import SHOWN, Replay, ReplayRequest, ReplayStatus, Which
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.timestamps import to_rfc3339

from . import kept
from .logs import put_entry
from .retries import subscription_no
from .times import moment_of, seconds_of

REPLAY, CATCH_UP = "replay", "catch_up"
WAITING, CLEARING, RUNNING = "waiting", "clearing", "running"
"""The states of a catch-up: until the resume, until the lanes are empty, and while it is read."""
ENDS = (
    *((REPLAY, status) for status in (ReplayStatus.DONE, ReplayStatus.CANCELLED, ReplayStatus.ENDED)),
    (CATCH_UP, ReplayStatus.DONE),
)
"""The kinds with the statuses in which they end."""
_ENDED = "ended:"
"""The beginning of the names in `meta` of how many have ended."""
ENDED_AT_SUSPENSION = 0.001
"""Seconds: what ends with the suspension itself is noted a moment before it."""

CATCHING_UP = (
    "SELECT subscription_no FROM replays WHERE status IN ('running', 'clearing') AND kind = 'catch_up'"
)
"""The query for the numbers of the subscriptions whose new events stay behind the cursor."""
_COLUMNS = (
    "no, id, subscription_no, kind, status, asked, first_no, last_no, cursor_no, sent, delivered, ended,"
    " reason, created_at, ended_at"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table.

    The reader has read up to `cursor_no`, and reads up to `last_no`. A catch-up sends what was accepted up to
    `first_no` only if its delivery ended since `created_at`, the time of the suspension.
    """

    no: int
    id: str
    subscription_no: int
    kind: str
    status: str
    asked: dict[str, Any]
    first_no: int
    last_no: int
    cursor_no: int
    sent: int
    delivered: int
    ended: int
    reason: str | None
    created_at: float
    ended_at: float | None

    @property
    def is_read(self) -> bool:
        """True if a replay has read all of its range."""
        return self.cursor_no >= self.last_no


def row_of(values: Sequence[Any]) -> Row:
    """Returns the row of these columns."""
    no, replay_id, number, kind, status, asked, *rest = values
    return Row(no, replay_id, number, kind, status, orjson.loads(asked), *rest)


def replay_of(row: Row, subscription_id: str) -> Replay:
    """Returns the replay as the API shows it."""
    asked = row.asked
    return Replay(
        id=row.id,
        subscription_id=subscription_id,
        asked=ReplayRequest(
            since=_moment(asked["since"]),
            until=_moment(asked["until"]),
            event_ids=tuple(asked["event_ids"]),
            events=tuple(asked["events"]),
            which=Which(asked["which"]),
        ),
        created_at=moment_of(row.created_at),
        status=ReplayStatus(row.status),
        events=row.sent if row.is_read else None,
        delivered=row.delivered,
        ended=row.ended,
        reason=None if row.reason is None else Status(row.reason),
        ended_at=_moment(row.ended_at),
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment_of(seconds)


def put(connection: sqlite3.Connection, replay: Replay, number: int, first_no: int, last_no: int) -> None:
    """Adds a replay of the kept events behind `first_no` up to `last_no`, for the subscription of the number.

    Of those that have ended the oldest are removed, so that no more than SHOWN are there.
    """
    asked = replay.asked
    document = {
        "since": seconds_of(asked.since),
        "until": seconds_of(asked.until),
        "event_ids": list(asked.event_ids),
        "events": list(asked.events),
        "which": asked.which,
    }
    connection.execute(
        "INSERT INTO replays (id, subscription_no, kind, status, asked, first_no, last_no, cursor_no,"
        " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            replay.id,
            number,
            REPLAY,
            RUNNING,
            orjson.dumps(document).decode(),
            first_no,
            last_no,
            first_no,
            replay.created_at.timestamp(),
        ),
    )
    connection.execute(
        "DELETE FROM replays WHERE subscription_no = ? AND kind = 'replay' AND no <="
        " (SELECT no FROM replays WHERE subscription_no = ? AND kind = 'replay' ORDER BY no DESC"
        " LIMIT 1 OFFSET ?)",
        (number, number, SHOWN),
    )


def of_subscription(connection: sqlite3.Connection, number: int) -> list[Row]:
    """Returns the replays of a subscription, newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE subscription_no = ? AND kind = 'replay'"  # noqa: S608 - constants
        " ORDER BY no DESC LIMIT ?",
        (number, SHOWN),
    )
    return [row_of(row) for row in rows]


def one(connection: sqlite3.Connection, no: int) -> Row | None:
    """Returns the row of that number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM replays WHERE no = ?", (no,)).fetchone()  # noqa: S608
    return None if row is None else row_of(row)


def by_id(connection: sqlite3.Connection, replay_id: str) -> Row | None:
    """Returns the replay of that id."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE id = ? AND kind = 'replay'",  # noqa: S608 - constant columns
        (replay_id,),
    ).fetchone()
    return None if row is None else row_of(row)


def running(connection: sqlite3.Connection) -> list[Row]:
    """Returns all that are read now, or are about to be; oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE status IN ('running', 'clearing') ORDER BY no"  # noqa: S608
    )
    return [row_of(row) for row in rows]


def running_of(connection: sqlite3.Connection, number: int) -> Row | None:
    """Returns what is read for the subscription, or is about to be."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM replays WHERE subscription_no = ?"  # noqa: S608 - constant columns
        " AND status IN ('running', 'clearing') LIMIT 1",
        (number,),
    ).fetchone()
    return None if row is None else row_of(row)


def held_from(connection: sqlite3.Connection) -> int | None:
    """Returns the first number that one of those that run has not read."""
    return connection.execute(
        "SELECT min(cursor_no) + 1 FROM replays WHERE status IN ('running', 'clearing')"
    ).fetchone()[0]


def count_settled(
    connection: sqlite3.Connection, *, delivered: Iterable[int] = (), ended: Iterable[int] = ()
) -> None:
    """Counts deliveries of replays that were taken, and that ended: each number of a replay is one."""
    for column, numbers in (("delivered", delivered), ("ended", ended)):
        for no, count in Counter(numbers).items():
            connection.execute(
                f"UPDATE replays SET {column} = {column} + ? WHERE no = ?",  # noqa: S608 - one of two
                (count, no),
            )


def note_ended(connection: sqlite3.Connection, ends: Iterable[tuple[int, int]]) -> None:
    """Has a catch-up that is not read yet begin no later than what ended for its subscription.

    `ends` has the numbers of subscription and kept event.
    """
    connection.executemany(
        "UPDATE replays SET cursor_no = min(cursor_no, ? - 1) WHERE subscription_no = ?"
        " AND status IN ('waiting', 'clearing')",
        [(event_no, number) for number, event_no in ends],
    )


def status_changed(
    connection: sqlite3.Connection,
    before: Subscription,
    after: Subscription,
    *,
    catch_up: bool | None = None,
    keeps: bool = True,
) -> None:
    """Ends replays, and notes or starts catching up, as a change of the subscription's status has it.

    For a job. `catch_up` goes before what the subscription says. `keeps`: events are kept.
    """
    if before.status is after.status:
        return
    number = subscription_no(connection, after.id)
    if number is None:
        return
    if after.status is Status.ACTIVE:
        _resumed(
            connection,
            before,
            after,
            number,
            wants=after.catch_up if catch_up is None else catch_up,
            keeps=keeps,
        )
        return
    _end_running(connection, after, number)
    if after.status is Status.SUSPENDED and keeps:
        _suspended(connection, number, after.updated_at.timestamp())
    else:
        _forget_catch_up(connection, number)


def _end_running(connection: sqlite3.Connection, after: Subscription, number: int) -> None:
    row = running_of(connection, number)
    if row is not None and row.kind == REPLAY:
        end(connection, row, after, ReplayStatus.ENDED, after.updated_at, reason=after.status)


def end(
    connection: sqlite3.Connection,
    row: Row,
    subscription: Subscription,
    status: ReplayStatus,
    at: datetime,
    *,
    reason: Status | None = None,
    action: Action | None = None,
) -> Replay:
    """Ends a replay, with its entry in the log; returns it."""
    connection.execute(
        "UPDATE replays SET status = ?, reason = ?, ended_at = ? WHERE no = ?",
        (status, reason, at.timestamp(), row.no),
    )
    _count(connection, REPLAY, status)
    changed = one(connection, row.no)
    assert changed is not None  # noqa: S101 - it was just changed
    replay = replay_of(changed, subscription.id)
    done = "cancelled" if status is ReplayStatus.CANCELLED else "ended"
    by = action or Action(Actor.PLATFORM, reason=reason and f"the subscription is {reason}")
    put_entry(connection, replay_entry(replay, subscription, done, at, by))
    return replay


def _count(connection: sqlite3.Connection, kind: str, status: str) -> None:
    connection.execute(
        "INSERT INTO meta VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1",
        (f"{_ENDED}{kind}:{status}",),
    )


def ended(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Returns how many ever ended, by kind and status."""
    rows = connection.execute("SELECT name, value FROM meta WHERE name GLOB ?", (f"{_ENDED}*",))
    counts = {tuple(name.removeprefix(_ENDED).split(":")): int(value) for name, value in rows}
    return {(kind, status): counts.get((kind, status), 0) for kind, status in ENDS}


def _suspended(connection: sqlite3.Connection, number: int, at: float) -> None:
    """Notes where catching up begins: behind what is kept now, and with what ends by this suspension.

    One that was under way goes on at its cursor the next time.
    """
    row = running_of(connection, number)
    if row is None:
        _put_catch_up(connection, number, WAITING, kept.highest_number(connection), at)
    elif row.cursor_no >= row.first_no:
        connection.execute(
            "UPDATE replays SET status = ?, first_no = cursor_no, created_at = ? WHERE no = ?",
            (WAITING, at, row.no),
        )
    else:
        connection.execute("UPDATE replays SET status = ? WHERE no = ?", (WAITING, row.no))


def _put_catch_up(connection: sqlite3.Connection, number: int, status: str, last: int, at: float) -> None:
    connection.execute(
        "INSERT INTO replays (id, subscription_no, kind, status, asked, first_no, last_no, cursor_no,"
        " created_at) VALUES (?, ?, ?, ?, '{}', ?, 0, ?, ?)",
        (str(uuid_utils.uuid7()), number, CATCH_UP, status, last, last, at),
    )


def _resumed(
    connection: sqlite3.Connection,
    before: Subscription,
    after: Subscription,
    number: int,
    *,
    wants: bool,
    keeps: bool,
) -> None:
    if not wants or not keeps:
        _forget_catch_up(connection, number)
        if wants:
            put_entry(
                connection,
                caught_up_entry(after, 0, after.updated_at, "no events are kept: AEP_KEEP is 0"),
            )
        return
    suspended_at = before.updated_at.timestamp()
    changed = connection.execute(
        "UPDATE replays SET status = ? WHERE subscription_no = ? AND kind = ? AND status = ?",
        (CLEARING, number, CATCH_UP, WAITING),
    ).rowcount
    if not changed:  # it was suspended before events were kept
        first = kept.number_before(connection, suspended_at)
        _put_catch_up(connection, number, CLEARING, first, suspended_at)
    if (since := kept.since(connection) or after.updated_at.timestamp()) > suspended_at:
        connection.execute(
            "UPDATE replays SET asked = json_set(asked, '$.kept_since', ?) WHERE subscription_no = ?"
            " AND status = ?",
            (since, number, CLEARING),
        )


def finish_catch_up(
    connection: sqlite3.Connection, row: Row, subscription: Subscription, at: datetime
) -> None:
    """Removes the row of a catch-up that has reached the latest event, with its entry in the log."""
    since = row.asked.get("kept_since")
    reason = f"what is kept begins at {to_rfc3339(moment_of(since))}, after the suspension" if since else None
    put_entry(connection, caught_up_entry(subscription, row.sent, at, reason))
    connection.execute("DELETE FROM replays WHERE no = ?", (row.no,))
    _count(connection, CATCH_UP, ReplayStatus.DONE)


def _forget_catch_up(connection: sqlite3.Connection, number: int) -> None:
    connection.execute(
        "DELETE FROM replays WHERE subscription_no = ? AND kind = ?",
        (number, CATCH_UP),
    )
