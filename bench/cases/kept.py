"""Keeping: what it adds to a burst and to a steady stream, in pairs with a platform that keeps nothing."""

from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load, Measured


@case("kept", "a burst and a steady stream, with AEP_KEEP=0 and with the default, in pairs")
def kept(bench: Bench) -> list[Figure]:
    options = bench.options
    burst = Load(options.events, connections=options.connections)
    events = max(1, round(options.paced_rate * options.paced_seconds))
    paced = Load(events, connections=8, rate=options.paced_rate)
    cpu = [_measured(bench, burst, keep).cpu_ms_per_delivery for keep in (False, True)]
    p50 = [percentile(_measured(bench, paced, keep).latencies[PATH], 50) for keep in (False, True)]
    return [
        Figure("CPU per delivery, nothing kept", cpu[0], "ms"),
        Figure("CPU per delivery", cpu[1], "ms"),
        Figure("CPU per delivery, times that of nothing kept", cpu[1] / cpu[0], "", at_most(1.1)),
        Figure("paced p50, nothing kept", p50[0], "ms"),
        Figure("paced p50", p50[1], "ms"),
        Figure("paced p50, times that of nothing kept", p50[1] / p50[0], "", at_most(1.02)),
    ]


def _measured(bench: Bench, load: Load, keeps: bool) -> Measured:
    """Measures the load on a platform of its own."""
    with bench.subscribed(more={} if keeps else {"AEP_KEEP": "0"}) as platform:
        return bench.publish(platform, load)
