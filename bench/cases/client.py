"""The ceiling: the platform's HTTP client alone, with the same sink."""

import time

from event_platform.domain.pace.lanes import LANES_AT_START

from .. import integrity
from ..errors import BenchFailed
from ..events import event_id
from ..figures import Figure, case
from ..measuring import PATH, Bench
from ..platform import SECRET
from ..workers import Worker


@case("client", "ceiling: the bare HTTP client")
def client(bench: Bench) -> list[Figure]:
    rate, cpu_ms = _post(bench, bench.sink_url)
    rate_over_tls, cpu_ms_over_tls = _post(bench, bench.tls_url)
    return [
        Figure("POSTs", rate, "/s"),
        Figure("CPU per POST", cpu_ms, "ms"),
        Figure("POSTs over TLS", rate_over_tls, "/s"),
        Figure("CPU per POST over TLS", cpu_ms_over_tls, "ms"),
    ]


def _post(bench: Bench, origin: str) -> tuple[float, float]:
    """Returns POSTs a second, and CPU-ms for each. Raises BenchFailed."""
    run, events = f"bench-{time.monotonic_ns():x}", bench.options.events
    order = {
        "url": origin + PATH,
        "authority": bench.authority,
        "secret": SECRET,
        "run": run,
        "events": events,
        "size": bench.options.size,
        "concurrency": LANES_AT_START,  # as many as one subscription has on their way
    }
    with Worker("bench.client", order) as worker:
        worker.answer()  # prepared
        bench.sink.ask("reset")
        result = worker.ask("go")
    if result["failed"]:
        raise BenchFailed(f"{result['failed']} of {events} POSTs failed")
    expected = {event_id(run, number) for number in range(events)}
    integrity.check(expected, bench.sink.ask("arrivals"), bench.sink.ask("count"), [PATH])
    return events / (result["ended"] - result["started"]) * 1e9, result["cpu"] * 1e3 / events
