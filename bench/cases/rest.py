"""The platform at rest: the time until it is ready, its memory and its CPU."""

import time

from ..figures import Figure, at_most, case
from ..measuring import Bench, Load

CALM_SECONDS = 1.0
"""The seconds after the start in which it does work that happens once."""
ENDPOINTS = 20
QUEUED = 100_000


@case("rest", "start, with and without a queue; then idle")
def rest(bench: Bench) -> list[Figure]:
    with bench.running_platform() as platform:
        time.sleep(CALM_SECONDS)
        began, cpu = time.monotonic(), platform.cpu_seconds()
        time.sleep(bench.options.idle_seconds)
        share = (platform.cpu_seconds() - cpu) / (time.monotonic() - began)
        pss_mb = platform.pss_mb()
    return [
        Figure("start on a fresh folder until ready", platform.start_seconds, "s", at_most(0.5)),
        Figure(f"the same with {QUEUED:,} deliveries queued", _start_with_a_queue(bench), "s", at_most(1.5)),
        Figure("CPU idle", share * 100, "% of a core", at_most(0.1)),
        Figure("memory (PSS) idle", pss_mb, "MB", at_most(60)),
    ]


def _start_with_a_queue(bench: Bench) -> float:
    with bench.installed() as installation:
        bench.sink.ask("close")
        with installation.running() as platform:
            platform.subscribe(*bench.endpoints(f"/gate/{number}" for number in range(ENDPOINTS)))
            bench.fill(platform, Load(QUEUED // ENDPOINTS, batch=100))
        with installation.running() as platform:
            pass
    bench.sink.ask("open")
    return platform.start_seconds
