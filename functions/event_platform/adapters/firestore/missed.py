"""The beginning of what suspended subscriptions have missed, in their records: the port `MissedEvents`."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from ...domain.catching_up import begins_too_late, from_earlier
from ...domain.errors import StoreUnavailable
from ...domain.subscriptions import Status
from ...ports import Clock
from .client import MISSING, PRECONDITION_FAILED, Firestore
from .sharing import SECONDS_BETWEEN_WRITES, SharedWrites
from .subscriptions import FirestoreSubscriptions

SUBSCRIPTIONS_AT_ONCE = 10_000


class FirestoreMissedEvents:
    """One write for all that come within a second, and only while the beginning is later than they are."""

    def __init__(
        self,
        firestore: Firestore,
        subscriptions: FirestoreSubscriptions,
        clock: Clock,
        *,
        seconds: float = SECONDS_BETWEEN_WRITES,
    ) -> None:
        self._firestore = firestore
        self._subscriptions = subscriptions
        self._writes = SharedWrites[datetime](clock, SUBSCRIPTIONS_AT_ONCE, seconds=seconds)

    async def note(self, subscription_id: str, accepted_at: datetime) -> None:
        if not begins_too_late(await self._subscriptions.current(subscription_id), accepted_at):
            return
        await self._writes.add(subscription_id, accepted_at, lambda: partial(self._put, subscription_id))

    async def _put(self, subscription_id: str, times: Sequence[datetime]) -> None:
        async def job() -> None:
            record = await self._subscriptions.read(subscription_id)
            if record is None:
                return
            before, snapshot = record
            after = from_earlier(before, min(times))
            if after is not before:
                await self._subscriptions.replace(self._firestore.client.batch(), snapshot, after)
            elif before.status is Status.ACTIVE and before.missed is not None:
                raise StoreUnavailable(f"subscription {subscription_id} was resumed meanwhile; try it again")

        await self._firestore.run(job, raced=[PRECONDITION_FAILED, MISSING])
