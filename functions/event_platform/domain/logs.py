"""Log entries for deliveries that ended undelivered (wire contract 13).

accepted = delivered + the sum of `occurrences` over the entries of the two operations below.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from .outcomes import Reason

KEPT_FOR = timedelta(days=30)
EVENTS_LISTED = 100
"""How many events an entry names; the others are only counted."""


class Operation(StrEnum):
    """What a delivery's end is called in the log."""

    FAILED = "failed_to_deliver_event"
    DROPPED = "deliveries_dropped"


MERGED_WITHIN = {Operation.FAILED: timedelta(minutes=5), Operation.DROPPED: timedelta(hours=1)}
"""Equal entries of one subscription within this time are one entry (wire contract 13)."""


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
        """Whether this end is counted in an equal entry whose first end was at `first_at`."""
        return abs(self.at - first_at) < MERGED_WITHIN[self.operation]

    def entry_id(self, subscription_id: str) -> str:
        """The id of the entry that begins with this end: the same for whoever begins it."""
        name = f"{subscription_id}\n{self.operation}\n{self.message}\n{self.at.isoformat()}"
        return hashlib.sha256(name.encode()).hexdigest()[:32]
