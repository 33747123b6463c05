"""Receivers that fail: healthy ones beside 1,000 of them, and many retries due in the same second."""

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass

from aep.broker.queued import DELIVERY_COLUMNS

from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..growth import watched_memory
from ..measuring import POLL_SECONDS, Bench, Load, Measured
from ..platform import Installation
from ..tenants import key_of, put_pims
from .isolation import refusing

HEALTHY = ("/well-0", "/well-1", "/well-2", "/well-3")
TROUBLES = ("/slow-60/", "/status-500/")
SMALL, WHOLE = 100, 1000
"""The endpoints that fail: each a third of them, in PIMs of 200 subscriptions."""
OF_A_PIM = 200
RATE, SECONDS = 50.0, 6.0
LIMITS = {"AEP_RATE_MIN": "60", "AEP_RATE_MAX": "100"}

ENDPOINTS = 20
SMALL_STORM, WHOLE_STORM = 20_000, 1_000_000
HELD_OUT = {"AEP_TIMEOUT": "86400"}


@case("failing", "four endpoints beside many that refuse, time out or answer 500", by_default=False)
def failing(bench: Bench) -> list[Figure]:
    troubled = WHOLE if bench.options.whole else SMALL
    with refusing() as refused, bench.installed(LIMITS) as installation:
        troubles = [*bench.endpoints(TROUBLES), refused]
        endpoints = [*bench.endpoints(HEALTHY) * (OF_A_PIM // len(HEALTHY))]
        data = installation.folder / "data"
        put_pims(data, endpoints, pims=1, each=OF_A_PIM, busy=len(HEALTHY))
        pims = -(-troubled // OF_A_PIM)
        put_pims(data, troubles, pims=pims, each=OF_A_PIM, busy=min(troubled, OF_A_PIM), first=1)
        load = Load(round(RATE * SECONDS), connections=8, rate=RATE, keys=[key_of(0)])
        with installation.running() as platform, watched_memory(platform) as highest:
            bench.publish(platform, Load(1, connections=1, keys=[key_of(0)]), HEALTHY)
            alone = bench.publish(platform, load, HEALTHY)
            bench.fill(platform, Load(pims, connections=1, keys=[key_of(1 + each) for each in range(pims)]))
            beside = bench.publish(platform, load, HEALTHY, others=True)
    return [
        Figure("endpoints that fail", troubled, ""),
        Figure("p50 of the healthy alone", _percentile(alone, 50), "ms"),
        Figure("p50 beside those that fail", _percentile(beside, 50), "ms"),
        Figure("ratio of the two", _percentile(beside, 50) / _percentile(alone, 50), "", at_most(1.2)),
        Figure("p99 alone", _percentile(alone, 99), "ms"),
        Figure("p99 beside those that fail", _percentile(beside, 99), "ms"),
        Figure("CPU of all alone", alone.cpu_ms / alone.deliveries, "ms"),
        Figure("CPU of all beside those that fail, per healthy delivery", beside.cpu_ms_per_delivery, "ms"),
        Figure("memory (PSS) at most", highest.pss_mb, "MB"),
    ]


def _percentile(measured: Measured, percent: float) -> float:
    return percentile([each for of_path in measured.latencies.values() for each in of_path], percent)


@case("storm", "many retries due in the same second", by_default=False)
def storm(bench: Bench) -> list[Figure]:
    retries = WHOLE_STORM if bench.options.whole else SMALL_STORM
    few = retries // 10
    large, small = _storm(bench, retries), _storm(bench, few)
    return [
        Figure("retries due in the same second", retries, ""),
        Figure("start until ready", large.start_seconds, "s", at_most(2)),
        Figure("until the first arrives", large.first_seconds, "s"),
        Figure("memory (PSS) at most while they go", large.pss_mb, "MB", at_most(300)),
        Figure("the same of few", small.pss_mb, "MB"),
        Figure("CPU per delivery", large.cpu_ms, "ms"),
        Figure(f"the same of {few:,}", small.cpu_ms, "ms"),
        Figure("ratio of the two", large.cpu_ms / small.cpu_ms, "", at_most(1.2)),
    ]


@dataclass(frozen=True, slots=True)
class _Storm:
    start_seconds: float
    first_seconds: float
    pss_mb: float
    cpu_ms: float  # per delivery


def _storm(bench: Bench, retries: int) -> _Storm:
    """Starts a platform on so many retries that are due, and follows them until few are left."""
    with bench.installed(HELD_OUT) as installation:
        bench.sink.ask("close")
        with installation.running() as platform:
            platform.subscribe(*bench.endpoints(f"/gate/{number}" for number in range(ENDPOINTS)))
            bench.fill(platform, Load(retries // ENDPOINTS, batch=100))
            platform.kill()
        _turn_into_retries(installation)
        bench.sink.ask("open")
        bench.sink.ask("reset")
        began = time.monotonic()
        with installation.running() as platform, watched_memory(platform) as highest:
            cpu = platform.cpu_seconds()
            _await(bench, 1)
            first_seconds = time.monotonic() - began
            _await(bench, retries * 9 // 10)
            cpu_ms = (platform.cpu_seconds() - cpu) * 1e3 / bench.sink.ask("came")
            platform.kill()
    return _Storm(platform.start_seconds, first_seconds, highest.pss_mb, cpu_ms)


def _turn_into_retries(installation: Installation) -> None:
    with closing(sqlite3.connect(installation.folder / "data" / "aep.db")) as connection:
        connection.execute(
            f"INSERT INTO retries ({DELIVERY_COLUMNS}, due_at)"  # noqa: S608 - constant columns
            f" SELECT {DELIVERY_COLUMNS}, ? FROM deliveries",
            (time.time(),),
        )
        connection.execute("DELETE FROM deliveries")
        connection.commit()


def _await(bench: Bench, expected: int) -> None:
    deadline = time.monotonic() + bench.options.patience + expected / 100
    while (came := bench.sink.ask("came")) < expected:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{came} of {expected} deliveries came in time")
        time.sleep(POLL_SECONDS)
