"""The ids of events that came in, remembered for a while so that a repetition counts as nothing."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence

from event_platform.domain.events.event import Event
from event_platform.domain.events.repetitions import RELAYED_SECONDS, REMEMBERED_SECONDS, is_repetition
from event_platform.domain.tenants import Way
from event_platform.domain.values import value_object

from ..store import bulk

MOVED_AT_ONCE = 8192
"""The ids that arrive before all of them are moved into the order of a hash: 1 to 2 MB of memory, and a
statement of some 10 ms."""


@value_object
class Batch:
    """The events of a request, when they came (unix seconds), and in which ingest format."""

    tenant: str
    events: Sequence[Event]
    now: float
    way: Way


class SeenIds:
    """The ids that came in lately. Used in the writer thread only, inside its jobs.

    The last ones are in memory and in the table `arrived`, in the order in which they came: a commit adds to
    its end and changes no other page. The earlier ones are in `seen`, which is in the order of a hash; many
    at once are moved there (docs/decisions/0070).
    """

    def __init__(self) -> None:
        self._arrived: dict[bytes, float] | None = None
        """The time of each of the last ids (unix seconds); None while that is not read from the file."""
        self._has_earlier = True

    def forget(self) -> None:
        """Forgets the ids in memory, after something was undone in the file."""
        self._arrived = None

    def new_events(
        self, connection: sqlite3.Connection, numbers: Iterator[int], batches: Sequence[Batch]
    ) -> list[list[Event]]:
        """Returns the events of each batch whose ids did not come in lately, and remembers those ids."""
        arrived = self._read(connection)
        if len(arrived) >= MOVED_AT_ONCE:
            self._move(connection, batches[0].now)
            arrived = self._read(connection)
        keyed = [
            (batch, event, _key_of(batch.tenant, event.id)) for batch in batches for event in batch.events
        ]
        earlier = self._earlier(connection, [(key,) for _, _, key in keyed if key not in arrived])
        expired: list[tuple[bytes]] = []
        rows: list[tuple[int, bytes, float]] = []
        new: dict[int, list[Event]] = {id(batch): [] for batch in batches}
        relayed = _relayed_before(connection, keyed)
        for batch, event, key in keyed:
            if key in relayed and batch.way is Way.RELAY:
                continue
            at = arrived.get(key) or earlier.get(key)
            if at is not None and is_repetition(at, batch.now):
                continue
            if earlier.pop(key, None) is not None:
                expired.append((key,))
            arrived[key] = batch.now
            rows.append((next(numbers), key, batch.now))
            new[id(batch)].append(event)
        bulk.change(connection, "DELETE FROM seen WHERE key IN {keys}", expired)
        bulk.insert(connection, "arrived (no, key, at)", rows)
        return list(new.values())

    def drop_expired(self, connection: sqlite3.Connection, now: float, limit: int) -> int:
        """Forgets up to `limit` ids of each kind whose time is over.

        Returns the highest number of one kind.
        """
        dropped = max(
            _forget(connection, table, now=now, kept=kept, limit=limit)
            for table, kept in (("seen", REMEMBERED_SECONDS), ("relayed", RELAYED_SECONDS))
        )
        self._has_earlier = _is_any(connection)
        return dropped

    def _read(self, connection: sqlite3.Connection) -> dict[bytes, float]:
        if self._arrived is None:
            self._arrived = dict(connection.execute("SELECT key, at FROM arrived ORDER BY no"))
            self._has_earlier = _is_any(connection)
        return self._arrived

    def _earlier(self, connection: sqlite3.Connection, keys: Sequence[tuple[bytes]]) -> dict[bytes, float]:
        if not self._has_earlier:
            return {}
        return dict(bulk.rows(connection, "SELECT key, at FROM seen WHERE key IN {keys}", keys))

    def _move(self, connection: sqlite3.Connection, now: float) -> None:
        """Moves the ids that arrived into `seen`, except expired ones.

        An id that came again replaces itself.
        """
        connection.execute(
            "INSERT OR REPLACE INTO seen (no, key, at)"
            " SELECT no, key, at FROM arrived WHERE at BETWEEN ? AND ? ORDER BY key, no",
            (now - REMEMBERED_SECONDS, now + REMEMBERED_SECONDS),
        )
        connection.execute("DELETE FROM arrived")
        self._arrived = None


def _is_any(connection: sqlite3.Connection) -> bool:
    """True if `seen` has any id."""
    return connection.execute("SELECT EXISTS (SELECT 1 FROM seen)").fetchone()[0] == 1


def _relayed_before(
    connection: sqlite3.Connection, keyed: Sequence[tuple[Batch, Event, bytes]]
) -> set[bytes]:
    """Returns which ids of relayed events were relayed in the last 24 hours; remembers the others."""
    relayed = {key: batch.now for batch, _, key in keyed if batch.way is Way.RELAY}
    if not relayed:
        return set()
    rows = bulk.rows(
        connection, "SELECT key, at FROM relayed WHERE key IN {keys}", [(key,) for key in relayed]
    )
    known = {key for key, at in rows if is_repetition(at, relayed[key], remembered=RELAYED_SECONDS)}
    bulk.change(
        connection,
        "DELETE FROM relayed WHERE key IN {keys}",
        [(key,) for key, _ in rows if key not in known],
    )
    new = [(key, now) for key, now in relayed.items() if key not in known]
    bulk.insert(connection, "relayed (key, at)", new)
    return known


def _forget(connection: sqlite3.Connection, table: str, *, now: float, kept: float, limit: int) -> int:
    """Deletes up to `limit` ids, the oldest first, whose time is too far from now, before or after."""
    return connection.execute(
        f"DELETE FROM {table} WHERE no <= (SELECT max(no) FROM"  # noqa: S608 - a constant
        f" (SELECT no, at FROM {table} ORDER BY no LIMIT ?) WHERE at NOT BETWEEN ? AND ?)",
        (limit, now - kept, now + kept),
    ).rowcount


def _key_of(tenant: str, event_id: str) -> bytes:
    return hashlib.sha256(f"{tenant}\n{event_id}".encode()).digest()[:16]
