"""Deliveries, and the settlement that follows from each attempt."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from .attempts.outcomes import Kind, Outcome
from .pace.rates import Observation
from .record.logs import DeliveryEnd
from .replays import is_catch_up
from .subscriptions import Subscription
from .suspension import Suspension
from .values import value_object


@value_object
class Delivery:
    """One event for one subscription, through all its attempts.

    `attempts` counts the tries so far, `failures` those that used up a retry (a 429 does not).
    `lanes` and `epoch` are the subscription's when the delivery was put into `lane`. `receipt` is the
    queue's own handle; nobody else looks at it. `replay_id` names the replay that it belongs to, and
    `entered_at` is when an event that was kept came into its lane.
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
    replay_id: str | None = None
    entered_at: datetime | None = None

    @property
    def shown_replay_id(self) -> str | None:
        """The replay as the receiver is told of it."""
        return None if self.replay_id is None or is_catch_up(self.replay_id) else self.replay_id

    @property
    def waits_since(self) -> datetime:
        """Returns the time from which its age counts: an old event may be sent again."""
        return self.entered_at or self.accepted_at

    def after_attempt(self, began_at: datetime, *, used_a_retry: bool) -> "Delivery":
        """Returns it with one attempt more; `replace` would take as long as the rest of an attempt."""
        return Delivery(
            self.subscription_id,
            self.event_id,
            self.event_type,
            self.accepted_at,
            self.lane,
            self.lanes,
            self.epoch,
            self.body,
            self.attempts + 1,
            self.failures + used_a_retry,
            self.first_attempt_at or began_at,
            self.receipt,
            self.replay_id,
            self.entered_at,
        )


@value_object
class Settlement:
    """The settlement of a delivery that was handled once; the port `Settlements` applies it as a whole.

    Exactly one of these holds: it was delivered (all fields empty), it goes on the retry schedule
    (`retry_at`), it goes back to its lane (`back_to_lane`), or it ended undelivered (`end`).
    `outcome` is None when nothing was sent; `pace` is what an attempt showed of the receiver's pace.
    `delivery` bears the counts that the next attempt starts from. `tried_under` is the record that an attempt
    was made under; `suspension` is applied along with the end. `is_our_fault` marks an attempt that failed
    for a reason of ours: as most others did, or before this instance had a network. `milliseconds` is what
    the attempt took.
    """

    delivery: Delivery
    outcome: Outcome | None
    retry_at: datetime | None = None
    back_to_lane: bool = False
    end: DeliveryEnd | None = None
    pace: Observation | None = None
    tried_under: Subscription | None = field(default=None, repr=False, compare=False)
    suspension: Suspension | None = None
    is_our_fault: bool = False
    milliseconds: int = field(default=0, compare=False)

    @property
    def is_delivered(self) -> bool:
        """True if the receiver has taken it, so that it only has to be removed."""
        return self.outcome is not None and self.outcome.kind is Kind.DELIVERED

    @property
    def succeeded(self) -> bool | None:
        """True if the attempt counts for the success rate, False if against it; None if it does not count
        (contract/wire.md 11).

        A 429 counts once the delivery was given up for it. What is our own fault never does.
        """
        if self.outcome is None or self.is_our_fault:
            return None
        if self.outcome.kind is Kind.DELIVERED:
            return True
        return None if self.outcome.kind is Kind.THROTTLED and self.end is None else False


@dataclass(frozen=True, slots=True)
class DeliverPolicy:
    """The settings that decide about attempts."""

    retry_delays: Sequence[timedelta]
    max_age: timedelta
    timeout: float  # seconds, for one whole exchange
