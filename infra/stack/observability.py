"""What an operator sees: alerts, each with its runbook, one dashboard, and no logs of what goes well."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi_gcp as gcp
from pulumi_gcp.monitoring import (
    AlertPolicyConditionArgs,
    AlertPolicyConditionConditionAbsentAggregationArgs,
    AlertPolicyConditionConditionAbsentArgs,
    AlertPolicyConditionConditionThresholdAggregationArgs,
    AlertPolicyConditionConditionThresholdArgs,
)

from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
)
from event_platform.permissions import DELIVERIES_TOPICS

from .part import Part, Project

PUSHED = ("fanout", "deliver", "notify", "maintain")
MINUTE = "60s"
WAITS_AT_MOST = 600
"""Seconds that a message of ours may wait for fan-out or notify before it is an alert."""
DELIVERY_WAITS_AT_MOST = 2 * 3600
"""Longer: a receiver that is slow or throttles has its deliveries wait in their lanes, as is meant."""

LOGGED: Mapping[str, tuple[str, str]] = {
    "dead_letters": ("message.dead_lettered", "Messages that our code could not handle"),
    "attempts": ("delivery.attempted", "Attempts at deliveries"),
    "ends": ("delivery.ended", "Deliveries that ended without an attempt"),
    "suspensions": ("subscription.suspended", "Subscriptions that the platform suspended"),
    "egress_failing": ("egress.failing", "Times that most receivers could not be reached"),
    "no_resolver": ("egress.no_resolver", "Times that no nameserver answered"),
    "ingest_taken": ("events.accepted", "Calls of ingest whose events were taken"),
    "ingest_refused": ("ingest.refused", "Minutes in which calls of ingest were refused, by PIM and reason"),
    "retries_put_back": ("retries.put_back", "Ticks that went over the schedule of retries"),
}
"""Log-based metrics: by name the event of our structured lines that is counted, and what it tells."""
LABELS: Mapping[str, Sequence[str]] = {
    "ingest_taken": ("tenant", "way"),
    "ingest_refused": ("tenant", "way", "reason"),
}
"""The fields of a line that are labels of its metric: each has as many values as there are PIMs at most."""
ONLY: Mapping[str, str] = {"suspensions": 'jsonPayload.by="platform"'}
"""Further conditions for a line to be counted: a suspension by a user alerts nobody."""


def logged(metric: str) -> str:
    """The filter of a log-based metric."""
    kind = f"logging.googleapis.com/user/event_platform/{metric}"
    return f'metric.type="{kind}" resource.type="cloud_run_revision"'


def requests(functions: Sequence[str], codes: str) -> str:
    """The filter of answered requests. `codes`: 2xx, 4xx, 5xx."""
    services = " OR ".join(f'resource.label.service_name="{function}"' for function in functions)
    return (
        'metric.type="run.googleapis.com/request_count" resource.type="cloud_run_revision" '
        f'metric.label.response_code_class="{codes}" ({services})'
    )


def of_subscriptions(metric: str, pattern: str) -> str:
    """The filter of a metric of push subscriptions whose name has the form."""
    return (
        f'metric.type="pubsub.googleapis.com/subscription/{metric}" resource.type="pubsub_subscription" '
        f'resource.label.subscription_id=monitoring.regex.full_match("{pattern}")'
    )


INTAKE = f"({EVENTS_TOPIC}|pim-events-.+|{NOTIFICATIONS_TOPIC})"


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition on which somebody is called. `runbook` is what to do first; the heading of its name in
    docs/operate.md says the rest. `absent`: it fires when there is nothing to see."""

    name: str
    title: str
    runbook: str
    filter: str
    aligner: str = "ALIGN_DELTA"
    above: float = 0
    lasting: str = "0s"
    severity: str = "ERROR"
    absent: bool = False

    def condition(self) -> AlertPolicyConditionArgs:
        """As Cloud Monitoring writes it."""
        reducer = "REDUCE_MAX" if self.aligner == "ALIGN_MAX" else "REDUCE_SUM"
        if self.absent:
            absent = AlertPolicyConditionConditionAbsentArgs(
                filter=self.filter,
                duration=self.lasting,
                aggregations=[
                    AlertPolicyConditionConditionAbsentAggregationArgs(
                        alignment_period=MINUTE,
                        per_series_aligner=self.aligner,
                        cross_series_reducer=reducer,
                    )
                ],
            )
            return AlertPolicyConditionArgs(display_name=self.title, condition_absent=absent)
        threshold = AlertPolicyConditionConditionThresholdArgs(
            filter=self.filter,
            comparison="COMPARISON_GT",
            threshold_value=self.above,
            duration=self.lasting,
            aggregations=[
                AlertPolicyConditionConditionThresholdAggregationArgs(
                    alignment_period=MINUTE,
                    per_series_aligner=self.aligner,
                    cross_series_reducer=reducer,
                )
            ],
        )
        return AlertPolicyConditionArgs(display_name=self.title, condition_threshold=threshold)


ALERTS: Sequence[Alert] = (
    Alert(
        "dead-letters",
        "Messages wait in dead-letters",
        "`aep dead list --google PROJECT` shows them with the reason; mend, then `aep dead replay`.",
        of_subscriptions("num_undelivered_messages", DEAD_LETTERS_TOPIC),
        aligner="ALIGN_MAX",
    ),
    Alert(
        "ingest-5xx",
        "ingest answers 5xx",
        "A PIM may have lost an event: its webhook does not try again. Look at the log of ingest.",
        requests(["ingest"], "5xx"),
        severity="CRITICAL",
    ),
    Alert(
        "ingest-refused",
        "A PIM's events are refused",
        "They are lost: a PIM sends nothing twice. `ingest.refused` in the log of ingest says whose and why.",
        logged("ingest_refused") + ' metric.label.tenant!=""',
    ),
    Alert(
        "events-wait",
        "Events or notifications wait for their function",
        "fanout or notify is failing or at its instances. Look at their log and the dashboard.",
        of_subscriptions("oldest_unacked_message_age", INTAKE),
        aligner="ALIGN_MAX",
        above=WAITS_AT_MOST,
        lasting="300s",
    ),
    Alert(
        "deliveries-wait",
        "Deliveries wait for hours",
        "A receiver that throttles, or deliver at its instances or failing. Look at the dashboard.",
        of_subscriptions("oldest_unacked_message_age", f"{DELIVERIES_TOPICS}-.+"),
        aligner="ALIGN_MAX",
        above=DELIVERY_WAITS_AT_MOST,
        lasting="300s",
        severity="WARNING",
    ),
    Alert(
        "egress-failing",
        "Most receivers cannot be reached: the fault is ours",
        "Nobody is suspended and no retry is used up meanwhile. Look at the network: NAT, DNS.",
        logged("egress_failing"),
        severity="CRITICAL",
    ),
    Alert(
        "no-resolver",
        "No nameserver answers: the fault is ours",
        "Deliveries wait, and no retry is used up meanwhile. Look at DNS.",
        logged("no_resolver"),
        severity="CRITICAL",
    ),
    Alert(
        "subscriptions-suspended",
        "A subscription was suspended",
        "Its receiver fails. The log of deliver names it; its owner is told and resumes it.",
        logged("suspensions"),
        severity="WARNING",
    ),
    Alert(
        "functions-fail",
        "Functions answer 5xx for minutes",
        "The store or a topic is away, or our code fails: see their log. Messages are pushed again.",
        requests(PUSHED, "5xx"),
        above=10,
        lasting="300s",
    ),
    Alert(
        "missing-tick",
        "maintain is not called or fails",
        "Retries stay due and nothing is lost. Look at the job event-platform-tick and the log of maintain.",
        requests(["maintain"], "2xx"),
        lasting="600s",
        absent=True,
    ),
)


class Observability(Part):
    """Metrics from our log lines, alerts and whom they reach, the dashboard, the logs that are left out."""

    def __init__(self, project: Project) -> None:
        super().__init__("Observability", "observability", project)
        metrics = [self._metric(name, event, told) for name, (event, told) in LOGGED.items()]
        channels = [*(channel.id for channel in self._channels()), *self.settings.alert_channels]
        for alert in ALERTS:
            gcp.monitoring.AlertPolicy(
                alert.name,
                display_name=f"Event platform: {alert.title}",
                combiner="OR",
                conditions=[alert.condition()],
                documentation={
                    "content": f"{alert.runbook}\n\nRunbook: docs/operate.md#{alert.name}",
                    "mime_type": "text/markdown",
                },
                severity=alert.severity,
                alert_strategy={"auto_close": "1800s"},
                notification_channels=channels,
                user_labels=self.settings.labels,
                opts=self.child(*metrics),
            )
        gcp.monitoring.Dashboard(
            "dashboard", dashboard_json=json.dumps(dashboard(), sort_keys=True), opts=self.child(*metrics)
        )
        self._leave_out_what_went_well()
        self.register_outputs({})

    def _metric(self, name: str, event: str, told: str) -> gcp.logging.Metric:
        labels = LABELS.get(name, ())
        only = f" AND {ONLY[name]}" if name in ONLY else ""
        return gcp.logging.Metric(
            name,
            name=f"event_platform/{name}",
            description=told,
            filter=f'resource.type="cloud_run_revision" AND jsonPayload.event="{event}"{only}',
            metric_descriptor={
                "metric_kind": "DELTA",
                "value_type": "INT64",
                "labels": [{"key": label, "value_type": "STRING"} for label in labels],
            },
            label_extractors={label: f"EXTRACT(jsonPayload.{label})" for label in labels},
            opts=self.child(),
        )

    def _channels(self) -> Sequence[gcp.monitoring.NotificationChannel]:
        return [
            gcp.monitoring.NotificationChannel(
                f"email-{address}",
                type="email",
                display_name=f"Event platform: {address}",
                labels={"email_address": address},
                opts=self.child(),
            )
            for address in self.settings.alert_emails
        ]

    def _leave_out_what_went_well(self) -> None:
        """Cloud Run's line for each request costs as much as our own, which says more."""
        services = " OR ".join(f'"{function}"' for function in PUSHED)
        gcp.logging.ProjectExclusion(
            "successful-pushes",
            name="event-platform-successful-pushes",
            description="Request logs of functions that are pushed to and answered 2xx",
            filter=(
                'resource.type="cloud_run_revision" AND log_id("run.googleapis.com/requests") '
                f"AND resource.labels.service_name=({services}) AND httpRequest.status<300"
            ),
            opts=self.child(),
        )


def dashboard() -> Mapping[str, Any]:
    """What an on-call person reads from the left above to the right below: in, waiting, out, failing."""
    charts = [
        _chart("Requests to ingest, by answer", [requests(["ingest"], c) for c in ("2xx", "4xx", "5xx")]),
        _chart("Calls of ingest that were taken", [logged("ingest_taken")], by="metric.label.tenant"),
        _chart("Calls of ingest that were refused", [logged("ingest_refused")], by="metric.label.tenant"),
        _chart("Requests to manage, by answer", [requests(["manage"], c) for c in ("2xx", "4xx", "5xx")]),
        _chart("Oldest waiting message (s)", [of_subscriptions("oldest_unacked_message_age", ".+")], "MAX"),
        _chart("Messages that wait", [of_subscriptions("num_undelivered_messages", ".+")], "MAX"),
        _chart("Attempts and ends of deliveries", [logged("attempts"), logged("ends")]),
        _chart("Ticks that put retries back", [logged("retries_put_back")]),
        _chart("Dead letters, suspensions", [logged("dead_letters"), logged("suspensions")]),
        _chart("Pushed functions that answer 5xx", [requests(PUSHED, "5xx")]),
        _chart("Instances", [_run("container/instance_count")], "MAX"),
        _chart("Slowest requests, p99 (ms)", [_run("request_latencies")], "PERCENTILE_99"),
    ]
    tiles = [
        {"xPos": 24 * (n % 2), "yPos": 12 * (n // 2), "width": 24, "height": 12, "widget": chart}
        for n, chart in enumerate(charts)
    ]
    return {"displayName": "Event platform", "mosaicLayout": {"columns": 48, "tiles": tiles}}


def _run(metric: str) -> str:
    return f'metric.type="run.googleapis.com/{metric}" resource.type="cloud_run_revision"'


def _chart(
    title: str, filters: Sequence[str], aligner: str = "RATE", by: str | None = None
) -> Mapping[str, Any]:
    """A line for each subscription or function of each filter, or for each value of a label."""
    sets = [
        {
            "plotType": "LINE",
            "timeSeriesQuery": {
                "timeSeriesFilter": {
                    "filter": each,
                    "aggregation": {
                        "alignmentPeriod": MINUTE,
                        "perSeriesAligner": f"ALIGN_{aligner}",
                        "crossSeriesReducer": "REDUCE_SUM" if aligner == "RATE" else "REDUCE_MAX",
                        "groupByFields": [
                            by
                            or (
                                "resource.label.subscription_id"
                                if "pubsub_subscription" in each
                                else "resource.label.service_name"
                            )
                        ],
                    },
                }
            },
        }
        for each in filters
    ]
    return {"title": title, "xyChart": {"dataSets": sets}}
