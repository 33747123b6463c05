"""The registry of PIMs in Firestore: the port `TenantRegistry`, and how an operator changes its entries."""

import asyncio
import hashlib
import math
from collections.abc import Sequence

import orjson
import structlog
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery, AsyncWriteBatch, Increment
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...domain.errors import StoreUnavailable
from ...domain.tenants import (
    PIMS_NAMED,
    ROUTE_FIX,
    WEAK_SECRET_FIX,
    Tenant,
    in_force,
    may_lack_token_info,
    plain_http_problem,
)
from ...ports import Clock, Seal
from ..records import tenant_document, tenant_of
from .client import Firestore

log = structlog.get_logger()

REREAD_AFTER_SECONDS = 4.0


class FirestoreTenants:
    """Asks every few seconds for one number, and for the entries when that has moved.

    `listed` are entries of the settings: each goes before a stored one of the same URL or pattern.
    """

    def __init__(
        self,
        firestore: Firestore,
        seal: Seal,
        clock: Clock,
        *,
        listed: Sequence[Tenant] = (),
        allow_http: bool = False,
    ) -> None:
        self._firestore = firestore
        self._seal = seal
        self._clock = clock
        self._listed = listed
        self._allow_http = allow_http
        self._version: int | None = None
        self._read_at = -math.inf  # by the clock's monotonic seconds
        self._reading: asyncio.Task[None] | None = None
        self._tenants: Sequence[Tenant] = ()

    async def tenants(self) -> Sequence[Tenant]:
        """Raises StoreUnavailable when the entries could not be read yet; later the last good ones stay."""
        if self._clock.monotonic() - self._read_at > REREAD_AFTER_SECONDS:
            if self._reading is None:
                self._reading = asyncio.create_task(self._reread())
            await asyncio.shield(self._reading)  # one reading for all who ask at once
        return self._tenants

    async def _reread(self) -> None:
        begun = self._clock.monotonic()
        try:
            await self._read()
        except StoreUnavailable as error:
            if self._version is None:
                raise
            log.error("pims.not_reread", error=str(error))
        finally:
            self._reading = None
        self._read_at = begun

    async def _read(self) -> None:
        patience = None if self._version is None else 0.0
        snapshot = await self._firestore.read(_version_at(self._firestore), patience=patience)
        version = (snapshot.to_dict() or {}).get("version", 0)
        if version == self._version:
            return
        query = AsyncQuery(self._firestore.client.collection(data_model.TENANTS))
        documents = await self._firestore.query(query, patience=patience)
        stored = [tenant for tenant in map(self._stored, documents) if tenant and self._is_allowed(tenant)]
        self._tenants = in_force(self._listed, stored)
        for tenant in self._tenants:
            if weak := tenant.weak_secrets():
                log.warning("pims.weak_secrets", tenant=tenant.name, secrets=weak, fix=WEAK_SECRET_FIX)
        if unsure := [tenant.name for tenant in self._tenants if may_lack_token_info(tenant)]:
            log.warning("pims.token_info", tenants=unsure[:PIMS_NAMED], fix=ROUTE_FIX)
        self._version = version
        log.info("pims.read", pims=len(self._tenants))

    def _stored(self, snapshot: DocumentSnapshot) -> Tenant | None:
        """The entry; None, and a line for the operator, when it cannot be understood: the others go on."""
        try:
            return tenant_of(orjson.loads(snapshot.get("document")), self._seal)
        except (ValueError, TypeError, KeyError) as error:  # JSON, seal and validation errors are ValueErrors
            log.error("pims.entry_unreadable", error=type(error).__name__, document=snapshot.id)
            return None

    def _is_allowed(self, tenant: Tenant) -> bool:
        """What was added for work on one's own machine is left out elsewhere, and the operator is told."""
        problem = plain_http_problem(tenant, allow_http=self._allow_http)
        if problem is not None:
            log.warning("pims.left_out", error=problem)
        return problem is None


async def put(firestore: Firestore, tenant: Tenant, seal: Seal) -> None:
    """Adds or replaces an entry; in force within 5 s. Raises StoreUnavailable."""
    name = tenant.name
    fields = {"name": name, "document": orjson.dumps(tenant_document(tenant, seal)).decode()}
    batch = firestore.client.batch()
    batch.set(_entry_at(firestore, name), fields)
    await _commit(firestore, batch)


async def remove(firestore: Firestore, name: str) -> None:
    """Takes out the entry of that URL or pattern; in force within 5 s. Raises StoreUnavailable."""
    batch = firestore.client.batch()
    batch.delete(_entry_at(firestore, name))
    await _commit(firestore, batch)


async def _commit(firestore: Firestore, batch: AsyncWriteBatch) -> None:
    batch.set(_version_at(firestore), {"version": Increment(1)}, merge=True)
    await firestore.run(lambda: firestore.commit(batch))


def _entry_at(firestore: Firestore, name: str) -> AsyncDocumentReference:
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    return firestore.client.collection(data_model.TENANTS).document(key)


def _version_at(firestore: Firestore) -> AsyncDocumentReference:
    return firestore.client.collection(data_model.VERSIONS).document("registry")
