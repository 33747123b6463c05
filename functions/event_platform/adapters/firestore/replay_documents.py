"""Replays as documents of Firestore, and those that serve a subscription which catches up."""

from datetime import datetime, timedelta
from typing import Any

import orjson
from google.cloud.firestore_v1 import AsyncDocumentReference
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...domain.errors import NotFound
from ...domain.replays import PushedReplay, Replay, ReplayRequest, ReplayStatus, Which, is_catch_up
from ...domain.subscriptions import Status, Subscription
from ...domain.tenants import tenant_key
from ...ports import TenantRegistry
from .client import Firestore

REPLAY, CATCH_UP = "replay", "catch_up"
KEPT = timedelta(days=30)

Fields = dict[str, Any]


async def key_of(registry: TenantRegistry | None, tenant: str) -> str:
    """The key that the PIM's own topic has in its name."""
    entries = await registry.tenants() if registry is not None else ()
    return next((entry.key for entry in entries if entry.name == tenant), tenant_key(tenant))


def replay_at(firestore: Firestore, replay_id: str) -> AsyncDocumentReference:
    """The document of a replay."""
    return firestore.document(data_model.REPLAYS, replay_id)


def fields_of_replay(
    replay: Replay,
    subscription: Subscription,
    key: str,
    since: datetime,
    until: datetime,
    *,
    is_cut: bool = False,
) -> Fields:
    """A replay that begins, under the subscription as it is then."""
    asked = replay.asked
    return {
        "kind": CATCH_UP if is_catch_up(replay.id) else REPLAY,
        "subscription_id": subscription.id,
        "tenant": subscription.owner.tenant,
        "key": key,
        "epoch": subscription.epoch,
        "since": since,
        "until": until,
        "is_cut": is_cut,
        "asked": orjson.dumps({"event_ids": asked.event_ids, "events": asked.events}).decode(),
        "created_at": replay.created_at,
        "open": True,
        data_model.EXPIRES_AT: replay.created_at + KEPT,
        **state_fields(replay),
    }


def state_fields(replay: Replay) -> Fields:
    """The fields that its end changes."""
    return {
        "status": str(replay.status),
        "reason": None if replay.reason is None else str(replay.reason),
        "ended_at": replay.ended_at,
    }


def replay_known(snapshot: DocumentSnapshot, subscription_id: str, replay_id: str) -> Replay:
    """The replay of that subscription. Raises NotFound."""
    fields: Fields = snapshot.to_dict() or {}
    if fields.get("subscription_id") != subscription_id or fields.get("kind") != REPLAY:
        raise NotFound(f"replay {replay_id} is unknown")
    return replay_of(snapshot)


def replay_of(snapshot: DocumentSnapshot) -> Replay:
    fields: Fields = snapshot.to_dict() or {}
    asked = orjson.loads(fields["asked"])
    since, until = (None, None) if asked["event_ids"] else (fields["since"], fields["until"])
    return Replay(
        snapshot.id,
        fields["subscription_id"],
        ReplayRequest(since, until, tuple(asked["event_ids"]), tuple(asked["events"]), Which.ALL),
        fields["created_at"],
        ReplayStatus(fields["status"]),
        fields.get("events"),
        fields.get("delivered", 0),
        fields.get("ended", 0),
        reason=None if fields["reason"] is None else Status(fields["reason"]),
        ended_at=fields["ended_at"],
    )


def pushed_of(snapshot: DocumentSnapshot) -> PushedReplay:
    fields: Fields = snapshot.to_dict() or {}
    return PushedReplay(
        replay_of(snapshot),
        fields["tenant"],
        fields["key"],
        fields["epoch"],
        fields["since"],
        fields["until"],
        fields.get("pushed_at"),
        fields.get("watched_at"),
        fields.get("is_cut", False),
    )
