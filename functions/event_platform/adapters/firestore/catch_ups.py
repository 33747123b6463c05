"""Catching up in Firestore: what a change of a subscription's status writes for it, in the same commit."""

from datetime import timedelta

import uuid_utils
from google.cloud.firestore_v1 import AsyncWriteBatch

from ... import data_model
from ...domain.catching_up import wants_to_catch_up, with_missed
from ...domain.record.actions import caught_up_entry
from ...domain.replays import CATCH_UP, Replay, ReplayRequest, Which
from ...domain.subscriptions import Status, Subscription
from ...ports import TenantRegistry
from .client import Firestore
from .entries import fields_of
from .replay_documents import fields_of_replay, key_of, replay_at


class FirestoreCatchUps:
    """`keep` is for how many seconds events are kept; `registry` is for `manage`, which resumes."""

    def __init__(
        self, firestore: Firestore, *, keep: int = 0, registry: TenantRegistry | None = None
    ) -> None:
        self._firestore = firestore
        self._keep = timedelta(seconds=keep)
        self._registry = registry

    def noted(self, before: Subscription, after: Subscription, catch_up: bool | None) -> Subscription:
        """Returns the record after a change, with what it has missed."""
        return with_missed(before, after, keep=self._keep, catch_up=catch_up)

    async def put(
        self, batch: AsyncWriteBatch, before: Subscription, after: Subscription, catch_up: bool | None
    ) -> None:
        """Starts catching up, on which `maintain` works, if the change resumes a subscription that does."""
        if before.status is after.status or after.status is not Status.ACTIVE:
            return
        missed, now = after.missed, after.updated_at
        if missed is not None and missed.until is not None:
            replay = Replay(
                f"{CATCH_UP}{uuid_utils.uuid7()}",
                after.id,
                ReplayRequest(missed.since, missed.until, which=Which.ALL),
                now,
            )
            fields = fields_of_replay(
                replay,
                after,
                await key_of(self._registry, after.owner.tenant),
                missed.since,
                missed.until,
                is_cut=missed.since == now - self._keep,
            )
            batch.create(replay_at(self._firestore, replay.id), fields)
        elif wants_to_catch_up(after, catch_up) and not self._keep:
            entry = caught_up_entry(after, 0, now, "no events are kept: AEP_KEEP is 0")
            entries = self._firestore.client.collection(data_model.LOG_ENTRIES)
            batch.create(entries.document(entry.id), fields_of(entry))
