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
from ...documents import tenant_document, tenant_of
from ...domain.errors import Conflict, StoreUnavailable
from ...domain.tenants import Tenant, in_force
from ...ports import Clock, Seal
from ..registry_lines import is_allowed, log_registry
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore

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
        documents = await stored_entries(self._firestore, patience=patience)
        stored = [tenant for tenant in map(self._stored, documents) if tenant and self._is_allowed(tenant)]
        self._tenants = in_force(self._listed, stored)
        self._version = version
        log_registry(self._tenants)

    def _stored(self, snapshot: DocumentSnapshot) -> Tenant | None:
        """The entry; None, and a line for the operator, when it cannot be understood: the others go on."""
        try:
            return tenant_of(orjson.loads(snapshot.get("document")), self._seal)
        except (ValueError, TypeError, KeyError) as error:  # JSON, seal and validation errors are ValueErrors
            log.error(
                "pims.entry_unreadable",
                error=type(error).__name__,
                tenant=name_of(snapshot),
                fix="look at it with `aep pims list --google PROJECT`, remove it and add it again",
            )
            return None

    def _is_allowed(self, tenant: Tenant) -> bool:
        return is_allowed(tenant, allow_http=self._allow_http)


async def stored_entries(
    firestore: Firestore, *, patience: float | None = None
) -> Sequence[DocumentSnapshot]:
    """Returns all entries as they are stored. Raises StoreUnavailable."""
    query = AsyncQuery(firestore.client.collection(data_model.TENANTS))
    return await firestore.query(query, patience=patience)


def name_of(snapshot: DocumentSnapshot) -> str:
    """Returns the URL or pattern of a stored entry, or the id of a document that has none."""
    return str((snapshot.to_dict() or {}).get("name") or snapshot.id)


async def put(firestore: Firestore, tenant: Tenant, seal: Seal) -> None:
    """Adds or replaces an entry; in force within 5 s. Raises StoreUnavailable."""
    batch = firestore.client.batch()
    batch.set(_entry_at(firestore, tenant.name), _fields(tenant, seal))
    _raise_version(firestore, batch)
    await firestore.run(lambda: firestore.commit(batch))


async def put_over(firestore: Firestore, tenant: Tenant, seal: Seal, seen: DocumentSnapshot | None) -> None:
    """Adds an entry, or replaces the one that was seen; in force within 5 s.

    Raises Conflict when somebody else added or changed it since, and StoreUnavailable.
    """
    reference, fields = _entry_at(firestore, tenant.name), _fields(tenant, seal)

    async def job() -> None:
        batch = firestore.client.batch()
        if seen is None:
            batch.create(reference, fields)
        else:
            same = firestore.client.write_option(last_update_time=seen.update_time)
            batch.update(reference, fields, option=same)
        _raise_version(firestore, batch)
        try:
            await firestore.commit(batch)
        except (ALREADY_EXISTS, MISSING, PRECONDITION_FAILED):
            # A try that got no answer may have been made. No other has the same sealed texts.
            if (await firestore.get(reference)).to_dict() != fields:
                raise Conflict(
                    f"the entry of {tenant.name} was changed by somebody else meanwhile: nothing was changed"
                    " here, run the command again"
                ) from None

    await firestore.run(job)


async def remove(firestore: Firestore, name: str) -> None:
    """Takes out the entry of that URL or pattern; in force within 5 s. Raises StoreUnavailable."""
    batch = firestore.client.batch()
    batch.delete(_entry_at(firestore, name))
    _raise_version(firestore, batch)
    await firestore.run(lambda: firestore.commit(batch))


def _fields(tenant: Tenant, seal: Seal) -> dict[str, str]:
    return {"name": tenant.name, "document": orjson.dumps(tenant_document(tenant, seal)).decode()}


def _raise_version(firestore: Firestore, batch: AsyncWriteBatch) -> None:
    """Bumps the version, so that the functions read the entries again."""
    batch.set(_version_at(firestore), {"version": Increment(1)}, merge=True)


def _entry_at(firestore: Firestore, name: str) -> AsyncDocumentReference:
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    return firestore.client.collection(data_model.TENANTS).document(key)


def _version_at(firestore: Firestore) -> AsyncDocumentReference:
    return firestore.client.collection(data_model.VERSIONS).document("registry")
