"""The latest attempts of subscriptions that somebody watches, as they are committed."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from event_platform.domain.attempts.outcomes import Kind
from event_platform.domain.deliveries import Settlement

from .queued import Taken, receipt_of

SHOWN = 50
"""The attempts of a subscription that are kept for who watches; earlier ones are only counted."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt. `at` is in unix seconds, `event_no` the number of its event."""

    at: float
    event_no: int
    outcome: str
    status: int | None
    reason: str | None
    milliseconds: int


class Tail:
    """The attempts of one subscription since somebody watches it; `seen` counts all of them."""

    def __init__(self) -> None:
        self.latest: deque[Attempt] = deque(maxlen=SHOWN)
        self.seen = 0

    def add(self, attempt: Attempt) -> None:
        self.latest.append(attempt)
        self.seen += 1

    @property
    def left_out(self) -> int:
        """The attempts that are not among the latest any more."""
        return self.seen - len(self.latest)


class Tails:
    """The tails that are watched. While there is none, nothing is done for any attempt."""

    def __init__(self) -> None:
        self.watched: dict[str, list[Tail]] = {}

    def watch(self, subscription_id: str) -> Tail:
        """Returns a new tail of the subscription, which is filled until `leave`."""
        tail = Tail()
        self.watched.setdefault(subscription_id, []).append(tail)
        return tail

    def leave(self, subscription_id: str, tail: Tail) -> None:
        """Ends a tail."""
        tails = self.watched[subscription_id]
        tails.remove(tail)
        if not tails:
            del self.watched[subscription_id]

    def note_taken(self, taken: Sequence[Taken], now: float) -> None:
        """Adds the deliveries, which receivers took, of subscriptions that are watched."""
        for _, _, _, event_no, subscription_id, _, status, milliseconds in taken:
            for tail in self.watched.get(subscription_id, ()):
                tail.add(Attempt(now, event_no, Kind.DELIVERED, status, None, milliseconds))

    def note_settled(self, settlement: Settlement, now: float) -> None:
        """Adds the attempt of a settlement, if it had one and its subscription is watched."""
        outcome, delivery = settlement.outcome, settlement.delivery
        if outcome is None:
            return
        for tail in self.watched.get(delivery.subscription_id, ()):
            event_no = receipt_of(delivery).event_no
            tail.add(
                Attempt(now, event_no, outcome.kind, outcome.status, outcome.reason, settlement.milliseconds)
            )
