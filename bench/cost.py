"""The cost of deliveries on Google Cloud, computed from list prices: `python -m bench.cost` prints the
tables.

Pure arithmetic without a clock or a network: the same prices and sizes give the same tables. docs/cost.md
explains them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from event_platform.adapters.firestore.success_counts import PARTS, SHARED_PARTS, SHARES
from event_platform.deliver.judge import FAILURES_KEPT_SECONDS, SUCCESSES_KEPT_SECONDS
from event_platform.domain.suspension import JUDGED_EVERY_SECONDS
from event_platform.shared_lines import KEPT_SECONDS, TEXT_AT_MOST

MILLION = 1_000_000
GIB = 2**30
TIB = 2**40
HOURS_A_MONTH = 730
TABLE_WIDTH = 96
PROMISED = 1.50
"""The promised US dollars for a million deliveries, busy, at one subscription per event, egress included."""


class Price(StrEnum):
    """The things that Google charges for."""

    PUBSUB_TIB = "Pub/Sub throughput"
    REQUESTS = "Cloud Run requests"
    VCPU_SECOND = "Cloud Run vCPU, at work"
    GIB_SECOND = "Cloud Run memory, at work"
    IDLE_VCPU_SECOND = "Cloud Run vCPU, warm"
    IDLE_GIB_SECOND = "Cloud Run memory, warm"
    READS = "Firestore reads"
    WRITES = "Firestore writes"
    DELETES = "Firestore deletes"
    EGRESS_GIB = "Egress, premium tier"
    LOG_GIB = "Cloud Logging"
    SCHEDULER_JOB = "Cloud Scheduler job"
    SECRET_VERSION = "Secret Manager version"  # noqa: S105 - a name on the bill


@dataclass(frozen=True, slots=True)
class Listed:
    """A price: `dollars` for `per` of the smallest unit.

    Unless `stated`, it was not seen on Google's own page.
    """

    dollars: float
    per: float
    unit: str
    source: str
    stated: bool = True


PRICES: Mapping[Price, Listed] = {
    Price.PUBSUB_TIB: Listed(40, TIB, "TiB", "cloud.google.com/pubsub/pricing"),
    Price.REQUESTS: Listed(0.40, MILLION, "million", "cloud.google.com/run/pricing", stated=False),
    Price.VCPU_SECOND: Listed(0.000024, 1, "s", "cloud.google.com/run/pricing"),
    Price.GIB_SECOND: Listed(0.0000025, 1, "s", "cloud.google.com/run/pricing", stated=False),
    Price.IDLE_VCPU_SECOND: Listed(0.0000025, 1, "s", "cloud.google.com/run/pricing", stated=False),
    Price.IDLE_GIB_SECOND: Listed(0.0000025, 1, "s", "cloud.google.com/run/pricing", stated=False),
    Price.READS: Listed(0.03, 100_000, "100,000", "cloud.google.com/firestore/pricing", stated=False),
    Price.WRITES: Listed(0.09, 100_000, "100,000", "cloud.google.com/firestore/pricing", stated=False),
    Price.DELETES: Listed(0.01, 100_000, "100,000", "cloud.google.com/firestore/pricing", stated=False),
    Price.EGRESS_GIB: Listed(0.12, GIB, "GiB", "cloud.google.com/vpc/network-pricing", stated=False),
    Price.LOG_GIB: Listed(0.50, GIB, "GiB", "cloud.google.com/stackdriver/pricing"),
    Price.SCHEDULER_JOB: Listed(0.10, 1, "month", "cloud.google.com/scheduler/pricing"),
    Price.SECRET_VERSION: Listed(0.06, 1, "month", "cloud.google.com/secret-manager/pricing"),
}
"""The list prices, us-central1, first tier of volume. Noted in 2026-11, to be checked on the pages named."""

PUBSUB_LEAST_BYTES = 1000
"""The least bytes that are billed for a publish, push or pull request (Pub/Sub pricing)."""
PUBSUB_OWN_BYTES = 20 + 17
"""The bytes that are billed for each message: the timestamp, and the id as long as it is today (Pub/Sub
pricing).
"""
BILLED_STEP_SECONDS = 0.1
"""The step to which Cloud Run rounds time up (Cloud Run pricing)."""
CPU_SHARE_USED = 0.6
"""The share of its CPU that each instance uses: Cloud Run adds instances for that (about instance
autoscaling).
"""
CHECKS_A_SECOND = 2 / 4
"""The reads of an instance while events flow: its version bucket and the registry's, each every 4 s."""

Costs: TypeAlias = dict[str, float]
"""US dollars by line of the bill."""


@dataclass(frozen=True, slots=True)
class Function:
    """The settings of a function, and the work of one of its requests."""

    cpu_seconds: float
    open_seconds: float
    """The seconds from a request to its answer, holding the pace included."""
    concurrency: int = 80
    vcpus: float = 1.0
    gib: float = 0.5
    cold_seconds: float = 2.0
    """The billed seconds of a request that starts an instance."""
    further_cpu_seconds: float = 0.0
    """The seconds for each event or delivery of a request beyond the first."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic. `rate` is deliveries a second of the whole installation."""

    rate: float
    batch: float = 1
    """The events of one request to ingest, which make one message on `events`."""
    subscriptions: float = 1
    """The deliveries of one event."""
    shares: Sequence[float] = field(default_factory=lambda: alike(200))
    """The part of `rate` of each subscription: their successes are counted apart."""
    failing: float = 0.0
    """The share of deliveries that fail once and arrive with the first retry."""
    body_bytes: int = 1024
    logged: bool = True
    """True if there are lines of requests to ingest, messages at fanout and attempts, as at level info."""


@dataclass(frozen=True, slots=True)
class Assumed:
    """Sizes and times that no price list has; docs/cost.md says where each comes from."""

    event_attributes_bytes: int = 80
    delivery_attributes_bytes: int = 263
    """The bytes of attributes and ordering key of a delivery."""
    sent_bytes: int = 476
    """The bytes of a POST beyond its body: headers, TLS records, TCP and IP."""
    log_entry_bytes: int = 700
    """The bytes of an entry of the log, but for lists."""
    named_bytes: int = 240
    """The bytes of an event in the lists of ingest and fanout; `matched_bytes` are of each match."""
    matched_bytes: int = 42
    arrived_bytes: int = 88
    """The bytes of a delivery in the lists of deliver."""
    kinds: int = 5
    """The kinds of deliveries, by event type and status, that arrive side by side and have entries apart."""
    ingest: Function = field(
        default_factory=lambda: Function(0.0007, 0.05, concurrency=20, gib=1.0, further_cpu_seconds=0.0001)
    )
    fanout: Function = field(
        default_factory=lambda: Function(0.0007, 0.05, gib=1.0, further_cpu_seconds=0.0003)
    )
    deliver: Function = field(default_factory=lambda: Function(0.0006, 0.2, concurrency=250, gib=1.0))


@dataclass(frozen=True, slots=True)
class Sparse:
    """An installation at rest: an event an hour of each tenant, with one subscription."""

    tenants: int
    warm_ingest: bool = False
    cold: bool = True
    """True if each request starts an instance: with one tenant it does, with 100 hardly any."""
    retry_shards: int = 8
    tick_seconds: float = 0.2
    """The seconds of a tick that finds nothing: one query a shard."""
    secrets: int = 3


def cost(price: Price, amount: float) -> float:
    """Returns US dollars for `amount` bytes, requests, documents, seconds or pieces."""
    listed = PRICES[price]
    return amount * listed.dollars / listed.per


def pubsub_bytes(size: float, messages: float = 1) -> float:
    """Returns the billed bytes of a request with `messages` of `size` bytes (data, attributes and key)
    each.
    """
    return max(PUBSUB_LEAST_BYTES, messages * (size + PUBSUB_OWN_BYTES))


def billed_seconds(function: Function, rate: float) -> float:
    """Returns the instance seconds for one request, when `rate` a second come at random moments.

    An instance is billed while any request is open in it. Many requests share that time until its CPU or its
    concurrency is used up; few pay for an instance that mostly waits.
    """
    one_instance = -math.expm1(-rate * _in_steps(function.open_seconds)) / rate
    return max(
        function.cpu_seconds / (function.vcpus * CPU_SHARE_USED),
        function.open_seconds / function.concurrency,
        one_instance,
    )


def instance_cost(function: Function, seconds: float) -> float:
    """Returns US dollars for that many seconds of an instance at work."""
    return cost(Price.VCPU_SECOND, seconds * function.vcpus) + cost(Price.GIB_SECOND, seconds * function.gib)


def alike(count: int) -> Sequence[float]:
    """Returns the shares of that many subscriptions that get equal parts."""
    return [1 / count] * count


def success_counts(rates: Sequence[float], instances: float, batch: float = 1) -> float:
    """Returns the writes a second of the counts of successes.

    `rates` are the deliveries a second of each subscription. Deliveries come `batch` at a time. Each instance
    writes every 10 s a document for each share that it has seen a subscription of.
    """
    sees_a_batch = 1 - (1 - 1 / max(1.0, instances)) ** batch
    seen = (-math.expm1(-rate / batch * SUCCESSES_KEPT_SECONDS * sees_a_batch) for rate in rates)
    all_unseen = math.exp(sum(math.log1p(-each / SHARES) for each in seen))
    return instances * SHARES * (1 - all_unseen) / SUCCESSES_KEPT_SECONDS


def failure_counts(rates: Sequence[float], instances: float) -> float:
    """Returns the writes a second of the counts of failures, of which `rates` are those of each subscription.

    Each instance writes a document of the subscription, once a second at most.
    """
    return _by_instances(rates, instances, FAILURES_KEPT_SECONDS)


def judged_reads(rates: Sequence[float], instances: float) -> float:
    """Returns the reads a second of counts, where `rates` are the failures a second of each subscription.

    An instance judges a subscription every 10 s at most. It reads the documents of two hours, of which each
    instance writes to one of the subscription's and one that is shared.
    """
    written = sum(parts * (1 - (1 - 1 / parts) ** instances) for parts in (PARTS, SHARED_PARTS))
    return _by_instances(rates, instances, JUDGED_EVERY_SECONDS) * 2 * written


def _by_instances(rates: Sequence[float], instances: float, seconds: float) -> float:
    """Returns how often a second instances do what each does for a subscription once in `seconds` at most."""
    return instances * sum(-math.expm1(-rate / instances * seconds) for rate in rates) / seconds


def log_entries(rates: Sequence[float], line_bytes: float, instances: float, open_seconds: float) -> float:
    """Returns the entries a second that lines share, where `rates` are the lines a second of each kind.

    An instance writes what it keeps once a second, and when its last request is answered; an entry that is
    large by itself.
    """
    each = [rate / instances for rate in rates]
    rate = sum(each)
    written = 1 / KEPT_SECONDS + rate * math.exp(-rate * open_seconds)
    shared = written * sum(-math.expm1(-kind / written) for kind in each)
    return instances * (shared + rate * line_bytes / TEXT_AT_MOST)


def log_bytes(traffic: Traffic, assumed: Assumed, instances: Sequence[float]) -> float:
    """Returns the bytes of the log a million deliveries; `instances` are of ingest, fanout and deliver.

    An entry of ingest is of one PIM, which has one subscription here. An attempt that failed has one of its
    own.
    """
    events = MILLION / traffic.subscriptions
    named, matched = assumed.named_bytes / 2, assumed.matched_bytes * traffic.subscriptions
    requests = traffic.rate / traffic.subscriptions / traffic.batch
    of_kinds = [traffic.rate / assumed.kinds] * assumed.kinds
    entries = sum(
        log_entries(rates, line_bytes, count, function.open_seconds)
        for rates, line_bytes, count, function in zip(
            ([requests * share for share in traffic.shares], [requests], of_kinds),
            (traffic.batch * named, traffic.batch * (named + matched), assumed.arrived_bytes),
            instances,
            (assumed.ingest, assumed.fanout, assumed.deliver),
            strict=True,
        )
    )
    of_entries = entries * MILLION / traffic.rate + MILLION * traffic.failing
    lists = events * assumed.named_bytes + MILLION * (assumed.matched_bytes + assumed.arrived_bytes)
    return of_entries * assumed.log_entry_bytes + lists


def busy(traffic: Traffic, assumed: Assumed) -> Costs:
    """Returns the cost of a million deliveries, with no free allotment counted."""
    requests = MILLION / traffic.subscriptions / traffic.batch  # to ingest, and as many to fanout
    request_rate = traffic.rate / traffic.subscriptions / traffic.batch
    retries = MILLION * traffic.failing
    attempts = MILLION + retries
    work = [
        (with_work(assumed.ingest, traffic.batch), requests, request_rate),
        (with_work(assumed.fanout, traffic.batch * traffic.subscriptions), requests, request_rate),
        (assumed.deliver, attempts, traffic.rate * (1 + traffic.failing)),
    ]
    seconds = [(function, count * billed_seconds(function, rate)) for function, count, rate in work]
    checks = sum(each for _, each in seconds) * CHECKS_A_SECOND
    instances = [
        max(1.0, rate * each / count) for (_, count, rate), (_, each) in zip(work, seconds, strict=True)
    ]
    a_second = MILLION / traffic.rate
    rates = [traffic.rate * share for share in traffic.shares]
    counted = success_counts(rates, instances[-1], traffic.batch) * a_second
    failures = [rate * traffic.failing for rate in rates]
    failed = failure_counts(failures, instances[-1]) * a_second
    judged = judged_reads(failures, instances[-1]) * a_second
    # What fails is counted, written to the schedule, read and deleted there, and published and pushed again.
    store = [
        (Price.WRITES, retries + failed + counted),
        (Price.READS, retries + judged + checks),
        (Price.DELETES, retries),
    ]
    events_bytes = pubsub_bytes(traffic.batch * traffic.body_bytes + assumed.event_attributes_bytes)
    delivery_bytes = pubsub_bytes(traffic.body_bytes + assumed.delivery_attributes_bytes)
    return {
        "Cloud Run requests": cost(Price.REQUESTS, sum(count for _, count, _ in work)),
        "Cloud Run instances": sum(instance_cost(function, each) for function, each in seconds),
        # Billed when it is published and when it is pushed.
        "Pub/Sub": cost(Price.PUBSUB_TIB, 2 * (requests * events_bytes + attempts * delivery_bytes)),
        "Egress": cost(Price.EGRESS_GIB, attempts * (traffic.body_bytes + assumed.sent_bytes)),
        "Firestore": sum(cost(price, count) for price, count in store),
        "Logs": cost(Price.LOG_GIB, log_bytes(traffic, assumed, instances) if traffic.logged else 0),
    }


def notes_for_feeds(batch: float) -> float:
    """Returns US dollars for a million changes that webhooks tell of PIMs with a feed, `batch` in each.

    A webhook is a note, which a round reads and Firestore deletes.
    """
    webhooks = MILLION / batch
    return sum(cost(price, webhooks) for price in (Price.WRITES, Price.READS, Price.DELETES))


def without_logs(bill: Costs) -> float:
    """Returns the sum without lines about successes, or with all lines within the free 50 GiB a month."""
    return sum(bill.values()) - bill["Logs"]


def sparse(installation: Sparse, assumed: Assumed) -> Costs:
    """Returns US dollars a month, with no free allotment counted."""
    events = installation.tenants * HOURS_A_MONTH
    ticks = 60 * HOURS_A_MONTH
    warm_seconds = HOURS_A_MONTH * 3600 if installation.warm_ingest else 0
    tick = Function(0.001, installation.tick_seconds)
    functions = [
        (assumed.ingest, installation.cold and not installation.warm_ingest),
        (assumed.fanout, installation.cold),
        (assumed.deliver, installation.cold),
    ]
    carried = busy(Traffic(rate=1), assumed)
    return {
        "Warm ingest instance": cost(Price.IDLE_VCPU_SECOND, warm_seconds * assumed.ingest.vcpus)
        + cost(Price.IDLE_GIB_SECOND, warm_seconds * assumed.ingest.gib),
        "Ticks of maintain": cost(Price.REQUESTS, ticks)
        + instance_cost(tick, ticks * _in_steps(tick.open_seconds))
        + cost(Price.READS, ticks * installation.retry_shards),  # a query that finds nothing is one read
        "Scheduler and secrets": cost(Price.SCHEDULER_JOB, 1)
        + cost(Price.SECRET_VERSION, installation.secrets),
        "Requests and instances": cost(Price.REQUESTS, events * len(functions))
        + sum(
            instance_cost(
                function, events * (function.cold_seconds if cold else _in_steps(function.open_seconds))
            )
            for function, cold in functions
        ),
        # Each asks for the registry (two documents), its bucket and the subscription; a success is counted.
        "Firestore": cost(Price.READS, events * len(functions) * 4) + cost(Price.WRITES, events),
        "Pub/Sub, egress, logs": events
        / MILLION
        * sum(carried[line] for line in ("Pub/Sub", "Egress", "Logs")),
    }


def with_work(function: Function, times: float) -> Function:
    """Returns the function with `times` events or deliveries in a request."""
    further = (times - 1) * function.further_cpu_seconds
    return replace(function, cpu_seconds=function.cpu_seconds + further)


def _in_steps(seconds: float) -> float:
    return math.ceil(round(seconds / BILLED_STEP_SECONDS, 9)) * BILLED_STEP_SECONDS


# The tables

NAMED = {
    "1 event": Traffic(rate=1000),
    "2 events": Traffic(rate=1000, batch=2),
    "10 events": Traffic(rate=1000, batch=10),
    "100 events": Traffic(rate=1000, batch=100),
    "1, 10 subs.": Traffic(rate=1000, subscriptions=10),
}
DENSITY = {f"{rate:,}/s": Traffic(rate=rate, batch=10) for rate in (1, 10, 50, 100, 300, 1000)}
AT_REST = {
    "1 tenant": Sparse(1),
    "1, warm": Sparse(1, warm_ingest=True),
    "100, cold": Sparse(100),
    "100": Sparse(100, cold=False),
    "100, warm": Sparse(100, warm_ingest=True, cold=False),
}


def main() -> None:
    """Prints all tables."""
    assumed = Assumed()
    named, density = (
        {name: busy(traffic, assumed) for name, traffic in cases.items()} for cases in (NAMED, DENSITY)
    )
    at_rest = {name: sparse(installation, assumed) for name, installation in AT_REST.items()}
    console = Console(width=TABLE_WIDTH, highlight=False)
    for table in (
        _prices(),
        _bills("Busy, 1,000 deliveries/s: US dollars a million, by events a request", named, promised=True),
        _bills("10 events a request, by deliveries/s of the installation", density, promised=True),
        _moves(assumed),
        _bills("Sparse, an event an hour of each tenant: US dollars a month", at_rest),
    ):
        console.print(table)


def _prices() -> Table:
    table = _table(
        "List prices, us-central1, 2026-11, to be checked (* not seen on Google's own page)",
        ["US dollars", "per", "source"],
        first="charged for",
    )
    for price, listed in PRICES.items():
        dollars = f"{listed.dollars:.2f}" if listed.dollars >= 0.01 else f"{listed.dollars:.7f}"
        table.add_row(f"{price}{'' if listed.stated else ' *'}", dollars, listed.unit, listed.source)
    return table


def _bills(title: str, bills: Mapping[str, Costs], *, promised: bool = False) -> Table:
    table = _table(title, list(bills))
    for line in next(iter(bills.values())):
        table.add_row(line, *(f"{bill[line]:.2f}" for bill in bills.values()))
    table.add_section()
    table.add_row("Sum", *(f"{sum(bill.values()):.2f}" for bill in bills.values()))
    if promised:
        table.add_row("Sum without logs", *(f"{without_logs(bill):.2f}" for bill in bills.values()))
    return table


def _moves(assumed: Assumed) -> Table:
    """Returns the change of the cost by each assumption, while the others stay."""
    base = Traffic(rate=1000, batch=10)
    deliver = assumed.deliver
    cases: list[tuple[str, Traffic, Assumed]] = [
        ("as assumed", base, assumed),
        *(
            (
                f"deliver takes {milliseconds} CPU-ms, not 0.6",
                base,
                replace(assumed, deliver=replace(deliver, cpu_seconds=milliseconds / 1000)),
            )
            for milliseconds in (1, 2, 5)
        ),
        (
            "open for 1.6 s (16 lanes held at 10/s), not 0.2",
            base,
            replace(assumed, deliver=replace(deliver, open_seconds=1.6)),
        ),
        ("concurrency 1, not 250", base, replace(assumed, deliver=replace(deliver, concurrency=1))),
        ("20,000 subscriptions share the rate, not 200", replace(base, shares=alike(20_000)), assumed),
        ("body of 4 KB, not 1", replace(base, body_bytes=4096), assumed),
        ("1.5 KB more egress: a connection each", base, replace(assumed, sent_bytes=1976)),
        ("1 % fail once", replace(base, failing=0.01), assumed),
        ("10 % fail once", replace(base, failing=0.1), assumed),
    ]
    table = _table("What one assumption moves: 1,000/s, 10 events a request", ["sum", "without logs"])
    for name, traffic, assumption in cases:
        bill = busy(traffic, assumption)
        table.add_row(name, f"{sum(bill.values()):.2f}", f"{without_logs(bill):.2f}")
    return table


def _table(title: str, columns: Sequence[str], *, first: str = "") -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="left" if name in {"per", "source"} else "right", no_wrap=True)
    return table


if __name__ == "__main__":
    main()
