"""The registry of PIMs on one machine: entries of the store, overridden by a file (contract/ingest.md 1)."""

import asyncio
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog
from pydantic import ValidationError

from event_platform.adapters.registry_lines import is_allowed, log_registry
from event_platform.documents import tenant_document, tenant_of
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.tenants import (
    Tenant,
    check_secrets,
    in_force,
    plain_http_problem,
)
from event_platform.domain.validation_words import json_words, words_of
from event_platform.ports import Clock, Seal

from ..errors import BadPims
from .database import Database

log = structlog.get_logger()

REREAD_AFTER_SECONDS = 2.0


class Pims:
    """The port `TenantRegistry`: reads the entries of the store and of the file again when they may have
    changed.

    `source` is a path, or the list itself when it begins with `[`; None stands for the store alone.
    """

    def __init__(
        self, database: Database, seal: Seal, clock: Clock, *, source: str | None, allow_http: bool
    ) -> None:
        self._database = database
        self._seal = seal
        self._clock = clock
        self._source = source
        self._allow_http = allow_http
        self._read_at = -math.inf  # by the clock's monotonic seconds
        self._reading: asyncio.Task[None] | None = None
        self._raw: object = None
        self._tenants: Sequence[Tenant] = ()

    async def open(self) -> None:
        """Reads the entries for the first time. Raises BadPims."""
        await self._read()

    async def tenants(self) -> Sequence[Tenant]:
        if self._clock.monotonic() - self._read_at > REREAD_AFTER_SECONDS:
            if self._reading is None:
                self._reading = asyncio.create_task(self._reread())
            await asyncio.shield(self._reading)  # one reading for all who ask at once
        return self._tenants

    async def _reread(self) -> None:
        try:
            await self._read()
        except (BadPims, StoreUnavailable) as error:  # what was good before stays in force
            log.error("pims.not_reread", error=str(error))
            self._read_at = self._clock.monotonic()
        finally:
            self._reading = None

    async def _read(self) -> None:
        begun = self._clock.monotonic()
        text = source_text(self._source)
        rows = await self._database.read(stored_documents)
        if (text, rows) != self._raw:
            stored = [tenant for tenant in map(self._stored, rows) if tenant and self._is_allowed(tenant)]
            listed = parse(text, allow_http=self._allow_http) if text is not None else []
            self._tenants = in_force(listed, stored)
            self._raw = (text, rows)
            log_registry(self._tenants)
        self._read_at = begun

    def _stored(self, document: str) -> Tenant | None:
        """Reads an entry of the store.

        If it cannot be understood, returns None and logs that: the others are used.
        """
        try:
            return tenant_of(orjson.loads(document), self._seal)
        except (ValueError, TypeError, KeyError) as error:  # JSON, seal and validation errors are ValueErrors
            log.error(
                "pims.entry_unreadable", error=type(error).__name__, fix="run `aep pims add` for it again"
            )
            return None

    def _is_allowed(self, tenant: Tenant) -> bool:
        return is_allowed(tenant, allow_http=self._allow_http)


def source_text(source: str | None) -> str | None:
    """Returns the list's JSON text; None without a source. Raises BadPims."""
    if source is None or source.lstrip().startswith("["):
        return source
    try:
        return Path(source).read_text(encoding="utf-8")
    except OSError as error:
        raise BadPims(f"the list of PIMs {source} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadPims(
            f"the list of PIMs {source} is not UTF-8 from byte {error.start} on: save it in that encoding"
        ) from error


def parse(text: str, *, allow_http: bool) -> list[Tenant]:
    """Reads the entries of a JSON list. Raises BadPims naming the entry and the field."""
    try:
        entries = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadPims(f"the list of PIMs is {json_words(error)}") from error
    if not isinstance(entries, list):
        raise BadPims('the list of PIMs must be a JSON array of entries such as {"url": "https://…"}')
    tenants = [_tenant(entry, f"entry {index}") for index, entry in enumerate(entries)]
    for tenant in tenants:
        check(tenant, allow_http=allow_http)
    try:
        check_secrets(tenants)
    except ValueError as error:
        raise BadPims(f"the list of PIMs, {error}") from None
    for field in ("key", "name"):
        values = [tenant.name if field == "name" else tenant.key for tenant in tenants if tenant.url]
        if len(set(values)) < len(values):
            raise BadPims(
                f"the list of PIMs has two entries of the same {'url' if field == 'name' else field}"
            )
    return tenants


def check(tenant: Tenant, *, allow_http: bool) -> None:
    """Raises BadPims for a PIM whose URL has no TLS, unless that is allowed."""
    if (problem := plain_http_problem(tenant, allow_http=allow_http)) is not None:
        raise BadPims(problem)


def stored_documents(connection: sqlite3.Connection) -> list[str]:
    """Returns the entries in the store, in a job."""
    return [document for (document,) in connection.execute("SELECT document FROM tenants ORDER BY name")]


def put(connection: sqlite3.Connection, tenant: Tenant, seal: Seal) -> None:
    """Adds or replaces an entry of the store, in a job."""
    document = orjson.dumps(tenant_document(tenant, seal)).decode()
    connection.execute("INSERT OR REPLACE INTO tenants VALUES (?, ?)", (tenant.name, document))


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Removes an entry from the store, in a job."""
    connection.execute("DELETE FROM tenants WHERE name = ?", (name,))


def _tenant(entry: Any, where: str) -> Tenant:
    try:
        return Tenant.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise BadPims(f"the list of PIMs, {where}{', ' if field else ''}{field}: {words_of(first)}") from None
