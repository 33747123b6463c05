"""Replays: kept events that are sent again to one subscription, by hand.

Where topics keep the events, a subscription that catches up is served by a replay as well.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .errors import Conflict, InvalidRequest, Problem
from .subscriptions import Status, Subscription

MAX_EVENT_IDS = 1_000
MAX_EVENTS = 1_000_000
"""The largest number of kept events that may lie in the range of a replay."""
SHOWN = 100
"""The number of replays of a subscription that are listed, and kept when they have ended."""

REPLAY_CANCELLED = "the replay was cancelled"
"""The message of the end of its deliveries that waited."""


CATCH_UP = "catch-up-"
"""The beginning of the ids of replays that serve a subscription which catches up."""


def is_catch_up(replay_id: str) -> bool:
    """True if it serves a subscription that catches up: of this its receiver sees nothing."""
    return replay_id.startswith(CATCH_UP)


def is_sent(replay_id: str | None, subscription: Subscription) -> bool:
    """True if a delivery of the replay, or of none, is sent to an active subscription."""
    return replay_id is None or replay_id == subscription.replay_id or is_catch_up(replay_id)


class Which(StrEnum):
    """The matching events that a replay sends.

    `undelivered`: those of which the subscription has had no 2xx, and of which no delivery waits.
    """

    UNDELIVERED = "undelivered"
    ALL = "all"


class ReplayStatus(StrEnum):
    """`ended`: the subscription was suspended, revoked or deleted meanwhile."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The events to send again: those accepted from `since` until `until`, or those of `event_ids`.

    `until` is None for the time at which the replay starts. `events` narrows to these types, if it has some.
    """

    since: datetime | None
    until: datetime | None = None
    event_ids: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    which: Which = Which.UNDELIVERED


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it is now. `events` is how many it sends, None until they are counted.

    `reason` is the status of the subscription that ended it.
    """

    id: str
    subscription_id: str
    asked: ReplayRequest
    created_at: datetime
    status: ReplayStatus = ReplayStatus.RUNNING
    events: int | None = None
    delivered: int = 0
    ended: int = 0
    reason: Status | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PushedReplay:
    """A replay whose events a topic pushes once more, where the topics keep them.

    Its range is from `since` until before `until`. `key` is the tenant's, and `epoch` the one of the
    subscription at the start. `pushed_at` is when an event of its range was pushed last, None before its push
    subscriptions were made; `watched_at` is when a tick looked at it last. `is_cut` means that some of what
    the subscription missed is kept no more.
    """

    replay: Replay
    tenant: str
    key: str
    epoch: int
    since: datetime
    until: datetime
    pushed_at: datetime | None = None
    watched_at: datetime | None = None
    is_cut: bool = False

    def has(self, accepted_at: datetime) -> bool:
        """True if events that were accepted then are in its range."""
        return self.since <= accepted_at < self.until

    def is_of(self, subscription: Subscription) -> bool:
        """True if it is still sent to the subscription as that is now."""
        return (
            subscription.id == self.replay.subscription_id
            and subscription.status is Status.ACTIVE
            and subscription.epoch == self.epoch
            and is_sent(self.replay.id, subscription)
        )


def check_replayable(subscription: Subscription) -> None:
    """Raises InvalidRequest for a subscription that gets test events, Conflict for one that is not active."""
    if subscription.source == "benchmark":
        raise InvalidRequest(
            Problem("", "test events of benchmarks are not kept, so there is nothing to replay")
        )
    check_active(subscription, "replay")


def check_active(subscription: Subscription, what: str) -> None:
    """Raises Conflict for a subscription that is not active: nothing is sent to it."""
    if subscription.status is not Status.ACTIVE:
        raise Conflict(
            f"subscription {subscription.id} is {subscription.status}, and a {what} needs an active one"
        )


def check_number(number: int) -> None:
    """Raises InvalidRequest when so many kept events lie in the range."""
    if number > MAX_EVENTS:
        raise InvalidRequest(
            Problem(
                "from",
                f"{number} kept events lie in the range, and a replay reads at most {MAX_EVENTS}:"
                " narrow it by from and to",
            )
        )
