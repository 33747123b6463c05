"""Bursts: all events at once to one endpoint; how fast and at what cost they are delivered."""

from ..figures import Aim, Figure, at_least, at_most, case
from ..measuring import Bench, Load, Measured


@case("burst", "all at once, one event a request")
def burst(bench: Bench) -> list[Figure]:
    options = bench.options
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(options.events, connections=options.connections))
    return delivered(measured, at_least(3800), at_most(0.33))


@case("batch", "the same, 100 events a request")
def batch(bench: Bench) -> list[Figure]:
    options = bench.options
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(options.events, batch=100, connections=options.connections))
    return delivered(measured, at_least(6000), at_most(0.2))


def delivered(measured: Measured, rate: Aim, cpu: Aim) -> list[Figure]:
    """Returns the figures of a load that comes as fast as it is answered."""
    return [
        Figure("deliveries", measured.per_second, "/s", rate),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms", cpu),
        Figure("memory (PSS) after it", measured.pss_mb, "MB"),
        Figure("deliveries in all", measured.deliveries, ""),
        Figure("duplicates", measured.duplicates, ""),
        Figure("CPU of load and sink", measured.bench_cpu_ms / measured.deliveries, "ms"),
    ]
