"""Fan-out: the cost of a delivery when many receivers want the same event."""

from ..figures import Figure, at_most, case
from ..measuring import Bench, Load
from .burst import delivered

ENDPOINTS = 20
PATHS = tuple(f"/endpoint-{number}" for number in range(ENDPOINTS))


@case("fan-out", "all at once, each event to 20 endpoints")
def fan_out(bench: Bench) -> list[Figure]:
    options = bench.options
    load = Load(max(1, options.events // 10), connections=options.connections)  # twice a burst's deliveries
    return delivered(bench, load, PATHS, cpu=at_most(1.3))
