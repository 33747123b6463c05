"""The plumbing of the cases: a platform, a load on it, the arrivals at the sink, and the cost."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import typer

from . import floor, integrity, machine, platform, profiling
from .errors import BenchFailed, LeftOut
from .events import CLOUDEVENTS, EVENTS_API, event_id
from .platform import EVENTS_API_SECRET, INGEST_KEY, PIM_KEY, SECRET, Installation, Platform, Relay
from .workers import Worker

PATH = "/sink"
POLL_SECONDS = 0.05
SETTLE_SECONDS = 0.3
"""The seconds after the last arrival, for its settlement, and for duplicates to arrive."""
PATIENCE_SECONDS = 30.0
"""The seconds without a single arrival after which missing deliveries count as lost."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line. `fault` makes the sink lose an event, or check with a wrong secret."""

    events: int = 10_000
    size: int = 1024
    connections: int = 50
    paced_rate: float = 200
    paced_seconds: float = 15
    idle_seconds: float = 5
    backlog: int = 1_000_000
    log_entries: int = 1_000_000
    replayed: int = 100_000
    changed: int = 10_000
    kept: int = 5_000_000
    soak_seconds: float | None = None
    """The length of a soak; None for its default."""
    seed: int = 1
    whole: bool = False
    """True for the whole sizes of the cases of growth."""
    log_level: str | None = None
    workers: int | None = None
    folder: Path | None = None
    profile: Path | None = None
    py_spy: str = "py-spy"
    fault: str | None = None
    patience: float = PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Load:
    """A load to publish. `rate` is events a second in an open loop; None is as fast as it is answered.

    `size` is the bytes of an event; None stands for the option of the command line. `keys` are ingest keys,
    which requests take in turn.
    """

    events: int
    batch: int = 1
    connections: int = 50
    rate: float | None = None
    format: str = CLOUDEVENTS
    size: int | None = None
    keys: Sequence[str] = (INGEST_KEY,)


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of a load. `cpu_ms` is of all processes of the platform, from first publish to settled."""

    deliveries: int
    seconds: float  # from the first publish to the last first arrival
    cpu_ms: float
    bench_cpu_ms: float  # of load and sink, which compete with the platform for the cores
    pss_mb: float
    duplicates: int
    lag_ms: float  # how late the pacer was at worst
    latencies: dict[str, list[float]] = field(repr=False)
    """The milliseconds from the publish (paced: from when it was due) to the arrival, by path."""
    answers: list[float] = field(repr=False)
    """The milliseconds to the answer of each request."""

    @property
    def per_second(self) -> float:
        return self.deliveries / self.seconds

    @property
    def cpu_ms_per_delivery(self) -> float:
        return self.cpu_ms / self.deliveries


class Bench:
    """The things that a case works with: sink, workers, platforms and loads."""

    def __init__(self, options: Options, sink: Worker) -> None:
        self.options = options
        self.sink = sink
        listening = sink.answer()
        self._origins: list[str] = listening["origins"]
        self.sink_url = self._origins[0]
        self.tls_url: str = listening["tls_origin"]
        self.authority: str = listening["authority"]
        """The authority of the certificate at `tls_url`, in PEM."""
        self._is_without_floor = False

    def endpoints(self, paths: Iterable[str]) -> list[str]:
        """Returns URLs at the sink, each path at an origin of its own, as receivers are (20 of them, in
        turn).
        """
        return [origin + path for origin, path in zip(cycle(self._origins), paths, strict=False)]

    def installed(self, more: Mapping[str, str] | None = None) -> AbstractContextManager[Installation]:
        """Makes a fresh data folder: the rate limit is lifted and `more` set; the rest are defaults."""
        chosen = {"AEP_LOG_LEVEL": self.options.log_level, "AEP_WORKERS": self.options.workers}
        given = {name: str(value) for name, value in chosen.items() if value is not None}
        settings = {**platform.NO_LIMIT, **given, **(more or {})}
        return platform.installed(settings, parent=self.options.folder)

    @contextmanager
    def running_platform(self, more: Mapping[str, str] | None = None) -> Iterator[Platform]:
        """Runs a platform on a fresh data folder."""
        with self.installed(more) as installation, installation.running() as running:
            yield running

    @contextmanager
    def subscribed(
        self, paths: Sequence[str] = (PATH,), more: Mapping[str, str] | None = None
    ) -> Iterator[Platform]:
        """Runs a platform with a subscription to each path of the sink, through which one event has gone.

        `more` are settings beside the usual ones.
        """
        with self.running_platform(more) as running:
            running.subscribe(*self.endpoints(paths))
            self.publish(running, Load(events=1, connections=1), paths)
            yield running

    def floor(self, load: Load, paths: Sequence[str] = (PATH,)) -> Measured | None:
        """Returns the results of the load on a floor, beside those of a platform; None without Go."""
        if self._is_without_floor:
            return None
        endpoints, split = self.endpoints(paths), load.batch > 1
        try:
            with floor.running(endpoints, SECRET, split=split, parent=self.options.folder) as running:
                self.publish(running, Load(events=load.batch, batch=load.batch, connections=1), paths)
                return self.publish(running, load, paths)
        except LeftOut as missing:
            self._is_without_floor = True
            typer.echo(f"left out: {missing}", err=True)
            return None

    def publish(
        self,
        running: Relay,
        load: Load,
        paths: Sequence[str] = (PATH,),
        *,
        others: bool = False,
        fresh: bool = True,
    ) -> Measured:
        """Puts the load on it and waits for its end; only that of `paths` when there are `others`.

        Before that the sink forgets what came, unless the load is not to begin `fresh`. Raises BenchFailed
        when any event was refused, lost or wrongly signed.
        """
        run = f"bench-{time.monotonic_ns():x}"
        with self._loaded(running, load, run) as worker:
            if fresh:
                self.sink.ask("reset")
            with self._profiled(running, load):
                cpu, own = running.cpu_seconds(), self._own_cpu_seconds(worker)
                result = self._publish(worker, load)
                self.wait_for(load.events * len(paths), paths if others else None)
                time.sleep(SETTLE_SECONDS)
                cpu, own = running.cpu_seconds() - cpu, self._own_cpu_seconds(worker) - own
        return self._measured(run, result, paths, cpu, own, running.pss_mb())

    def fill(self, running: Relay, load: Load) -> float:
        """Puts the load on the platform, whatever its deliveries do.

        Returns the seconds until all was answered 202.
        """
        with self._loaded(running, load, f"bench-{time.monotonic_ns():x}") as worker:
            result = self._publish(worker, load)
        return (result["ended"] - result["started"]) / 1e9

    @contextmanager
    def _loaded(self, running: Relay, load: Load, run: str) -> Iterator[Worker]:
        with Worker("bench.load", self._order(running, load, run)) as worker:
            worker.answer()  # prepared
            yield worker

    def _publish(self, worker: Worker, load: Load) -> dict[str, Any]:
        result = worker.ask("go", within=self._publishing_seconds(load))
        integrity.check_accepted(result["rows"], [200, 202])  # 200 as the Events API is
        return result

    def _order(self, running: Relay, load: Load, run: str) -> dict[str, Any]:
        is_webhook = load.format == EVENTS_API
        return {
            "url": f"{running.url}/ingest" + (f"/events-api/{PIM_KEY}" if is_webhook else ""),
            "keys": [EVENTS_API_SECRET] if is_webhook else list(load.keys),
            "format": load.format,
            "run": run,
            "events": load.events,
            "batch": load.batch,
            "connections": load.connections,
            "rate": load.rate,
            "size": load.size or self.options.size,
        }

    @staticmethod
    def _publishing_seconds(load: Load) -> float:
        """Returns the seconds that publishing may take, at a hundred events a second when it is not paced."""
        return 60 + load.events / (load.rate or 100)

    def wait_for(self, expected: int, paths: Sequence[str] | None = None) -> None:
        """Waits until so many have arrived, at `paths` alone if they are named, or no more come."""
        seen, moved = -1, time.monotonic()
        while (arrived := self._arrived(expected, paths)) < expected:
            if arrived != seen:
                seen, moved = arrived, time.monotonic()
            elif time.monotonic() - moved > self.options.patience:
                return
            time.sleep(POLL_SECONDS)

    def _arrived(self, expected: int, paths: Sequence[str] | None) -> int:
        if paths is None:
            came = self.sink.ask("came")  # with duplicates
            return came if came < expected else self.sink.ask("count")["unique"]
        arrived = self.sink.ask("by path")
        return sum(arrived.get(path, 0) for path in paths)

    def _own_cpu_seconds(self, load: Worker) -> float:
        return machine.cpu_seconds(self.sink.pid) + machine.cpu_seconds(load.pid)

    def _profiled(self, running: Relay, load: Load) -> AbstractContextManager[None]:
        """Profiles the block, without the first event, which only shows that all is well."""
        if self.options.profile is None or load.events == 1 or not isinstance(running, Platform):
            return nullcontext()
        return profiling.flame_graph(self.options.py_spy, running.pid, self.options.profile)

    def _measured(
        self, run: str, result: dict[str, Any], paths: Sequence[str], cpu: float, own: float, pss: float
    ) -> Measured:
        published = {
            event_id(run, number): moment
            for first, count, moment, *_ in result["rows"]
            for number in range(first, first + count)
        }
        arrivals, counts = self.sink.ask("arrivals"), self.sink.ask("count")
        integrity.check(set(published), arrivals, counts, paths)
        last = max(moment for path in paths for moment in arrivals[path].values())
        return Measured(
            deliveries=sum(len(arrivals[path]) for path in paths),
            seconds=(last - result["started"]) / 1e9,
            cpu_ms=cpu * 1e3,
            bench_cpu_ms=own * 1e3,
            pss_mb=pss,
            duplicates=counts["duplicates"],
            lag_ms=result["lag"] / 1e6,
            latencies={
                path: [(moment - published[event]) / 1e6 for event, moment in arrivals[path].items()]
                for path in paths
            },
            answers=[(answered - moment) / 1e6 for *_, moment, _, answered in result["rows"]],
        )


@contextmanager
def bench(options: Options) -> Iterator[Bench]:
    """Yields a bench with its sink."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise BenchFailed("the bench reads /proc, so it runs on Linux only")
    order = {
        "secret": "another-secret" if options.fault == "secret" else SECRET,
        "lose": options.fault == "lose",
        "seed": options.seed,
    }
    with Worker("bench.sink", order) as sink:
        yield Bench(options, sink)
