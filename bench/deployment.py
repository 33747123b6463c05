"""The limits of the deployment, simulated: `python -m bench.deployment` prints the tables of docs/scale.md.

Tenants with a heavy-tailed load, receivers of which some are in trouble, and the functions as `pulumi up`
makes them; a minute on two cores. The same seed gives the same tables. `bench/shard.py` says what is exact,
`bench/cloud.py` what is known of Pub/Sub and Cloud Run; `bench/population.py` has the tenants and receivers,
`bench/cost.py` the cost. Nothing of this was measured on Google's services.
"""

import argparse
import gc
import math
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from event_platform.adapters.firestore.success_counts import SHARED_PARTS
from event_platform.deliver.judge import SUCCESSES_KEPT_SECONDS
from event_platform.maintain.requeue import BEGINNING_SECONDS, MOST_OF_A_PAGE

from .cloud import Pushing
from .cost import (
    CPU_SHARE_USED,
    HOURS_A_MONTH,
    MILLION,
    Assumed,
    Costs,
    Traffic,
    busy,
    success_counts,
    with_work,
    without_logs,
)
from .population import Kind, Mix, Subscribed, Tenant, busiest_shard, of_shard, population
from .shard import Deployment, Shard, Times, fanned_out, needed

SEED = 10
BEFORE, MEASURED, AFTER = 10.0, 10.0, 5.0
"""The seconds until the simulation is settled, of the deliveries that count, and for these to arrive."""
BUSY_AT_MOST = 0.5
"""The most that a subscription may get, as a share of the capacity of its lanes, for its latencies to
count.
"""
AROUND = 0.03
"""The seconds of a push around the exchange: until the next one of its lane comes, and its CPU."""
PROCESSES = 2
TABLE_WIDTH = 134


DEFAULT = Deployment()


@dataclass(frozen=True, slots=True)
class Case:
    """A load on a deployment. `cold`: no instance has been started, and the whole load comes at once."""

    events: float
    deployment: Deployment = DEFAULT
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a run. Of several shards it is the busiest; rates are a second, times seconds.

    Instances are those that the targets of the autoscaler ask for, of deliver in all shards together.
    """

    case: Case
    offered: float
    """The deliveries a second of all shards, as fanout publishes them."""
    got: float
    """The part of `offered` that subscriptions can get with their lanes, their rates and their receivers."""
    of_shard: float
    """The part of `got` of the shard that was simulated."""
    ingest: float
    fanout: float
    deliver: float
    outstanding: float
    most_outstanding: int
    held_back: int
    """The number of lanes whose next delivery waited for the window in the end."""
    nacks: float
    push_seconds: float
    p50: float
    p99: float
    retries: float
    rates_and_ends: float
    """Firestore's writes for rates, lanes and log entries."""
    counts: float
    """Firestore's writes for counts of successes."""
    queried: float
    """The share of messages for which fanout read the tenant's subscriptions."""


CARRIES = Case(50_000, Deployment(shards=8, rate_max=500))
"""The settings that carry 50,000 events a second."""
CASES = [
    *(Case(events) for events in (1000, 5000, 8000, 10_000)),
    Case(5000, cold=True),
    *(Case(50_000, Deployment(shards=shards)) for shards in (4, 8, 16)),
    CARRIES,
    replace(CARRIES, cold=True),
]
GROWING = CASES[1]
"""The case by which the limits are computed: all of its figures grow with the load."""


def play(case: Case, mix: Mix | None = None) -> Found:
    """Simulates the case."""
    gc.disable()  # nothing is left behind that only the collector would find, and looking takes a fifth
    mix = mix or Mix()
    deployment, seconds = case.deployment, BEFORE + MEASURED + AFTER
    tenants = tenants_of(case, mix)
    fanned = fanned_out(tenants, deployment, mix, seconds, _chance(1), warm=not case.cold)

    def gets(tenant: Tenant) -> float:
        return sum(each.gets(deployment.limits, AROUND) for each in tenant.subscriptions)

    mine = of_shard(tenants, busiest_shard(tenants, deployment.shards, gets), deployment.shards)
    got, of_mine = sum(map(gets, tenants)), sum(map(gets, mine))
    work = Assumed().deliver.cpu_seconds / CPU_SHARE_USED
    shard = Shard(
        mine,
        deployment,
        _chance(2),
        pushing=Pushing() if case.cold else Pushing(window_at_start=deployment.outstanding),
        warm=0 if case.cold else math.ceil(of_mine * work),
    )
    tally = shard.run(fanned.requests, seconds)
    latencies = sorted(
        arrived - accepted
        for each in shard.subscribed
        if is_within(each, deployment)
        for accepted, arrived in tally.arrivals.get(each, ())
        if case.cold or BEFORE <= accepted < BEFORE + MEASURED
    )
    counts = shard.pushes.counts
    looked = counts.outstanding[int(BEFORE) :]
    deliver = shard.deliver.wanted * got / of_mine
    loads = [each.gets(deployment.limits, AROUND) for tenant in tenants for each in tenant.subscriptions]
    a_second = got / of_mine / seconds
    return Found(
        case=case,
        offered=sum(tenant.rate * len(tenant.subscriptions) for tenant in tenants),
        got=got,
        of_shard=of_mine,
        ingest=fanned.ingest.wanted,
        fanout=fanned.fanout.wanted,
        deliver=deliver,
        outstanding=sum(looked) / len(looked),
        most_outstanding=counts.most_outstanding,
        held_back=shard.pushes.held_back,
        nacks=counts.nacks / counts.pushes,
        push_seconds=counts.seconds / (counts.pushes - counts.nacks),
        p50=latencies[len(latencies) // 2],
        p99=latencies[int(len(latencies) * 0.99)],
        retries=tally.writes["retries"] * a_second,
        rates_and_ends=(tally.writes["paces"] + tally.writes["log entries"]) * a_second,
        counts=success_counts(loads, deliver, mix.batch),
        queried=fanned.queried,
    )


def tenants_of(case: Case, mix: Mix) -> list[Tenant]:
    """Returns as many tenants as make the load: a greater load has more of them, not busier ones."""
    count = round(case.events / mix.events_a_tenant)
    seconds = BEFORE + MEASURED + AFTER
    return population(mix, count, case.deployment.limits, _chance(0), seconds)


def _chance(part: int) -> random.Random:
    return random.Random(SEED + part)  # noqa: S311 - no secret


def is_within(subscribed: Subscribed, deployment: Deployment) -> bool:
    """True if the receiver is healthy and the load well within the capacity of its lanes."""
    carried = subscribed.carries(deployment.limits, AROUND)
    return subscribed.receiver.kind is Kind.HEALTHY and subscribed.load <= BUSY_AT_MOST * carried


@dataclass(frozen=True, slots=True)
class Limit:
    """A part that is full at that many events a second, with the settings of the example `production`."""

    what: str
    events: float
    knob: str


def limits(found: Found, mix: Mix) -> list[Limit]:
    """Returns the limits, the lowest first.

    Each follows from the use of the run, which grows with the load.
    """
    events, deployment, assumed, times = found.case.events, found.case.deployment, Assumed(), Times()
    alone = needed(with_work(assumed.ingest, 1), events, times)
    kilobytes = quota_kilobytes(mix, found, assumed)
    requeued = MOST_OF_A_PAGE / times.page * BEGINNING_SECONDS / times.tick
    full = [
        ("quota of pushes, if 20 MB/s", 20_000 / kilobytes.pushed, "more quota"),
        ("quota of publishing, 200 MB/s", 200_000 / kilobytes.published, "more quota"),
        ("window of the shard", deployment.outstanding / found.outstanding, "deliveriesShards"),
        ("instances of deliver", deployment.most_deliver / found.deliver, "deliveriesShards"),
        ("instances of fanout", deployment.most_fanout / found.fanout, "outstandingMessages"),
        ("instances of ingest", deployment.most_ingest / found.ingest, "maxInstances"),
        ("ingest, one event a request", deployment.most_ingest / alone, "maxInstances"),
        ("retries put back", requeued / found.retries, "code: pages one after the other"),
        (
            "documents of success counts, 1 write/s each",
            SHARED_PARTS * SUCCESSES_KEPT_SECONDS / found.deliver,
            "code: SHARED_PARTS",
        ),
    ]
    return sorted(
        (Limit(what, events * times_more, knob) for what, times_more, knob in full),
        key=lambda limit: limit.events,
    )


class Kilobytes(NamedTuple):
    """The kilobytes a second. Each push and publish request counts as full kilobytes (Pub/Sub quotas)."""

    published: float
    pushed: float


def quota_kilobytes(mix: Mix, found: Found, assumed: Assumed) -> Kilobytes:
    """Returns the kilobytes: a request to ingest is a message on `events`, and each delivery a publish
    request.
    """
    traffic = Traffic(found.got)
    of_event = mix.batch * traffic.body_bytes + assumed.event_attributes_bytes
    of_delivery = traffic.body_bytes + assumed.delivery_attributes_bytes
    events = found.case.events / mix.batch * math.ceil(of_event / 1000)
    return Kilobytes(
        events + found.offered * math.ceil(of_delivery / 1000),
        events + found.got * math.ceil(of_delivery / 1000),
    )


def bill(found: Found, mix: Mix) -> Costs:
    """Returns US dollars for a million deliveries."""
    assumed = Assumed()
    deliver = replace(
        assumed.deliver,
        open_seconds=found.push_seconds,
        cpu_seconds=found.deliver * CPU_SHARE_USED / found.got,
    )
    loads = [
        each.gets(found.case.deployment.limits, AROUND)
        for tenant in tenants_of(found.case, mix)
        for each in tenant.subscriptions
    ]
    traffic = Traffic(
        found.got,
        batch=mix.batch,
        subscriptions=found.got / found.case.events,
        failing=found.retries / found.got,
        shares=[load / found.got for load in loads],
    )
    return busy(traffic, replace(assumed, deliver=deliver))


def main() -> None:
    """Prints the tables."""
    argparse.ArgumentParser(
        prog="python -m bench.deployment", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    mix = Mix()
    with ProcessPoolExecutor(PROCESSES) as processes:
        found = dict(zip(CASES, processes.map(play, CASES), strict=True))
    console = Console(width=TABLE_WIDTH, highlight=False)
    for table in (
        _runs(list(found.values())),
        _limits(limits(found[GROWING], mix)),
        _costs([found[CASES[0]], found[GROWING], found[CARRIES]], mix),
    ):
        console.print(table)


def _runs(found: Sequence[Found]) -> Table:
    table = _table(
        "Runs: deliveries a second, instances, and of the busiest shard what is open and how long it takes",
        ["events/s", "shards", "rate", "meant", "got", "ingest", "fanout", "deliver", "most"],
        ["open", "held back", "nacks", "p50", "p99"],
    )
    for each in found:
        deployment = each.case.deployment
        table.add_row(
            f"{each.case.events:,.0f}{' cold' if each.case.cold else ''}",
            f"{deployment.shards}",
            f"{deployment.rate_max:g}",
            f"{each.offered:,.0f}",
            f"{each.got:,.0f}",
            *(f"{math.ceil(count)}" for count in (each.ingest, each.fanout, each.deliver)),
            f"{deployment.most_deliver}",
            f"{each.outstanding:,.0f}",
            f"{each.held_back:,}",
            f"{each.nacks:.1%}",
            f"{each.p50:.2f} s",
            f"{each.p99:.1f} s",
        )
    return table


def _limits(limits: Sequence[Limit]) -> Table:
    table = _table(
        "As the example production is deployed: what is full first", ["limit", "full at events/s", "knob"]
    )
    for limit in limits:
        table.add_row(limit.what, f"{limit.events:,.0f}", limit.knob)
    return table


def _costs(found: Sequence[Found], mix: Mix) -> Table:
    table = _table(
        "US dollars a million deliveries, by events/s", ["", *(f"{each.case.events:,.0f}" for each in found)]
    )
    bills = [bill(each, mix) for each in found]
    for line in bills[0]:
        table.add_row(line, *(f"{each[line]:.2f}" for each in bills))
    table.add_section()
    table.add_row("Sum", *(f"{sum(each.values()):.2f}" for each in bills))
    table.add_row("Sum without logs", *(f"{without_logs(each):.2f}" for each in bills))
    months = [each.got * 3600 * HOURS_A_MONTH / MILLION for each in found]
    a_month = [without_logs(each) * month for each, month in zip(bills, months, strict=True)]
    table.add_row("A month, without logs", *(f"{dollars:,.0f}" for dollars in a_month))
    table.add_section()
    table.add_row("Firestore writes/s: success counts", *(f"{each.counts:,.0f}" for each in found))
    table.add_row("retries", *(f"{each.retries:,.0f}" for each in found))
    table.add_row("rates, lanes, log entries", *(f"{each.rates_and_ends:,.0f}" for each in found))
    table.add_row("messages for which fanout reads", *(f"{each.queried:.0%}" for each in found))
    return table


def _table(title: str, *columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in chain.from_iterable(columns):
        table.add_column(name, justify="left" if name in {"", "limit", "knob"} else "right", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
