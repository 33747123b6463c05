"""Bursts: everything at once to one endpoint, and how fast and at what cost it gets through."""

from ..figures import Figure, case
from ..measuring import Bench, Load, Measured


@case("burst", "all at once, one event a request")
def burst(bench: Bench) -> list[Figure]:
    options = bench.options
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(options.events, connections=options.connections))
    return [*_figures(measured, cpu_aim="≤ 0.5"), Figure("memory (PSS) after it", measured.pss_mb, "MB")]


@case("batch", "the same, 100 events a request")
def batch(bench: Bench) -> list[Figure]:
    options = bench.options
    with bench.subscribed() as platform:
        measured = bench.publish(platform, Load(options.events, batch=100, connections=options.connections))
    return _figures(measured, cpu_aim="≤ 0.5")


def _figures(measured: Measured, cpu_aim: str) -> list[Figure]:
    return [
        Figure("deliveries", measured.per_second, "/s"),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms", cpu_aim),
        Figure("events delivered", measured.deliveries, ""),
        Figure("duplicates", measured.duplicates, ""),
        Figure("CPU of load and sink", measured.bench_cpu_ms / measured.deliveries, "ms"),
    ]
