"""A feed: the cost of products that have changed in a PIM, and what it does to events beside it."""

import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from aep.runtime import children

from .. import platform
from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load
from ..platform import PIMS, Installation, Platform
from ..workers import Worker

PAGE = 100
POLL_SECONDS = 0.5
START_SECONDS = 60
SLOWEST = 50
"""The products a second below which a feed is given up."""


@case("feed", "events beside a feed that takes in changed products", by_default=False)
def feed(bench: Bench) -> list[Figure]:
    options = bench.options
    events = max(1, round(options.paced_rate * options.paced_seconds))
    load = Load(events, connections=8, rate=options.paced_rate)
    with (
        Worker("bench.pim", {"products": options.changed}) as pim,
        bench.installed() as installation,
        installation.running() as running,
    ):
        running.subscribe(*bench.endpoints((PATH,)))
        bench.publish(running, Load(events=1, connections=1))
        alone = bench.publish(running, load).latencies[PATH]
        before = running.pss_mb()
        url = pim.answer()["url"]
        _set_up(installation, url)
        _wait(pim, 1, START_SECONDS)
        beside = bench.publish(running, load).latencies[PATH]
        read = pim.ask("pages")
        cpu, began = running.cpu_seconds(), time.monotonic()
        most = _wait(pim, -(-options.changed // PAGE), 60 + options.changed / SLOWEST, running)
        seconds = time.monotonic() - began
        cpu = running.cpu_seconds() - cpu
        later = options.changed - read * PAGE
        time.sleep(1)
        sent = _asked(installation, url)["resources"][0]["sent"]
    if sent != options.changed:
        raise BenchFailed(f"of {options.changed} products that have changed the feed has sent {sent}")
    costs = []
    if later > 0:
        costs = [
            Figure("CPU of 1,000 products", cpu * 1e6 / later, "ms"),
            Figure("products a second", later / seconds, "/s"),
        ]
    ratio = percentile(beside, 99) / percentile(alone, 99)
    return [
        Figure("products taken in, all of them", sent, ""),
        *costs,
        Figure("memory (PSS) before", before, "MB"),
        Figure("memory at most while it read", most, "MB"),
        Figure("p50 of events alone", percentile(alone, 50), "ms"),
        Figure("p50 beside the feed", percentile(beside, 50), "ms"),
        Figure("p99 of events alone", percentile(alone, 99), "ms"),
        Figure("p99 beside the feed", percentile(beside, 99), "ms"),
        Figure("ratio of the two", ratio, "", at_most(1.2)),
    ]


def _set_up(installation: Installation, url: str) -> None:
    since = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    who = ("--client-id", "1_bench", "--username", "bench", "--secret", "-", "--timezone", "UTC")
    _aep(installation, "pims", "add", url)
    settings = ("--resources", "products", "--since", since)
    _aep(installation, "pims", "feed", url, *who, *settings, typed=b"a-secret\na-password\n")


def _asked(installation: Installation, url: str) -> dict[str, Any]:
    return orjson.loads(_aep(installation, "pims", "feed", url, "--json"))


def _aep(installation: Installation, *arguments: str, typed: bytes = b"") -> bytes:
    data = str(installation.folder / "data")
    done = subprocess.run(  # noqa: S603 - a command of ours
        children.aep(*arguments, "--data", data),
        input=typed,
        env=platform.environment({"AEP_PIMS": str(installation.folder / PIMS)}),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise BenchFailed(f"aep {' '.join(arguments[:2])}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _wait(pim: Worker, pages: int, seconds: float, running: Platform | None = None) -> float:
    """Waits until so many pages were shown; returns the most memory meanwhile."""
    deadline, most = time.monotonic() + seconds, 0.0
    while (shown := pim.ask("pages")) < pages:
        if time.monotonic() > deadline:
            raise BenchFailed(f"the feed has read {shown} pages of {pages}")
        if running is not None:
            most = max(most, running.pss_mb())
        time.sleep(POLL_SECONDS)
    return most if running is None else max(most, running.pss_mb())
