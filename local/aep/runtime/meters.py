"""The numbers that the platform counts about itself: cheap to add to, and read on demand.

The writer thread adds to the commits, the thread of checkpoints to those, the event loop to everything else,
so no lock is needed.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from event_platform.domain.attempts.outcomes import Kind
from event_platform.domain.deliveries import Settlement
from event_platform.domain.feeds import ResourceState
from event_platform.domain.tenants import Way

from .gaps import Gaps

SUBSCRIPTIONS_NAMED = 200
PIMS_NAMED = 200
OTHER = "other"
"""The name for all subscriptions beyond those that are counted by name, and for paths that are no route."""

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
CHECKPOINT_SECONDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0)
COMMIT_JOBS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
PROCESSES = ("worker", "reading")
"""The processes of ours that are replaced when they hang."""
DELIVERY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3600, 86400)

CallKey = tuple[str, Way]
"""A PIM, empty where nothing said whose calls they were, and its ingest format."""


@dataclass(slots=True)
class LastCalls:
    """The last calls of a PIM by one ingest format, in unix seconds.

    `answered_at` is when a call was taken, also one without events.
    """

    taken_at: float | None = None
    answered_at: float | None = None
    refused_at: float | None = None
    status: int | None = None
    reason: str | None = None

    @property
    def is_refused_now(self) -> bool:
        """True if the last call was refused."""
        return self.refused_at is not None and self.refused_at > (self.answered_at or 0)


@dataclass(slots=True)
class OfFeed:
    """The numbers of one resource of a feed: its last success, and up to when it is complete.

    Both are in unix seconds. A resource that was never read has the time of its first failure as the former.
    """

    succeeded_at: float | None = None
    complete_to: float | None = None
    emitted: int = 0


class Histogram:
    """The numbers of values up to each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class OfSubscription:
    """The numbers that are counted for each subscription."""

    queued: int = 0
    delivered: int = 0
    ended: int = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """The numbers that the file holds at a start; `queued` by subscription id."""

    retries: int
    dead_letters: int
    to_fan_out: int
    queued: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Kept:
    """The figures of kept events: bytes, roughly, how many are not indexed, when the oldest was accepted."""

    bytes: int
    not_indexed: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class SentAgain:
    """The figures of replays and catching up: how many run by kind, how many ended by kind and status, and
    when the first event was accepted that a subscription still has to catch up with."""

    running: Mapping[str, int]
    ended: Mapping[tuple[str, str], int]
    behind_at: float | None


@dataclass(slots=True)
class Meters:
    """All numbers. Made once, and given to the parts that have something to count."""

    events_accepted: int = 0
    events_repeated: int = 0
    events_to_fan_out: int = 0
    deliveries_accepted: int = 0
    queued: int = 0
    retries: int = 0
    dead_letters: int = 0
    dead_events: int = 0
    faults: int = 0
    failed_by_us: int = 0
    delivered: int = 0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    notifications: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    requests: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    delivery_seconds: Histogram = field(default_factory=lambda: Histogram(DELIVERY_SECONDS))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_SECONDS))
    commit_jobs: Histogram = field(default_factory=lambda: Histogram(COMMIT_JOBS))
    commits_failed: int = 0
    checkpoint_seconds: Histogram = field(default_factory=lambda: Histogram(CHECKPOINT_SECONDS))
    processes_replaced: Counter[str] = field(
        default_factory=lambda: Counter[str](dict.fromkeys(PROCESSES, 0))
    )
    subscriptions: dict[str, OfSubscription] = field(default_factory=dict[str, OfSubscription])
    other: OfSubscription = field(default_factory=OfSubscription)
    last_calls: dict[CallKey, LastCalls] = field(default_factory=dict[CallKey, LastCalls])
    gaps: dict[str, Gaps] = field(default_factory=dict[str, Gaps])
    refusals: Counter[tuple[str, Way, int]] = field(default_factory=Counter[tuple[str, Way, int]])
    feeds: dict[tuple[str, str], OfFeed] = field(default_factory=dict[tuple[str, str], OfFeed])
    feed_errors: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    kept: Kept | None = None
    """None where nothing is kept."""
    sent_again: SentAgain | None = None

    def accepted(self, events: int, new: int, to_fan_out: int = 0) -> None:
        """Counts the accepted events of a request, and how many of them wait for their fan-out."""
        self.events_accepted += events
        self.events_repeated += events - new
        self.events_to_fan_out += to_fan_out

    def fanned_out(self, events: int) -> None:
        """Counts events that waited for their fan-out and have their deliveries now."""
        self.events_to_fan_out -= events

    def put_into_lanes(self, subscription_ids: Iterable[str]) -> None:
        """Counts one new delivery for each of the subscriptions."""
        self.deliveries_accepted += self._put_into_lanes(subscription_ids)

    def settled(self, settlement: Settlement, seconds: float) -> None:
        """Counts a settlement that was committed `seconds` after the event was accepted."""
        if (outcome := settlement.outcome) is not None:
            self.attempts[outcome.kind, outcome.reason or ""] += 1
            self.failed_by_us += settlement.is_our_fault
        if settlement.back_to_lane:
            return
        own = self._left_lane(settlement.delivery.subscription_id)
        if settlement.retry_at is not None:
            self.retries += 1
        elif (end := settlement.end) is not None:
            self.ended[end.operation, end.reason or ""] += 1
            own.ended += 1
        else:
            self._delivered(own, seconds)

    def taken(self, subscription_id: str, seconds: float) -> None:
        """Counts a delivery that a receiver took, committed `seconds` after the event was accepted."""
        self.attempts[Kind.DELIVERED, ""] += 1
        self._delivered(self._left_lane(subscription_id), seconds)

    def requeued(self, subscription_ids: Iterable[str]) -> None:
        """Counts retries that were due and are back in their lanes."""
        self.retries -= self._put_into_lanes(subscription_ids)

    def faulted(self) -> None:
        """Counts a failure of our own code on a delivery."""
        self.faults += 1

    def dead_lettered(self, subscription_id: str) -> None:
        """Counts a delivery that became a dead letter."""
        self._left_lane(subscription_id)
        self.dead_letters += 1

    def event_dead_lettered(self) -> None:
        """Counts an accepted event that became a dead letter in place of its fan-out."""
        self.faults += 1
        self.events_to_fan_out -= 1
        self.dead_events += 1

    def events_replayed(self, events: int) -> None:
        """Counts events that were dead letters and wait for their fan-out again."""
        self.events_to_fan_out += events
        self.dead_events -= events

    def notified(self, results: Iterable[tuple[str, str]]) -> None:
        """Counts notifications by their channel and result."""
        self.notifications.update(results)

    def moved_elsewhere(self, *, replayed: int, dropped: int) -> None:
        """Counts dead letters that another process has turned into retries, or has ended."""
        self.retries += replayed
        self.dead_letters -= replayed + dropped

    def opened(self, counted: Counted) -> None:
        """Takes over the numbers that the file held at the start."""
        self.retries = counted.retries
        self.dead_letters = counted.dead_letters
        self.events_to_fan_out = counted.to_fan_out
        for each in (*self.subscriptions.values(), self.other):
            each.queued = 0
        for subscription_id, queued in counted.queued.items():
            self._of(subscription_id).queued += queued
        self.queued = sum(counted.queued.values())

    def committed(self, seconds: float, jobs: int) -> None:
        """Counts a commit with the changes of so many jobs."""
        self.commit_seconds.observe(seconds)
        self.commit_jobs.observe(jobs)

    def checkpointed(self, seconds: float) -> None:
        """Counts a checkpoint of the write-ahead log."""
        self.checkpoint_seconds.observe(seconds)

    def commit_failed(self) -> None:
        """Counts a commit that failed."""
        self.commits_failed += 1

    def process_replaced(self, process: str) -> None:
        """Counts one of PROCESSES that hung and was replaced."""
        self.processes_replaced[process] += 1

    def answered(self, route: str, status: int) -> None:
        """Counts an answered request."""
        self.requests[route, str(status)] += 1

    def came(self, tenant: str, at: float) -> None:
        """Notes when a call of the PIM brought events, in unix seconds."""
        gaps = self.gaps.get(tenant)
        if gaps is None:
            gaps = self.gaps[tenant] = Gaps()
        gaps.note(at)

    def last_taken(self, tenant: str) -> float | None:
        """Returns when events of the PIM came last, in unix seconds; None if none ever came."""
        taken = [self.last_calls.get((tenant, way)) for way in Way]
        return max((each.taken_at for each in taken if each and each.taken_at is not None), default=None)

    def refused(self, tenant: str, way: Way, status: int) -> None:
        """Counts a refused call of ingest; `tenant` is empty when nothing says whose it was."""
        self.refusals[tenant, way, status] += 1

    def feeds_are(self, tenants: Sequence[str]) -> None:
        """Forgets the feeds of all other PIMs."""
        for key in [key for key in self.feeds if key[0] not in tenants]:
            del self.feeds[key]
        for error in [error for error in self.feed_errors if error[0] not in tenants]:
            del self.feed_errors[error]

    def feed_read(self, tenant: str, resource: str, state: ResourceState, events: int) -> None:
        """Counts the events of a page, and notes how far the resource of a feed has come."""
        if state.missing:
            self.feeds.pop((tenant, resource), None)
            return
        own = self.feeds.setdefault((tenant, resource), OfFeed())
        own.emitted += events
        last = state.succeeded_at or state.failed_since
        own.succeeded_at = None if last is None else last.timestamp()
        own.complete_to = None if state.cursor is None else state.cursor.timestamp()

    def feed_failed(self, tenant: str, resource: str, reason: str) -> None:
        """Counts a failure of a feed."""
        self.feed_errors[tenant, resource, reason] += 1

    def _put_into_lanes(self, subscription_ids: Iterable[str]) -> int:
        number = 0
        for subscription_id in subscription_ids:
            self._of(subscription_id).queued += 1
            number += 1
        self.queued += number
        return number

    def _left_lane(self, subscription_id: str) -> OfSubscription:
        own = self._of(subscription_id)
        self.queued -= 1
        own.queued -= 1
        return own

    def _delivered(self, own: OfSubscription, seconds: float) -> None:
        self.delivered += 1
        own.delivered += 1
        self.delivery_seconds.observe(seconds)

    def _of(self, subscription_id: str) -> OfSubscription:
        """Returns the numbers of a subscription.

        One that began in `other` stays there, so differences fit.
        """
        own = self.subscriptions.get(subscription_id)
        if own is None:
            if len(self.subscriptions) >= SUBSCRIPTIONS_NAMED:
                return self.other
            own = self.subscriptions[subscription_id] = OfSubscription()
        return own
