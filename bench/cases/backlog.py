"""A backlog: receivers that answer nothing while a million deliveries come to wait, and then answer
everything.
"""

import time
from dataclasses import dataclass

from ..errors import BenchFailed
from ..figures import Figure, at_most, below, case
from ..measuring import POLL_SECONDS, Bench, Load

ENDPOINTS = 20
MEASURED = 50_000
"""The number of first deliveries, after the receivers answer again, that are measured with the backlog still
there.
"""
HELD_OUT = {"AEP_TIMEOUT": "86400"}  # so that none that waits for its answer fails meanwhile


@case("backlog", "many waiting, then let go")
def backlog(bench: Bench) -> list[Figure]:
    waiting = bench.options.backlog
    measured = min(MEASURED, waiting // 2)
    few = measured * 6 // 5  # so that all lanes are busy until the last one measured
    large, small = _let_go(bench, waiting, measured), _let_go(bench, few, measured)
    return [
        Figure("deliveries waiting", waiting, ""),
        Figure("put there", waiting / large.filling_seconds, "/s"),
        Figure("memory (PSS) with all of them", large.pss_mb, "MB", below(300)),
        Figure("memory (PSS) while they go", large.pss_going_mb, "MB", below(300)),
        Figure("start until ready with the rest of them", large.start_seconds, "s", at_most(2)),
        Figure("CPU per delivery", large.cpu_ms, "ms"),
        Figure(f"the same of {few:,}", small.cpu_ms, "ms"),
        Figure("ratio of the two", large.cpu_ms / small.cpu_ms, "", at_most(1.2)),
    ]


@dataclass(frozen=True, slots=True)
class _Going:
    filling_seconds: float
    pss_mb: float
    pss_going_mb: float
    cpu_ms: float  # per delivery
    start_seconds: float  # with those that still wait


def _let_go(bench: Bench, waiting: int, measured: int) -> _Going:
    with bench.installed(HELD_OUT) as installation, installation.running() as platform:
        platform.subscribe(*bench.endpoints(f"/gate/{number}" for number in range(ENDPOINTS)))
        bench.sink.ask("reset")
        bench.sink.ask("close")
        filling_seconds = bench.fill(platform, Load(waiting // ENDPOINTS, batch=100))
        pss_mb, cpu = platform.pss_mb(), platform.cpu_seconds()
        before = bench.sink.ask("open")["unique"]
        counts = _await(bench, before + measured)
        cpu_ms = (platform.cpu_seconds() - cpu) * 1e3 / (counts["unique"] - before)
        if wrong := counts["bad_signatures"] + counts["duplicates"] + counts["without_id"]:
            raise BenchFailed(f"{wrong} deliveries were wrongly signed, came twice or had no id")
        going_mb = platform.pss_mb()
        platform.kill()
        with installation.running() as again:
            again.kill()
        return _Going(filling_seconds, pss_mb, going_mb, cpu_ms, again.start_seconds)


def _await(bench: Bench, expected: int) -> dict[str, int]:
    deadline = time.monotonic() + bench.options.patience + expected / 100
    while (counts := bench.sink.ask("count"))["unique"] < expected:
        if time.monotonic() > deadline:
            raise BenchFailed(f"{counts['unique']} of {expected} deliveries came in time")
        time.sleep(POLL_SECONDS)
    return counts
