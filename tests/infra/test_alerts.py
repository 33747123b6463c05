"""Each alert is provoked by what it looks at: lines of ours that tests log, lines and figures of Google's."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from event_platform.shared_lines import FORMS
from stack.alerts import ALERTS, TICK, Alert, Figure, Line
from stack.observability import LOGGED, SUMMED
from stack.source import FOLDER
from support.deployed import Deployed
from support.logging_filter import matches

BY_NAME: Mapping[str, Alert] = {alert.name: alert for alert in ALERTS}
LINES = [alert.name for alert in ALERTS if isinstance(alert.condition, Line)]
FIGURES = [alert.name for alert in ALERTS if isinstance(alert.condition, Figure)]
OURS = [
    alert.name
    for alert in ALERTS
    if isinstance(alert.condition, Line) and "jsonPayload.event=" in alert.condition.filter
]


def line_of(alert: str) -> Line:
    condition = BY_NAME[alert].condition
    assert isinstance(condition, Line)
    return condition


def a_request(function: str, status: int, text: str = "") -> Mapping[str, Any]:
    """Cloud Run's own line of a request."""
    entry = {
        "logName": "projects/my-event-platform/logs/run.googleapis.com%2Frequests",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": function}},
        "httpRequest": {"requestMethod": "POST", "status": status},
        "severity": "ERROR" if status >= 500 else "WARNING" if status >= 400 else "INFO",
    }
    return {**entry, "textPayload": text} if text else entry


NO_INSTANCE = (
    "The request was aborted because there was no available instance. Additional troubleshooting"
    " documentation can be found at: https://cloud.google.com/run/docs/troubleshooting#abort-request"
)


def an_attempt(severity: str, job: str = TICK) -> Mapping[str, Any]:
    """Cloud Scheduler's line of an attempt that ended."""
    kind = "type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished"
    return {
        "logName": "projects/my-event-platform/logs/cloudscheduler.googleapis.com%2Fexecutions",
        "resource": {"type": "cloud_scheduler_job", "labels": {"job_id": job}},
        "jsonPayload": {"@type": kind, "status": "UNAVAILABLE" if severity == "ERROR" else None},
        "severity": severity,
    }


def at_the_domain(status: int, details: str) -> Mapping[str, Any]:
    """The load balancer's line of a request."""
    return {
        "logName": "projects/my-event-platform/logs/requests",
        "resource": {"type": "http_load_balancer", "labels": {"url_map_name": "event-platform"}},
        "httpRequest": {"status": status, "requestUrl": "https://events.example.com/ingest"},
        "jsonPayload": {"statusDetails": details},
        "severity": "WARNING",
    }


@pytest.mark.parametrize(
    ("alert", "entry"),
    [
        ("ingest-5xx", a_request("ingest", 503)),
        ("ingest-5xx", a_request("ingest", 500, NO_INSTANCE)),
        ("instances-full", a_request("ingest", 429, NO_INSTANCE)),
        ("instances-full", a_request("manage", 500, NO_INSTANCE)),
        ("rate-limited", at_the_domain(429, "denied_by_security_policy")),
        ("tick-fails", an_attempt("ERROR")),
    ],
)
def test_a_line_of_googles_calls_somebody(alert: str, entry: Mapping[str, Any]) -> None:
    assert matches(line_of(alert).filter, entry)


@pytest.mark.parametrize(
    "entry",
    [
        a_request("ingest", 202),
        a_request("ingest", 429),  # our own, which `ingest.refused` tells of
        a_request("deliver", 429, NO_INSTANCE),  # pushed again
        a_request("fanout", 503),  # counted by functions-fail
        at_the_domain(429, "response_sent_by_backend"),
        at_the_domain(200, "response_sent_by_backend"),
        an_attempt("INFO"),
        an_attempt("ERROR", job="somebody-elses-job"),
        {"resource": {"type": "cloud_run_revision"}, "jsonPayload": {"event": "ingest.refused"}},
        {
            "resource": {"type": "cloud_run_revision"},
            "jsonPayload": {"event": "ingest.refused", "tenant": ""},
        },
        {
            "resource": {"type": "cloud_run_revision"},
            "jsonPayload": {"event": "subscription.suspended", "by": "user"},
        },
    ],
    ids=str,
)
def test_what_is_no_trouble_calls_nobody(entry: Mapping[str, Any]) -> None:
    assert [name for name in LINES if matches(line_of(name).filter, entry)] == []


def test_each_alert_on_a_line_of_ours_has_a_test_that_logs_it() -> None:
    marked = {
        str(argument.value)
        for path in (FOLDER.parent / "tests").rglob("*.py")
        if "mark.alerts" in (text := path.read_text())
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.alerts"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert sorted(marked) == sorted(OURS)
    assert len(OURS) == 7


def test_no_alert_looks_at_lines_that_are_left_out(stack: Deployed) -> None:
    left_out = stack.all("logging/projectExclusion:ProjectExclusion").values()
    entries = [
        a_request("ingest", 503),
        a_request("manage", 429, NO_INSTANCE),
        at_the_domain(429, "denied_by_security_policy"),
        an_attempt("ERROR"),
        a_request("deliver", 500),
    ]
    for exclusion in left_out:
        assert [entry for entry in entries if matches(exclusion.inputs["filter"], entry)] == []
    assert any(matches(exclusion.inputs["filter"], a_request("deliver", 204)) for exclusion in left_out)


@dataclass(frozen=True)
class Series:
    """What Google counted of one resource: values a minute, the latest last."""

    labels: Mapping[str, str]
    values: Sequence[float]


def holds(figure: Figure, series: Sequence[Series]) -> bool:
    """What Cloud Monitoring finds at the end of these minutes, before it waits for `lasting`."""
    chosen = [
        each
        for each in series
        if all(re.fullmatch(value, each.labels.get(label, "")) for label, value in figure.labels.items())
    ]
    if figure.minutes:
        values = [sum(each.values[-figure.minutes :]) for each in chosen]
        value = sum(values) if values else None
    else:
        value = max((each.values[-1] for each in chosen), default=None)
    if figure.below is not None:
        return (value or 0) < figure.below
    assert figure.above is not None
    return value is not None and value > figure.above


def of_function(name: str, code: str, *values: float) -> Series:
    return Series({"service_name": name, "response_code_class": code}, values)


def of_subscription(name: str, *values: float) -> Series:
    return Series({"subscription_id": name}, values)


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("dead-letters", [of_subscription("dead-letters", 0, 1)]),
        ("events-wait", [of_subscription("events", 601)]),
        ("events-wait", [of_subscription("pim-events-pim-example-com", 601)]),
        ("events-wait", [of_subscription("events", 3), of_subscription("notifications", 601)]),
        ("deliveries-wait", [of_subscription("deliveries-17", 7201)]),
        ("functions-fail", [of_function("deliver", "5xx", 11, 11, 11, 11, 11)]),
        ("functions-fail", [of_function(name, "5xx", 6, 6, 6, 6, 6) for name in ("fanout", "notify")]),
        ("missing-tick", []),  # it never worked
        ("missing-tick", [of_function("maintain", "5xx", *[1] * 20)]),
        ("missing-tick", [of_function("maintain", "2xx", 1, *[0] * 10)]),  # it worked, and stopped
        ("missing-tick", [of_function("maintain", "2xx", 1, *[0] * 10_000)]),  # a week ago: it still fires
    ],
)
def test_a_figure_of_googles_calls_somebody(alert: str, series: Sequence[Series]) -> None:
    figure = BY_NAME[alert].condition
    assert isinstance(figure, Figure)
    assert holds(figure, series)


def test_figures_of_a_healthy_platform_call_nobody() -> None:
    healthy = [
        *[of_function(name, "2xx", *[1] * 20) for name in ("fanout", "deliver", "notify", "maintain")],
        *[of_function(name, "5xx", *[2] * 20) for name in ("fanout", "deliver")],
        of_function("ingest", "4xx", *[500] * 20),
        of_subscription("events", 4),
        of_subscription("notifications", 0),
        of_subscription("dead-letters", 0),
        of_subscription("deliveries-0", 3600),
    ]
    figures = {name: BY_NAME[name].condition for name in FIGURES}
    assert [name for name, each in figures.items() if isinstance(each, Figure) and holds(each, healthy)] == []


def test_figures_are_written_as_cloud_monitoring_names_them() -> None:
    queries = {alert.name: alert.condition.query for alert in ALERTS if isinstance(alert.condition, Figure)}
    assert queries["missing-tick"] == (
        '(sum(increase(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",'
        'service_name="maintain",response_code_class="2xx"}[10m])) or vector(0)) < 1'
    )
    assert queries["dead-letters"] == (
        "max(pubsub_googleapis_com:subscription_num_undelivered_messages{"
        'monitored_resource="pubsub_subscription",subscription_id="dead-letters"}) > 0'
    )
    assert 'service_name=~"fanout|deliver|notify|maintain"' in queries["functions-fail"]


def test_the_policies_look_at_nothing_that_has_to_exist_first(stack: Deployed) -> None:
    for name, policy in stack.all("monitoring/alertPolicy:AlertPolicy").items():
        (condition,) = policy.inputs["conditions"]  # more than one is refused beside a line
        strategy = policy.inputs["alertStrategy"]
        if name in LINES:
            assert condition["conditionMatchedLog"] == {"filter": line_of(name).filter}
            assert strategy == {"autoClose": "1800s", "notificationRateLimit": {"period": "3600s"}}
        else:
            figure = condition["conditionPrometheusQueryLanguage"]
            assert figure["disableMetricValidation"] is True
            assert strategy == {"autoClose": "1800s"}


def test_lines_that_share_entries_are_counted_by_what_the_entries_say(production: Deployed) -> None:
    counts = {form.event: form.count for form in FORMS.values()}
    summed = {name: counts[event] for name, (event, _) in LOGGED.items() if event in counts}
    assert summed == SUMMED
    dashboard = production.one("monitoring/dashboard:Dashboard", "dashboard")["dashboardJson"]
    for name in LOGGED:
        metric = production.one("logging/metric:Metric", name)
        is_sum = name in summed
        assert metric["metricDescriptor"]["valueType"] == ("DISTRIBUTION" if is_sum else "INT64")
        assert metric.get("valueExtractor") == (f"EXTRACT(jsonPayload.{summed[name]})" if is_sum else None)
        assert (f"event_platform_{name}_sum" in dashboard) is is_sum


def test_what_the_front_turns_away_is_logged(production: Deployed) -> None:
    for backend in production.all("compute/backendService:BackendService").values():
        assert backend.inputs["logConfig"] == {"enable": True, "sampleRate": 1.0}
    assert (
        'response_code=\\"429\\"'
        in production.one("monitoring/dashboard:Dashboard", "dashboard")["dashboardJson"]
    )


def test_an_alert_of_the_domain_is_made_where_there_is_one(production: Deployed, minimal: Deployed) -> None:
    made = [set(each.all("monitoring/alertPolicy:AlertPolicy")) for each in (production, minimal)]
    assert made[0] == set(BY_NAME)
    assert made[0] - made[1] == {"rate-limited"}


def test_the_first_tick_comes_after_the_indexes(stack: Deployed) -> None:
    before = stack.before("cloudscheduler/job:Job", "tick")
    assert {f"firestore/index:Index {name}" for name in stack.all("firestore/index:Index")} <= before
