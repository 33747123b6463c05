"""Seals the secrets of a store anew, with the first of its keys."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from event_platform.documents import (
    DAMAGED,
    feed_document,
    feed_of,
    subscriber_document,
    subscriber_of,
    subscription_document,
    subscription_of,
    tenant_document,
    tenant_of,
)
from event_platform.ports import Seal

from ..errors import WrongKey
from . import keys

Reseal = Callable[[Mapping[str, Any], Seal], dict[str, Any]]
"""A function that seals the secrets of a document anew. Raises ValueError when one cannot be opened."""

RESEALS: Mapping[str, Reseal] = {
    "tenants": lambda document, seal: tenant_document(tenant_of(document, seal), seal),
    "subscribers": lambda document, seal: subscriber_document(subscriber_of(document, seal), seal),
    "subscriptions": lambda document, seal: subscription_document(subscription_of(document, seal), seal),
    "feeds": lambda document, seal: feed_document(feed_of(document, seal), seal),
}
"""The functions by the table, or the collection, that holds such documents: the records that move."""


def reseal(connection: sqlite3.Connection, seal: Seal) -> int:
    """Seals all secrets anew in one transaction; returns the number of changed records.

    Raises WrongKey when the store was sealed with none of the keys.
    """
    connection.execute("BEGIN IMMEDIATE")
    keys.check(connection, seal)
    keys.mark(connection, seal)
    records = 0
    for table, resealed in RESEALS.items():
        rows = connection.execute(f"SELECT rowid, document FROM {table}").fetchall()  # noqa: S608 - a constant
        for row, text in rows:
            connection.execute(
                f"UPDATE {table} SET document = ? WHERE rowid = ?",  # noqa: S608 - a constant
                (resealed_text(text, resealed, seal, of=f"{table} {row}"), row),
            )
        records += len(rows)
    connection.execute("COMMIT")
    return records


def resealed_text(text: str, resealed: Reseal, seal: Seal, *, of: str) -> str:
    """Returns the document as text again. Raises WrongKey naming `of`, the record that has the secret."""
    try:
        return orjson.dumps(resealed(orjson.loads(text), seal)).decode()
    except DAMAGED as error:
        raise WrongKey(
            f"{of} cannot be opened ({error}): put the key that it was sealed with behind the others"
        ) from error
