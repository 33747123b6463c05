"""A steady stream: the time from the ingest call to the arrival."""

from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load, Measured


@case("paced", "200 events a second, open loop")
def paced(bench: Bench) -> list[Figure]:
    options = bench.options
    events = max(1, round(options.paced_rate * options.paced_seconds))
    load = Load(events, connections=8, rate=options.paced_rate)
    with bench.subscribed() as platform:
        measured = bench.publish(platform, load)
    latencies = measured.latencies[PATH]
    return [
        *_beside(measured, bench.floor(load)),
        *(Figure(f"latency p{percent}", percentile(latencies, percent), "ms") for percent in (50, 95, 99)),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms"),
        Figure("pacer late at worst", measured.lag_ms, "ms"),
    ]


def _beside(measured: Measured, floor: Measured | None) -> list[Figure]:
    if floor is None:
        return []
    ours, least = measured.latencies[PATH], floor.latencies[PATH]
    ratio = {percent: percentile(ours, percent) / percentile(least, percent) for percent in (50, 99)}
    cost = measured.cpu_ms_per_delivery / floor.cpu_ms_per_delivery
    return [
        Figure("p50, by the floor's", ratio[50], "×", at_most(1.4)),
        Figure("p99, by the floor's", ratio[99], "×", at_most(2)),
        Figure("CPU, by the floor's", cost, "×", at_most(1.8)),
        Figure("floor: latency p50", percentile(least, 50), "ms"),
        Figure("floor: latency p99", percentile(least, 99), "ms"),
        Figure("floor: CPU per delivery", floor.cpu_ms_per_delivery, "ms"),
    ]
