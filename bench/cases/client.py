"""The ceiling: what the platform's HTTP client does to the same sink with nothing around it."""

import time

from event_platform.domain.lanes import LANES_AT_START

from .. import integrity
from ..errors import BenchFailed
from ..events import event_id
from ..figures import Figure, case
from ..measuring import PATH, Bench
from ..platform import SECRET
from ..workers import Worker


@case("client", "ceiling: the bare HTTP client")
def client(bench: Bench) -> list[Figure]:
    run, events = f"bench-{time.monotonic_ns():x}", bench.options.events
    order = {
        "url": bench.sink_url + PATH,
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
    return [
        Figure("POSTs", events / (result["ended"] - result["started"]) * 1e9, "/s"),
        Figure("CPU per POST", result["cpu"] * 1e3 / events, "ms"),
    ]
