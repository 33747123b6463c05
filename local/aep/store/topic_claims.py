"""The client that holds each Pub/Sub topic, written inside jobs of the writer (`domain/topic_claims.py`)."""

import sqlite3

import orjson

from event_platform.documents import subscription_of
from event_platform.domain.errors import TopicHeld
from event_platform.domain.subscriptions import Owner, PubSubConfig, Subscription
from event_platform.domain.topic_claims import is_named_by, topic_named
from event_platform.ports import Seal


def claim(
    connection: sqlite3.Connection, seal: Seal, topic: PubSubConfig, owner: Owner, *, takes_topic: bool
) -> list[Subscription]:
    """Makes the owner the holder of the topic. Returns the other client's subscriptions that name it.

    Raises TopicHeld when there are any, unless the owner `takes_topic`.
    """
    others: list[Subscription] = []
    holder = _holder_of(connection, topic)
    if holder is not None and holder != owner:
        others = _naming(connection, seal, topic, holder)
        if others and not takes_topic:
            raise TopicHeld(topic.project_id, topic.topic_id)
    connection.execute(
        "INSERT INTO topic_claims (topic, tenant, client_id) VALUES (?, ?, ?) ON CONFLICT (topic) DO UPDATE"
        " SET tenant = excluded.tenant, client_id = excluded.client_id",
        (topic.destination, owner.tenant, owner.client_id),
    )
    return others


def claim_if_free(connection: sqlite3.Connection, subscription: Subscription) -> None:
    """Makes the subscription's owner the holder of its topic, if it has one that no other client holds."""
    if (topic := topic_named(subscription)) is not None:
        connection.execute(
            "INSERT OR IGNORE INTO topic_claims (topic, tenant, client_id) VALUES (?, ?, ?)",
            (topic.destination, subscription.owner.tenant, subscription.owner.client_id),
        )


def release(connection: sqlite3.Connection, seal: Seal, topic: PubSubConfig, owner: Owner) -> None:
    """Frees the owner's topic if none of its subscriptions names it any more."""
    if _holder_of(connection, topic) == owner and not _naming(connection, seal, topic, owner):
        connection.execute("DELETE FROM topic_claims WHERE topic = ?", (topic.destination,))


def _holder_of(connection: sqlite3.Connection, topic: PubSubConfig) -> Owner | None:
    row = connection.execute(
        "SELECT tenant, client_id FROM topic_claims WHERE topic = ?", (topic.destination,)
    ).fetchone()
    return Owner(*row) if row else None


def _naming(
    connection: sqlite3.Connection, seal: Seal, topic: PubSubConfig, owner: Owner
) -> list[Subscription]:
    rows = connection.execute(
        "SELECT document FROM subscriptions WHERE tenant = ? AND status IN ('active', 'suspended')"
        " AND json_extract(document, '$.client_id') = ? AND json_extract(document, '$.type') = 'pubsub'"
        " AND json_extract(document, '$.config.topic_id') = ? ORDER BY no",
        (owner.tenant, owner.client_id, topic.topic_id),
    )
    found = [subscription_of(orjson.loads(document), seal) for (document,) in rows]
    return [subscription for subscription in found if is_named_by(subscription, topic)]
