"""Isolation: the delay that endpoints in trouble cause to the healthy ones beside them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ..figures import Figure, at_most, case, percentile
from ..measuring import Bench, Load, Measured

HEALTHY = tuple(f"/healthy-{number}" for number in range(4))
RATE = 50
TROUBLED = ("/slow-5/", "/status-429/")
UNKNOWN_HOST = "http://no-such-host.invalid/"
LIMITS = {"AEP_RATE_MIN": "60", "AEP_RATE_MAX": "100"}
"""The settings of the rate, above the load from the start on.

An endpoint that answers 429 gets 60 requests a second.
"""


@case("isolation", "healthy endpoints beside four in trouble")
def isolation(bench: Bench) -> list[Figure]:
    load = Load(max(1, round(RATE * bench.options.paced_seconds)), connections=8, rate=RATE)
    with refusing() as refused, bench.running_platform(LIMITS) as platform:
        platform.subscribe(*bench.endpoints(HEALTHY))
        bench.publish(platform, Load(events=1, connections=1), HEALTHY)
        alone = _p50(bench.publish(platform, load, HEALTHY))
        platform.subscribe(*bench.endpoints(TROUBLED), refused, UNKNOWN_HOST)
        beside = bench.publish(platform, load, HEALTHY, others=True)
    return [
        Figure("p50 of the healthy alone", alone, "ms"),
        Figure("p50 beside four in trouble", _p50(beside), "ms"),
        Figure("ratio of the two", _p50(beside) / alone, "", at_most(1.2)),
        Figure("p99 beside four in trouble", percentile(_all(beside), 99), "ms"),
        Figure("pacer late at worst", beside.lag_ms, "ms"),
    ]


@contextmanager
def refusing() -> Iterator[str]:
    """Returns the URL of a port that is taken and refuses connections, as nobody listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/refused"


def _p50(measured: Measured) -> float:
    return percentile(_all(measured), 50)


def _all(measured: Measured) -> list[float]:
    return [latency for latencies in measured.latencies.values() for latency in latencies]
