"""A steady stream: the time from the ingest call to the arrival."""

from ..figures import Figure, case, percentile
from ..measuring import PATH, Bench, Load


@case("paced", "200 events a second, open loop")
def paced(bench: Bench) -> list[Figure]:
    options = bench.options
    events = max(1, round(options.paced_rate * options.paced_seconds))
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(events, connections=8, rate=options.paced_rate))
    latencies = measured.latencies[PATH]
    return [
        *(Figure(f"latency p{percent}", percentile(latencies, percent), "ms") for percent in (50, 95, 99)),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms"),
        Figure("pacer late at worst", measured.lag_ms, "ms"),
    ]
