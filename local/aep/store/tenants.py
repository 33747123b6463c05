"""The entries of the registry of PIMs on one machine: in the store, and in a list that goes before them."""

import sqlite3
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from event_platform.adapters.pim_registry import Entries, StoredEntry
from event_platform.documents import tenant_document
from event_platform.domain.tenants import Tenant, UnusableList, check_list, plain_http_problem
from event_platform.domain.validation_words import json_words, place_words, words_of
from event_platform.ports import Seal

from ..errors import BadPims
from . import feeds
from .database import Database


class StoredAndListed:
    """The port `EntrySource`: the entries in the store, and those of the operator's list.

    `source` is the path of the list, or the list itself when it begins with `[`; None stands for no list.
    """

    def __init__(self, database: Database, *, source: str | None, allow_http: bool) -> None:
        self._database = database
        self._source = source
        self._allow_http = allow_http

    async def read(self, known: object) -> Entries | None:
        """Raises BadPims, which is an UnusableList, and StoreUnavailable."""
        text = source_text(self._source)
        stored = await self._database.read(stored_entries)
        version = (text, stored)
        if version == known:
            return None
        listed = parse(text, self._source, allow_http=self._allow_http) if text is not None else []
        return Entries(version, listed, stored)


def source_text(source: str | None) -> str | None:
    """Returns the list's JSON text; None without a source. Raises BadPims."""
    if source is None or source.lstrip().startswith("["):
        return source
    try:
        return Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise BadPims(
            f"the list of PIMs {source} cannot be read: {error.strerror}; look at --pims or AEP_PIMS"
        ) from error
    except UnicodeDecodeError as error:
        raise BadPims(
            f"the list of PIMs {source} is not UTF-8 from byte {error.start} on: save it in that encoding"
        ) from error


def parse(text: str, source: str | None, *, allow_http: bool) -> list[Tenant]:
    """Reads the entries of the JSON list that `source` stands for.

    Raises BadPims naming the file, if it is one, the entry and the field.
    """
    named = "the list of PIMs" if source is None or source == text else f"the list of PIMs {source}"
    try:
        entries = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadPims(f"{named} is {json_words(error)}") from error
    if not isinstance(entries, list):
        raise BadPims(f'{named} must be a JSON array of entries such as {{"url": "https://…"}}')
    tenants = [_tenant(entry, index, named) for index, entry in enumerate(entries)]
    try:
        check_list(tenants, allow_http=allow_http)
    except UnusableList as error:
        raise BadPims(f"{named}, {error}") from None
    return tenants


def check(tenant: Tenant, *, allow_http: bool) -> None:
    """Raises BadPims for a PIM whose URL has no TLS, unless that is allowed."""
    if (problem := plain_http_problem(tenant, allow_http=allow_http)) is not None:
        raise BadPims(problem)


def stored_entries(connection: sqlite3.Connection) -> list[StoredEntry]:
    """Returns the entries in the store, in a job."""
    rows = connection.execute("SELECT name, document FROM tenants ORDER BY name")
    return [StoredEntry(name, document) for name, document in rows]


def document_of(connection: sqlite3.Connection, name: str) -> str | None:
    """Returns the entry's document, or None if there is no such entry, in a job."""
    row = connection.execute("SELECT document FROM tenants WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def to_document(tenant: Tenant, seal: Seal) -> str:
    """Returns the entry as the store keeps it, with its secrets sealed."""
    return orjson.dumps(tenant_document(tenant, seal)).decode()


def put(connection: sqlite3.Connection, tenant: Tenant, seal: Seal) -> None:
    """Adds or replaces an entry of the store, in a job."""
    put_document(connection, tenant.name, to_document(tenant, seal))


def put_document(connection: sqlite3.Connection, name: str, document: str) -> None:
    """Adds or replaces an entry of the store by its document, in a job."""
    connection.execute("INSERT OR REPLACE INTO tenants VALUES (?, ?)", (name, document))


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Removes an entry from the store, and the feed of the PIM, in a job."""
    feeds.remove(connection, name)
    connection.execute("DELETE FROM tenants WHERE name = ?", (name,))


def _tenant(entry: Any, index: int, named: str) -> Tenant:
    try:
        return Tenant.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadPims(f"{named}, {place_words([index, *first['loc']])}: {words_of(first)}") from None
