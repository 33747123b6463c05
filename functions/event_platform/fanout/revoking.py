"""Revokes what a client has, once its connection or App is gone from the PIM (contract/wire.md 5)."""

from datetime import datetime
from functools import partial

import structlog

from ..domain.messages.queue_messages import Accepted
from ..domain.revocations import client_gone, revoking
from ..domain.subscriptions import Owner, revoke_subscriber, revoke_subscription
from ..ports import Subscriptions

log = structlog.get_logger()


async def revoke(accepted: Accepted, now: datetime, *, records: Subscriptions) -> None:
    """Revokes the subscribers of the clients that the events say are gone, and their subscriptions.

    Done again it changes nothing, also when the client has come back since: what is newer than the event
    stays. Raises StoreUnavailable.
    """
    for event in accepted.events:
        client_id = client_gone(event)
        if client_id is None:
            continue
        owner = Owner(accepted.tenant, client_id)
        for subscriber in await records.subscribers(owner):
            if subscriber.created_at > accepted.accepted_at:
                continue
            await records.change_subscriber(
                owner,
                subscriber.id,
                partial(revoke_subscriber, now=now),
                and_subscriptions=partial(revoke_subscription, now=now),
                action=revoking(event),
            )
        log.info("client.revoked", tenant=accepted.tenant, client_id=client_id, event_id=event.id)
