"""The page of `/metrics`: the platform's counts in Prometheus' text form."""

import platform
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from event_platform import __version__
from event_platform.domain.tenants import Way

from ..commit import commit
from ..runtime.gaps import silent_for
from ..runtime.meters import OTHER, PIMS_NAMED, Histogram, Meters, OfSubscription
from ..store.figures import Figures

REST = 20
"""The time for which a page is kept, in multiples of the time to make it: scrapes take a twentieth of a
processor.
"""


class Page(Collector):
    """The text of the page, made anew when the last one is too old; it turns the meters into samples.

    `oldest` is the age in seconds of the oldest event that waits, None while the store does not say.
    """

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._build = {
            "version": __version__,
            "commit": commit() or "",
            "python": platform.python_version(),
        }
        self.oldest: float | None = None
        self.figures: Figures | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._text = b""
        self._good_until = 0.0

    def is_old(self) -> bool:
        return time.monotonic() >= self._good_until

    def text(self) -> bytes:
        if self.is_old():
            began = time.monotonic()
            self._text = generate_latest(self._registry)
            ended = time.monotonic()
            self._good_until = ended + REST * (ended - began)
        return self._text

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("aep_build", "The version that runs.", self._build)
        yield from self._queue()
        yield from self._kept()
        yield from self._ends()
        yield from self._store()
        yield self._processes()
        yield _counter(
            "aep_notifications", "Notifications told.", ("channel", "result"), self._meters.notifications
        )
        yield _counter("aep_http_requests", "Answers.", ("route", "status"), self._meters.requests)
        yield from self._subscriptions()
        yield from self._pims()
        yield from self._feeds()

    def _queue(self) -> Iterable[Metric]:
        meters = self._meters
        yield CounterMetricFamily(
            "aep_events_accepted", "Events answered 202 by ingest.", value=meters.events_accepted
        )
        yield CounterMetricFamily(
            "aep_events_repeated",
            "Of these, events whose id had come in the 10 minutes before.",
            value=meters.events_repeated,
        )
        yield GaugeMetricFamily(
            "aep_events_to_fan_out",
            "Accepted events whose deliveries are not on the queue yet.",
            value=meters.events_to_fan_out,
        )
        yield CounterMetricFamily(
            "aep_deliveries_accepted", "Deliveries put on the queue.", value=meters.deliveries_accepted
        )
        yield GaugeMetricFamily(
            "aep_deliveries_queued", "Deliveries that wait in their lanes.", value=meters.queued
        )
        yield GaugeMetricFamily(
            "aep_retries_scheduled", "Deliveries that wait for their next attempt.", value=meters.retries
        )
        yield GaugeMetricFamily(
            "aep_dead_letters", "Deliveries that our own code failed on.", value=meters.dead_letters
        )
        yield GaugeMetricFamily(
            "aep_dead_events",
            "Accepted events that our own code failed to fan out.",
            value=meters.dead_events,
        )
        yield GaugeMetricFamily(
            "aep_oldest_waiting_seconds", "Age of the oldest event that waits.", value=self.oldest
        )

    def _kept(self) -> Iterable[Metric]:
        kept, again = self._meters.kept, self._meters.sent_again
        yield GaugeMetricFamily("aep_kept_bytes", "What kept events take.", value=kept and kept.bytes)
        yield GaugeMetricFamily(
            "aep_kept_events_not_indexed",
            "Kept events that are in no index yet.",
            value=kept and kept.not_indexed,
        )
        yield GaugeMetricFamily(
            "aep_kept_oldest_timestamp_seconds",
            "When the oldest kept event was accepted.",
            value=kept and kept.oldest_at,
        )
        running = GaugeMetricFamily(
            "aep_replays_running", "Replays, and subscriptions that catch up.", labels=("kind",)
        )
        for kind, number in (again.running if again else {}).items():
            running.add_metric((kind,), number)
        yield running
        ended = again.ended if again else {}
        yield _counter("aep_replays_ended", "Those that ended.", ("kind", "status"), ended)
        yield GaugeMetricFamily(
            "aep_catch_up_next_timestamp_seconds",
            "When the first event was accepted that is still to be caught up with.",
            value=again and again.behind_at,
        )

    def _ends(self) -> Iterable[Metric]:
        meters = self._meters
        yield _counter("aep_attempts", "Attempts.", ("outcome", "reason"), meters.attempts)
        yield CounterMetricFamily(
            "aep_delivery_faults", "Failures of our own code on a delivery or a fan-out.", value=meters.faults
        )
        yield CounterMetricFamily(
            "aep_egress_failures",
            "Attempts that failed while most origins could not be reached from here.",
            value=meters.failed_by_us,
        )
        yield CounterMetricFamily(
            "aep_deliveries_delivered", "Deliveries that an endpoint took.", value=meters.delivered
        )
        yield _counter(
            "aep_deliveries_ended",
            "Deliveries that ended undelivered.",
            ("operation", "reason"),
            meters.ended,
        )
        yield _histogram("aep_delivery_seconds", "From acceptance to delivery.", meters.delivery_seconds)

    def _store(self) -> Iterable[Metric]:
        meters = self._meters
        yield _histogram(
            "aep_commit_seconds", "Time of a commit that changed something.", meters.commit_seconds
        )
        yield _histogram("aep_commit_jobs", "Jobs that shared such a commit.", meters.commit_jobs)
        yield _histogram(
            "aep_checkpoint_seconds",
            "Time of a copy of the write-ahead log into the file; commits go on.",
            meters.checkpoint_seconds,
        )
        yield CounterMetricFamily(
            "aep_commits_failed", "Commits that the disk did not take.", value=meters.commits_failed
        )
        if (figures := self.figures) is not None:
            yield from _of_files(figures)

    def _processes(self) -> Metric:
        replaced = CounterMetricFamily(
            "aep_processes_replaced", "Processes of ours that hung.", labels=("process",)
        )
        for process, count in self._meters.processes_replaced.items():
            replaced.add_metric((process,), count)
        return replaced

    def _subscriptions(self) -> Iterable[Metric]:
        meters = self._meters
        queued = GaugeMetricFamily(
            "aep_subscription_deliveries_queued", "As aep_deliveries_queued.", labels=("subscription",)
        )
        delivered = CounterMetricFamily(
            "aep_subscription_deliveries_delivered",
            "As aep_deliveries_delivered_total.",
            labels=("subscription",),
        )
        ended = CounterMetricFamily(
            "aep_subscription_deliveries_ended", "As aep_deliveries_ended_total.", labels=("subscription",)
        )
        others = [(OTHER, meters.other)] if meters.other != OfSubscription() else []
        for name, own in [*meters.subscriptions.items(), *others]:
            queued.add_metric((name,), own.queued)
            delivered.add_metric((name,), own.delivered)
            ended.add_metric((name,), own.ended)
        yield from (queued, delivered, ended)

    def _pims(self) -> Iterable[Metric]:
        """Returns the figures of calls by PIM and ingest format. PIMs beyond the first 200 share a label."""
        named = set(islice(dict.fromkeys(tenant for tenant, _ in self._meters.last_calls), PIMS_NAMED))
        taken: dict[tuple[str, Way], float] = {}
        for (tenant, way), last in self._meters.last_calls.items():
            if last.taken_at is not None:
                key = (tenant if tenant in named else OTHER, way)
                taken[key] = max(last.taken_at, taken.get(key, 0.0))
        refused = Counter[tuple[str, Way, str]]()
        for (tenant, way, status), count in self._meters.refusals.items():
            refused[tenant if tenant in named else OTHER, way, str(status)] += count
        family = GaugeMetricFamily(
            "aep_pim_last_taken_timestamp_seconds",
            "When events of a PIM were taken last.",
            labels=("pim", "way"),
        )
        for labels, at in taken.items():
            family.add_metric(labels, at)
        yield family
        yield _counter(
            "aep_pim_calls_refused", "Calls of ingest that were refused.", ("pim", "way", "status"), refused
        )
        yield self._silent(named)

    def _silent(self, named: Collection[str]) -> Metric:
        family = GaugeMetricFamily(
            "aep_pim_silent_seconds",
            "How long no events of a PIM have come, where that is longer than usual.",
            labels=("pim",),
        )
        meters, now = self._meters, time.time()
        for tenant in meters.gaps:
            if tenant in named and meters.gaps[tenant].median(now) is not None:
                passed = silent_for(meters.gaps, tenant, meters.last_taken(tenant), now)
                family.add_metric((tenant,), passed or 0.0)
        return family

    def _feeds(self) -> Iterable[Metric]:
        """Returns the figures of feeds by PIM and resource; without a sample where there is no feed."""
        meters = self._meters
        labels = ("pim", "resource")
        succeeded = GaugeMetricFamily(
            "aep_feed_last_success_timestamp_seconds",
            "When a resource was read to its end last; of one that never was, when it failed first.",
            labels=labels,
        )
        lag = GaugeMetricFamily(
            "aep_feed_lag_seconds", "Age of what the feed of a resource is complete up to.", labels=labels
        )
        emitted = CounterMetricFamily("aep_feed_events", "Events that a feed has sent.", labels=labels)
        for key, own in meters.feeds.items():
            if own.succeeded_at is not None:
                succeeded.add_metric(key, own.succeeded_at)
            if own.complete_to is not None:
                lag.add_metric(key, max(0.0, time.time() - own.complete_to))
            emitted.add_metric(key, own.emitted)
        yield from (succeeded, lag, emitted)
        yield _counter(
            "aep_feed_errors",
            "Failures of a feed to read a resource.",
            ("pim", "resource", "reason"),
            meters.feed_errors,
        )


def _of_files(figures: Figures) -> Iterable[Metric]:
    yield GaugeMetricFamily("aep_store_file_bytes", "Size of the store's file.", value=figures.file_bytes)
    yield GaugeMetricFamily(
        "aep_store_wal_bytes", "Size of the store's write-ahead log.", value=figures.wal_bytes
    )
    yield GaugeMetricFamily(
        "aep_store_disk_free_bytes", "What is left on the store's disk.", value=figures.free_bytes
    )
    yield GaugeMetricFamily(
        "aep_store_takes_in", "1 unless the store takes nothing in now.", value=float(figures.takes_in)
    )
    if figures.backup_at is not None:
        age = (datetime.now(UTC) - figures.backup_at).total_seconds()
        yield GaugeMetricFamily("aep_backup_age_seconds", "Age of the last backup.", value=max(0.0, age))


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), list(histogram.counts), strict=True):
        so_far += count
        buckets.append((str(bound), so_far))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
