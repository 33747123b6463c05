"""Actions: who did what to a subscriber or subscription, and its log entry (contract/wire.md 13).

A store that changes a record calls `entry_of` with the record before and after, and writes the entry in the
same commit: what else hangs on a change takes the same three arguments.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import uuid_utils

from ..replays import Replay
from ..subscriptions import Status, Subscriber, Subscription
from . import representations
from .logs import CAUGHT_UP, LogEntry, LogType


class Actor(StrEnum):
    """The actors that change a record: its owner through the management API, the platform by itself, or the
    platform's operator.
    """

    USER = "user"
    PLATFORM = "platform"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Call:
    """A request of the management API as a log entry shows it: `body` is redacted and bounded already.

    `url` is the path, as the public platform's entries have it.
    """

    method: str
    url: str
    body: Any = None

    def shown(self) -> dict[str, Any]:
        """The keys in the contract's order."""
        return {"body": "" if self.body is None else self.body, "method": self.method, "url": self.url}


@dataclass(frozen=True, slots=True)
class Action:
    """An action: by whom a record is changed, with which call, and the reason if the platform decided it."""

    by: Actor
    call: Call | None = None
    reason: str | None = None


BY_THE_PLATFORM = Action(Actor.PLATFORM)
BY_THE_OPERATOR = Action(Actor.OPERATOR)

_DONE_BY_STATUS = {
    Status.ACTIVE: "resumed",
    Status.SUSPENDED: "suspended",
    Status.REVOKED: "revoked",
    Status.DELETED: "deleted",
}


def entry_of(
    before: Subscriber | Subscription | None, after: Subscriber | Subscription, action: Action
) -> LogEntry | None:
    """The entry of a change that was made at `after.updated_at`; None when nothing changed."""
    if before == after:
        return None
    is_subscription = isinstance(after, Subscription)
    noun = "subscription" if is_subscription else "subscriber"
    return LogEntry(
        id=str(uuid_utils.uuid7()),
        owner=after.owner,
        log_type=LogType.ACTION,
        at=after.updated_at,
        operation=f"{noun}_{_done(before, after)}_by_the_{action.by}",
        subscriber_id=after.subscriber_id if isinstance(after, Subscription) else after.id,
        subscription_id=after.id if is_subscription else None,
        error_message=action.reason,
        request=action.call.shown() if action.call else {},
        response=(
            representations.subscription(after)
            if isinstance(after, Subscription)
            else representations.subscriber(after)
        ),
    )


def replay_entry(
    replay: Replay, subscription: Subscription, done: str, at: datetime, action: Action
) -> LogEntry:
    """The entry of a replay that was `done`: "started", "cancelled" or "ended"."""
    return LogEntry(
        id=str(uuid_utils.uuid7()),
        owner=subscription.owner,
        log_type=LogType.ACTION,
        at=at,
        operation=f"replay_{done}_by_the_{action.by}",
        subscriber_id=subscription.subscriber_id,
        subscription_id=subscription.id,
        error_message=action.reason,
        request=action.call.shown() if action.call else {},
        response=representations.replay(replay),
    )


def caught_up_entry(subscription: Subscription, events: int, at: datetime, reason: str | None) -> LogEntry:
    """The entry of a subscription that has caught up with so many events; `reason` is why not with more."""
    return LogEntry(
        id=str(uuid_utils.uuid7()),
        owner=subscription.owner,
        log_type=LogType.ACTION,
        at=at,
        operation=CAUGHT_UP,
        subscriber_id=subscription.subscriber_id,
        subscription_id=subscription.id,
        error_message=reason,
        response={"events": events},
    )


def _done(before: Subscriber | Subscription | None, after: Subscriber | Subscription) -> str:
    if before is None:
        return "created"
    return "updated" if before.status is after.status else _DONE_BY_STATUS[after.status]
