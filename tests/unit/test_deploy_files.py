"""The files of `deploy/`: they name what exists, and the tools that read them take them."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from datetime import UTC, datetime
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from aep.cli.serve import METRICS_PORT
from aep.runtime.meters import Meters
from aep.serving import metrics_page
from aep.store.figures import Figures
from support.components import optional

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
RULES = DEPLOY / "prometheus" / "aep-rules.yml"
DASHBOARD: dict[str, Any] = orjson.loads((DEPLOY / "grafana" / "aep-dashboard.json").read_bytes())
ALERTS: Sequence[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
OF_THE_SCRAPE = {"job", "instance"}


def run(*command: str | Path) -> tuple[int, str]:
    """Returns the status of a command and all that it printed."""
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout


# Units of systemd


def section(unit: str, name: str) -> Mapping[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.read(DEPLOY / "systemd" / unit)
    return parser[name]


def complaints(folder: Path, units: Mapping[str, str]) -> list[str]:
    """Returns what `systemd-analyze verify` says of units; commands that they run are taken for installed."""
    program = optional("systemd-analyze")
    for name, text in units.items():
        (folder / name).write_text(text.replace("/opt/aep/bin/aep", sys.executable))
    _, said = run(program, "verify", "--man=no", *(folder / name for name in units))
    return [line for line in said.splitlines() if "aep" in line]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    texts = {unit.name: unit.read_text() for unit in UNITS}
    assert complaints(tmp_path, texts) == []
    broken = {"aep.service": texts["aep.service"].replace("WatchdogSec=30", "WatchdogSecs=30")}
    assert any("WatchdogSecs" in line for line in complaints(tmp_path, broken))


def test_the_backup_is_made_daily_of_the_folder_that_the_platform_keeps() -> None:
    backup, serve = section("aep-backup.service", "Service"), section("aep.service", "Service")
    shared = ("User", "Group", "EnvironmentFile", "StateDirectory", "StateDirectoryMode", "UMask")
    assert {key: backup[key] for key in shared} == {key: serve[key] for key in shared}
    page = (ROOT / "docs" / "run-on-one-server.md").read_text()
    assert f"runuser -u aep -- {backup['ExecStart']}\n" in page
    assert f"--data /var/lib/{serve['StateDirectory']} " in backup["ExecStart"]
    assert section("aep-backup.timer", "Timer")["OnCalendar"] == "daily"
    oldest = next(alert["expr"] for alert in ALERTS if alert["alert"] == "AepNoBackup")
    assert "aep_backup_age_seconds > 172800 " in oldest  # one backup may be missed


def test_the_page_copies_files_that_exist() -> None:
    pages = [page.read_text() for page in (ROOT / "docs").glob("*.md")]
    named = {path for page in pages for path in re.findall(r"\bdeploy/[\w./*-]*[\w*/]", page)}
    assert len(named) > 4
    assert [path for path in named if not any(ROOT.glob(path.rstrip("/")))] == []


# Metrics, in Prometheus' rules and Grafana's dashboard


@cache
def known() -> Mapping[str, set[str]]:
    """Returns the labels of every time series that a scrape can have, by name."""
    collector = metrics_page.Page(Meters())
    collector.figures = Figures(1, 1, 1, datetime.now(UTC), takes_in=True)
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)
    series: dict[str, set[str]] = {"up": set(OF_THE_SCRAPE)}
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    for family in registry.collect():
        labels = OF_THE_SCRAPE | set(getattr(family, "_labelnames", ()))
        labels |= {label for sample in family.samples for label in sample.labels}
        for suffix in suffixes.get(family.type, [""]):
            series[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return series


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Yields each metric of an expression with the labels that it is selected by."""
    for name, labels in re.findall(r"\b((?:aep|process)_\w+|up\b)(?:\{(.*?)\})?", expression):
        yield name, set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", labels))


def unknown(expression: str, texts: Sequence[str] = ()) -> list[str]:
    """Returns what is wrong with an expression, and with the labels that texts beside it show."""
    found = list(selectors(expression))
    wrong = [name for name, _ in found if name not in known()]
    wrong += [
        f"{name}{{{', '.join(by - known()[name])}}}" for name, by in found if by - known().get(name, by)
    ]
    labels = set().union(*(known().get(name, set()) for name, _ in found))
    grouped = {each for by in re.findall(r"by \((.*?)\)", expression) for each in by.split(", ")}
    shown = {each for text in texts for each in re.findall(r"\{\{ ?(?:\$labels\.)?([a-z]\w*) ?\}\}", text)}
    return wrong + sorted((grouped | shown) - labels) + ([] if found else ["no metric"])


def panels() -> Sequence[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def test_what_is_wrong_in_an_expression_is_found() -> None:
    assert unknown("aep_deliveries_lost_total > 0") == ["aep_deliveries_lost_total"]
    assert unknown('rate(aep_attempts_total{result="x"}[5m])') == ["aep_attempts_total{result}"]
    assert unknown("sum by (status) (aep_attempts_total)", ["{{ $labels.way }}"]) == ["status", "way"]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_names_metrics_and_labels_that_exist(alert: dict[str, Any]) -> None:
    assert unknown(alert["expr"], list(alert["annotations"].values())) == []
    assert alert["labels"]["severity"] in {"critical", "warning"}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_names_metrics_and_labels_that_exist(panel: dict[str, Any]) -> None:
    assert [unknown(each["expr"], [each["legendFormat"]]) for each in panel["targets"]] == [
        [] for _ in panel["targets"]
    ]


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for panel in panels() for each in panel["targets"] for name, _ in selectors(each["expr"])}
    suffix = re.compile("_(bucket|sum|count)$")
    every = {suffix.sub("", name) for name in known() if name.startswith("aep_")}
    assert {suffix.sub("", name) for name in shown if name.startswith("aep_")} == every


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [
        (one, other)
        for one, other in combinations(places, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ] == []


def test_the_alerts_are_those_of_the_page() -> None:
    table = (ROOT / "docs" / "metrics.md").read_text().partition("## What to alert on")[2]
    first_cells = re.findall(r"^\| `(.*?)` (?<!\\)\|", table, re.MULTILINE)
    on_the_page = [cell.replace("\\|", "|") for cell in first_cells]
    assert sorted(on_the_page) == sorted(" ".join(alert["expr"].split()) for alert in ALERTS)


def test_the_rules_look_at_the_job_that_is_scraped() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert config["rule_files"] == [RULES.name]
    (job,) = config["scrape_configs"]
    named = {name for alert in ALERTS for name in re.findall(r'job="(\w+)"', alert["expr"])}
    assert named == {job["job_name"]}
    assert job["static_configs"] == [{"targets": [f"127.0.0.1:{METRICS_PORT}"]}]


def test_prometheus_takes_its_files() -> None:
    program = optional("promtool")
    status, said = run(program, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert status == 0, said
    assert f"{len(ALERTS)} rules found" in said


def test_prometheus_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    program = optional("promtool")
    asked = [each["expr"] for panel in panels() for each in panel["targets"]]
    plain = [each.replace("$instance", ".+").replace("$__rate_interval", "5m") for each in asked]
    rules = [{"record": f"asked:{number}", "expr": each} for number, each in enumerate(plain)]
    file = tmp_path / "asked.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    status, said = run(program, "check", "rules", file)
    assert status == 0, said
    assert f"{len(asked)} rules found" in said


WELL = {
    'up{job="aep"}': "1x200",
    "aep_store_takes_in": "1x200",
    "aep_store_disk_free_bytes": "5000000000x200",
    "aep_backup_age_seconds": "3600x200",
    "aep_dead_letters": "0x200",
    "aep_dead_events": "0x200",
    'aep_notifications_total{channel="email",result="sent"}': "1+1x200",
    'aep_http_requests_total{route="/ingest",status="202"}': "1+9x200",
}
"""Series of a platform that is well, minute for minute."""

ILL: Mapping[str, Mapping[str, str]] = {
    "AepAway": {'up{job="aep"}': "0x200"},
    "AepTakesNothingIn": {"aep_store_takes_in": "0x200"},
    "AepCommitsFail": {"aep_commits_failed_total": "0x117 3x50"},
    "AepDiskNearlyFull": {"aep_store_disk_free_bytes": "900000000x200"},
    "AepDeadLetters": {"aep_dead_events": "1x200"},
    "AepDeliveryFaults": {"aep_delivery_faults_total": "0x117 1x50"},
    "AepProcessReplaced": {'aep_processes_replaced_total{process="worker"}': "0x117 1x50"},
    "AepEgressFails": {"aep_egress_failures_total": "0x117 20x50"},
    "AepFilesRunningOut": {
        'process_open_fds{job="aep"}': "800x200",
        'process_max_fds{job="aep"}': "1000x200",
    },
    "AepWalLarge": {"aep_store_wal_bytes": "300000000x200"},
    "AepNoBackup": {"aep_backup_age_seconds": "180000x200"},
    "AepEventsWait": {"aep_oldest_waiting_seconds": "1000x200"},
    "AepDiskSlow": {
        'aep_commit_seconds_bucket{le="0.25"}': "0x200",
        'aep_commit_seconds_bucket{le="1.0"}': "0+9x200",
        'aep_commit_seconds_bucket{le="+Inf"}': "0+9x200",
    },
    "AepDeliveriesFail": {
        'aep_deliveries_ended_total{operation="failed_to_deliver_event",reason="http"}': "_x115 1x50"
    },
    "AepNotificationsFail": {'aep_notifications_total{channel="email",result="failed"}': "_x115 1x50"},
    "AepAnswers5xx": {'aep_http_requests_total{route="/ingest",status="503"}': "1+1x200"},
    "AepPimCallsRefused": {'aep_pim_calls_refused_total{pim="a",way="relay",status="401"}': "_x115 1x50"},
    "AepFeedBehind": {
        'aep_feed_last_success_timestamp_seconds{pim="a",resource="products"}': "-4000x200",
    },
    "AepPimSilent": {'aep_pim_last_taken_timestamp_seconds{pim="a",way="events-api"}': "-90000x200"},
}
"""The series of each alert. A counter with labels begins with its first count."""


def test_each_alert_fires_and_none_without_a_reason(tmp_path: Path) -> None:
    program = optional("promtool")
    assert set(ILL) == {alert["alert"] for alert in ALERTS}
    tests: list[dict[str, Any]] = []
    for ill, different in [("none", {}), *ILL.items()]:
        series = [{"series": name, "values": values} for name, values in {**WELL, **different}.items()]
        fires = {
            "expr": 'count(ALERTS{alertstate="firing"}) by (alertname)',
            "eval_time": "2h",
            "exp_samples": [{"labels": f'{{alertname="{ill}"}}', "value": 1}] if different else [],
        }
        tests.append({"name": ill, "interval": "1m", "input_series": series, "promql_expr_test": [fires]})
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    status, said = run(program, "test", "rules", file)
    assert status == 0, said
