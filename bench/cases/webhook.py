"""The webhook of a PIM's Events API, whose sender gives up after half a second and sends nothing again."""

from ..events import EVENTS_API
from ..figures import Figure, below, case, percentile
from ..measuring import PATH, Bench, Load

EVENTS = 10
"""The most events that a PIM puts into a request."""
PRODUCT_BYTES = 8192
"""The size of an event with a whole product."""


@case("events-api", "webhooks of a PIM, 10 events each, 20 a second")
def events_api(bench: Bench) -> list[Figure]:
    options = bench.options
    requests = max(1, round(options.paced_rate * options.paced_seconds / EVENTS))
    load = Load(
        requests * EVENTS,
        batch=EVENTS,
        connections=4,
        rate=options.paced_rate,
        format=EVENTS_API,
        size=PRODUCT_BYTES,
    )
    with bench.subscribed() as platform:
        measured = bench.publish(platform, load)
    latencies = measured.latencies[PATH]
    return [
        Figure("answer p50", percentile(measured.answers, 50), "ms"),
        Figure("answer p99", percentile(measured.answers, 99), "ms", below(50)),
        Figure("answer at worst", max(measured.answers), "ms", below(500)),
        Figure("latency p50", percentile(latencies, 50), "ms"),
        Figure("latency p99", percentile(latencies, 99), "ms"),
        Figure("deliveries", measured.deliveries, ""),
        Figure("CPU per delivery", measured.cpu_ms_per_delivery, "ms"),
        Figure("pacer late at worst", measured.lag_ms, "ms"),
    ]
