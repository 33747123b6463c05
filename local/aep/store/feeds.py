"""The tables of feeds: their settings, how far each resource has come, and what was found of entities."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import orjson

from event_platform.documents import DAMAGED, feed_document, feed_of
from event_platform.domain.feeds import Feed, Mark, ResourceName, ResourceState, key_of
from event_platform.ports import Listed, Seal

from . import bulk

LOOKED_AT_ONCE = 500


class StoredFeed(NamedTuple):
    """The settings of a feed; None if they cannot be understood."""

    tenant: str
    feed: Feed | None


def stored_feeds(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Returns the PIMs that have a feed, and the documents of their settings, in a job."""
    return connection.execute("SELECT tenant, document FROM feeds ORDER BY tenant").fetchall()


def opened(row: tuple[str, str], seal: Seal) -> StoredFeed:
    """Returns the settings of a row."""
    try:
        return StoredFeed(row[0], feed_of(orjson.loads(row[1]), seal))
    except DAMAGED:
        return StoredFeed(row[0], None)


def feed_of_tenant(connection: sqlite3.Connection, tenant: str, seal: Seal) -> StoredFeed | None:
    """Returns the feed of a PIM, in a job; None without one."""
    row = connection.execute("SELECT tenant, document FROM feeds WHERE tenant = ?", (tenant,)).fetchone()
    return None if row is None else opened(row, seal)


def put(connection: sqlite3.Connection, feed: Feed, seal: Seal) -> None:
    """Adds or replaces the settings of a feed, in a job."""
    document = orjson.dumps(feed_document(feed, seal)).decode()
    connection.execute(
        "INSERT INTO feeds (tenant, version, document) VALUES (?, ?, ?) ON CONFLICT (tenant)"
        " DO UPDATE SET version = excluded.version, document = excluded.document",
        (feed.tenant, feed.version, document),
    )


def remove(connection: sqlite3.Connection, tenant: str) -> bool:
    """Removes a feed and all that it knows, in a job. True if there was one."""
    begin_again(connection, tenant)
    return connection.execute("DELETE FROM feeds WHERE tenant = ?", (tenant,)).rowcount > 0


def begin_again(connection: sqlite3.Connection, tenant: str) -> None:
    """Forgets how far a feed has come, in a job."""
    connection.execute(
        "DELETE FROM feed_marks WHERE feed_no = (SELECT no FROM feeds WHERE tenant = ?)", (tenant,)
    )
    connection.execute(
        "DELETE FROM feed_listed WHERE feed_no = (SELECT no FROM feeds WHERE tenant = ?)", (tenant,)
    )
    connection.execute("DELETE FROM feed_resources WHERE tenant = ?", (tenant,))


def version(connection: sqlite3.Connection, tenant: str) -> str | None:
    """Returns the version of the settings of a feed, in a job; None without a feed."""
    row = connection.execute("SELECT version FROM feeds WHERE tenant = ?", (tenant,)).fetchone()
    return None if row is None else row[0]


def states(connection: sqlite3.Connection, tenant: str) -> Mapping[ResourceName, ResourceState]:
    """Returns how far each resource has come, in a job."""
    rows = connection.execute("SELECT resource, state FROM feed_resources WHERE tenant = ?", (tenant,))
    return {ResourceName(name): ResourceState.model_validate_json(state) for name, state in rows}


def running(connection: sqlite3.Connection) -> dict[str, Mapping[ResourceName, ResourceState]]:
    """Returns how far the feeds have come that are not off, in a job."""
    rows = connection.execute(
        "SELECT tenant FROM feeds WHERE json_extract(document, '$.is_off') IS NOT 1 ORDER BY tenant"
    ).fetchall()
    return {tenant: states(connection, tenant) for (tenant,) in rows}


def put_state(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, state: ResourceState
) -> None:
    """Writes how far a resource has come, in a job."""
    connection.execute(
        "INSERT OR REPLACE INTO feed_resources (tenant, resource, state) VALUES (?, ?, ?)",
        (tenant, resource, state.model_dump_json(exclude_defaults=True)),
    )


def marks(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, keys: Sequence[bytes]
) -> dict[bytes, Mark]:
    """Returns what was found of these entities, in a job."""
    no = _no(connection, tenant)
    rows = bulk.rows(
        connection,
        "SELECT feed_no, resource, key, created, updated, digest FROM feed_marks"
        " WHERE (feed_no, resource, key) IN {keys}",
        [(no, resource, key) for key in keys],
    )
    return {
        key: Mark(created=created, updated=updated, digest=digest)
        for _, _, key, created, updated, digest in rows
    }


def put_marks(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, found: Mapping[bytes, Mark]
) -> None:
    """Writes what was found of entities, in a job."""
    no = _no(connection, tenant)
    _remove_marks(connection, no, resource, found)
    rows = [
        (no, resource, key, mark.created, mark.updated, mark.digest) for key, mark in sorted(found.items())
    ]
    bulk.insert(connection, "feed_marks (feed_no, resource, key, created, updated, digest)", rows)


def forget_marks(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, before: int, after: bytes
) -> bytes | None:
    """Forgets what was updated before that, in unix seconds, among the next keys after one, in a job.

    Returns the last of these keys; None if there are no more.
    """
    no = _no(connection, tenant)
    rows = connection.execute(
        "SELECT key, updated FROM feed_marks WHERE feed_no = ? AND resource = ? AND key > ?"
        " ORDER BY key LIMIT ?",
        (no, resource, after, LOOKED_AT_ONCE),
    ).fetchall()
    old = [key for key, updated in rows if updated is not None and updated < before]
    _remove_marks(connection, no, resource, old)
    return rows[-1][0] if len(rows) == LOOKED_AT_ONCE else None


def put_listed(
    connection: sqlite3.Connection,
    tenant: str,
    resource: ResourceName,
    listed: Sequence[Listed],
    sweep: int,
) -> None:
    """Notes that a sweep has listed these entities, in a job."""
    no = _no(connection, tenant)
    _remove_listed(connection, no, resource, listed)
    rows = {each.identity: (no, resource, _text_of(each), each.identifier, sweep) for each in listed}
    bulk.insert(
        connection, "feed_listed (feed_no, resource, identity, identifier, sweep)", list(rows.values())
    )


def remove_listed(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, unlisted: Sequence[Listed]
) -> None:
    """Forgets entities that are deleted, and what was found of them, in a job."""
    no = _no(connection, tenant)
    _remove_listed(connection, no, resource, unlisted)
    _remove_marks(connection, no, resource, [key_of(each.identity) for each in unlisted])


def _remove_listed(
    connection: sqlite3.Connection, no: int, resource: ResourceName, listed: Sequence[Listed]
) -> None:
    keys = [(no, resource, _text_of(each)) for each in listed]
    bulk.change(connection, "DELETE FROM feed_listed WHERE (feed_no, resource, identity) IN {keys}", keys)


def _remove_marks(
    connection: sqlite3.Connection, no: int, resource: ResourceName, keys: Iterable[bytes]
) -> None:
    rows = [(no, resource, key) for key in keys]
    bulk.change(connection, "DELETE FROM feed_marks WHERE (feed_no, resource, key) IN {keys}", rows)


def number_listed(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, sweep: int
) -> tuple[int, int]:
    """Returns how many entities were listed by any sweep, and not by that one, in a job."""
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE sweep < ?) FROM feed_listed"
        " WHERE feed_no = ? AND resource = ?",
        (sweep, _no(connection, tenant), resource),
    ).fetchone()
    return row[0], row[1]


def gone(
    connection: sqlite3.Connection, tenant: str, resource: ResourceName, sweep: int, limit: int
) -> list[Listed]:
    """Returns some entities that a sweep did not list, in a job."""
    rows = connection.execute(
        "SELECT identity, identifier FROM feed_listed WHERE feed_no = ? AND resource = ? AND sweep < ?"
        " ORDER BY identity LIMIT ?",
        (_no(connection, tenant), resource, sweep, limit),
    )
    return [Listed(tuple(orjson.loads(identity)), identifier) for identity, identifier in rows]


def _text_of(listed: Listed) -> str:
    return orjson.dumps(listed.identity).decode()


def _no(connection: sqlite3.Connection, tenant: str) -> int:
    row = connection.execute("SELECT no FROM feeds WHERE tenant = ?", (tenant,)).fetchone()
    return -1 if row is None else row[0]
