"""Replays in Firestore, also of subscriptions that catch up: `Replays`, `ReplayLookup` and `OpenReplays`.

`manage` writes the record, `maintain` works by it, and `fanout` looks at it. Which single deliveries arrived
is not stored, for its cost.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cachetools import LRUCache, TTLCache
from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncQuery, Query
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import FieldFilter

from ... import data_model
from ...domain.catching_up import caught_up
from ...domain.errors import Conflict, InvalidRequest, NotFound, Problem
from ...domain.record.actions import BY_THE_PLATFORM, Action, caught_up_entry, replay_entry
from ...domain.record.logs import LogEntry
from ...domain.replays import (
    SHOWN,
    PushedReplay,
    Replay,
    ReplayStatus,
    Which,
    check_active,
    is_catch_up,
)
from ...domain.subscriptions import Owner, Status, Subscription
from ...domain.timestamps import to_rfc3339
from ...ports import Clock, TenantRegistry
from .client import ALREADY_EXISTS, MISSING, PRECONDITION_FAILED, Firestore
from .entries import fields_of
from .replay_documents import (
    REPLAY,
    fields_of_replay,
    key_of,
    pushed_of,
    replay_at,
    replay_known,
    replay_of,
    state_fields,
)
from .subscriptions import FirestoreSubscriptions

READ_AGAIN_SECONDS = 4.0
"""The seconds for which an instance goes by what it has read of a replay."""
NOTED_EVERY_SECONDS = 10.0
REPLAYS_HELD = 1_000
OPEN_AT_ONCE = 100
_RACED = (PRECONDITION_FAILED, ALREADY_EXISTS, MISSING)


class FirestoreReplays:
    """Replays of subscriptions, each with the state of the push subscriptions that serve it.

    A replay is `open` while there may be some, whatever its status.
    """

    def __init__(
        self,
        firestore: Firestore,
        subscriptions: FirestoreSubscriptions,
        clock: Clock,
        *,
        registry: TenantRegistry | None = None,
        keep: int = 0,
    ) -> None:
        """Makes the replays. `registry` and `keep` are for `manage`, which starts them."""
        self._firestore = firestore
        self._subscriptions = subscriptions
        self._clock = clock
        self._registry = registry
        self._keep = keep
        self._replays = firestore.client.collection(data_model.REPLAYS)
        self._read: TTLCache[str, PushedReplay | None] = TTLCache(
            REPLAYS_HELD, READ_AGAIN_SECONDS, clock.monotonic
        )
        self._noted: LRUCache[str, float] = LRUCache(REPLAYS_HELD)

    # For manage

    def check_kept(self) -> None:
        """Port `Replays`."""
        if not self._keep:
            raise Conflict("this platform keeps no events: its operator has set AEP_KEEP to 0")

    async def start(self, owner: Owner, subscriber_id: str, replay: Replay, *, action: Action) -> Replay:
        """Port `Replays`. Its range is fixed now, as events are pushed for as long as it runs."""
        since, until = self._range_of(replay)
        if replay.asked.since is not None:
            replay = replace(replay, asked=replace(replay.asked, until=until))
        key = await key_of(self._registry, owner.tenant)

        async def job() -> Replay:
            subscription, snapshot = await self._record(replay.subscription_id)
            if subscription.replay_id == replay.id:
                return replay  # by an earlier try of which no answer came
            check_active(subscription, "replay")
            if await self._firestore.find(self._running(replay.subscription_id)):
                raise Conflict(f"a replay of subscription {replay.subscription_id} is running")
            batch = self._firestore.client.batch()
            batch.create(
                self._at(replay.id),
                fields_of_replay(replay, subscription, key, since, until),
            )
            entry = replay_entry(replay, subscription, "started", replay.created_at, action)
            batch.create(self._entry_at(entry.id), fields_of(entry))
            await self._subscriptions.replace(batch, snapshot, replace(subscription, replay_id=replay.id))
            return replay

        return await self._firestore.run(job, raced=_RACED)

    async def replays(self, subscription_id: str) -> Sequence[Replay]:
        """Port `Replays`."""
        found = await self._firestore.query(
            AsyncQuery(self._replays)
            .where(filter=FieldFilter("subscription_id", "==", subscription_id))
            .where(filter=FieldFilter("kind", "==", REPLAY))
            .order_by("created_at", direction=Query.DESCENDING)
            .limit(SHOWN)
        )
        return [replay_of(snapshot) for snapshot in found]

    async def replay(self, subscription_id: str, replay_id: str) -> Replay:
        """Port `Replays`."""
        return replay_known(await self._firestore.read(self._at(replay_id)), subscription_id, replay_id)

    async def cancel(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        replay_id: str,
        *,
        now: datetime,
        action: Action,
    ) -> Replay:
        """Port `Replays`. What is in the lanes is dropped, as the subscription names the replay no longer."""

        async def job() -> Replay:
            found = await self._firestore.get(self._at(replay_id))
            replay = replay_known(found, subscription_id, replay_id)
            if replay.status is ReplayStatus.CANCELLED:
                return replay
            if replay.status is not ReplayStatus.RUNNING:
                raise Conflict(f"replay {replay_id} is {replay.status} and cannot be cancelled")
            subscription, snapshot = await self._record(subscription_id)
            after = replace(replay, status=ReplayStatus.CANCELLED, ended_at=now)
            batch = self._firestore.client.batch()
            batch.update(self._at(replay_id), state_fields(after), option=self._same(found))
            entry = replay_entry(after, subscription, "cancelled", now, action)
            batch.create(self._entry_at(entry.id), fields_of(entry))
            if subscription.replay_id == replay_id:
                without = replace(subscription, replay_id=None)
                await self._subscriptions.replace(batch, snapshot, without)
            else:
                await self._firestore.commit(batch)
            return after

        return await self._firestore.run(job, raced=_RACED)

    # For fanout

    async def running(self, replay_id: str) -> PushedReplay | None:
        """Port `ReplayLookup`."""
        if replay_id in self._read:
            return self._read[replay_id]
        found = await self._firestore.read(self._at(replay_id))
        pushed = pushed_of(found) if found.exists else None
        running = pushed if pushed and pushed.replay.status is ReplayStatus.RUNNING else None
        self._read[replay_id] = running
        return running

    async def note_push(self, replay_id: str) -> None:
        """Port `ReplayLookup`."""
        await self._note(replay_id, {"pushed_at": self._clock.now()})

    async def reopen(self, replay_id: str) -> None:
        """Port `ReplayLookup`."""
        await self._note(replay_id, {"open": True})

    async def _note(self, replay_id: str, fields: dict[str, Any]) -> None:
        now = self._clock.monotonic()
        if now - self._noted.get(replay_id, -NOTED_EVERY_SECONDS) < NOTED_EVERY_SECONDS:
            return
        with suppress(MISSING):  # it was long ago, or nobody's
            await self._firestore.run(lambda: self._update(replay_id, fields))
        self._noted[replay_id] = now

    # For maintain

    async def open(self) -> Sequence[PushedReplay]:
        """Port `OpenReplays`."""
        found = await self._firestore.query(
            AsyncQuery(self._replays).where(filter=FieldFilter("open", "==", True)).limit(OPEN_AT_ONCE)
        )
        return [pushed_of(snapshot) for snapshot in found]

    async def watch(self, replay_id: str, *, as_pushed: bool) -> None:
        """Port `OpenReplays`."""
        now = self._clock.now()
        fields: dict[str, Any] = {"watched_at": now, **({"pushed_at": now} if as_pushed else {})}
        await self._firestore.run(lambda: self._update(replay_id, fields))

    async def close(self, pushed: PushedReplay, status: ReplayStatus, reason: Status | None) -> None:
        """Port `OpenReplays`."""
        now = self._clock.now()

        async def job() -> None:
            found = await self._firestore.get(self._at(pushed.replay.id))
            replay = pushed_of(found).replay
            batch = self._firestore.client.batch()
            fields: dict[str, Any] = {"open": False}
            changed = record = None
            if replay.status is ReplayStatus.RUNNING:
                after = replace(replay, status=status, reason=reason, ended_at=now)
                fields |= state_fields(after)
                record = await self._subscriptions.read(replay.subscription_id)
                if record is not None:
                    entry, changed = _ended(pushed, after, record[0], now)
                    if entry is not None:
                        batch.create(self._entry_at(entry.id), fields_of(entry))
            batch.update(self._at(replay.id), fields, option=self._same(found))
            if record is not None and changed is not None:
                await self._subscriptions.replace(batch, record[1], changed)
            else:
                await self._firestore.commit(batch)

        await self._firestore.run(job, raced=_RACED)

    # Documents

    def _range_of(self, replay: Replay) -> tuple[datetime, datetime]:
        """The times of acceptance from which and before which events are replayed. Raises InvalidRequest."""
        asked, kept_since = replay.asked, replay.created_at - timedelta(seconds=self._keep)
        problems: list[Problem] = []
        if asked.which is not Which.ALL:
            problems.append(
                Problem("which", "must be all: on Google Cloud it is not stored which events were delivered")
            )
        if asked.since is not None and asked.since < kept_since:
            problems.append(
                Problem("from", f"must not be before {to_rfc3339(kept_since)}: older is not kept")
            )
        if problems:
            raise InvalidRequest(*problems)
        return asked.since or kept_since, asked.until or replay.created_at

    async def _record(self, subscription_id: str) -> tuple[Subscription, DocumentSnapshot]:
        record = await self._subscriptions.read(subscription_id)
        if record is None:
            raise NotFound(f"subscription {subscription_id} is unknown")
        return record

    def _running(self, subscription_id: str) -> AsyncQuery:
        return (
            AsyncQuery(self._replays)
            .where(filter=FieldFilter("subscription_id", "==", subscription_id))
            .where(filter=FieldFilter("kind", "==", REPLAY))
            .where(filter=FieldFilter("status", "==", str(ReplayStatus.RUNNING)))
            .limit(1)
        )

    async def _update(self, replay_id: str, fields: dict[str, Any]) -> None:
        await self._at(replay_id).update(fields, retry=None, timeout=self._firestore.attempt)

    def _at(self, replay_id: str) -> AsyncDocumentReference:
        return replay_at(self._firestore, replay_id)

    def _same(self, snapshot: DocumentSnapshot) -> Any:
        return self._firestore.client.write_option(last_update_time=snapshot.update_time)

    def _entry_at(self, entry_id: str) -> AsyncDocumentReference:
        return self._firestore.client.collection(data_model.LOG_ENTRIES).document(entry_id)


def _ended(
    pushed: PushedReplay, replay: Replay, subscription: Subscription, now: datetime
) -> tuple[LogEntry | None, Subscription | None]:
    """The log entry of an end, and the subscription if that changes with it.

    A subscription that was suspended again goes on with what it missed, so catching up has not ended then.
    """
    if not is_catch_up(replay.id):
        return replay_entry(replay, subscription, "ended", now, BY_THE_PLATFORM), None
    if not pushed.is_of(subscription):
        return None, None
    if replay.status is not ReplayStatus.DONE:
        reason = "it took too long: not all events that were kept are among them"
    else:
        kept_since = to_rfc3339(pushed.since)
        reason = f"what is kept begins at {kept_since}, after the suspension" if pushed.is_cut else None
    entry = caught_up_entry(subscription, replay.events or 0, now, reason)
    return entry, caught_up(subscription)
