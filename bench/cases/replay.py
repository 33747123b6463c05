"""A replay: the delay that it causes to new events of the same subscription, and its counts after a kill."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from aep.broker.dispatcher import UNSETTLED_PER_LANE
from event_platform.domain.pace.rates import LANES_AT_MOST
from event_platform.domain.timestamps import to_rfc3339

from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load, Measured
from ..platform import call
from ..sink import REPLAYED

RATE = 50
SETTINGS = {"AEP_RATE_MIN": "1000", "AEP_RATE_MAX": "1000", "AEP_RETRY_DELAYS": "1,5,30"}
POLL_SECONDS = 0.5
IN_FLIGHT = LANES_AT_MOST * (1 + UNSETTLED_PER_LANE)
"""The deliveries that may be on their way, or taken and not settled yet."""
SLOWEST = 50
"""The deliveries a second below which a replay is given up."""


@case(
    "replay", "new events beside a replay of which a tenth fails at first, killed at half", by_default=False
)
def replay(bench: Bench) -> list[Figure]:
    kept = bench.options.replayed
    load = Load(max(1, round(RATE * bench.options.paced_seconds)), connections=8, rate=RATE)
    with bench.installed(SETTINGS) as installation:
        with installation.running() as platform:
            since = to_rfc3339(datetime.now(UTC))
            bench.fill(platform, Load(kept, batch=100))  # matched by nothing
            (subscription,) = platform.subscribe(*bench.endpoints((PATH,)))
            bench.publish(platform, Load(events=1, connections=1))
            alone = _p50(bench.publish(platform, load))
            bench.sink.ask("reset")
            began = time.monotonic()
            deadline = began + bench.options.patience + kept / SLOWEST
            replays, identity = f"{subscription}/replays", platform.identity()
            url = f"{replays}/{call('POST', replays, {'from': since}, identity)['id']}"
            beside = bench.publish(platform, load, others=True, fresh=False)
            beside_counts = call("GET", url, None, identity)
            _until(identity, url, deadline, lambda shown: shown["delivered"] >= kept / 2)
            platform.kill()
        with installation.running():
            counts = _until(identity, url, deadline, lambda shown: shown["status"] != "running")
            seconds = time.monotonic() - began
    if (counts["status"], counts["events"], counts["delivered"], counts["ended"]) != ("done", kept, kept, 0):
        raise BenchFailed(f"a replay of {kept} events ended with {counts}")
    came = bench.sink.ask("by path")[f"{PATH}{REPLAYED}"]
    if came != kept:
        raise BenchFailed(f"of a replay of {kept} events {came} came")
    return [
        Figure("events replayed, all delivered", kept, ""),
        Figure("sent twice by the kill", len(bench.sink.ask("repeats")), "", at_most(IN_FLIGHT)),
        Figure("p50 of new events alone", alone, "ms"),
        Figure("p50 beside the replay", _p50(beside), "ms"),
        Figure("ratio of the two", _p50(beside) / alone, "", at_most(1.2)),
        Figure("replayed while that was measured", beside_counts["delivered"], ""),
        Figure("replayed a second, in all", kept / seconds, "/s"),
    ]


def _until(
    identity: dict[str, str], url: str, deadline: float, condition: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Returns the replay as it is shown once the condition holds."""
    while not condition(shown := call("GET", url, None, identity)):
        if time.monotonic() > deadline:
            raise BenchFailed(f"the replay did not go on: {shown}")
        time.sleep(POLL_SECONDS)
    return shown


def _p50(measured: Measured) -> float:
    return percentile(measured.latencies[PATH], 50)
