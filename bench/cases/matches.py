"""One request of many events for the 400 subscriptions of a PIM: whether its cost grows faster than it."""

from ..figures import Figure, at_most, case
from ..growth import watched_memory
from ..measuring import Bench, Load
from ..tenants import put_pims

SUBSCRIPTIONS = 400
REQUESTS = 5
RETRIES = {"AEP_RETRY_DELAYS": "1,1,2,2,4,4"}
"""The settings of the retries: receivers beside so much work may be too slow for an attempt."""
SMALL, WHOLE = 10, 1000
"""The events of a request. What is compared with it has a fifth of them."""


@case("matches", "one request for 400 subscriptions, five times", by_default=False)
def matches(bench: Bench) -> list[Figure]:
    events = WHOLE if bench.options.whole else SMALL
    paths = [f"/match-{number}" for number in range(SUBSCRIPTIONS)]
    with bench.installed(RETRIES) as installation:
        keys = put_pims(
            installation.folder / "data",
            bench.endpoints(paths),
            pims=1,
            each=SUBSCRIPTIONS,
            busy=SUBSCRIPTIONS,
        )

        def cpu_ms(events: int) -> float:
            load = Load(events, batch=events, connections=1, keys=keys)
            return bench.publish(platform, load, paths).cpu_ms_per_delivery

        with installation.running() as platform, watched_memory(platform) as highest:
            cpu_ms(1)  # the records and connections of all
            fewer = cpu_ms(events // 5)
            taken = [cpu_ms(events) for _ in range(REQUESTS)]
    return [
        Figure("deliveries of a request", events * SUBSCRIPTIONS, ""),
        Figure("CPU per delivery of a fifth of it", fewer, "ms"),
        *(
            Figure(f"CPU per delivery of request {number}", each, "ms")
            for number, each in enumerate(taken, 1)
        ),
        Figure("ratio of the first to a fifth of it", taken[0] / fewer, "", at_most(1.2)),
        Figure("ratio of the last to the first", taken[-1] / taken[0], "", at_most(1.2)),
        Figure("memory (PSS) at most", highest.pss_mb, "MB", at_most(300)),
    ]
