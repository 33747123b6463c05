"""A steady stream: the time from the ingest call to the arrival."""

from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load


@case("paced", "200 events a second, open loop")
def paced(bench: Bench) -> list[Figure]:
    options = bench.options
    events = max(1, round(options.paced_rate * options.paced_seconds))
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(events, connections=8, rate=options.paced_rate))
    latencies = measured.latencies[PATH]
    return [
        Figure("latency p50", percentile(latencies, 50), "ms", at_most(3)),
        Figure("latency p95", percentile(latencies, 95), "ms"),
        Figure("latency p99", percentile(latencies, 99), "ms", at_most(8)),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms"),
        Figure("pacer late at worst", measured.lag_ms, "ms"),
    ]
