"""The platform with nothing to do: how soon it is ready, and what it takes then."""

import time

from ..figures import Figure, case
from ..measuring import Bench

CALM_SECONDS = 1.0
"""After the start, for what it does once."""


@case("rest", "start on a fresh folder, then idle")
def rest(bench: Bench) -> list[Figure]:
    with bench.running_platform() as platform:
        time.sleep(CALM_SECONDS)
        began, cpu = time.monotonic(), platform.cpu_seconds()
        time.sleep(bench.options.idle_seconds)
        share = (platform.cpu_seconds() - cpu) / (time.monotonic() - began)
        return [
            Figure("start until ready", platform.start_seconds, "s"),
            Figure("CPU idle", share * 100, "% of a core"),
            Figure("memory (PSS) idle", platform.pss_mb(), "MB"),
        ]
