"""A mixed load for an hour: events, changes, scrapes and backups, and what the platform holds."""

import subprocess
import time
import urllib.request

from aep.google.ports import free_ports
from aep.runtime import children

from .. import integrity, machine
from ..errors import BenchFailed
from ..events import event_id
from ..figures import Figure, case
from ..growth import Parts, Sample, growth
from ..measuring import Bench
from ..platform import INGEST_KEY, Platform, call, environment
from ..workers import Worker

SMALL_SECONDS, WHOLE_SECONDS = 15.0, 3600.0
RATE = 100
PATHS = ("/fine", "/random-0/")
SETTINGS = {"AEP_RETRY_DELAYS": "1,1,2,2,4,4"}
ROUND_SECONDS = 3.0
BACKUPS = 6
"""The backups of a whole run."""


@case("hours", "events, changes, scrapes and backups for an hour", by_default=False)
def hours(bench: Bench) -> list[Figure]:
    seconds = bench.options.soak_seconds or (WHOLE_SECONDS if bench.options.whole else SMALL_SECONDS)
    run, events = f"bench-{time.monotonic_ns():x}", round(RATE * seconds)
    (port,) = free_ports(1)
    settings = {**SETTINGS, "AEP_METRICS_PORT": str(port)}
    with bench.installed(settings) as installation, installation.running() as platform:
        changed, *_ = platform.subscribe(*bench.endpoints(PATHS))
        order = {
            "url": f"{platform.url}/ingest",
            "key": INGEST_KEY,
            "run": run,
            "events": events,
            "rate": RATE,
            "size": bench.options.size,
            "connections": 50,
        }
        bench.sink.ask("reset")
        with Worker("bench.publisher", order) as publisher:
            publisher.ask("go")
            samples = _mixed(bench, platform, changed, seconds, port)
            published = publisher.answer(within=60 + seconds)
            bench.wait_for(events * len(PATHS))
    expected = {event_id(run, number) for number in range(events)}
    integrity.check(expected, bench.sink.ask("arrivals"), bench.sink.ask("count"), PATHS)
    third = max(1, len(samples) // 3)
    early, late = Parts("first third", [samples[:third]]), Parts("last third", [samples[-third:]])
    return [
        Figure("events answered, none lost", events, ""),
        Figure("last answer after its time", published["behind"], "s"),
        Figure("oldest that waited, first third", _oldest(early), "s"),
        Figure("oldest that waited, last third", _oldest(late), "s"),
        *growth("memory (PSS)", "MB", early, late, lambda sample: sample.pss_mb),
        *growth("open descriptors", "", early, late, lambda sample: sample.descriptors),
        *growth("write-ahead log", "MB", early, late, lambda sample: sample.wal_mb),
    ]


def _oldest(parts: Parts) -> float:
    return max(sample.oldest_seconds for part in parts.samples for sample in part)


def _mixed(bench: Bench, platform: Platform, subscription: str, seconds: float, port: int) -> list[Sample]:
    """Changes a subscription, scrapes and samples in each round, and makes a backup now and then."""
    began, samples, backups = time.monotonic(), list[Sample](), 0
    identity = platform.identity()
    while (passed := time.monotonic() - began) < seconds:
        call("PATCH", subscription, {"send_product_identifier": len(samples) % 2 == 0}, identity)
        samples.append(_sample(platform, port))
        bench.sink.ask("count")  # so that it reads and forgets what came
        if passed >= backups * seconds / BACKUPS:
            backups += 1
            _back_up(platform)
        time.sleep(ROUND_SECONDS)
    return samples


def _sample(platform: Platform, port: int) -> Sample:
    metrics = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(metrics, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (oldest,) = (float(line.split()[1]) for line in lines if line.startswith("aep_oldest_waiting_seconds "))
    wal_mb = (platform.folder / "data" / "aep.db-wal").stat().st_size / 1e6
    return Sample(platform.pss_mb(), machine.descriptors(platform.pid), 0, wal_mb, oldest)


def _back_up(platform: Platform) -> None:
    folder = platform.folder
    arguments = ["backup", str(folder / "copy.db"), "--data", str(folder / "data"), "--force"]
    done = subprocess.run(  # noqa: S603 - a command of ours
        children.aep(*arguments), env=environment({}), capture_output=True, check=False
    )
    if done.returncode:
        raise BenchFailed(f"aep backup ended with status {done.returncode}: {done.stderr[-300:]!r}")
