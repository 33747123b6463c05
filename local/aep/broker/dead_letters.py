"""Deliveries and events that our own code failed on, and what an operator can do with them.

A job moves some of them, in the server or beside it: it writes only tables in which the server does not
number positions.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeAlias

from event_platform.domain.errors import NotFound
from event_platform.domain.record.logs import DeliveryEnd, Operation

from ..store import bodies, courses
from ..store.ends import record_end
from .counted import DROPPED, REPLAYED, count_moved
from .queued import DELIVERY_COLUMNS

AT_ONCE = 500
"""The dead letters that share a commit, so that the server never waits long for its turn."""
PAUSE_SECONDS = 0.02
DROPPED_MESSAGE = "dropped by the operator of the platform"
"""The message of the log entry; the contract has statuses of the subscription there (decision 0006)."""

_LETTERS = """
    SELECT l.position, l.at, l.error, s.id, e.id, e.type, e.accepted_at, l.attempts, l.event_no,
           l.subscription_no
    FROM dead_letters l
    JOIN subscriptions s ON s.no = l.subscription_no
    JOIN events e ON e.no = l.event_no
"""
_EVENTS = """
    SELECT no, at, error, '', id, type, accepted_at, 0, no, 0 FROM dead_events
    WHERE NOT is_due AND no > :after
"""
"""Events that were accepted and not fanned out. The numbers are of the same series as positions."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter. Times are unix seconds; `attempts` counts the requests that were sent before.

    `subscription_id` is empty for an event that was not fanned out.
    """

    id: int
    at: float
    error: str
    subscription_id: str
    event_id: str
    event_type: str
    accepted_at: float
    attempts: int
    event_no: int
    subscription_no: int


_PAGE = f"{_LETTERS} WHERE l.position > :after UNION ALL {_EVENTS} ORDER BY 1 LIMIT {AT_ONCE}"


def listed(connection: sqlite3.Connection) -> Iterator[DeadLetter]:
    """Reads all dead letters, the oldest first, in pages: between them a server may checkpoint."""
    after = 0
    while page := [DeadLetter(*row) for row in connection.execute(_PAGE, {"after": after}).fetchall()]:
        yield from page
        after = page[-1].id


def first(connection: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """Returns the oldest dead letters, at most so many."""
    return list(islice(listed(connection), limit))


def chosen(connection: sqlite3.Connection, ids: Sequence[int]) -> list[int]:
    """Returns the ids as they are in the file; all of them if none is given. Raises NotFound naming one."""
    numbers = "SELECT position FROM dead_letters UNION ALL SELECT no FROM dead_events WHERE NOT is_due"
    known = [number for (number,) in connection.execute(f"{numbers} ORDER BY 1")]
    unknown = sorted(set(ids).difference(known))
    if unknown:
        raise NotFound(
            f"no dead letter {unknown[0]}: `aep dead list` shows what there is; nothing was changed"
        )
    return sorted(set(ids)) or known


Move: TypeAlias = Callable[[sqlite3.Connection, Sequence[int], datetime], int]
"""A job that moves dead letters, at most AT_ONCE, and returns how many of them were still there."""


def pieces(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yields the ids in the pieces that share a commit, with a pause between two of them."""
    for start in range(0, len(ids), AT_ONCE):
        if start > 0:
            time.sleep(PAUSE_SECONDS)
        yield ids[start : start + AT_ONCE]


def replay_some(connection: sqlite3.Connection, ids: Sequence[int], now: datetime) -> int:
    """Turns dead letters into retries that are due now.

    Events are fanned out again, to the subscriptions that are active then.
    """

    def one(number: int) -> None:
        connection.execute(
            f"INSERT INTO retries ({DELIVERY_COLUMNS}, due_at)"  # noqa: S608 - constant columns
            f" SELECT {DELIVERY_COLUMNS}, ? FROM dead_letters WHERE position = ?",
            (now.timestamp(), number),
        )

    return _move(connection, ids, one, REPLAYED, "UPDATE dead_events SET is_due = 1")


def drop_some(connection: sqlite3.Connection, ids: Sequence[int], now: datetime) -> int:
    """Ends dead letters undelivered, each counted in a log entry."""

    def one(number: int) -> None:
        letter = DeadLetter(*connection.execute(f"{_LETTERS} WHERE l.position = ?", (number,)).fetchone())
        record_end(
            connection,
            DeliveryEnd(Operation.DROPPED, DROPPED_MESSAGE, now),
            subscription_id=letter.subscription_id,
            event_id=letter.event_id,
            event_type=letter.event_type,
            attempts=letter.attempts,
        )
        bodies.release(connection, [letter.event_no])
        key = (courses.kept_number(letter.event_no), letter.subscription_no, 0)
        courses.end(connection, [(*key, courses.ENDED, None, None, DROPPED_MESSAGE, None, now.timestamp())])

    return _move(connection, ids, one, DROPPED, "DELETE FROM dead_events")


def _move(
    connection: sqlite3.Connection,
    ids: Sequence[int],
    one: Callable[[int], None],
    counted_as: str,
    of_event: str,
) -> int:
    """Calls `one` for each that is still there and takes it off the list.

    `of_event` is the statement for an event; of these a server counts by itself what there is.
    """
    letters = events = 0
    for number in ids:
        if connection.execute("SELECT 1 FROM dead_letters WHERE position = ?", (number,)).fetchone():
            one(number)
            connection.execute("DELETE FROM dead_letters WHERE position = ?", (number,))
            letters += 1
        else:  # unless another command was first
            events += connection.execute(f"{of_event} WHERE no = ? AND NOT is_due", (number,)).rowcount
    count_moved(connection, counted_as, letters)
    return letters + events
