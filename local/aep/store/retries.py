"""The table of deliveries that wait for their next attempt, as far as some are made due before their time."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from . import bulk

LOOKED_AT = 5_000
"""The retries of all subscriptions that one step of the search looks at: some 5 ms."""
MADE_DUE = 500
"""The retries that one job of the writer makes due: some 3 ms."""

Key: TypeAlias = tuple[float, int]


@dataclass(slots=True)
class Search:
    """A search through the retries that are due after `now`, in steps; `after` is where the next one begins.

    With `lanes` it finds those of these lanes alone.
    """

    subscription_no: int
    now: float
    lanes: range | None = None
    after: Key | None = field(init=False)

    def __post_init__(self) -> None:
        self.after = (self.now, 1 << 62)

    def step(self, connection: sqlite3.Connection) -> list[Key]:
        """Returns what the next step finds; `after` is None when it was the last one."""
        rows = connection.execute(
            "SELECT due_at, position, subscription_no, lane FROM retries WHERE (due_at, position) > (?, ?)"
            " ORDER BY due_at, position LIMIT ?",
            (*(self.after or (self.now, 1 << 62)), LOOKED_AT),
        ).fetchall()
        self.after = (rows[-1][0], rows[-1][1]) if len(rows) == LOOKED_AT else None
        return [
            (due_at, position)
            for due_at, position, subscription_no, lane in rows
            if subscription_no == self.subscription_no and (self.lanes is None or lane in self.lanes)
        ]


def make_due(connection: sqlite3.Connection, keys: Sequence[Key], now: float) -> int:
    """Makes these due; returns how many of them were still there."""
    return bulk.change(
        connection,
        f"UPDATE retries SET due_at = {now!r} WHERE (due_at, position) IN {{keys}}",  # noqa: S608 - a float
        keys,
    )


def subscription_no(connection: sqlite3.Connection, subscription_id: str) -> int | None:
    """Returns the number by which the queue knows the subscription."""
    row = connection.execute("SELECT no FROM subscriptions WHERE id = ?", (subscription_id,)).fetchone()
    return None if row is None else row[0]
