"""Events of 1 KB to 900 KB, as many bytes of each: what a megabyte costs."""

from ..figures import Figure, at_most, case
from ..growth import watched_memory
from ..measuring import Bench, Load

KB, MB = 1000, 1_000_000
SIZES = (1 * KB, 10 * KB, 100 * KB, 900 * KB)
SMALL_MB, WHOLE_MB = 4.5, 90
CONNECTIONS = 8


@case("sizes", "events of 1 KB to 900 KB, as many bytes of each", by_default=False)
def sizes(bench: Bench) -> list[Figure]:
    megabytes = WHOLE_MB if bench.options.whole else SMALL_MB
    figures = [Figure("bytes of each size", megabytes, "MB")]
    before = None
    for size in SIZES:
        load = Load(int(megabytes * MB) // size, connections=CONNECTIONS, size=size)
        with bench.subscribed() as platform, watched_memory(platform) as highest:
            bench.publish(platform, Load(1, connections=1, size=size))  # large ones start a process
            cpu_ms = bench.publish(platform, load).cpu_ms / megabytes
        aim = None if before is None else at_most(before)
        figures += [
            Figure(f"CPU per MB in events of {size // KB} KB", cpu_ms, "ms", aim),
            Figure(f"memory (PSS) at most with {size // KB} KB", highest.pss_mb, "MB"),
        ]
        before = cpu_ms
    return figures
