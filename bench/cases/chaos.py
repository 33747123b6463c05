"""A soak on a machine with faults: one each minute, in turns."""

import os
import signal
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from .. import integrity, machine, mounts, wall_clock
from ..errors import BenchFailed, LeftOut
from ..events import event_id
from ..figures import Figure, at_most, case, percentile
from ..growth import Parts, Sample, growth
from ..log_pipe import LogPipe
from ..measuring import Bench
from ..mounts import Mounts
from ..platform import INGEST_KEY, Installation, Platform, call
from ..workers import Worker
from .isolation import refusing

SECONDS = 900.0
MINUTE_SECONDS = 60.0
RATE = 200
HEALTHY = ("/healthy-0", "/healthy-1")
AT_RANDOM = ("/random-0/", "/random-1/")
TOO_SLOW = "/slow-6/"
"""The path of a receiver that is suspended again and again, as one that refuses connections is."""
SETTINGS = {"AEP_RETRY_DELAYS": "1,2,4,8,16,16,16"}
"""The settings of the platform.

The retry delays are longer in all than any fault, so that no event fails for good.
"""
CONNECTIONS = 50
SAMPLE_SECONDS = 3.0
QUIET = 0.25
"""The part of a minute before its fault."""
LONGEST = 0.4
"""The part of a minute that a fault may take, if its own seconds are more."""
DAY = 86400.0
WATCHED = "subscription.suspended", "delivery.ended", "egress.failing"
"""Events of the log that are counted besides errors."""
ENDED = "ended by itself with status"
LEAST_ANSWER_SECONDS = 1.0
"""The least seconds that the management API has to answer during a fault; it has a quarter of the fault."""
COLUMNS = (
    *("", "fault", "accepted", "delivered", "at random", "lost", "twice"),
    *("p50 ms", "p99 ms", "PSS MB", "fds", "files MB", "WAL MB"),
)
TABLE_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault. `during` is the context in which it lasts for at most so many seconds."""

    name: str
    seconds: float
    during: Callable[[float], AbstractContextManager[None]]


@dataclass(slots=True)
class Minute:
    """The events and deliveries of one minute. Moments are monotonic nanoseconds."""

    fault: str
    began: int
    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    accepted: int = 0  # in this minute
    delivered: int = 0  # the same, to receivers that are well
    at_random: int = 0  # the same, to those at random
    lost: int = 0  # of the events that were due in this minute, as what follows
    twice: int = 0
    latencies: list[float] = field(default_factory=list)


@case("chaos", "200 events a second, a fault of the machine a minute", by_default=False)
def chaos(bench: Bench) -> list[Figure]:
    seconds = bench.options.soak_seconds or SECONDS
    run = f"bench-{time.monotonic_ns():x}"
    with ExitStack() as held:
        world = _World(bench, held)
        faults = world.faults()
        number = max(len(faults) + 1, round(seconds / MINUTE_SECONDS))
        plan = [None, *(faults[index % len(faults)] for index in range(number - 1))]
        world.subscribe()
        bench.sink.ask("reset")
        with Worker("bench.publisher", world.order(run)) as publisher:
            publisher.ask("go")
            minutes = [world.minute(fault, seconds / number) for fault in plan]
            published = publisher.ask("stop", within=60 + seconds)
        events = len(published["answered"])
        for paths in (HEALTHY, AT_RANDOM):
            bench.wait_for(events * len(paths), paths)
        world.end()
        complaints = [note for minute in minutes for note in minute.notes if note.startswith(ENDED)]
    arrivals, repeats = bench.sink.ask("arrivals"), bench.sink.ask("repeats")
    _count(minutes, run, published, arrivals, repeats)
    _show(minutes, world)
    expected = {event_id(run, number) for number in range(events)}
    integrity.check(expected, arrivals, bench.sink.ask("count"), HEALTHY)
    if complaints:
        raise BenchFailed("; ".join(complaints))
    return [*_totals(minutes, published, expected, arrivals, repeats), *_by_minute(minutes)]


class _World:
    """A platform on a machine that can be broken, with its receivers. `held` ends all that is open."""

    def __init__(self, bench: Bench, held: ExitStack) -> None:
        self._bench = bench
        self._held = held
        self.missing: list[str] = []
        """The faults that cannot be had here, with the reason."""
        self._clock = self._mounts = None
        settings = dict(SETTINGS)
        if wall_clock.is_available():
            tools = held.enter_context(tempfile.TemporaryDirectory(prefix="aep-bench-"))
            self._clock = wall_clock.MovableWallClock(Path(tools))
            settings |= self._clock.environment
        installation = held.enter_context(bench.installed(settings))
        try:
            self._mounts = held.enter_context(Mounts(installation.folder / "data"))
        except LeftOut as why:
            self.missing += [f"{name}: {why}" for name in ("disk full", "resolver gone", "disk frozen")]
        self._log_file = installation.folder / "serve.log"
        self._log = LogPipe(self._log_file)
        self._installation: Installation = replace(
            installation, within=self._mounts.within if self._mounts else (), errors=self._log.writing
        )
        self._life = held.enter_context(ExitStack())
        self._platform = self._start()
        self._troubled: list[str] = []
        self.logged: Counter[str] = Counter()
        """The log lines about what went wrong, and how many there were of each kind."""

    def faults(self) -> list[Fault]:
        """Returns the faults that this machine allows, in turns."""
        found: list[Fault] = []
        clock, disk = self._clock, self._mounts
        if clock is not None:
            found.append(Fault("clock +1 day", 20, partial(self._moved, clock, DAY)))
        else:
            self.missing += [f"clock {way} day: needs Linux and a C compiler" for way in ("+1", "-1")]
        found.append(Fault("kill -9", 0, self._killed))
        if len(machine.tree(self._platform.pid)) > 1:
            found.append(Fault("worker stopped", 25, self._stopped))
        else:
            self.missing.append("worker stopped: one process does everything")
        if disk is not None:
            found += [
                Fault("disk full", 5, partial(disk.broken, mounts.FULL)),
                Fault("resolver gone", 10, partial(disk.broken, mounts.NO_NAMES)),
            ]
        found.append(Fault("log unread", 20, lambda _: self._log.unread()))
        if disk is not None and disk.not_frozen is None:
            found.append(Fault("disk frozen", 5, partial(disk.broken, mounts.FROZEN)))
        elif disk is not None:
            self.missing.append(f"disk frozen: {disk.not_frozen}")
        if clock is not None:
            found.append(Fault("clock -1 day", 20, partial(self._moved, clock, -DAY)))
        return found

    def subscribe(self) -> None:
        """Subscribes receivers that are well, at random, and in trouble; with names where there is a
        nameserver.
        """
        endpoints = self._bench.endpoints([*HEALTHY, *AT_RANDOM, TOO_SLOW])
        if self._mounts is not None:
            endpoints = [
                endpoint.replace("127.0.0.1", f"receiver-{number}.example")
                for number, endpoint in enumerate(endpoints)
            ]
        refused = self._held.enter_context(refusing())
        *_, too_slow, refusing_one = self._platform.subscribe(*endpoints, refused)
        self._troubled = [too_slow, refusing_one]

    def order(self, run: str) -> dict[str, object]:
        """Returns the order for the publisher."""
        return {
            "url": f"{self._platform.url}/ingest",
            "key": INGEST_KEY,
            "run": run,
            "events": None,
            "rate": RATE,
            "size": self._bench.options.size,
            "connections": CONNECTIONS,
        }

    def minute(self, fault: Fault | None, seconds: float) -> Minute:
        """Lets the fault happen after a part of the time, and samples until its end."""
        began = time.monotonic()
        minute = Minute(fault.name if fault else "none", time.monotonic_ns())
        time.sleep(seconds * QUIET)
        if fault is not None:
            held = min(fault.seconds, seconds * LONGEST)
            with fault.during(held):
                self._hold(minute, held)
        while True:
            self._restart_if_ended(minute)
            minute.samples.append(self._sample())
            self._bench.sink.ask("count")  # so that it reads what came
            if (left := began + seconds - time.monotonic()) <= 0:
                break
            time.sleep(min(SAMPLE_SECONDS, left))
        typer.echo(f"chaos  {minute.fault}  {'; '.join(minute.notes)}", err=True)
        return minute

    def end(self) -> None:
        """Ends the platform, and counts what went wrong by its log. Raises BenchFailed."""
        self._life.close()
        self._log.close()
        for line in self._log_file.read_bytes().splitlines():
            with suppress(orjson.JSONDecodeError):
                logged = orjson.loads(line)
                event = str(logged.get("event"))
                if logged.get("severity") in ("ERROR", "CRITICAL") or event in WATCHED:
                    self.logged[f"{event} {logged.get('reason', '')}".rstrip()] += 1

    def _start(self) -> Platform:
        return self._life.enter_context(self._installation.running())

    def _hold(self, minute: Minute, seconds: float) -> None:
        """Waits, and calls the management API halfway through."""
        end = time.monotonic() + seconds
        time.sleep(seconds / 2)
        for url in self._troubled:
            minute.notes += self._resume(url, max(LEAST_ANSWER_SECONDS, seconds / 4))
        time.sleep(max(0.0, end - time.monotonic()))

    def _resume(self, url: str, timeout: float) -> Iterator[str]:
        """Resumes a subscription; returns a note about the answer if it is not the one that is due."""
        try:
            call("POST", f"{url}/resume", None, self._platform.identity(), timeout=timeout)
        except TimeoutError:
            yield f"no resume within {timeout:.1f} s"
        except (OSError, BenchFailed) as error:
            yield f"resume: {str(error).partition('/resume ')[2] or error}"

    def _restart_if_ended(self, minute: Minute) -> None:
        """Starts the platform again, as a service manager does, when it has ended by itself."""
        status = self._platform.child.status
        if status is None:
            return
        minute.notes.append(f"{ENDED} {status}")
        with suppress(BenchFailed):  # for the same reason
            self._life.close()
        self._platform = self._start()

    def _sample(self) -> Sample:
        data = self._mounts.disk if self._mounts else self._installation.folder / "data"
        files = {path.name: _size(path) / 1e6 for path in data.iterdir()}
        platform = self._platform
        descriptors = machine.descriptors(platform.pid)
        return Sample(platform.pss_mb(), descriptors, sum(files.values()), files.get("aep.db-wal", 0))

    @contextmanager
    def _moved(self, clock: wall_clock.MovableWallClock, by: float, seconds: float) -> Iterator[None]:
        clock.move(by)
        yield

    @contextmanager
    def _killed(self, seconds: float) -> Iterator[None]:
        self._platform.kill()
        self._life.close()
        self._platform = self._start()
        yield

    @contextmanager
    def _stopped(self, seconds: float) -> Iterator[None]:
        """Yields with the process stopped that delivers: it has had most of the CPU below the first one."""
        _, *below = machine.tree(self._platform.pid)
        busiest = max(below, key=machine.cpu_seconds)
        os.kill(busiest, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(busiest, signal.SIGCONT)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # gone meanwhile
        return 0


def _count(
    minutes: Sequence[Minute],
    run: str,
    published: dict[str, Any],
    arrivals: dict[str, dict[str, int]],
    repeats: Sequence[tuple[str, str]],
) -> None:
    """Counts for each minute the results of its events."""
    begins = [minute.began for minute in minutes]

    def of(moment: int) -> Minute:
        return minutes[max(0, bisect_right(begins, moment) - 1)]

    due: dict[str, int] = {}
    for number, answered in enumerate(published["answered"]):
        due[event_id(run, number)] = published["began"] + round(number * 1e9 / RATE)
        of(answered).accepted += 1
    for path in HEALTHY:
        came = arrivals.get(path, {})
        for event, moment in due.items():
            if (arrived := came.get(event)) is None:
                of(moment).lost += 1
            else:
                of(arrived).delivered += 1
                of(moment).latencies.append((arrived - moment) / 1e6)
    for path in AT_RANDOM:
        for arrived in arrivals.get(path, {}).values():
            of(arrived).at_random += 1
    for path, event in repeats:
        if path in HEALTHY and event in due:
            of(due[event]).twice += 1


def _show(minutes: Sequence[Minute], world: _World) -> None:
    table = Table(title="By minute", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "fault" else "right", no_wrap=True)
    table.add_column("what else was seen")
    for number, minute in enumerate(minutes):
        counts = (minute.accepted, minute.delivered, minute.at_random, minute.lost, minute.twice)
        last = minute.samples[-1]
        table.add_row(
            str(number),
            minute.fault,
            *map(str, counts),
            *(f"{_percentile(minute.latencies, part):,.1f}" for part in (50, 99)),
            f"{max(sample.pss_mb for sample in minute.samples):.0f}",
            f"{last.descriptors:.0f}",
            f"{last.files_mb:.1f}",
            f"{last.wal_mb:.1f}",
            "; ".join(minute.notes),
        )
    console = Console(stderr=True)
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    for why in world.missing:
        console.print(f"not possible here: {why}", markup=False)
    for line, count in world.logged.most_common():
        console.print(f"in the log, {count} times: {line}", markup=False)


def _totals(
    minutes: Sequence[Minute],
    published: dict[str, Any],
    expected: set[str],
    arrivals: dict[str, dict[str, int]],
    repeats: Sequence[tuple[str, str]],
) -> list[Figure]:
    at_random = sum(len(expected - arrivals.get(path, {}).keys()) for path in AT_RANDOM)
    quiet = [latency for minute in minutes if minute.fault == "none" for latency in minute.latencies]
    return [
        Figure("events answered, none lost", len(expected), ""),
        Figure("not at a receiver at random", at_random, "", at_most(0)),
        Figure("requests made again", published["repeated"], ""),
        Figure("last answer after its time", published["behind"], "s"),
        Figure("deliveries that came twice", len(repeats), ""),
        Figure("p99 without a fault", _percentile(quiet, 99), "ms"),
        Figure(
            "memory (PSS) at most", max(each.pss_mb for minute in minutes for each in minute.samples), "MB"
        ),
        *_growth(minutes),
    ]


def _growth(minutes: Sequence[Minute]) -> list[Figure]:
    """Compares the first and the last minute of each fault; nothing in a run that has each fault once."""
    by_fault: dict[str, list[list[Sample]]] = {}
    for minute in minutes:
        by_fault.setdefault(minute.fault, []).append(minute.samples)
    repeated = [samples for samples in by_fault.values() if len(samples) > 1]
    if not repeated:
        return []
    early = Parts("at each fault's first time", [samples[0] for samples in repeated])
    late = Parts("at its last time", [samples[-1] for samples in repeated])
    return [
        *growth("memory (PSS)", "MB", early, late, lambda sample: sample.pss_mb),
        *growth("open descriptors", "", early, late, lambda sample: sample.descriptors),
    ]


def _percentile(latencies: list[float], percent: float) -> float:
    """Returns `percentile`, or 0 if nothing was due."""
    return percentile(latencies, percent) if latencies else 0.0


def _by_minute(minutes: Sequence[Minute]) -> list[Figure]:
    """Returns the figures of each minute, for the file."""
    return [
        Figure(f"minute {number}, {minute.fault}: {name}", value, unit, is_shown=False)
        for number, minute in enumerate(minutes)
        for name, value, unit in (
            ("accepted", minute.accepted, ""),
            ("delivered", minute.delivered, ""),
            ("delivered at random", minute.at_random, ""),
            ("lost", minute.lost, ""),
            ("twice", minute.twice, ""),
            ("p50", _percentile(minute.latencies, 50), "ms"),
            ("p99", _percentile(minute.latencies, 99), "ms"),
            ("memory (PSS)", max(sample.pss_mb for sample in minute.samples), "MB"),
            ("open descriptors", minute.samples[-1].descriptors, ""),
            ("files", minute.samples[-1].files_mb, "MB"),
            ("write-ahead log", minute.samples[-1].wal_mb, "MB"),
        )
    ]
