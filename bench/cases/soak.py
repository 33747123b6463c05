"""A soak: a steady load on receivers that answer at random, and a SIGKILL every minute."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from random import Random

from .. import integrity, machine
from ..events import event_id
from ..figures import Figure, case
from ..growth import Parts, Sample, growth
from ..measuring import Bench
from ..platform import INGEST_KEY, Installation, Platform
from ..workers import Worker

SOAK_SECONDS = 600.0
RATE = 500
PATHS = ("/fine", "/random-0/", "/random-1/")
SETTINGS = {"AEP_RETRY_DELAYS": "1,1,2,2,4,4"}
"""The settings of the retries: so many that no event fails for good, as 3 % of the attempts fail."""
LIFE_SECONDS = 60.0
SHORTEST_RUN_LIVES = 3
SAMPLE_SECONDS = 3.0
CONNECTIONS = 50


@case("soak", "500 events a second, a SIGKILL a minute", by_default=False)
def soak(bench: Bench) -> list[Figure]:
    seconds = bench.options.soak_seconds or SOAK_SECONDS
    chance = Random(bench.options.seed)  # noqa: S311 - no secret
    run, events = f"bench-{time.monotonic_ns():x}", round(RATE * seconds)
    life = min(LIFE_SECONDS, seconds / SHORTEST_RUN_LIVES)
    kills = round(seconds / life)
    with bench.installed(SETTINGS) as installation:
        order = _order(bench, installation, run, events)
        bench.sink.ask("reset")
        with Worker("bench.publisher", order) as publisher:
            publisher.ask("go")
            began = time.monotonic()
            lives = [
                _killed(bench, installation, began + (number + 1) * life - chance.uniform(0, life / 10))
                for number in range(kills)
            ]
            with installation.running():
                published = publisher.answer(within=60 + seconds)
                bench.wait_for(events * len(PATHS))
    counts = bench.sink.ask("count")
    expected = {event_id(run, number) for number in range(events)}
    integrity.check(expected, bench.sink.ask("arrivals"), counts, PATHS)
    third = max(1, len(lives) // 3)
    early, late = Parts("first third", lives[:third]), Parts("last third", lives[-third:])
    return [
        Figure("events answered, none lost", events, ""),
        Figure("requests made again", published["repeated"], ""),
        Figure("last answer after its time", published["behind"], "s"),
        Figure("deliveries", counts["unique"], ""),
        Figure("duplicates", counts["duplicates"], ""),
        Figure("kills", kills, ""),
        *growth("memory (PSS)", "MB", early, late, lambda sample: sample.pss_mb),
        *growth("open descriptors", "", early, late, lambda sample: sample.descriptors),
        *growth("files without remembered ids", "MB", early, late, lambda sample: sample.files_mb),
    ]


def _order(bench: Bench, installation: Installation, run: str, events: int) -> dict[str, object]:
    """Returns the order for the publisher, once the receivers are subscribed."""
    with installation.running() as platform:
        platform.subscribe(*bench.endpoints(PATHS))
    return {
        "url": f"{platform.url}/ingest",
        "key": INGEST_KEY,
        "run": run,
        "events": events,
        "rate": RATE,
        "size": bench.options.size,
        "connections": CONNECTIONS,
    }


def _killed(bench: Bench, installation: Installation, end: float) -> list[Sample]:
    """Samples a life of the platform until the moment `end`, once at least, and kills it."""
    with installation.running() as platform:
        samples = [_sample(platform)]
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(SAMPLE_SECONDS, left))
            samples.append(_sample(platform))
            bench.sink.ask("count")  # so that it reads and forgets what came
        platform.kill()
    return samples


def _sample(platform: Platform) -> Sample:
    """Returns a sample in which the size of the files leaves out the ids of the last 10 minutes."""
    data = platform.folder / "data"
    files = sum(path.stat().st_size for path in data.iterdir())
    remembered = _remembered(data / "aep.db")
    return Sample(platform.pss_mb(), machine.descriptors(platform.pid), (files - remembered) / 1e6)


def _remembered(file: Path) -> int:
    """Returns the bytes of ids that came in, which are kept for 10 minutes: they grow as long as a soak
    takes.
    """
    query = (
        "SELECT coalesce(sum(pages.pgsize), 0) FROM sqlite_schema AS part JOIN dbstat AS pages"
        " ON pages.name = part.name WHERE part.tbl_name = 'seen'"
    )
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchone()[0]
