"""The line `subscription.suspended` of the platform's log, for every suspension whatever its cause."""

from collections.abc import Iterable

import structlog

from ..domain.record.actions import Action, Actor
from ..domain.record.notifications import Change
from ..domain.subscriptions import Status, Subscription

log = structlog.get_logger()


def log_suspensions(changes: Iterable[Change], action: Action) -> None:
    """Writes a line for each change that suspended a subscription; for stores, after the commit.

    `by` is `platform`, `user` or `operator`: the alert of the deployment counts those of the platform.
    """
    for before, after in changes:
        if not isinstance(after, Subscription) or after.status is not Status.SUSPENDED:
            continue
        if before.status is Status.SUSPENDED:
            continue
        write = log.warning if action.by is Actor.PLATFORM else log.info
        write(
            "subscription.suspended",
            subscription_id=after.id,
            tenant=after.owner.tenant,
            client_id=after.owner.client_id,
            by=action.by,
            reason=action.reason,
        )
