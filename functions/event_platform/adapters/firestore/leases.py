"""Leases in Firestore, under which one instance alone works on something."""

import uuid
from datetime import timedelta

from google.cloud.firestore_v1 import AsyncDocumentReference

from ... import data_model
from ...domain.timestamps import is_ahead
from ...ports import Clock
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore


class FirestoreLeases:
    """The leases that this instance holds, by their names."""

    def __init__(self, firestore: Firestore, clock: Clock) -> None:
        self._firestore = firestore
        self._clock = clock
        self._leases = firestore.client.collection(data_model.LEASES)
        self._held: dict[str, object] = {}  # the update times of our leases

    async def take(self, name: str, seconds: float) -> bool:
        """True if this instance may work for that long; nobody else can meanwhile.

        Raises StoreUnavailable.
        """
        reference = self._leases.document(name)
        token = uuid.uuid4().hex

        async def job() -> object | None:
            """Returns its update time; None when it is somebody else's."""
            now = self._clock.now()
            until = now + timedelta(seconds=seconds)
            lease = {"token": token, "until": until}
            batch = self._firestore.client.batch()
            batch.create(reference, lease)
            try:
                return (await self._firestore.commit(batch))[0].update_time
            except ALREADY_EXISTS:
                held = await self._firestore.get(reference)
            if not held.exists:
                return None  # released just now; the next tick takes it
            if held.get("token") == token:
                return held.update_time  # by an earlier try of which no answer came
            if held.get("until") > now and not is_ahead(held.get("until"), until):
                return None
            batch = self._firestore.client.batch()
            same = self._firestore.client.write_option(last_update_time=held.update_time)
            batch.update(reference, lease, option=same)
            try:
                return (await self._firestore.commit(batch))[0].update_time
            except (PRECONDITION_FAILED, MISSING):
                return None

        written = await self._firestore.run(job)
        if written is None:
            return False
        self._held[name] = written
        return True

    async def release(self, name: str) -> None:
        """Gives back a lease of this instance's. Raises StoreUnavailable."""
        written = self._held.pop(name, None)
        if written is None:
            return
        reference: AsyncDocumentReference = self._leases.document(name)

        async def job() -> None:
            batch = self._firestore.client.batch()
            same = self._firestore.client.write_option(last_update_time=written)
            batch.delete(reference, option=same)
            try:
                await self._firestore.commit(batch)
            except (PRECONDITION_FAILED, MISSING):
                return  # it had expired and is somebody else's now

        await self._firestore.run(job)
