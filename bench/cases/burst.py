"""Bursts: all events at once to one endpoint; how fast and at what cost they are delivered."""

from ..figures import Aim, Figure, at_least, at_most, case
from ..measuring import PATH, Bench, Load, Measured


@case("burst", "all at once, one event a request")
def burst(bench: Bench) -> list[Figure]:
    load = Load(bench.options.events, connections=bench.options.connections)
    return delivered(bench, load, cpu=at_most(2.5), rate=at_least(0.35))


@case("batch", "the same, 100 events a request")
def batch(bench: Bench) -> list[Figure]:
    load = Load(bench.options.events, batch=100, connections=bench.options.connections)
    return delivered(bench, load, cpu=at_most(1.5))


def delivered(
    bench: Bench, load: Load, paths: tuple[str, ...] = (PATH,), *, cpu: Aim, rate: Aim | None = None
) -> list[Figure]:
    """Measures a load that comes as fast as it is answered, on the platform and then on the floor."""
    with bench.subscribed(paths) as platform:
        measured = bench.publish(platform, load, paths)
    return [
        *_beside(measured, bench.floor(load, paths), cpu, rate),
        *costs(measured),
    ]


def costs(measured: Measured) -> list[Figure]:
    """Returns the figures of a load on the platform alone."""
    return [
        Figure("deliveries", measured.per_second, "/s"),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms"),
        Figure("memory (PSS) after it", measured.pss_mb, "MB"),
        Figure("deliveries in all", measured.deliveries, ""),
        Figure("duplicates", measured.duplicates, ""),
        Figure("CPU of load and sink", measured.bench_cpu_ms / measured.deliveries, "ms"),
    ]


def _beside(measured: Measured, floor: Measured | None, cpu: Aim, rate: Aim | None) -> list[Figure]:
    if floor is None:
        return []
    return [
        Figure("CPU, by the floor's", measured.cpu_ms_per_delivery / floor.cpu_ms_per_delivery, "×", cpu),
        Figure("rate, by the floor's", measured.per_second / floor.per_second, "×", rate),
        Figure("floor: deliveries", floor.per_second, "/s"),
        Figure("floor: CPU per delivery", floor.cpu_ms_per_delivery, "ms"),
    ]
