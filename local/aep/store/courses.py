"""The courses of deliveries of kept events: when they matched, each failed attempt, and how they ended.

A course is written when its event is matched, and changed in place. One that is not there stays so: its event
is not kept, or no longer.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import orjson

from event_platform.domain.deliveries import Settlement

from . import bulk

DELIVERED, ENDED = "delivered", "ended"
ATTEMPTS_KEPT, FIRST_ATTEMPTS_KEPT = 20, 5
"""The number of failed attempts in a course. Of more than that, the first ones and the latest are kept."""
MESSAGE_LENGTH = 200


class CourseKey(NamedTuple):
    """The key of a course: the numbers of the kept event, the subscription and the replay, 0 for none."""

    event_no: int
    subscription_no: int
    replay_no: int = 0


Begun: TypeAlias = tuple[int, int, int, float | None, int]
"""The beginning of a delivery: the key of its course, when it matched if that was after the commit of
acceptance, and 1 if its body leaves the identifier out, else 0."""
EndOfCourse: TypeAlias = tuple[int, int, int, str, int | None, str | None, str | None, int | None, float]
"""The end of a delivery: the key of its course, outcome, status, reason, message, milliseconds, and when."""


def kept_number(event_no: int) -> int:
    """Returns the number of the kept event of which this is the number of a body."""
    return event_no & ~1


def begin(connection: sqlite3.Connection, rows: Sequence[Begun]) -> None:
    """Adds courses."""
    bulk.insert(connection, "courses (event_no, subscription_no, replay_no, matched_at, variant)", rows)


def begin_again(connection: sqlite3.Connection, rows: Sequence[Begun]) -> None:
    """Adds courses, and reopens those that are there: their failed attempts stay."""
    connection.executemany(
        "INSERT INTO courses (event_no, subscription_no, replay_no, matched_at, variant)"
        " VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET outcome = NULL, status = NULL, reason = NULL, message = NULL,"
        " milliseconds = NULL, ended_at = NULL, variant = excluded.variant",
        rows,
    )


def deliver(
    connection: sqlite3.Connection, taken: Sequence[tuple[int, int, int, int | None, int]], now: float
) -> None:
    """Notes deliveries that receivers took: the keys of their courses, status and milliseconds."""
    change = "courses SET outcome = ?, ended_at = ?, status = v.column4, milliseconds = v.column5"
    bulk.update(connection, change, _KEYS, taken, (DELIVERED, now))


def end(connection: sqlite3.Connection, ends: Sequence[EndOfCourse]) -> None:
    """Notes how these deliveries ended."""
    bulk.update(
        connection,
        "courses SET outcome = v.column4, status = v.column5, reason = v.column6, message = v.column7,"
        " milliseconds = v.column8, ended_at = v.column9",
        _KEYS,
        ends,
    )


def note(connection: sqlite3.Connection, settled: Sequence[tuple[CourseKey, Settlement]], now: float) -> None:
    """Notes what settlements came to: failed attempts, and how deliveries ended."""
    attempts = [(*key, each) for key, settlement in settled if (each := _failed_attempt(settlement, now))]
    bulk.update(connection, _ADD_ATTEMPT, _KEYS, attempts)
    end(connection, [how for key, settlement in settled if (how := _end_of(key, settlement, now))])


_KEYS = "event_no = v.column1 AND subscription_no = v.column2 AND replay_no = v.column3"
_ADD_ATTEMPT = (
    "courses SET attempts = json_insert(CASE WHEN attempts IS NULL THEN '[]'"
    f" WHEN json_array_length(attempts) < {ATTEMPTS_KEPT} THEN attempts"
    f" ELSE json_remove(attempts, '$[{FIRST_ATTEMPTS_KEPT}]') END, '$[#]', json(v.column4))"
)


def _failed_attempt(settlement: Settlement, now: float) -> str | None:
    """Returns the failed attempt of a settlement as JSON; None if there was none, or it succeeded."""
    outcome = settlement.outcome
    if outcome is None or settlement.is_delivered:
        return None
    return orjson.dumps(
        [round(now, 3), outcome.kind, outcome.reason, outcome.status, settlement.milliseconds]
    ).decode()


def _end_of(key: CourseKey, settlement: Settlement, now: float) -> EndOfCourse | None:
    """Returns how a settlement ended its delivery; None if it goes on."""
    if settlement.retry_at is not None or settlement.back_to_lane:
        return None
    outcome, how = settlement.outcome, settlement.end
    status = None if outcome is None else outcome.status
    if how is None:
        return (
            key.event_no,
            key.subscription_no,
            key.replay_no,
            DELIVERED,
            status,
            None,
            None,
            settlement.milliseconds,
            now,
        )
    milliseconds = None if outcome is None else settlement.milliseconds
    shown = (how.status, how.reason, how.message[:MESSAGE_LENGTH], milliseconds, now)
    return (key.event_no, key.subscription_no, key.replay_no, ENDED, *shown)
