"""Revokes what a client has, once its connection or App is gone from the PIM (contract/wire.md 5)."""

from datetime import datetime
from functools import partial

import structlog

from ..domain.messages.queue_messages import Accepted
from ..domain.revocations import RemovedClient, removed_client
from ..domain.subscriptions import revoke_subscriber, revoke_subscription
from ..ports import Subscriptions

log = structlog.get_logger()


async def revoke(accepted: Accepted, now: datetime, *, records: Subscriptions) -> None:
    """Revokes the subscribers of the clients that the events say are gone, and their subscriptions.

    Raises StoreUnavailable.
    """
    for event in accepted.events:
        client = removed_client(event, accepted.tenant, accepted.accepted_at)
        if client is None:
            continue
        for subscriber in await records.subscribers(client.owner):
            if client.loses(subscriber):
                await records.change_subscriber(
                    client.owner,
                    subscriber.id,
                    partial(revoke_subscriber, now=now),
                    and_subscriptions=partial(revoke_subscription, now=now),
                    action=client.action,
                )
        log_revoked(client, event.id)


def log_revoked(client: RemovedClient, event_id: str) -> None:
    """Tells the operator whose records an event has revoked."""
    log.info(
        "client.revoked", tenant=client.owner.tenant, client_id=client.owner.client_id, event_id=event_id
    )
