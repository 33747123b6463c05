"""Subscribers and subscriptions of all clients, for the operator, who sees no secret.

Lists are read in pages, so that no reader is open between two.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import subscriber_of, subscription_of
from event_platform.domain.subscriptions import Subscriber, Subscription

PAGE = 500
_SEAL = KeylessSeal()


def subscribers(
    connection: sqlite3.Connection, *, tenant: str | None = None, client_id: str | None = None
) -> Iterator[Subscriber]:
    """Reads all but the deleted ones, oldest first; of a PIM and of a client, where these are given."""
    for document in _documents(
        connection, "subscribers", "rowid", {"tenant": tenant, "client_id": client_id}
    ):
        yield subscriber_of(document, _SEAL)


def subscriptions(
    connection: sqlite3.Connection,
    *,
    tenant: str | None = None,
    client_id: str | None = None,
    subscriber_id: str | None = None,
) -> Iterator[Subscription]:
    """Reads all but the deleted ones, oldest first, of those that are given."""
    wanted = {
        "subscriber_id": subscriber_id,
        "tenant": tenant,
        "json_extract(document, '$.client_id')": client_id,
    }
    for document in _documents(connection, "subscriptions", "no", wanted):
        yield subscription_of(document, _SEAL)


def subscriber(connection: sqlite3.Connection, subscriber_id: str) -> Subscriber | None:
    """Reads a subscriber, also a deleted one; None if it is unknown."""
    document = _document(connection, "subscribers", subscriber_id)
    return None if document is None else subscriber_of(document, _SEAL)


def subscription(connection: sqlite3.Connection, subscription_id: str) -> Subscription | None:
    """Reads a subscription, also a deleted one; None if it is unknown."""
    document = _document(connection, "subscriptions", subscription_id)
    return None if document is None else subscription_of(document, _SEAL)


def _documents(
    connection: sqlite3.Connection, table: str, key: str, wanted: Mapping[str, str | None]
) -> Iterator[Mapping[str, Any]]:
    given = {column: value for column, value in wanted.items() if value is not None}
    where = " AND ".join([f"{key} > ?", "status <> 'deleted'", *(f"{column} = ?" for column in given)])
    statement = f"SELECT {key}, document FROM {table} WHERE {where} ORDER BY {key} LIMIT {PAGE}"  # noqa: S608
    last = 0
    while rows := connection.execute(statement, (last, *given.values())).fetchall():
        for _, document in rows:
            yield orjson.loads(document)
        last = rows[-1][0]


def _document(connection: sqlite3.Connection, table: str, record_id: str) -> Mapping[str, Any] | None:
    statement = f"SELECT document FROM {table} WHERE id = ?"  # noqa: S608 - a table of ours
    row = connection.execute(statement, (record_id,)).fetchone()
    return None if row is None else orjson.loads(row[0])
