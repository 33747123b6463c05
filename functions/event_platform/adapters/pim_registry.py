"""The registry of PIMs over any store: which entries are in force, and when they are read again."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from ..documents import UnreadableEntry, stored_tenant
from ..domain.errors import StoreUnavailable
from ..domain.tenants import (
    PIMS_NAMED,
    ROUTE_FIX,
    WEAK_SECRET_FIX,
    Tenant,
    UnusableList,
    in_force,
    may_lack_token_info,
    plain_http_problem,
)
from ..ports import Clock, Seal

log = structlog.get_logger()

REREAD_AFTER_SECONDS = 4.0
"""The age from which entries are read again. With the reading itself they are at most 5 s old."""
UNREADABLE_FIX = (
    "`aep pims list`, on Google Cloud with --google PROJECT, shows how to remove it; then add it again"
)


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as a store keeps it: its name, which is its URL or pattern, and the text of its document."""

    name: str
    document: object


@dataclass(frozen=True, slots=True)
class Entries:
    """All entries. `listed` are the operator's, which go before stored ones of the same name.

    Entries with an equal `version` are the same.
    """

    version: object
    listed: Sequence[Tenant]
    stored: Sequence[StoredEntry]


class EntrySource(Protocol):
    """Reads the entries from where they are kept."""

    async def read(self, known: object) -> Entries | None:
        """Returns the entries, or None if their version is the `known` one; None is known at first.

        Raises StoreUnavailable and UnusableList.
        """
        ...


class PimRegistry:
    """The port `TenantRegistry`: keeps the entries, and asks its source again when they may have changed."""

    def __init__(self, source: EntrySource, seal: Seal, clock: Clock, *, allow_http: bool) -> None:
        self._source = source
        self._seal = seal
        self._clock = clock
        self._allow_http = allow_http
        self._version: object = None
        self._read_at = -math.inf  # by the clock's monotonic seconds
        self._reading: asyncio.Task[None] | None = None
        self._tenants: Sequence[Tenant] = ()

    async def tenants(self) -> Sequence[Tenant]:
        """Raises StoreUnavailable and UnusableList until a reading succeeded; later its entries stay."""
        if self._clock.monotonic() - self._read_at > REREAD_AFTER_SECONDS:
            if self._reading is None:
                self._reading = asyncio.create_task(self._reread())
            await asyncio.shield(self._reading)  # one reading for all who ask at once
        return self._tenants

    def tenants_at_once(self) -> Sequence[Tenant] | None:
        """Returns what `tenants` returns; None if they have to be read first."""
        is_due = self._clock.monotonic() - self._read_at > REREAD_AFTER_SECONDS
        return None if is_due else self._tenants

    async def reread(self) -> None:
        """Reads the entries now, as they were changed here. Raises as `tenants` does."""
        if self._reading is not None:
            await asyncio.shield(self._reading)  # it may have read before the change
        self._read_at = -math.inf
        await self.tenants()

    async def _reread(self) -> None:
        begun = self._clock.monotonic()
        try:
            await self._read()
        except (StoreUnavailable, UnusableList) as error:
            if self._version is None:
                raise
            log.error("pims.not_reread", error=str(error))
        finally:
            self._reading = None
        self._read_at = begun

    async def _read(self) -> None:
        found = await self._source.read(self._version)
        if found is None:
            return
        readable = [tenant for entry in found.stored if (tenant := self._read_entry(entry)) is not None]
        stored = [tenant for tenant in readable if self._is_allowed(tenant)]
        self._tenants = in_force(found.listed, stored)
        self._version = found.version
        _log_entries(self._tenants)

    def _read_entry(self, entry: StoredEntry) -> Tenant | None:
        """Returns None for an entry that cannot be understood, and logs it. The others stay in force."""
        try:
            return stored_tenant(entry.document, self._seal)
        except UnreadableEntry as error:
            log.error("pims.entry_unreadable", tenant=entry.name, error=str(error), fix=UNREADABLE_FIX)
            return None

    def _is_allowed(self, tenant: Tenant) -> bool:
        """Leaves out what was added for work on one's own machine, and logs it for the operator."""
        problem = plain_http_problem(tenant, allow_http=self._allow_http)
        if problem is not None:
            log.warning("pims.left_out", error=problem)
        return problem is None


def _log_entries(tenants: Sequence[Tenant]) -> None:
    """Writes how many PIMs are in force, and a line for what their operator should mend."""
    for tenant in tenants:
        if weak := tenant.weak_secrets():
            log.warning("pims.weak_secrets", tenant=tenant.name, secrets=weak, fix=WEAK_SECRET_FIX)
    if unsure := [tenant.name for tenant in tenants if may_lack_token_info(tenant)]:
        log.warning("pims.token_info", tenants=unsure[:PIMS_NAMED], fix=ROUTE_FIX)
    log.info("pims.read", pims=len(tenants))
