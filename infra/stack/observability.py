"""The operator's view: alerts, each with its runbook, one dashboard, and no logs about successes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi_gcp as gcp
from pulumi_gcp.monitoring import (
    AlertPolicyAlertStrategyArgs,
    AlertPolicyAlertStrategyNotificationRateLimitArgs,
    AlertPolicyConditionArgs,
    AlertPolicyConditionConditionMatchedLogArgs,
    AlertPolicyConditionConditionPrometheusQueryLanguageArgs,
)

from .alerts import ALERTS, FRONT, PUSHED, Alert, Line, logged_by_us, requests_of
from .part import Part, Project

MINUTE = "60s"
CLOSES_AFTER = "1800s"
"""An incident ends so long after the last line of its alert."""
ONE_MAIL_IN = "3600s"
"""Google wants a limit of an alert that looks at lines, and sends 20 mails of each a day at most."""

LOGGED: Mapping[str, tuple[str, str]] = {
    "dead_letters": ("message.dead_lettered", "Messages that our code could not handle"),
    "arrived": ("deliveries.arrived", "Deliveries that arrived"),
    "failed_attempts": ("delivery.attempted", "Attempts at deliveries that did not arrive"),
    "ends": ("delivery.ended", "Deliveries that ended without an attempt"),
    "suspensions": ("subscription.suspended", "Subscriptions that the platform suspended"),
    "ingest_calls": ("events.accepted", "Calls of ingest whose events were taken"),
    "ingest_refused": ("ingest.refused", "Minutes in which calls of ingest were refused, by PIM and reason"),
    "retries_put_back": ("retries.put_back", "Ticks that went over the schedule of retries"),
}
"""Log-based metrics, for the dashboard: by name the event of our lines that is counted, and what it tells."""
LABELS: Mapping[str, Sequence[str]] = {
    "ingest_calls": ("tenant", "way"),
    "ingest_refused": ("tenant", "way", "reason"),
}
"""The fields of a line that are labels of its metric: each has as many values as there are PIMs at most."""
SUMMED: Mapping[str, str] = {"arrived": "deliveries", "ingest_calls": "calls"}
"""The field of a line with what it stands for, by metric: a distribution, of which the sum counts."""
ONLY: Mapping[str, Sequence[str]] = {"suspensions": ['jsonPayload.by="platform"']}
"""Further conditions for a line to be counted: suspensions by users are left out."""


def logged(metric: str) -> str:
    """The filter of a log-based metric."""
    kind = f"logging.googleapis.com/user/event_platform/{metric}"
    return f'metric.type="{kind}" resource.type="cloud_run_revision"'


def summed(metric: str, by: str = "") -> str:
    """The rate of a log-based metric of `SUMMED`, in PromQL: no filter has the sum of a distribution."""
    series = f"logging_googleapis_com:user_event_platform_{metric}_sum"
    grouped = f" by ({by})" if by else ""
    return f'sum{grouped}(rate({series}{{monitored_resource="cloud_run_revision"}}[{MINUTE}]))'


def requests(functions: Sequence[str], codes: str) -> str:
    """The filter of answered requests. `codes`: 2xx, 4xx, 5xx, or one code."""
    services = " OR ".join(f'resource.label.service_name="{function}"' for function in functions)
    label = "response_code" if codes.isdigit() else "response_code_class"
    return (
        'metric.type="run.googleapis.com/request_count" resource.type="cloud_run_revision" '
        f'metric.label.{label}="{codes}" ({services})'
    )


def of_subscriptions(metric: str, pattern: str) -> str:
    """The filter of a metric of push subscriptions whose name has the form."""
    return (
        f'metric.type="pubsub.googleapis.com/subscription/{metric}" resource.type="pubsub_subscription" '
        f'resource.label.subscription_id=monitoring.regex.full_match("{pattern}")'
    )


def condition_of(alert: Alert) -> AlertPolicyConditionArgs:
    """Returns the condition as Cloud Monitoring writes it."""
    if isinstance(alert.condition, Line):
        line = AlertPolicyConditionConditionMatchedLogArgs(filter=alert.condition.filter)
        return AlertPolicyConditionArgs(display_name=alert.title, condition_matched_log=line)
    figure = AlertPolicyConditionConditionPrometheusQueryLanguageArgs(
        query=alert.condition.query,
        duration=alert.condition.lasting,
        evaluation_interval=MINUTE,
        disable_metric_validation=True,  # in a new project nothing was ever counted
    )
    return AlertPolicyConditionArgs(display_name=alert.title, condition_prometheus_query_language=figure)


def strategy_of(alert: Alert) -> AlertPolicyAlertStrategyArgs:
    """Returns how often one is mailed of it, and when it ends."""
    limit = AlertPolicyAlertStrategyNotificationRateLimitArgs(period=ONE_MAIL_IN)
    return AlertPolicyAlertStrategyArgs(
        auto_close=CLOSES_AFTER,
        notification_rate_limit=limit if isinstance(alert.condition, Line) else None,
    )


class Observability(Part):
    """Metrics from our log lines, alerts and whom they reach, the dashboard, the logs that are left out."""

    def __init__(self, project: Project) -> None:
        super().__init__("Observability", "observability", project)
        for name, (event, description) in LOGGED.items():
            self._metric(name, event, description)
        channels = [*(channel.id for channel in self._channels()), *self.settings.alert_channels]
        for alert in ALERTS:
            if alert.needs_domain and not self.settings.domain:
                continue
            gcp.monitoring.AlertPolicy(
                alert.name,
                display_name=f"Event platform: {alert.title}",
                combiner="OR",
                conditions=[condition_of(alert)],
                documentation={
                    "content": f"{alert.runbook}\n\nRunbook: docs/operate.md#{alert.name}",
                    "mime_type": "text/markdown",
                },
                severity=alert.severity,
                alert_strategy=strategy_of(alert),
                notification_channels=channels,
                user_labels=self.settings.labels,
                opts=self.child(),
            )
        gcp.monitoring.Dashboard(
            "dashboard", dashboard_json=json.dumps(dashboard(), sort_keys=True), opts=self.child()
        )
        self._leave_out_what_went_well()
        self.register_outputs({})

    def _metric(self, name: str, event: str, description: str) -> None:
        labels = LABELS.get(name, ())
        gcp.logging.Metric(
            name,
            name=f"event_platform/{name}",
            description=description,
            filter=logged_by_us(event, *ONLY.get(name, ())),
            metric_descriptor={
                "metric_kind": "DELTA",
                "value_type": "DISTRIBUTION" if name in SUMMED else "INT64",
                "labels": [{"key": label, "value_type": "STRING"} for label in labels],
            },
            value_extractor=f"EXTRACT(jsonPayload.{SUMMED[name]})" if name in SUMMED else None,
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
        """Google's line for each request costs as much as our own, which says more."""
        well = {
            "pushes": ("functions that are pushed to", f"{requests_of(PUSHED)} AND httpRequest.status<300")
        }
        if self.settings.domain:
            domain = 'resource.type="http_load_balancer" AND httpRequest.status<400'
            well["domain"] = ("the domain, which the functions log themselves", domain)
        for name, (whose, which) in well.items():
            gcp.logging.ProjectExclusion(
                f"successful-{name}",
                name=f"event-platform-successful-{name}",
                description=f"Request logs of {whose} and were answered well",
                filter=which,
                opts=self.child(),
            )


def dashboard() -> Mapping[str, Any]:
    """Returns the dashboard, to read from the upper left to the lower right: in, waiting, out, failing."""
    charts = [
        _chart("Requests to ingest, by answer", [requests(["ingest"], c) for c in ("2xx", "4xx", "5xx")]),
        _chart("Calls of ingest that were taken", sums=[summed("ingest_calls", by="tenant")]),
        _chart("Calls of ingest that were refused", [logged("ingest_refused")], by="metric.label.tenant"),
        _chart("429 at the front, by function", [requests(FRONT, "429")]),
        _chart("Requests to manage, by answer", [requests(["manage"], c) for c in ("2xx", "4xx", "5xx")]),
        _chart("Oldest waiting message (s)", [of_subscriptions("oldest_unacked_message_age", ".+")], "MAX"),
        _chart("Messages that wait", [of_subscriptions("num_undelivered_messages", ".+")], "MAX"),
        _chart(
            "Deliveries that arrived, failed attempts, ends",
            [logged("failed_attempts"), logged("ends")],
            sums=[summed("arrived")],
        ),
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
    title: str,
    filters: Sequence[str] = (),
    aligner: str = "RATE",
    by: str | None = None,
    sums: Sequence[str] = (),
) -> Mapping[str, Any]:
    """A line for each subscription or function of each filter, or for each value of a label.

    `sums` are further lines, in PromQL.
    """
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
    sets += [{"plotType": "LINE", "timeSeriesQuery": {"prometheusQuery": each}} for each in sums]
    return {"title": title, "xyChart": {"dataSets": sets}}
