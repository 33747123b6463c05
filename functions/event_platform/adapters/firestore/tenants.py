"""The entries of the registry of PIMs in Firestore: how functions read and an operator changes them."""

import asyncio
import hashlib
from collections.abc import Sequence

import orjson
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery, AsyncWriteBatch, Increment
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...documents import tenant_document
from ...domain.errors import Conflict
from ...domain.tenants import Tenant
from ...ports import Seal
from ..pim_registry import Entries, StoredEntry
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore


class FirestoreEntries:
    """Asks for one number, the registry's version, and for the entries when that has changed.

    `listed` are entries of the settings: each goes before a stored one of the same URL or pattern. With
    `reads_feeds` it asks as often which PIMs have a feed: `fed` has their names.
    """

    def __init__(
        self, firestore: Firestore, *, listed: Sequence[Tenant] = (), reads_feeds: bool = False
    ) -> None:
        self._firestore = firestore
        self._listed = listed
        self._reads_feeds = reads_feeds
        self.fed: frozenset[str] = frozenset()

    async def read(self, known: object) -> Entries | None:
        """Port `EntrySource`. Once there are entries, it does not wait for a store that is away."""
        patience = None if known is None else 0.0
        snapshot = await self._firestore.read(_version_at(self._firestore), patience=patience)
        version: object = (snapshot.to_dict() or {}).get("version", 0)
        if version == known:
            return None
        found, fed = await asyncio.gather(
            stored_entries(self._firestore, patience=patience), self._with_feeds(patience)
        )
        self.fed = fed
        return Entries(version, self._listed, [entry_of(snapshot) for snapshot in found])

    async def _with_feeds(self, patience: float | None) -> frozenset[str]:
        """Returns the PIMs of which the webhook is noted for their feed."""
        if not self._reads_feeds:
            return frozenset()
        query = AsyncQuery(self._firestore.client.collection(data_model.FEEDS))
        found = await self._firestore.query(query.select(["tenant", "has_notes"]), patience=patience)
        return frozenset(str(each.get("tenant")) for each in found if (each.to_dict() or {}).get("has_notes"))


async def stored_entries(
    firestore: Firestore, *, patience: float | None = None
) -> Sequence[DocumentSnapshot]:
    """Returns all entries as they are stored. Raises StoreUnavailable."""
    query = AsyncQuery(firestore.client.collection(data_model.TENANTS))
    return await firestore.query(query, patience=patience)


def entry_of(snapshot: DocumentSnapshot) -> StoredEntry:
    """Returns the stored entry. A document without the URL or pattern has its id as the name."""
    fields = snapshot.to_dict() or {}
    return StoredEntry(str(fields.get("name") or snapshot.id), fields.get("document"))


async def put(firestore: Firestore, tenant: Tenant, seal: Seal) -> None:
    """Adds or replaces an entry; in force within 5 s. Raises StoreUnavailable."""
    batch = firestore.client.batch()
    batch.set(_entry_at(firestore, tenant.name), _fields(tenant, seal))
    bump_version(firestore, batch)
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
        bump_version(firestore, batch)
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
    bump_version(firestore, batch)
    await firestore.run(lambda: firestore.commit(batch))


def _fields(tenant: Tenant, seal: Seal) -> dict[str, str]:
    return {"name": tenant.name, "document": orjson.dumps(tenant_document(tenant, seal)).decode()}


def bump_version(firestore: Firestore, batch: AsyncWriteBatch) -> None:
    """Bumps the registry's version, so that the functions read the entries again, and who has a feed."""
    batch.set(_version_at(firestore), {"version": Increment(1)}, merge=True)


def _entry_at(firestore: Firestore, name: str) -> AsyncDocumentReference:
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    return firestore.client.collection(data_model.TENANTS).document(key)


def _version_at(firestore: Firestore) -> AsyncDocumentReference:
    return firestore.client.collection(data_model.VERSIONS).document("registry")
