"""The platform as it is deployed, in simulated time: requests to ingest, fan-out, one shard of deliveries.

Nothing that happens in `deliver` changes what ingest and fanout do, so the stages run one after the other:
`fanned_out` plays all requests of all tenants, `Shard` then plays the deliveries of one shard, one by one.
The functions' instances serve all shards, and a shard gets its part of them: the run of an only shard is
exact, that of one of many but for the chance by which loads balance (`tests/unit/test_deployment.py`
compares both).

Decisions are the product's own: `Turn`, `paced`, `retry_at`, `classify`, `RecentLanes`, `Judge`. What stands
here is their order, as in `deliver/edge.py`: asyncio would be too slow for millions of deliveries.
"""

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any

from cachetools import LRUCache

from event_platform.adapters.firestore.subscriptions import TENANTS_HELD
from event_platform.deliver.edge import HELD_AT_MOST, TRIED_WITHIN
from event_platform.deliver.judge import Judge
from event_platform.domain.attempts import retries
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Kind as OutcomeKind
from event_platform.domain.attempts.outcomes import Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import is_alone
from event_platform.domain.pace import rates
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.pace.turns import COPY_SECONDS, SPREAD_OF_COPIES, Turn
from event_platform.domain.paced import paced
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.suspension import HOUR_MINUTES, Count, Series
from event_platform.fanout.recent_lanes import LANES_KEPT, RecentLanes
from event_platform.maintain.put_back import BEGINNING_SECONDS, MOST_OF_A_PAGE

from .cloud import CloudRun, Instance, Lane, Push, Pushing, PushSubscription, Simulation
from .cost import CPU_SHARE_USED, Assumed, Function, with_work
from .population import Mix, Subscribed, Tenant, moment

ROOM = 1.5
"""Of instances × concurrency over what Pub/Sub has outstanding, as `infra/stack/sizes.py` deploys it."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What `pulumi up` is told, and what it makes of that."""

    shards: int = 1
    outstanding: int = 3000
    """The setting outstandingMessages."""
    rate_max: float = 100.0
    """The setting AEP_RATE_MAX."""
    most_ingest: int = 50

    @property
    def most_fanout(self) -> int:
        return math.ceil(ROOM * self.outstanding / Assumed().fanout.concurrency)

    @property
    def most_deliver(self) -> int:
        return math.ceil(ROOM * self.outstanding * self.shards / Assumed().deliver.concurrency)

    @property
    def limits(self) -> Limits:
        return Limits(maximum=self.rate_max, spread=SPREAD_OF_COPIES)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that nobody measured on Google's services, and how the retries are put back."""

    hop: tuple[float, float] = (0.05, 0.6)
    """From a publish to the first push: the median and the sigma of a log-normal. p99 is four medians."""
    publish: float = 0.02
    """A publish request, or a write to Firestore."""
    page: float = 0.3
    """A page of maintain: query, publish, delete."""
    tick: float = 60.0
    retry_delays: Sequence[timedelta] = tuple(timedelta(seconds=each) for each in (300, 600, 1200))


@dataclass(frozen=True, slots=True)
class Published:
    """What came of one request to ingest: how many events, and when fanout had published their deliveries."""

    tenant: Tenant
    events: int
    accepted_at: float
    published_at: float
    instance: int


@dataclass(slots=True)
class FannedOut:
    """The first two stages."""

    requests: list[Published]
    ingest: CloudRun
    fanout: CloudRun
    events: PushSubscription[Any]
    queried: float
    """The share of messages for which fanout had to read the tenant's subscriptions."""


@dataclass(frozen=True, slots=True)
class _Request:
    tenant: Tenant
    events: int
    accepted_at: float


def fanned_out(
    tenants: Sequence[Tenant],
    deployment: Deployment,
    mix: Mix,
    seconds: float,
    chance: random.Random,
    *,
    warm: bool = False,
    assumed: Assumed | None = None,
    times: Times | None = None,
) -> FannedOut:
    """Plays ingest, `events` and fanout for that long, with nothing started or (`warm`) as many as needed."""
    assumed, times = assumed or Assumed(), times or Times()
    simulation = Simulation()
    requests_a_second = sum(tenant.rate for tenant in tenants) / mix.batch
    each = sum(tenant.rate * len(tenant.subscriptions) for tenant in tenants) / requests_a_second
    ingest, fanout = (
        _cloud_run(
            simulation,
            chance,
            function,
            most,
            warm=math.ceil(needed(with_work(function, work), requests_a_second, times)) if warm else 0,
        )
        for function, most, work in (
            (assumed.ingest, deployment.most_ingest, mix.batch),
            (assumed.fanout, deployment.most_fanout, each),
        )
    )
    pushing = Pushing(window_at_start=deployment.outstanding) if warm else Pushing()
    held: dict[int, LRUCache[str, bool]] = {}
    read: Counter[bool] = Counter()
    done: list[Published] = []

    def fan_out(push: Push[_Request]) -> None:
        request = push.message
        deliveries = request.events * len(request.tenant.subscriptions)
        work = with_work(assumed.fanout, deliveries).cpu_seconds
        instance = push.instance
        known = held.setdefault(instance.number, LRUCache(TENANTS_HELD))
        is_held = request.tenant.name in known
        known[request.tenant.name] = True
        read[is_held] += 1
        ends_at = instance.works(simulation.now, work) + times.publish * (1 if is_held else 2)
        simulation.at(ends_at, published, push, instance)

    def published(push: Push[_Request], instance: Instance) -> None:
        request = push.message
        done.append(
            Published(request.tenant, request.events, request.accepted_at, simulation.now, instance.number)
        )
        events.acknowledge(push)

    def take(tenant: Tenant, count: int, instance: Instance) -> None:
        work = with_work(assumed.ingest, count).cpu_seconds
        simulation.at(instance.works(simulation.now, work) + times.publish, accepted, tenant, count, instance)

    def accepted(tenant: Tenant, count: int, instance: Instance) -> None:
        ingest.release(instance)
        request = _Request(tenant, count, simulation.now)
        simulation.at(simulation.now + hop(chance, times), events.add, Lane[_Request](), request)

    def come(requests: Iterator[tuple[float, Tenant, int]]) -> None:
        upcoming = next(requests)
        simulation.at(upcoming[0], arrive, requests, *upcoming[1:])

    def arrive(requests: Iterator[tuple[float, Tenant, int]], tenant: Tenant, count: int) -> None:
        ingest.request(partial(take, tenant, count), lambda: None)  # a refused PIM is told so
        come(requests)

    events: PushSubscription[_Request] = PushSubscription(simulation, fanout, fan_out, pushing=pushing)
    come(_requests(tenants, mix, chance))
    simulation.run(seconds)
    return FannedOut(done, ingest, fanout, events, read[False] / max(1, read.total()))


def hop(chance: random.Random, times: Times) -> float:
    """Seconds from a publish to when the message may be pushed."""
    median, sigma = times.hop
    return median * math.exp(sigma * chance.gauss(0, 1))


def _requests(
    tenants: Sequence[Tenant], mix: Mix, chance: random.Random
) -> Iterator[tuple[float, Tenant, int]]:
    """Moment, tenant, events: requests come at random moments, of each tenant by its rate."""
    weights = list(accumulate(tenant.rate for tenant in tenants))
    a_second = weights[-1] / mix.batch
    another = 1 - 1 / mix.batch
    now = 0.0
    while True:
        for tenant in chance.choices(tenants, cum_weights=weights, k=1000):
            now += chance.expovariate(a_second)
            events = 1 if another == 0 else 1 + int(math.log(1 - chance.random()) / math.log(another))
            yield now, tenant, events


def _cloud_run(
    simulation: Simulation, chance: random.Random, function: Function, most: int, *, warm: int
) -> CloudRun:
    return CloudRun(
        simulation,
        chance,
        concurrency=function.concurrency,
        most=most,
        cold_seconds=function.cold_seconds,
        warm=warm,
    )


def needed(function: Function, rate: float, times: Times) -> float:
    """Instances of ingest or fanout for that many requests a second, by the autoscaler's targets."""
    open_seconds = function.cpu_seconds + times.publish
    return rate * max(function.cpu_seconds, open_seconds / function.concurrency) / CPU_SHARE_USED


@dataclass(slots=True, eq=False)
class Sent:
    """A delivery on its way."""

    subscribed: Subscribed
    lane: int
    lanes: int
    epoch: int
    accepted_at: float
    alone: bool
    attempts: int = 0
    failures: int = 0
    first_attempt_at: datetime | None = None


@dataclass(slots=True)
class Tally:
    """What became of the deliveries of a shard. Firestore's writes are by what they are for."""

    published: int = 0
    arrived: int = 0
    failed: int = 0
    dropped: int = 0
    put_back: int = 0
    attempts: int = 0
    throttled: int = 0
    suspended: int = 0
    writes: Counter[str] = field(default_factory=Counter[str])
    arrivals: dict[Subscribed, list[tuple[float, float]]] = field(
        default_factory=dict[Subscribed, list[tuple[float, float]]]
    )
    """Moments of acceptance and arrival, by subscription."""


class _Clock:
    """The port `Clock`, for the product's parts that only ask for the time."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def now(self) -> datetime:
        return moment(self._simulation.now)

    def wall(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return self._simulation.now

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nobody sleeps here")


class _Store:
    """The counts and the records of the shard's subscriptions, for the product's `Judge`."""

    def __init__(self, subscribed: Sequence[Subscribed], tally: Tally) -> None:
        self._subscribed = {each.record.id: each for each in subscribed}
        self._tally = tally
        self._counts: dict[Series, dict[int, Count]] = {}

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        self._tally.writes["success counts"] += len(counts)
        for series, minutes in counts.items():
            known = self._counts.setdefault(series, {})
            for minute, count in minutes.items():
                known.setdefault(minute, Count()).add(count)

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        counts = self._counts.get(series, {})
        return {at: count for at, count in counts.items() if minute <= at < minute + HOUR_MINUTES}

    async def change_subscription(
        self,
        owner: object,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: object,
    ) -> None:
        subscribed = self._subscribed[subscription_id]
        before, subscribed.record = subscribed.record, change(subscribed.record)
        if subscribed.record is not before:
            self._tally.suspended += 1
            self._tally.writes["management"] += 2  # the record and its log entry


class _JudgeWithoutTasks(Judge):
    """A judge that writes with attempts alone, as there is no event loop."""

    def _flush_soon(self) -> None:
        pass


def _now(done: Awaitable[None]) -> None:
    """Runs what never waits, as it works on memory alone, without an event loop."""
    steps = done.__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


class Shard:
    """One push subscription of deliveries, and its part of the instances of deliver."""

    def __init__(
        self,
        tenants: Sequence[Tenant],
        deployment: Deployment,
        chance: random.Random,
        *,
        assumed: Assumed | None = None,
        times: Times | None = None,
        pushing: Pushing | None = None,
        warm: int = 0,
        timeout: float = 5.0,
    ) -> None:
        """`tenants` are those of this shard; `warm` instances are there from the beginning."""
        self._chance = chance
        self._deployment = deployment
        self._assumed, self._times = assumed or Assumed(), times or Times()
        self._limits = deployment.limits
        self._timeout = timeout
        self.simulation = simulation = Simulation()
        self._clock = _Clock(simulation)
        self.tally = Tally()
        self.subscribed = [each for tenant in tenants for each in tenant.subscriptions]
        self._names = {tenant.name for tenant in tenants}
        self._store = _Store(self.subscribed, self.tally)
        self.deliver = _cloud_run(
            simulation,
            chance,
            self._assumed.deliver,
            math.ceil(deployment.most_deliver / deployment.shards),
            warm=warm,
        )
        self.pushes: PushSubscription[Sent] = PushSubscription(
            simulation, self.deliver, self._handle, pushing=pushing
        )
        self._judges: dict[int, Judge] = {}
        self._copies: dict[tuple[int, str], tuple[Rate | None, float]] = {}
        self._latencies: dict[str, float] = {}
        self._lanes: dict[tuple[str, int, int], Lane[Sent]] = {}
        self._retries: list[tuple[datetime, int, Sent]] = []
        self._ends_logged: dict[tuple[int, str], float] = {}
        self._order = 0
        simulation.at(self._times.tick, self._tick)

    def run(self, requests: Sequence[Published], seconds: float) -> Tally:
        """Plays the deliveries of these requests for that long."""
        mine = deque(
            sorted(
                (each for each in requests if each.tenant.name in self._names),
                key=lambda each: each.published_at,
            )
        )
        share = LANES_KEPT // self._deployment.shards
        recent: dict[int, RecentLanes] = {}

        def publish(request: Published) -> None:
            seen = recent.setdefault(request.instance, RecentLanes(self._clock, kept=share))
            self._publish(request, seen)
            if mine:
                follow(mine.popleft())

        def follow(request: Published) -> None:
            self.simulation.at(max(request.published_at, self.simulation.now), publish, request)

        if mine:
            follow(mine.popleft())
        self.simulation.run(seconds)
        return self.tally

    @property
    def under_way(self) -> int:
        """Deliveries that wait: in lanes, in pushes, on hops and on the retry schedule."""
        tally = self.tally
        return tally.published - tally.arrived - tally.failed - tally.dropped

    @property
    def retries_waiting(self) -> int:
        return len(self._retries)

    def _publish(self, request: Published, recent: RecentLanes) -> None:
        """As fanout does: marked where nothing else of the lane is near. Lanes by chance, as hashes are."""
        sent: list[tuple[Subscribed, int]] = [
            (subscribed, int(self._chance.random() * subscribed.record.lanes))
            for _ in range(request.events)
            for subscribed in request.tenant.subscriptions
            if subscribed.record.status is Status.ACTIVE
        ]
        messages = [Message(b"", {}, f"{each.record.id}/{each.record.epoch}/{lane}") for each, lane in sent]
        for (subscribed, lane), message in zip(sent, recent.marked(messages), strict=True):
            record = subscribed.record
            self._into_lane(
                Sent(subscribed, lane, record.lanes, record.epoch, request.accepted_at, is_alone(message))
            )
        self.tally.published += len(sent)

    def _into_lane(self, sent: Sent) -> None:
        """In the order of publishing: one that is late makes those behind it late."""
        key = (sent.subscribed.record.id, sent.epoch, sent.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane[Sent]()
        lane.last_at = max(lane.last_at, self.simulation.now + hop(self._chance, self._times))
        self.simulation.at(lane.last_at, self.pushes.add, lane, sent)

    # What `Deliver` and `Edge` do with a push

    def _handle(self, push: Push[Sent]) -> None:
        instance = push.instance
        ready = instance.works(self.simulation.now, self._assumed.deliver.cpu_seconds)
        self.simulation.at(ready, self._begin, push)

    def _begin(self, push: Push[Sent]) -> None:
        sent = push.message
        if not self._is_sent(sent):
            self.tally.dropped += 1
            self._logged(push, "dropped")
            return
        if self._known(push).current_rate.held_for(self._clock.now()) > 0:
            self._turn(push, self._last_start(push), self._attempt, self._back_to_lane)
        else:
            self._attempt(push)

    def _is_sent(self, sent: Sent) -> bool:
        record = sent.subscribed.record
        return record.status is Status.ACTIVE and record.epoch == sent.epoch

    def _last_start(self, push: Push[Sent]) -> float:
        return push.began + TRIED_WITHIN - self._timeout

    def _attempt(self, push: Push[Sent]) -> None:
        sent, now = push.message, self.simulation.now
        if not self._is_sent(sent):
            self._begin(push)
            return
        sent.attempts += 1
        sent.first_attempt_at = sent.first_attempt_at or self._clock.now()
        self.tally.attempts += 1
        outcome, seconds = sent.subscribed.receiver.answers(now, self._chance)
        under = self._known(push)
        self.simulation.at(now + seconds, self._answered, push, outcome, now, under)

    def _answered(self, push: Push[Sent], outcome: Outcome, began: float, under: Subscription) -> None:
        sent, now = push.message, self._clock.now()
        self._observe(push, outcome, began, under)
        match outcome.kind:
            case OutcomeKind.DELIVERED:
                self.tally.arrived += 1
                arrived = (began + self.simulation.now) / 2
                self.tally.arrivals.setdefault(sent.subscribed, []).append((sent.accepted_at, arrived))
                self._judge(push, outcome)
                self._hold(push)
            case OutcomeKind.THROTTLED:
                self.tally.throttled += 1
                if retries.throttling_is_over(sent.attempts, sent.first_attempt_at or now, now):
                    self._fail(push, outcome)
                else:
                    self._turn(push, self._last_start(push), self._attempt, self._back_to_lane)
            case _:
                sent.failures += 1
                due = retries.retry_at(sent.failures, now, self._times.retry_delays)
                if due is None:
                    self._fail(push, outcome)
                    return
                self._order += 1
                heapq.heappush(self._retries, (due, self._order, sent))
                self.tally.writes["retries"] += 1
                self._judge(push, outcome)
                self.simulation.at(self.simulation.now + self._times.publish, self._hold, push)

    def _fail(self, push: Push[Sent], outcome: Outcome) -> None:
        self.tally.failed += 1
        self._judge(push, outcome)
        self._logged(push, str(outcome.reason))

    def _logged(self, push: Push[Sent], what: str) -> None:
        """An end is written before the answer; an instance writes its part of an entry once a second."""
        key = (push.instance.number, f"{push.message.subscribed.record.id} {what}")
        now = self.simulation.now
        written_at = max(now, self._ends_logged.get(key, -math.inf) + 1.0)
        if written_at > now and self._ends_logged[key] > now:  # the write that waits takes this end too
            written_at = self._ends_logged[key]
        else:
            self._ends_logged[key] = written_at
            self.tally.writes["log entries"] += 1
        self.simulation.at(written_at + self._times.publish, self.pushes.acknowledge, push)

    def _back_to_lane(self, push: Push[Sent]) -> None:
        """To the lane's end, and the push stays until the turn comes."""
        sent = push.message
        if not self._is_sent(sent):
            self._begin(push)
            return
        self.tally.put_back += 1
        self._into_lane(replace(sent, alone=False))
        self.simulation.at(self.simulation.now + self._times.publish, self._wait, push)

    def _hold(self, push: Push[Sent]) -> None:
        if push.message.alone:
            self.pushes.acknowledge(push)
        else:
            self._wait(push)

    def _wait(self, push: Push[Sent]) -> None:
        until = push.began + HELD_AT_MOST
        answer = self.pushes.acknowledge

        def too_late(push: Push[Sent]) -> None:
            self.simulation.at(max(until, self.simulation.now), answer, push)

        self._turn(push, until, answer, too_late)

    def _turn(
        self,
        push: Push[Sent],
        by: float,
        comes: Callable[[Push[Sent]], None],
        is_too_late: Callable[[Push[Sent]], None],
    ) -> None:
        """Goes on at the lane's turn, looked at every 2 s; or at once when that is later than `by`."""
        turn = Turn(push.message.lane, push.message.lanes, self._limits)

        def look() -> None:
            record = self._known(push)
            seconds = turn.wait(record.current_rate, self._clock.now()) if self._is_sent(push.message) else 0
            if seconds == 0:
                comes(push)
            elif self.simulation.now + seconds > by:
                is_too_late(push)
            else:
                self.simulation.at(self.simulation.now + min(seconds, COPY_SECONDS), look)

        look()

    def _known(self, push: Push[Sent]) -> Subscription:
        """The record with the rate that the instance knows: a copy of 2 s, once there is a rate at all."""
        record = push.message.subscribed.record
        if record.rate is None:
            return record
        key = (push.instance.number, record.id)
        rate, read_at = self._copies.get(key, (None, -math.inf))
        if self.simulation.now - read_at >= COPY_SECONDS:
            rate = self._reread(key, record)
        return record if rate is record.rate else replace(record, rate=rate)

    def _reread(self, key: tuple[int, str], record: Subscription) -> Rate | None:
        self._copies[key] = (record.rate, self.simulation.now)
        return record.rate

    def _observe(self, push: Push[Sent], outcome: Outcome, began: float, under: Subscription) -> None:
        """As `Observer` does: what an attempt told is written when it changes the rate or the lanes."""
        if outcome.status is None and outcome.reason is not Reason.DESTINATION_TIMEOUT:
            return
        subscribed = push.message.subscribed
        name = subscribed.record.id
        seconds = self.simulation.now - began
        latency = rates.with_latency(self._latencies.get(name), seconds)
        self._latencies[name] = latency
        throttled = outcome.kind is OutcomeKind.THROTTLED or outcome.reason is Reason.DESTINATION_TIMEOUT
        seen = Observation(moment(began), under.current_rate, seconds, throttled=throttled)
        now = self._clock.now()
        known = self._known(push)
        if paced(known, seen, latency, now, self._limits) is known:
            return
        record = subscribed.record
        after = paced(record, seen, latency, now, self._limits)
        if after is not record:
            self.tally.writes["paces"] += 1 + (after.lanes != record.lanes or record.rate is None)
            subscribed.record = after
        self._reread((push.instance.number, name), after)

    def _judge(self, push: Push[Sent], outcome: Outcome) -> None:
        number, record = push.instance.number, push.message.subscribed.record
        judge = self._judges.get(number)
        if judge is None:
            judge = _JudgeWithoutTasks(self._store, self._store, Egress(), self._clock)  # type: ignore[arg-type]
            self._judges[number] = judge
        _now(judge.settled(Settlement(_NONE, outcome, tried_under=record)))

    # What maintain does

    def _tick(self) -> None:
        self.simulation.at(self.simulation.now + self._times.tick, self._tick)
        self._put_back_page(self.simulation.now + BEGINNING_SECONDS)

    def _put_back_page(self, end: float) -> None:
        """A page holds retries of all shards alike."""
        now = self.simulation.now
        if now >= end or not self._retries or self._retries[0][0] > self._clock.now():
            return
        for _ in range(max(1, MOST_OF_A_PAGE // self._deployment.shards)):
            if not self._retries or self._retries[0][0] > self._clock.now():
                break
            _, _, sent = heapq.heappop(self._retries)
            self.tally.writes["deletes of retries"] += 1
            self._into_lane(replace(sent, alone=False))
        self.simulation.at(now + self._times.page, self._put_back_page, end)


_NONE = Delivery("", "", "", moment(0), 0, 1, 0, b"")
