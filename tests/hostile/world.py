"""A platform for two PIMs: one that is attacked from, and one beside it that must not notice.

Built of the bench's parts: the platform as a user starts it, its load, its sink.
"""

import math
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

sys.path.append(str(Path(__file__).parents[2]))  # the bench is not installed with the packages

from bench.errors import BenchFailed
from bench.figures import percentile
from bench.measuring import Bench, Load, Measured
from bench.platform import PIMS, SECRET, Installation, Platform
from bench.workers import Worker

from aep.google.ports import free_ports
from support.processes import Client, SimulatedPim, server

HOSTILE_KEY = "an-ingest-key-of-the-attacker"
HOSTILE_PATH = "hostile"
UPDATED = "com.akeneo.pim.v1.product.updated"
ENDPOINTS = ("/quiet-0", "/quiet-1")
RATE = 50
"""Events a second of the PIM beside, each to both endpoints."""
SAMPLE_SECONDS = 0.5


def https_to(url: str, **more: Any) -> dict[str, Any]:
    """A subscription to an endpoint, with the secret that the sink knows."""
    return {"type": "https", "config": {"url": url, "secret": {"primary": SECRET}}, **more}


@dataclass(frozen=True)
class Figures:
    """What the PIM beside noticed: its ingest's p99, its deliveries' p50 (milliseconds), and the memory."""

    ingest_p99: float
    delivery_p50: float
    pss_peak: float
    lost: tuple[str, ...] = ()
    """What was refused or did not arrive; then there are no times."""


@dataclass
class Attacked:
    """A running platform, the client of the attacker on it, and its attackers."""

    platform: Platform
    bench: Bench
    client: Client
    folder: Path
    metrics_url: str
    subscriber: str = ""
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    def order(self, attack: str, **more: Any) -> dict[str, Any]:
        """What an attacker of that name needs to know."""
        identity = {
            "X-PIM-URL": self.client.pim,
            "X-PIM-TOKEN": self.client.token,
            "X-PIM-CLIENT-ID": self.client.client_id,
        }
        return {
            "attack": attack,
            "url": self.platform.url,
            "identity": identity,
            "ingest_key": HOSTILE_KEY,
            "key": HOSTILE_PATH,
            "subscriber": self.subscriber,
            **more,
        }

    def subscribe(self, *bodies: Mapping[str, Any]) -> list[str]:
        """Subscriptions of the attacker, 20 for each subscriber as it may have; their paths."""
        paths: list[str] = []
        for index, body in enumerate(bodies):
            if index % 20 == 0:
                contact = {"technical_email": "mallory@example.com"}
                made = self.client.call("POST", "/subscribers", {"name": "M", "contact": contact}, expect=201)
                self.subscriber = made["id"]
            at = f"/subscribers/{self.subscriber}/subscriptions"
            made = self.client.call("POST", at, {"events": [UPDATED], **body}, expect=201)
            paths.append(f"{at}/{made['id']}")
        return paths

    def unsubscribe(self, paths: Sequence[str]) -> None:
        """Deletes subscriptions of the attacker."""
        for path in paths:
            self.client.call("DELETE", path, expect=200)

    def measure(self, seconds: float) -> Figures:
        """What the PIM beside gets meanwhile."""
        load = Load(round(RATE * seconds), connections=8, rate=RATE)
        with self._sampled() as samples:
            try:
                measured = self.bench.publish(self.platform, load, ENDPOINTS, others=True)
            except BenchFailed as failure:
                return Figures(math.inf, math.inf, max(samples), (str(failure),))
        return Figures(percentile(measured.answers, 99), _p50(measured), max(samples))

    @contextmanager
    def _sampled(self) -> Iterator[list[float]]:
        samples, ended = [self.platform.pss_mb()], threading.Event()

        def sample() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                samples.append(self.platform.pss_mb())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield samples
        finally:
            ended.set()
            thread.join()

    def pss_after(self, below: float, *, within: float) -> float:
        """The memory when it is back below that, or after so many seconds."""
        deadline = time.monotonic() + within
        while (now := self.platform.pss_mb()) > below and time.monotonic() < deadline:
            time.sleep(SAMPLE_SECONDS)
        return now

    @contextmanager
    def attacked(self, *orders: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
        """Attackers are at work during the block; gives what they say of it, after it."""
        said: list[dict[str, Any]] = []
        workers: list[Worker] = []
        try:
            for order in orders:
                workers.append(Worker("tests.hostile.attackers", dict(order)))
                workers[-1].answer(within=120)
            yield said
            for worker in workers:
                worker.send("stop")
            said += [worker.answer(within=60) for worker in workers]
        finally:
            for worker in workers:
                worker.__exit__(None, None, None)


@contextmanager
def world(bench: Bench, folder: Path, settings: Mapping[str, str]) -> Iterator[Attacked]:
    """With fresh data, two simulated PIMs, and both endpoints of the PIM beside subscribed."""
    with bench.installed() as installation, server(folder, "sim") as sim:
        _add_pim(installation, sim.url)
        with installation.running() as platform:
            platform.subscribe(*bench.endpoints(ENDPOINTS))
        _make_old(installation)
        (port,) = free_ports(1)
        with replace(
            installation, settings={**settings, "AEP_METRICS_PORT": str(port)}
        ).running() as platform:
            client = SimulatedPim(sim.url).client(platform.url)
            yield Attacked(platform, bench, client, installation.folder, f"http://127.0.0.1:{port}")


def _make_old(installation: Installation) -> None:
    """Makes what is subscribed an hour old, so that its rate, which begins at 10 a second, has grown."""
    before = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    with closing(sqlite3.connect(installation.folder / "data" / "aep.db")) as file, file:
        file.execute("UPDATE subscriptions SET document = json_set(document, '$.created_at', ?)", (before,))


def _add_pim(installation: Installation, url: str) -> None:
    file = installation.folder / PIMS
    more = {"url": url, "key": HOSTILE_PATH, "ingest_key": HOSTILE_KEY}
    more |= {"events_api_secret": "an-events-api-secret-of-the-attacker"}
    file.write_bytes(orjson.dumps([*orjson.loads(file.read_bytes()), more]))


def _p50(measured: Measured) -> float:
    return percentile([value for found in measured.latencies.values() for value in found], 50)
