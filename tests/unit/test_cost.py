"""The arithmetic behind docs/cost.md, by cases that were computed by hand."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # the bench is not installed with the packages

from bench.cost import (
    HOURS_A_MONTH,
    PRICES,
    PROMISED,
    Assumed,
    Function,
    Price,
    Sparse,
    Traffic,
    alike,
    billed_seconds,
    busy,
    cost,
    instance_cost,
    judged_reads,
    log_entries,
    notes_for_feeds,
    pubsub_bytes,
    sparse,
    success_counts,
    without_logs,
)

from stack.settings import read
from stack.sizes import sizes_of
from support.deployed import configuration


def test_a_price_is_for_its_unit() -> None:
    assert cost(Price.PUBSUB_TIB, 2**40) == pytest.approx(40)
    assert cost(Price.REQUESTS, 2_500_000) == pytest.approx(1.00)
    assert cost(Price.WRITES, 1_000_000) == pytest.approx(0.90)
    assert cost(Price.EGRESS_GIB, 2**29) == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("size", "messages", "billed"),
    [
        (1, 1, 1000),  # the least of a request
        (963, 1, 1000),
        (964, 1, 1001),  # 964 + 20 of the timestamp + 17 of the id
        (463, 2, 1000),  # small messages share the least
        (1963, 10, 20_000),
    ],
)
def test_a_pubsub_request_is_billed_for_1000_bytes_at_least(size: int, messages: int, billed: int) -> None:
    assert pubsub_bytes(size, messages) == billed


@pytest.mark.parametrize(
    ("rate", "seconds"),
    [
        (0.0001, 0.2),  # alone: 150 ms, rounded up to 200
        (10, 0.0865),  # (1 - e^-2) / 10: shares its instance with others
        (1000, 0.002),  # 1.2 ms of CPU, of which 0.6 may be used, is more than 1 / 1000
    ],
)
def test_an_instance_is_billed_while_any_request_is_open_or_its_cpu_is_used_up(
    rate: float, seconds: float
) -> None:
    function = Function(cpu_seconds=0.0012, open_seconds=0.15, concurrency=250)
    assert billed_seconds(function, rate) == pytest.approx(seconds, rel=1e-3)


def test_with_a_concurrency_of_1_each_request_pays_for_its_waiting() -> None:
    function = Function(cpu_seconds=0.001, open_seconds=0.2, concurrency=1)
    assert billed_seconds(function, 1000) == pytest.approx(0.2)


def test_a_second_of_an_instance_is_its_cpu_and_its_memory() -> None:
    function = Function(0, 0, vcpus=2, gib=4)
    assert instance_cost(function, 1_000_000) == pytest.approx(48 + 10)


def test_a_million_deliveries_by_hand() -> None:
    assumed = Assumed(
        event_attributes_bytes=363,
        delivery_attributes_bytes=463,
        sent_bytes=500,
        log_entry_bytes=1000,
        named_bytes=300,
        matched_bytes=50,
        arrived_bytes=100,
        kinds=1,
        ingest=Function(0.001, 0.05, concurrency=20, gib=1.0),
        fanout=Function(0.001, 0.05, gib=1.0),
        deliver=Function(0.001, 0.2, concurrency=250, gib=1.0),
    )
    bill = busy(Traffic(rate=1000, body_bytes=1000, shares=alike(1)), assumed)
    assert bill["Cloud Run requests"] == pytest.approx(3 * 0.40)
    # Twice 1,400 bytes of the event, twice 1,500 of the delivery: 5.8 GB.
    assert bill["Pub/Sub"] == pytest.approx(5.8e9 / 2**40 * 40)
    assert bill["Egress"] == pytest.approx(1.5e9 / 2**30 * 0.12)
    # 450 bytes in lists, which are an entry of 1,000 each 20,000, and of each instance one a second.
    entries = 450e6 / 20_000 + (2.5 + 2 * 1000 / 600) * 1000
    assert bill["Logs"] == pytest.approx((450e6 + entries * 1000) / 2**30 * 0.50, rel=0.001)
    # 1/600 s of fanout and deliver, of ingest the 20th part of 50 ms; each second of an instance reads
    # half a document.
    seconds = 2 * 1_000_000 / 600 + 1_000_000 * 0.05 / 20
    assert bill["Cloud Run instances"] == pytest.approx(seconds * 0.0000265)
    # Two instances (1.67) each count what succeeded of the one subscription every 10 s.
    counts = 1_000_000 / 1000 * (1000 / 600) / 10
    assert bill["Firestore"] == pytest.approx(seconds / 2 * 0.03 / 100_000 + counts * 0.09 / 100_000)


@pytest.mark.parametrize(
    ("rates", "instances", "batch", "writes"),
    [
        ([0.01], 1, 1, 0.01),  # rare enough that each is a write
        ([0.01], 1, 10, 0.001),  # ten that come together are one
        ([0.01], 1000, 10, 0.01),  # unless they go to ten instances
        ([500.0], 4, 1, 0.4),  # often enough that each instance writes every 10 s
        ([500.0, 0.01], 4, 1, 0.41),
        ([5.0] * 200, 4, 1, 6.4),  # 16 documents, however many subscriptions there are
        ([5.0] * 20_000, 4, 1, 6.4),
    ],
)
def test_successes_are_written_by_each_instance_that_saw_one(
    rates: list[float], instances: float, batch: float, writes: float
) -> None:
    assert success_counts(rates, instances, batch) == pytest.approx(writes, rel=0.06)


@pytest.mark.parametrize(
    ("rates", "instances", "open_seconds", "entries"),
    [
        ([0.01], 1, 0.05, 0.01),  # each alone, and written before its answer
        ([100.0], 1, 1, 1 + 100 * 0.005),  # one a second, and more where they are large
        ([50.0, 50.0], 2, 1, 4 + 100 * 0.005),  # of each kind and instance
        ([0.1] * 1000, 1, 1, 95 + 100 * 0.005),  # of each kind there is
    ],
)
def test_lines_of_a_second_share_entries(
    rates: list[float], instances: float, open_seconds: float, entries: float
) -> None:
    assert log_entries(rates, 100, instances, open_seconds) == pytest.approx(entries, rel=0.02)


@pytest.mark.parametrize(
    ("rates", "instances", "reads"),
    [
        ([0.0], 1, 0),
        ([0.01], 1, 0.04),  # each failure reads two documents of two hours
        ([100.0], 1, 0.4),  # once in 10 s
        ([10_000.0], 1000, 1000 / 10 * 2 * (8 + 20)),  # of each instance, and all parts
    ],
)
def test_counts_are_read_where_something_failed(rates: list[float], instances: float, reads: float) -> None:
    assert judged_reads(rates, instances) == pytest.approx(reads, rel=0.06)


def test_batches_and_fan_out_share_ingest_and_fanout_but_not_deliver() -> None:
    batched = busy(Traffic(rate=1000, batch=10), Assumed())
    shared = busy(Traffic(rate=1000, subscriptions=10), Assumed())
    for bill in (batched, shared):
        assert bill["Cloud Run requests"] == pytest.approx(0.40 + 2 * 0.04)
    assert shared["Pub/Sub"] < batched["Pub/Sub"]  # a tenth of the events are carried


def test_a_retry_is_a_write_a_read_a_delete_and_one_more_attempt() -> None:
    one = alike(1)  # of which failures are counted and judged together
    smooth, failing = (busy(Traffic(rate=1000, failing=share, shares=one), Assumed()) for share in (0.0, 0.5))
    assert failing["Firestore"] - smooth["Firestore"] == pytest.approx(0.5 * (0.9 + 0.3 + 0.1), abs=0.005)
    assert failing["Cloud Run requests"] - smooth["Cloud Run requests"] == pytest.approx(0.2)
    assert failing["Egress"] == pytest.approx(1.5 * smooth["Egress"])


def test_without_lines_for_what_went_well_nothing_is_paid_for_logs() -> None:
    quiet = busy(Traffic(rate=1000, logged=False), Assumed())
    assert quiet["Logs"] == 0
    assert without_logs(busy(Traffic(rate=1000), Assumed())) == pytest.approx(sum(quiet.values()))


def test_the_promise_holds_in_batches_of_ten_and_not_for_single_events() -> None:
    """What docs/cost.md says; whoever changes a price or an assumption changes the page too."""
    assert sum(busy(Traffic(rate=1000, batch=10), Assumed()).values()) <= PROMISED
    assert without_logs(busy(Traffic(rate=1000, batch=2), Assumed())) <= PROMISED
    assert without_logs(busy(Traffic(rate=1000), Assumed())) > PROMISED


def test_a_webhook_of_a_pim_with_a_feed_is_a_write_a_read_and_a_delete() -> None:
    assert notes_for_feeds(1) == pytest.approx(0.9 + 0.3 + 0.1)
    assert notes_for_feeds(10) == pytest.approx(0.13)


def test_a_month_at_rest_by_hand() -> None:
    bill = sparse(Sparse(tenants=1, retry_shards=1, tick_seconds=0.1, secrets=1), Assumed())
    ticks = 43_800
    assert bill["Ticks of maintain"] == pytest.approx(
        ticks * 0.40 / 1_000_000 + ticks * 0.1 * 0.00002525 + ticks * 0.03 / 100_000
    )
    assert bill["Scheduler and secrets"] == pytest.approx(0.16)
    assert bill["Warm ingest instance"] == 0
    # Three requests an event, each 2 s of an instance that it starts.
    assert bill["Requests and instances"] == pytest.approx(
        HOURS_A_MONTH * (3 * 0.40 / 1_000_000 + 6 * 0.0000265)
    )
    # Each of them reads four documents, and the success is counted.
    assert bill["Firestore"] == pytest.approx(HOURS_A_MONTH * (3 * 4 * 0.03 + 0.09) / 100_000)


def test_a_warm_instance_is_paid_for_each_second_and_saves_a_cold_start() -> None:
    cold, warm = (sparse(Sparse(1, warm_ingest=each), Assumed()) for each in (False, True))
    assert warm["Warm ingest instance"] == pytest.approx(HOURS_A_MONTH * 3600 * 2 * 0.0000025)
    saved = cold["Requests and instances"] - warm["Requests and instances"]
    assert saved == pytest.approx(HOURS_A_MONTH * 1.9 * 0.0000265)  # 0.1 s in place of 2


def test_costs_are_computed_for_what_is_deployed() -> None:
    told = configuration("production")
    deployed, assumed = sizes_of(read(told, secret=told)), Assumed()
    for name, function in (
        ("ingest", assumed.ingest),
        ("fanout", assumed.fanout),
        ("deliver", assumed.deliver),
    ):
        assert deployed[name].memory == f"{function.gib:g}Gi", name
        assert deployed[name].concurrency == function.concurrency, name


def test_every_price_has_a_source() -> None:
    assert set(PRICES) == set(Price)
    assert all(listed.source and listed.dollars > 0 for listed in PRICES.values())
