"""Deliveries, and the settlement that follows from each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .logs import DeliveryEnd
from .outcomes import Outcome
from .rates import Observation


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one subscription, on its way.

    `attempts` counts the tries so far, `failures` those that used up a retry (a 429 does not).
    `lanes` and `epoch` are the subscription's when the delivery was put into `lane`. `receipt` is the
    queue's own handle; nobody else looks at it.
    """

    subscription_id: str
    event_id: str
    event_type: str
    accepted_at: datetime
    lane: int
    lanes: int
    epoch: int
    body: bytes = field(repr=False)
    attempts: int = 0
    failures: int = 0
    first_attempt_at: datetime | None = None
    receipt: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What follows from handling a delivery once; the port `Settlements` applies it as a whole.

    Exactly one of these holds: it was delivered (all fields empty), it goes on the retry schedule
    (`retry_at`), it goes back to its lane (`back_to_lane`), or it ended undelivered (`end`).
    `outcome` is None when nothing was sent; `pace` is what an attempt told about the receiver's pace.
    `delivery` bears the counts that the next attempt starts from.
    """

    delivery: Delivery
    outcome: Outcome | None
    retry_at: datetime | None = None
    back_to_lane: bool = False
    end: DeliveryEnd | None = None
    pace: Observation | None = None


@dataclass(frozen=True, slots=True)
class DeliverPolicy:
    """The settings that decide about attempts."""

    retry_delays: Sequence[timedelta]
    max_age: timedelta
    timeout: float  # seconds, for one whole exchange
