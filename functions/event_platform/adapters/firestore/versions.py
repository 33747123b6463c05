"""Versions of tenants, and the caches that hold what was read while a version stands.

Every management change raises its tenant's version in the same batch write. So an instance need read one
small document every few seconds, and its records only when something changed.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

from cachetools import LRUCache
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncWriteBatch, Increment

from ... import data_model
from ...domain.errors import StoreUnavailable
from ...ports import Clock
from .client import Firestore

CHECKED_EVERY_SECONDS = 4.0
KEPT_SECONDS = 60.0
"""The time after the last successful check for which the cache answers while the store is away."""
_CHECK_SECONDS = 2.0  # for a check that can be missed
_KEYS_REMEMBERED = 4096

Version: TypeAlias = tuple[int, int]
"""A tenant's version in the store, and how often this instance has changed it: only compared as a whole."""

V = TypeVar("V")


@dataclass(eq=False, slots=True)
class _Bucket:
    """The known content of one bucket document; times are the clock's monotonic seconds."""

    reference: AsyncDocumentReference
    versions: dict[str, int] = field(default_factory=dict[str, int])
    checked_at: float = -math.inf  # when the last reading that succeeded began
    tried_at: float = -math.inf
    changes: dict[str, int] = field(default_factory=dict[str, int])  # our own, counted
    learned: int = 0  # the number of the last reading or change
    checking: "asyncio.Task[None] | None" = None

    def version(self, key: str) -> Version:
        return self.versions.get(key, 0), self.changes.get(key, 0)


class Versions:
    """The bucket documents `versions/{bucket}`, which map tenants to their versions."""

    def __init__(self, firestore: Firestore, clock: Clock, *, buckets: int = 1) -> None:
        self._firestore = firestore
        self._clock = clock
        collection = firestore.client.collection(data_model.VERSIONS)
        self._buckets = [_Bucket(collection.document(f"{number:02d}")) for number in range(buckets)]
        self.learned = 0

    def bump(self, batch: AsyncWriteBatch, tenant: str) -> None:
        """Raises the tenant's version with the batch."""
        key = _key(tenant)
        batch.set(self._bucket(key).reference, {"tenants": {key: Increment(1)}}, merge=True)

    def changed(self, tenant: str) -> None:
        """Forgets what is held of a tenant that this instance changed, or tried to change."""
        key = _key(tenant)
        bucket = self._bucket(key)
        bucket.changes[key] = bucket.changes.get(key, 0) + 1
        self.learned += 1
        bucket.learned = self.learned

    async def of(self, tenant: str) -> Version:
        """The tenant's version, read at most 4 s ago.

        While the store is away it is the last one known, for 60 s; then this raises StoreUnavailable.
        """
        key = _key(tenant)
        bucket = self._bucket(key)
        if not self._stands(bucket):
            if bucket.checking is None:
                bucket.checking = asyncio.create_task(self._check(bucket))
            await asyncio.shield(bucket.checking)  # one reading for all who ask at once
        return bucket.version(key)

    def cached(self, tenant: str) -> Version | None:
        """Returns the version if nothing has to be read for it, else None."""
        key = _key(tenant)
        bucket = self._bucket(key)
        return bucket.version(key) if self._stands(bucket) else None

    def learned_before(self, tenant: str, mark: int) -> bool:
        """True if the version that `of` answered was known when `learned` was `mark`."""
        return self._bucket(_key(tenant)).learned <= mark

    def _bucket(self, key: str) -> _Bucket:
        return self._buckets[int(key[1:], 16) % len(self._buckets)]

    def _stands(self, bucket: _Bucket) -> bool:
        now = self._clock.monotonic()
        fresh = now - max(bucket.checked_at, bucket.tried_at) < CHECKED_EVERY_SECONDS
        return fresh and now - bucket.checked_at <= KEPT_SECONDS

    async def _check(self, bucket: _Bucket) -> None:
        begun = self._clock.monotonic()
        can_wait = begun - bucket.checked_at <= KEPT_SECONDS
        try:
            snapshot = await (
                self._firestore.read(bucket.reference, patience=0, attempt=_CHECK_SECONDS)
                if can_wait
                else self._firestore.read(bucket.reference)
            )
        except StoreUnavailable:
            if not can_wait:
                raise
            bucket.tried_at = begun
            return
        finally:
            bucket.checking = None
        bucket.versions = (snapshot.to_dict() or {}).get("tenants", {})
        bucket.checked_at = begun
        self.learned += 1
        bucket.learned = self.learned


@dataclass(frozen=True, slots=True)
class _Held(Generic[V]):
    version: Version
    value: V


class VersionedCache(Generic[V]):
    """Values of tenants, each held while its tenant's version is the one that was read before it."""

    def __init__(self, versions: Versions, size: int) -> None:
        self._versions = versions
        self._held: LRUCache[str, _Held[V]] = LRUCache(size)
        self._loading: dict[tuple[str, Version], asyncio.Task[V]] = {}

    async def get(self, key: str, tenant: str, load: Callable[[], Awaitable[V]]) -> V:
        """The value of `key`, at most 5 s old. Raises StoreUnavailable, and what `load` raises."""
        version = await self._versions.of(tenant)
        held = self._held.get(key)
        if held is not None and held.version == version:
            return held.value
        loading = self._loading.get((key, version))
        if loading is None:
            loading = asyncio.create_task(self._load(key, version, load))
            self._loading[key, version] = loading
        return await asyncio.shield(loading)  # one reading for all who ask at once

    def cached(self, key: str, tenant: str) -> V | None:
        """Returns the value if nothing has to be read for it, else None."""
        held = self._held.get(key)
        return held.value if held is not None and held.version == self._versions.cached(tenant) else None

    async def _load(self, key: str, version: Version, load: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await load()
        finally:
            del self._loading[key, version]
        self._held[key] = _Held(version, value)
        return value

    async def hold(self, key: str, tenant: str, value: V, mark: int) -> bool:
        """Holds a value whose reading began when `Versions.learned` was `mark`, if it is known to be good.

        For a value whose tenant was not known before it was read.
        """
        version = await self._versions.of(tenant)
        good = self._versions.learned_before(tenant, mark)
        if good:
            self._held[key] = _Held(version, value)
        return good


@lru_cache(_KEYS_REMEMBERED)
def _key(tenant: str) -> str:
    """A field's name; two tenants of one key would only reload in vain."""
    return "t" + hashlib.sha256(tenant.encode()).hexdigest()[:16]
