"""The tenants and receivers of the simulated deployment: a heavy tail of tenants, receivers by chance."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import SecretStr

from event_platform.domain.attempts.outcomes import Answer, Reason, Result, TransportFailure
from event_platform.domain.messages.queue_messages import deliveries_topic
from event_platform.domain.pace import rates
from event_platform.domain.pace.lanes import LANES_AT_START
from event_platform.domain.pace.rates import HALVED_AFTER, Limits, Rate
from event_platform.domain.subscriptions import HttpsConfig, Owner, Subscription

from .throughput import Allowance

START = datetime(2026, 1, 1, tzinfo=UTC)
"""The moment at which simulations begin."""


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Kind(StrEnum):
    """The kinds of receivers."""

    HEALTHY = "healthy"
    SLOW = "slow"  # 2 s, so that some requests time out
    HANGING = "hanging"  # every request times out
    DOWN = "down"  # refuses connections, from some moment of the last minute or the run on
    THROTTLING = "throttling"  # answers 429 beyond what it allows


@dataclass(frozen=True, slots=True)
class Mix:
    """The assumptions about tenants and receivers."""

    events_a_tenant: float = 5.0
    """The events a second, in the mean: 10,000 tenants send 50,000."""
    tail: float = 1.16
    """The exponent of the Pareto distribution: at 1.16 a fifth of the tenants sends four fifths."""
    most_of_a_tenant: float = 500.0
    """The most events a second of a tenant: no PIM is thought to save more."""
    batch: float = 10.0
    """The events of a request to ingest, in the mean; geometric."""
    subscriptions: Sequence[tuple[int, float]] = ((1, 0.7), (2, 0.2), (4, 0.1))
    """The numbers of subscriptions of a tenant, and the share of tenants with each; every subscription gets
    every event.
    """
    kinds: Sequence[tuple[Kind, float]] = (
        (Kind.HEALTHY, 0.95),
        (Kind.SLOW, 0.015),
        (Kind.HANGING, 0.005),
        (Kind.DOWN, 0.005),
        (Kind.THROTTLING, 0.025),
    )
    healthy_seconds: tuple[float, float] = (0.1, 0.5)
    """The distribution of the receivers' medians: the median, and the sigma of the log-normal."""
    slow_seconds: tuple[float, float] = (2.0, 0.3)
    jitter: float = 0.3
    """The sigma of one receiver's answers."""
    errors: float = 0.002
    """The share of requests that a healthy receiver answers 503."""
    allowed: Sequence[float] = (2.0, 10.0, 50.0)
    timeout: float = 5.0


DELIVERED, ERROR, THROTTLED = Answer(204), Answer(503), Answer(429)
TIMED_OUT = TransportFailure(Reason.DESTINATION_TIMEOUT)
REFUSED = TransportFailure(Reason.CONNECTION_REFUSED)
REFUSES_AFTER = 0.005


@dataclass(slots=True)
class Receiver:
    """A receiver. It is in trouble from `trouble_at` on, if its kind is of that sort."""

    kind: Kind
    seconds: float
    trouble_at: float
    allowance: Allowance | None
    mix: Mix

    def answers(self, now: float, chance: random.Random) -> tuple[Result, float]:
        """Returns the answer to a request of this moment, and its latency in seconds."""
        if now >= self.trouble_at:
            return (REFUSED, REFUSES_AFTER) if self.kind is Kind.DOWN else (TIMED_OUT, self.mix.timeout)
        seconds = self.seconds * math.exp(self.mix.jitter * chance.gauss(0, 1))
        if seconds >= self.mix.timeout:
            return TIMED_OUT, self.mix.timeout
        if self.allowance is not None and not self.allowance.takes(now):
            return THROTTLED, seconds
        return (ERROR if chance.random() < self.mix.errors else DELIVERED), seconds


@dataclass(slots=True, eq=False)
class Subscribed:
    """A subscription as it changes: its record, its receiver, and the deliveries a second meant for it."""

    record: Subscription
    receiver: Receiver
    load: float

    def carries(self, limits: Limits, beside: float) -> float:
        """Returns the deliveries a second that its lanes carry now, with `beside` seconds around each
        exchange.

        A lane's turns are `lanes / rate` apart, and an exchange that takes longer misses some of them.
        """
        lanes, rate = self.record.lanes, self.record.current_rate.at(START, limits)
        turn = lanes / rate
        return lanes / (turn * math.ceil((self.receiver.seconds + beside) / turn))

    def gets(self, limits: Limits, beside: float) -> float:
        """Returns the deliveries a second that it gets of its load."""
        allowance = self.receiver.allowance
        allowed = math.inf if allowance is None else allowance.at(0.0)
        return min(self.load, allowed, self.carries(limits, beside))


@dataclass(frozen=True, slots=True)
class Tenant:
    """A PIM: its events a second, and the subscriptions that each of them goes to."""

    name: str
    rate: float
    subscriptions: Sequence[Subscribed]


def population(mix: Mix, count: int, limits: Limits, chance: random.Random, seconds: float) -> list[Tenant]:
    """Returns that many tenants, there for an hour, the heaviest first. Trouble begins within `seconds`."""
    return [
        _tenant(f"https://pim-{number}.example", rate, mix, limits, chance, seconds)
        for number, rate in enumerate(tenant_rates(mix, count))
    ]


def tenant_rates(mix: Mix, count: int) -> list[float]:
    """Returns events a second by the quantiles of the Pareto distribution: the same for each seed."""
    weights = [((number + 0.5) / count) ** (-1 / mix.tail) for number in range(count)]
    most = min(mix.most_of_a_tenant, mix.events_a_tenant * count)
    low, high = 0.0, mix.events_a_tenant * count
    for _ in range(60):  # the factor at which the mean is right, though the heaviest are cut off
        factor = (low + high) / 2
        total = sum(min(most, factor * weight) for weight in weights)
        low, high = (factor, high) if total < mix.events_a_tenant * count else (low, factor)
    return [min(most, high * weight) for weight in weights]


def of_shard(tenants: Sequence[Tenant], shard: int, shards: int) -> list[Tenant]:
    """Returns the tenants whose deliveries travel on `deliveries-<shard>`."""
    return [tenant for tenant in tenants if deliveries_topic(tenant.name, shards) == f"deliveries-{shard}"]


def busiest_shard(tenants: Sequence[Tenant], shards: int, weight: Callable[[Tenant], float]) -> int:
    """Returns the shard whose tenants weigh the most together."""
    load = dict.fromkeys((f"deliveries-{shard}" for shard in range(shards)), 0.0)
    for tenant in tenants:
        load[deliveries_topic(tenant.name, shards)] += weight(tenant)
    return int(max(load, key=lambda topic: load[topic]).removeprefix("deliveries-"))


def _tenant(
    name: str, rate: float, mix: Mix, limits: Limits, chance: random.Random, seconds: float
) -> Tenant:
    counts, weights = zip(*mix.subscriptions, strict=True)
    count = chance.choices(counts, weights)[0]
    return Tenant(
        name, rate, [_subscribed(name, number, rate, mix, limits, chance, seconds) for number in range(count)]
    )


def _subscribed(
    tenant: str, number: int, load: float, mix: Mix, limits: Limits, chance: random.Random, seconds: float
) -> Subscribed:
    kinds, weights = zip(*mix.kinds, strict=True)
    kind = chance.choices(kinds, weights)[0]
    median, sigma = mix.slow_seconds if kind is Kind.SLOW else mix.healthy_seconds
    allowed = chance.choice(mix.allowed) if kind is Kind.THROTTLING else None
    receiver = Receiver(
        kind,
        min(mix.timeout, median * math.exp(sigma * chance.gauss(0, 1))),
        chance.uniform(0, seconds) if kind in (Kind.DOWN, Kind.HANGING) else math.inf,
        None if allowed is None else Allowance([(0.0, allowed)]),
        mix,
    )
    before = START - timedelta(hours=1)
    record = Subscription(
        id=f"{tenant}/{number}",
        subscriber_id=tenant,
        owner=Owner(tenant, "erp"),
        source="pim",
        subject=tenant,
        events=(),
        config=HttpsConfig(f"https://receiver-{number}.example", SecretStr("simulated")),
        created_at=before,
        updated_at=before,
        lanes=LANES_AT_START,
        lanes_changed_at=before,
        rate=_rate(allowed, load, limits, chance),
    )
    return Subscribed(_with_lanes(record, receiver.seconds, limits), receiver, load)


def _rate(allowed: float | None, load: float, limits: Limits, chance: random.Random) -> Rate | None:
    """Returns a rate between two 429s if more is sent than the receiver allows; else None."""
    if allowed is None or load < allowed:
        return None
    ceiling = limits.within(max(rates.CEILING_AT_LEAST, rates.CEILING_SHARE * allowed))
    return Rate(
        START - timedelta(seconds=chance.uniform(3, rates.PLATEAU_SECONDS)),
        min(ceiling, limits.within(rates.BASE_SHARE * allowed)),
        ceiling,
    )


def _with_lanes(record: Subscription, latency: float, limits: Limits) -> Subscription:
    """Returns the record with as many lanes as the hour before gave it."""
    while True:
        now = START + HALVED_AFTER
        rate = record.current_rate.at(START, limits)
        lanes = rates.lanes_after(record.lanes, START, rate, latency, now)
        if lanes == record.lanes:
            return record
        record = replace(record, lanes=lanes)
