"""Log entries: what they hold, which of them are one, and what a reader may ask for (contract/wire.md 13).

accepted = delivered + the sum of `occurrences` over the entries of the two operations of a delivery's end.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from ..attempts.outcomes import Reason
from ..subscriptions import Owner

KEPT_FOR = timedelta(days=30)
EVENTS_LISTED = 100
"""The number of events that an entry names; the others are only counted."""


class Operation(StrEnum):
    """The operations of entries for ends of deliveries."""

    FAILED = "failed_to_deliver_event"
    DROPPED = "deliveries_dropped"


REFUSED = "request_refused"
"""The operation of a management call that was answered 400."""
MORE_REFUSED = "more calls were refused; the log keeps a limited number of different ones an hour"
"""The message of the entry that counts the refused calls that have no entry of their own."""

MERGED_WITHIN = timedelta(minutes=5)
COUNTED_WITHIN = timedelta(hours=1)
"""The time within which equal entries are one, for entries that count events nobody waits for."""


def merged_within(operation: str, message: str | None) -> timedelta:
    """Returns the time within which equal entries are one (contract/wire.md 13)."""
    counts_only = operation == Operation.DROPPED or (operation == REFUSED and message == MORE_REFUSED)
    return COUNTED_WITHIN if counts_only else MERGED_WITHIN


def merging_bounds(at: datetime, within: timedelta) -> tuple[datetime, datetime]:
    """Returns the times between which an equal entry began, both exclusive, that counts what happens then."""
    return at - within, at + within


def window_start(at: datetime, within: timedelta) -> datetime:
    """Returns when the window began in which equal entries are one, for a store that writes without a read.

    Windows are as long as the time within which entries merge, and are counted on the clock.
    """
    seconds = within // timedelta(seconds=1)
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)


@dataclass(frozen=True, slots=True)
class DeliveryEnd:
    """One delivery that ended undelivered: the content of an error entry before merging.

    `status` and `excerpt` (the first kilobyte of the body) are the endpoint's answer, when there was one.
    """

    operation: Operation
    message: str
    at: datetime
    reason: Reason | None = None
    status: int | None = None
    excerpt: str | None = None

    def joins(self, first_at: datetime) -> bool:
        """True if this end is counted in an equal entry whose first end was at `first_at`."""
        after, before = merging_bounds(self.at, self.merged_within)
        return after < first_at < before

    @property
    def merged_within(self) -> timedelta:
        """The time within which equal ends are one entry."""
        return merged_within(self.operation, self.message)

    def entry_id(self, subscription_id: str) -> str:
        """The id of the entry that begins with this end: the same for whoever begins it."""
        name = f"{subscription_id}\n{self.operation}\n{self.message}\n{self.at.isoformat()}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]


class LogType(StrEnum):
    """An action changed something; an error is a delivery's end or a refused call."""

    ACTION = "action"
    ERROR = "error"


FAILED_DELIVERY = "failed_delivery"
VALIDATION_ERROR = "validation_error"
OFF_HTTP = 500
"""The error code of a delivery's end that no endpoint answered."""
MESSAGE_LENGTH = 1024

CHANGES = {
    "subscriber": ("created", "updated", "deleted", "revoked"),
    "subscription": ("created", "updated", "deleted", "suspended", "resumed", "revoked"),
    "replay": ("started", "cancelled", "ended"),
}
CAUGHT_UP = "subscription_caught_up"
"""The operation of the entry that says how many events a resumed subscription has caught up with."""
ACTIONS = frozenset(
    f"{noun}_{done}_by_the_{actor}"
    for noun, changes in CHANGES.items()
    for done in changes
    for actor in ("user", "platform", "operator")
) | {CAUGHT_UP}
ERRORS = frozenset({Operation.FAILED.value, Operation.DROPPED.value, REFUSED})


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry. `at` is the latest time of what it stands for; `events` the first of its events."""

    id: str
    owner: Owner
    log_type: LogType
    at: datetime
    operation: str
    subscriber_id: str | None = None
    subscription_id: str | None = None
    error_type: str | None = None
    error_reason: str | None = None
    error_code: int | None = None
    error_message: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict[str, Any])
    response: Mapping[str, Any] = field(default_factory=dict[str, Any])
    occurrences: int = 1
    events: Sequence[Mapping[str, Any]] = ()

    @property
    def is_of_a_delivery(self) -> bool:
        return self.error_type == FAILED_DELIVERY

    @property
    def merged_within(self) -> timedelta:
        """The time within which equal refusals are one entry."""
        return merged_within(self.operation, self.error_message)


@dataclass(frozen=True, slots=True)
class Position:
    """The end of a page: the entry's time in unix seconds and its id, by which entries are ordered."""

    at: float
    id: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The query of a reader: every filter that is set must fit. `since` is inclusive, `before` is not."""

    log_type: LogType | None = None
    operation: str | None = None
    error_reason: str | None = None
    subscriber_id: str | None = None
    subscription_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    newest_first: bool = True
    limit: int = 50
    after: Position | None = None

    def kind(self) -> tuple[str, str] | None:
        """The narrowest of log_type, operation and error_reason: it implies the others. None: none is set.

        Raises ValueError when they contradict each other, so that no entry can fit.
        """
        of_operation = None
        if self.operation is not None:
            of_operation = LogType.ACTION if self.operation in ACTIONS else LogType.ERROR
        wanted = {self.log_type, of_operation, LogType.ERROR if self.error_reason else None} - {None}
        if len(wanted) > 1 or (self.error_reason and self.operation not in (None, Operation.FAILED)):
            raise ValueError("these filters exclude each other")
        if self.error_reason is not None:
            return "error_reason", self.error_reason
        if self.operation is not None:
            return "operation", self.operation
        return ("log_type", self.log_type) if self.log_type is not None else None
