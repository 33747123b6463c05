"""A replay: the delay that it causes to new events of the same subscription."""

import time
from datetime import UTC, datetime
from typing import Any

from event_platform.domain.timestamps import to_rfc3339

from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load, Measured
from ..platform import call

RATE = 50
SETTINGS = {"AEP_RATE_MIN": "1000", "AEP_RATE_MAX": "1000", "AEP_RETRY_DELAYS": "1,5,30"}
POLL_SECONDS = 0.5
SLOWEST = 50
"""The deliveries a second below which a replay is given up."""


@case("replay", "new events beside a replay of which a tenth fails at first", by_default=False)
def replay(bench: Bench) -> list[Figure]:
    kept = bench.options.replayed
    load = Load(max(1, round(RATE * bench.options.paced_seconds)), connections=8, rate=RATE)
    with bench.running_platform(SETTINGS) as platform:
        since = to_rfc3339(datetime.now(UTC))
        bench.fill(platform, Load(kept, batch=100))  # matched by nothing
        (subscription,) = platform.subscribe(*bench.endpoints((PATH,)))
        bench.publish(platform, Load(events=1, connections=1))
        alone = _p50(bench.publish(platform, load))
        began = time.monotonic()
        replays, identity = f"{subscription}/replays", platform.identity()
        url = f"{replays}/{call('POST', replays, {'from': since}, identity)['id']}"
        beside = bench.publish(platform, load, others=True)
        beside_counts = call("GET", url, None, identity)
        counts = _ended(identity, url, began + bench.options.patience + kept / SLOWEST)
        seconds = time.monotonic() - began
    if (counts["events"], counts["delivered"], counts["ended"]) != (kept, kept, 0):
        raise BenchFailed(f"a replay of {kept} events ended with {counts}")
    return [
        Figure("events replayed, all delivered", kept, ""),
        Figure("p50 of new events alone", alone, "ms"),
        Figure("p50 beside the replay", _p50(beside), "ms"),
        Figure("ratio of the two", _p50(beside) / alone, "", at_most(1.2)),
        Figure("replayed while that was measured", beside_counts["delivered"], ""),
        Figure("replayed a second, in all", kept / seconds, "/s"),
    ]


def _ended(identity: dict[str, str], url: str, deadline: float) -> dict[str, Any]:
    while (shown := call("GET", url, None, identity))["status"] == "running":
        if time.monotonic() > deadline:
            raise BenchFailed(f"the replay did not end: {shown}")
        time.sleep(POLL_SECONDS)
    return shown


def _p50(measured: Measured) -> float:
    return percentile(measured.latencies[PATH], 50)
