"""The platform as it is deployed, in simulated time: requests to ingest, fan-out, one shard of deliveries.

Nothing that happens in `deliver` changes what ingest and fanout do, so the stages run one after the other:
`fanned_out` plays all requests of all tenants, `Shard` then plays the deliveries of one shard, one by one.
The functions' instances serve all shards, and a shard gets its part of them: the run of an only shard is
exact, that of one of many but for the chance by which loads balance (`tests/unit/test_deployment.py` compares
both).

The work of deliver is the product's own: an instance has the `Pipeline` with the pace at the `Edge`, the
`Observer` and the `Judge`. Its clock is the simulation's, and no event loop runs, which would be too slow for
millions of deliveries. This module has the world around it: receivers, the queue, the records.
"""

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, cast

from cachetools import LRUCache

from event_platform.adapters.firestore.subscriptions import TENANTS_HELD
from event_platform.adapters.firestore.success_counts import has_failures, share_of
from event_platform.deliver import Judge, Observer, Pipeline
from event_platform.deliver.deliver import ended_unsent, settlement_of
from event_platform.deliver.edge import Edge, Push
from event_platform.domain.attempts import retries
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Kind as OutcomeKind
from event_platform.domain.attempts.outcomes import classify
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import is_alone
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.pace.turns import COPY_SECONDS, SPREAD_OF_COPIES
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.suspension import HOUR_MINUTES, Count, Series
from event_platform.fanout.recent_lanes import LANES_KEPT, RecentLanes
from event_platform.maintain.requeue import BEGINNING_SECONDS, MOST_OF_A_PAGE

from .cloud import CloudRun, Instance, Lane, Pause, Pushing, PushSubscription, Simulation
from .cloud import Push as Pushed
from .cost import CPU_SHARE_USED, Assumed, Function, with_work
from .population import START, Mix, Subscribed, Tenant, moment

MAX_AGE = timedelta(days=3)
ROOM = 1.5
"""The factor of instances × concurrency over what Pub/Sub has outstanding (`infra/stack/sizes.py`)."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The settings of `pulumi up`, and the sizes that follow from them."""

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
    """Seconds that nobody measured on Google's services, and the work of requeuing retries."""

    hop: tuple[float, float] = (0.05, 0.6)
    """The seconds from a publish to the first push: the median and the sigma of a log-normal. p99 is four
    medians.
    """
    publish: float = 0.02
    """The seconds of a publish request, or of a write to Firestore."""
    page: float = 0.3
    """The seconds of a page of maintain: query, publish, delete."""
    tick: float = 60.0
    retry_delays: Sequence[timedelta] = tuple(timedelta(seconds=each) for each in retries.HTTPS_SECONDS)


@dataclass(frozen=True, slots=True)
class Published:
    """The result of one request to ingest: the number of its events, and when fanout had published their
    deliveries.
    """

    tenant: Tenant
    events: int
    accepted_at: float
    published_at: float
    instance: int


@dataclass(slots=True)
class FannedOut:
    """The results of the first two stages."""

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

    def fan_out(push: Pushed[_Request]) -> None:
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

    def published(push: Pushed[_Request], instance: Instance) -> None:
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
    """Returns the seconds from a publish until the message may be pushed."""
    median, sigma = times.hop
    return median * math.exp(sigma * chance.gauss(0, 1))


def _requests(
    tenants: Sequence[Tenant], mix: Mix, chance: random.Random
) -> Iterator[tuple[float, Tenant, int]]:
    """Yields moment, tenant and events: requests come at random moments, of each tenant by its rate."""
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
    """Returns the instances of ingest or fanout for that many requests a second, by the autoscaler's
    targets.
    """
    open_seconds = function.cpu_seconds + times.publish
    return rate * max(function.cpu_seconds, open_seconds / function.concurrency) / CPU_SHARE_USED


class Sent(NamedTuple):
    """A message of the queue. The delivery's receipt is its subscription."""

    delivery: Delivery
    alone: bool


@dataclass(slots=True)
class Tally:
    """The numbers of a shard's deliveries by their results. Firestore's writes are by their purpose."""

    published: int = 0
    arrived: int = 0
    failed: int = 0
    dropped: int = 0
    requeued: int = 0
    attempts: int = 0
    throttled: int = 0
    suspended: int = 0
    writes: Counter[str] = field(default_factory=Counter[str])
    arrivals: dict[Subscribed, list[tuple[float, float]]] = field(
        default_factory=dict[Subscribed, list[tuple[float, float]]]
    )
    """The moments of acceptance and arrival, by subscription."""


class _Clock:
    """The port `Clock` of the product's parts."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def now(self) -> datetime:
        return moment(self._simulation.now)

    def wall(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return self._simulation.now

    async def sleep(self, seconds: float) -> None:
        await Pause(seconds)


class _Records:
    """The shard's subscriptions as an instance knows them: a rate, once there is one, from a copy of 2 s."""

    def __init__(self, subscribed: Mapping[str, Subscribed], simulation: Simulation, tally: Tally) -> None:
        self._subscribed = subscribed
        self._simulation = simulation
        self._tally = tally
        self._copies: dict[str, tuple[Rate | None, float]] = {}

    async def current(self, subscription_id: str) -> Subscription:
        record = self._subscribed[subscription_id].record
        if record.rate is None:
            return record
        rate, read_at = self._copies.get(subscription_id, (None, -math.inf))
        if self._simulation.now - read_at >= COPY_SECONDS:
            rate = self._read(record)
        return record if rate is record.rate else replace(record, rate=rate)

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        subscribed = self._subscribed[subscription_id]
        before, after = subscribed.record, change(subscribed.record)
        if after is not before:
            self._tally.writes["paces"] += 1 + (after.lanes != before.lanes or before.rate is None)
            subscribed.record = after
        self._read(after)

    def _read(self, record: Subscription) -> Rate | None:
        self._copies[record.id] = (record.rate, self._simulation.now)
        return record.rate


class _Store:
    """The counts and the records of the shard's subscriptions, for the product's `Judge`."""

    def __init__(self, subscribed: Mapping[str, Subscribed], tally: Tally) -> None:
        self._subscribed = subscribed
        self._tally = tally
        self._counts: dict[Series, dict[int, Count]] = {}

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        alone = [series for series, minutes in counts.items() if has_failures(minutes)]
        shares = {share_of(series) for series in counts.keys() - alone}
        self._tally.writes["success counts"] += len(alone) + len(shares)
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
        """Makes the shard.

        `tenants` are those of this shard; `warm` instances are there from the beginning.
        """
        self._chance = chance
        self._deployment = deployment
        self._assumed, self._times = assumed or Assumed(), times or Times()
        self._policy = DeliverPolicy(self._times.retry_delays, MAX_AGE, timeout)
        self.simulation = simulation = Simulation()
        self._clock = _Clock(simulation)
        self.tally = Tally()
        self.subscribed = [each for tenant in tenants for each in tenant.subscriptions]
        self._names = {tenant.name for tenant in tenants}
        self._by_id = {each.record.id: each for each in self.subscribed}
        self._store = _Store(self._by_id, self.tally)
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
        self._instances: dict[int, Pipeline[Push]] = {}
        self._lanes: dict[tuple[str, int, int], Lane[Sent]] = {}
        self._retries: list[tuple[datetime, int, Delivery]] = []
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
        """The number of deliveries that wait: in lanes, in pushes, on hops and on the retry schedule."""
        tally = self.tally
        return tally.published - tally.arrived - tally.failed - tally.dropped

    @property
    def retries_waiting(self) -> int:
        return len(self._retries)

    def _publish(self, request: Published, recent: RecentLanes) -> None:
        """Publishes as fanout does: marked if no other event of the lane is near.

        Lanes are by chance, as hashes are.
        """
        sent: list[tuple[Subscribed, int]] = [
            (subscribed, int(self._chance.random() * subscribed.record.lanes))
            for _ in range(request.events)
            for subscribed in request.tenant.subscriptions
            if subscribed.record.status is Status.ACTIVE
        ]
        messages = [Message(b"", {}, f"{each.record.id}/{each.record.epoch}/{lane}") for each, lane in sent]
        for (subscribed, lane), message in zip(sent, recent.marked(messages), strict=True):
            record = subscribed.record
            accepted_at = moment(request.accepted_at)
            delivery = Delivery(
                record.id, "", "", accepted_at, lane, record.lanes, record.epoch, b"", receipt=subscribed
            )
            self._into_lane(delivery, alone=is_alone(message))
        self.tally.published += len(sent)

    def _into_lane(self, delivery: Delivery, *, alone: bool = False) -> None:
        """Adds a message to its lane in the order of publishing: a late one makes those behind it late."""
        key = (delivery.subscription_id, delivery.epoch, delivery.lane)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane[Sent]()
        lane.last_at = max(lane.last_at, self.simulation.now + hop(self._chance, self._times))
        self.simulation.at(lane.last_at, self.pushes.add, lane, Sent(delivery, alone))

    # The world around deliver

    def _handle(self, push: Pushed[Sent]) -> None:
        ready = push.instance.works(self.simulation.now, self._assumed.deliver.cpu_seconds)
        self.simulation.at(ready, self.simulation.play, self._carry_out(push))

    async def _carry_out(self, pushed: Pushed[Sent]) -> None:
        number = pushed.instance.number
        pipeline = self._instances.get(number)
        if pipeline is None:
            pipeline = self._instances[number] = self._instance(number)
        delivery, alone = pushed.message
        await pipeline.carry_out(Push(delivery, pushed.began, alone))
        self.pushes.acknowledge(pushed)

    def _instance(self, number: int) -> Pipeline[Push]:
        clock, limits = self._clock, self._deployment.limits
        records = _Records(self._by_id, self.simulation, self.tally)
        return Pipeline(
            pace=Edge(records, clock, limits, timeout=self._policy.timeout, deadline=_no_deadline),
            attempt=partial(self._attempt, records),
            observer=Observer(records, records, clock, limits),
            settle=partial(self._settle, number),
            judge=_JudgeWithoutTasks(self._store, self._store, Egress(), clock),  # type: ignore[arg-type]
        )

    async def _attempt(self, records: _Records, delivery: Delivery) -> Settlement:
        """Returns the settlement as `deliver` does, without a request."""
        began, began_at = self.simulation.now, self._clock.now()
        subscription = await records.current(delivery.subscription_id)
        end = ended_unsent(delivery, subscription, began_at, self._policy.max_age)
        if end is not None:
            return Settlement(delivery, None, end=end)
        self.tally.attempts += 1
        result, seconds = _subscribed(delivery).receiver.answers(began, self._chance)
        await Pause(seconds)
        outcome = classify(result)
        self.tally.throttled += outcome.kind is OutcomeKind.THROTTLED
        return settlement_of(
            delivery,
            subscription,
            result,
            outcome,
            began_at=began_at,
            latency=seconds,
            now=self._clock.now(),
            policy=self._policy,
        )

    async def _settle(self, instance: int, push: Push, settlement: Settlement) -> None:
        delivery = settlement.delivery
        if settlement.retry_at is not None:
            self._order += 1
            heapq.heappush(self._retries, (settlement.retry_at, self._order, delivery))
            self.tally.writes["retries"] += 1
            await Pause(self._times.publish)
        elif settlement.back_to_lane:
            self.tally.requeued += 1
            self._into_lane(delivery)
            await Pause(self._times.publish)
        elif settlement.end is not None:
            await self._log(instance, delivery, settlement.end)
        else:
            self._arrived(delivery, settlement.pace)

    def _arrived(self, delivery: Delivery, seen: Observation | None) -> None:
        """Notes the arrival, in the middle of the exchange."""
        self.tally.arrived += 1
        arrived = self.simulation.now - (seen.latency / 2 if seen is not None else 0.0)
        accepted = (delivery.accepted_at - START).total_seconds()
        self.tally.arrivals.setdefault(_subscribed(delivery), []).append((accepted, arrived))

    async def _log(self, instance: int, delivery: Delivery, end: DeliveryEnd) -> None:
        """Writes an end before the answer. An instance writes its part of an entry once a second."""
        is_dropped = end.operation is Operation.DROPPED
        self.tally.dropped += is_dropped
        self.tally.failed += not is_dropped
        key = (instance, f"{delivery.subscription_id} {end.operation} {end.message}")
        now = self.simulation.now
        written_at = max(now, self._ends_logged.get(key, -math.inf) + 1.0)
        if written_at > now and self._ends_logged[key] > now:  # the write that waits takes this end too
            written_at = self._ends_logged[key]
        else:
            self._ends_logged[key] = written_at
            self.tally.writes["log entries"] += 1
        await Pause(written_at - now + self._times.publish)

    # What maintain does

    def _tick(self) -> None:
        self.simulation.at(self.simulation.now + self._times.tick, self._tick)
        self._requeue_page(self.simulation.now + BEGINNING_SECONDS)

    def _requeue_page(self, end: float) -> None:
        """Requeues a page, which holds retries of all shards alike."""
        now = self.simulation.now
        if now >= end or not self._retries or self._retries[0][0] > self._clock.now():
            return
        for _ in range(max(1, MOST_OF_A_PAGE // self._deployment.shards)):
            if not self._retries or self._retries[0][0] > self._clock.now():
                break
            _, _, delivery = heapq.heappop(self._retries)
            self.tally.writes["deletes of retries"] += 1
            self._into_lane(delivery)
        self.simulation.at(now + self._times.page, self._requeue_page, end)


def _subscribed(delivery: Delivery) -> Subscribed:
    return cast("Subscribed", delivery.receipt)


_NEVER = nullcontext()


def _no_deadline(seconds: float) -> AbstractAsyncContextManager[None]:
    """Returns no deadline: nothing in memory is late."""
    return _NEVER
