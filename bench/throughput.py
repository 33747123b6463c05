"""A simulation of the rate against receivers that allow only so much: no sockets, no chance.

`python -m bench.throughput` prints the table, `--plots docs` writes the plots of `docs/throughput.md`. The
queue always has deliveries for every lane, and the rules are the domain's own. One instance paces by a token
bucket, as `aep serve` does. Fifty share only the record, which each reads again when its copy is 2 s old; a
lane's next request leaves when its turn comes by `Rate.slot`.
"""

import argparse
import heapq
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

from event_platform.domain.pace import rates
from event_platform.domain.pace.lanes import LANES_AT_START
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.pace.turns import COPY_SECONDS, SPREAD_OF_COPIES, TokenBucket, Turn

START = datetime(2026, 1, 1, tzinfo=UTC)
BURST_SECONDS = 0.1
UNTHROTTLED_COPY_SECONDS = 5.0
"""The seconds until an instance knows the first rate of a subscription, which comes with the tenant's
version.
"""
SETTLED_AFTER = 90.0
SECONDS = 300.0
RECOVERS_WITHIN = 90.0
NEAR = 0.8
CHANGES_AT = 150.0


@dataclass(frozen=True, slots=True)
class Case:
    """A receiver: its allowance from each second on, in events a second, and its latency in seconds."""

    name: str
    allowed: Sequence[tuple[float, float]]
    latency: float
    instances: int = 1


@dataclass(slots=True)
class Run:
    """The results of a run: the moments of answers in seconds, and the rate each second."""

    case: Case
    taken: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])
    rate: list[float] = field(default_factory=list[float])
    lowered: int = 0

    def goodput(self, since: float, until: float) -> float:
        """Returns the events a second that the receiver took."""
        return sum(since <= moment < until for moment in self.taken) / (until - since)

    def wasted(self, since: float, until: float) -> float:
        """Returns the share of 429s among the answers."""
        bad = sum(since <= moment < until for moment in self.refused)
        good = sum(since <= moment < until for moment in self.taken)
        return bad / (bad + good)

    def reaches(self, rate: float, after: float) -> float:
        """Returns the seconds from `after` until a window of 10 s had 80 % of `rate`."""
        for seconds in range(10, int(SECONDS - after)):
            if self.goodput(after + seconds - 10, after + seconds) >= NEAR * rate:
                return float(seconds)
        return float("inf")


def cases() -> list[Case]:
    """Returns the cases: rate × latency up to 40, the documented limit; for one instance and for fifty."""
    found: list[Case] = []
    for instances in (1, 50):
        for allowed, latencies in (
            (2, (0.02, 0.5, 3)),
            (10, (0.02, 0.5, 3)),
            (50, (0.02, 0.2, 0.8)),
            (100, (0.02, 0.4)),
        ):
            found += [
                Case(f"{allowed}/s, {latency * 1000:g} ms", ((0, allowed),), latency, instances)
                for latency in latencies
            ]
        for before, after in ((10, 50), (2, 100), (50, 10), (100, 10)):
            name = f"{before} → {after}/s, 100 ms"
            found.append(Case(name, ((0, before), (CHANGES_AT, after)), 0.1, instances))
    return found


class Allowance:
    """A receiver's allowance: as much as a token bucket of one second holds."""

    def __init__(self, allowed: Sequence[tuple[float, float]]) -> None:
        self._allowed = allowed
        self._tokens, self._at = allowed[0][1], 0.0

    def at(self, now: float) -> float:
        """Returns the events a second that are allowed at the moment."""
        return next(rate for since, rate in reversed(self._allowed) if since <= now)

    def takes(self, now: float) -> bool:
        allowed = self.at(now)
        self._tokens = min(allowed, self._tokens + (now - self._at) * allowed)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Store:
    """The record with a version, and the copies that instances keep of it."""

    def __init__(self, instances: int) -> None:
        self.limits = Limits() if instances == 1 else Limits(spread=SPREAD_OF_COPIES)
        self.rate = Rate(START)
        self.lanes, self.lanes_changed_at = LANES_AT_START, START
        self.fresh = instances == 1  # on one machine there are no copies
        self._copies = [(self.rate, 0.0)] * instances

    def known_to(self, instance: int, now: float) -> Rate:
        rate, read_at = self._copies[instance]
        kept = COPY_SECONDS if rate.ceiling is not None else UNTHROTTLED_COPY_SECONDS
        if self.fresh or now - read_at >= kept:
            rate = self.reread(instance, now)
        return rate

    def reread(self, instance: int, now: float) -> Rate:
        self._copies[instance] = (self.rate, now)
        return self.rate

    def observe(self, instance: int, seen: Observation, now: float) -> bool:
        """True if the rate was written: the precondition is the copy's version."""
        known = self._copies[instance][0]
        wanted = rates.after(known, seen, _moment(now), self.limits)
        if wanted == known:
            return False
        won = self.rate == known
        if won:
            self.rate = wanted
        self.reread(instance, now)
        return won


def simulate(case: Case, seconds: float = SECONDS) -> Run:
    """Plays the case: a request reaches the receiver after half its latency."""
    run, receiver, store = Run(case), Allowance(case.allowed), _Store(case.instances)
    bucket = TokenBucket(rates.RATE_AT_START)
    order, turn = count(), count()
    events: list[tuple[float, int, str, tuple[int, int, float, Rate, bool]]] = []
    latency: float | None = None
    held: dict[int, Turn] = {}
    nothing = (0, 0, 0.0, store.rate, False)

    def plan(at: float, what: str, lane: int, detail: tuple[int, float, Rate, bool] = nothing[1:]) -> None:
        heapq.heappush(events, (at, next(order), what, (lane, *detail)))

    for lane in range(store.lanes):
        plan(lane / rates.RATE_AT_START if case.instances > 1 else 0.0, "leave", lane)
    for second in range(int(seconds)):
        plan(float(second), "note", 0)
    while events and events[0][0] < seconds:
        now, _, what, (lane, instance, began, sent_under, taken) = heapq.heappop(events)
        if what == "note":
            run.rate.append(store.rate.at(_moment(now), store.limits))
        elif what == "hold":  # the instance answers the queue when the lane's next turn has come
            wait = held[lane].wait(store.known_to(instance, now), _moment(now))
            again = "hold" if wait > 0 else "leave"
            plan(now + min(wait, COPY_SECONDS), again, lane, (instance, now, store.rate, False))
        elif what == "leave":
            if lane >= store.lanes:
                continue
            if case.instances == 1:  # deliveries of a lane that waits for its token
                bucket.rate = store.rate.at(_moment(now), store.limits)
                bucket.burst = max(1.0, bucket.rate * BURST_SECONDS)
                if (wait := bucket.wait(now)) > 0:
                    plan(now + max(wait, 1e-4), "leave", lane)
                    continue
                bucket.take(now)
            instance = next(turn) % case.instances
            plan(now + case.latency / 2, "reach", lane, (instance, now, store.known_to(instance, now), False))
        elif what == "reach":
            taken = receiver.takes(now)
            (run.taken if taken else run.refused).append(now)
            plan(began + case.latency, "answer", lane, (instance, began, sent_under, taken))
        else:
            latency = rates.with_latency(latency, now - began)
            seen = Observation(_moment(began), sent_under, now - began, throttled=not taken)
            run.lowered += store.observe(instance, seen, now)
            rate = store.known_to(instance, now).at(_moment(now), store.limits)
            lanes = rates.lanes_after(store.lanes, store.lanes_changed_at, rate, latency, _moment(now))
            if lanes != store.lanes:
                for new in range(store.lanes, lanes):
                    plan(now + new / rate if case.instances > 1 else now, "leave", new)
                store.lanes, store.lanes_changed_at = lanes, _moment(now)
            held[lane] = Turn(lane, store.lanes, store.limits)
            plan(now, "leave" if case.instances == 1 else "hold", lane, (instance, now, store.rate, False))
    return run


def lowered_at_once(instances: int) -> int:
    """Returns how often the rate is written when that many instances see a 429 at the same moment."""
    store = _Store(instances)
    store.fresh = False
    began = [(instance, store.known_to(instance, 1.0)) for instance in range(instances)]
    return sum(
        store.observe(instance, Observation(_moment(1.0), rate, 0.1, throttled=True), 1.1)
        for instance, rate in began
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; rates are those of the steady state, `recovery` seconds after a change."""

    case: Case
    allowed: float
    goodput: float
    wasted: float
    recovery: float | None

    def faults(self) -> list[str]:
        """Returns the promises that the row breaks."""
        found: list[str] = []
        if not 0.8 * self.allowed <= self.goodput <= 1.2 * self.allowed:
            found.append(f"takes {self.goodput:.1f}/s of {self.allowed:g}/s")
        if self.wasted > 0.05:
            found.append(f"{self.wasted:.1%} of 429s")
        if self.recovery is not None and self.recovery > RECOVERS_WITHIN:
            found.append(f"recovers after {self.recovery:g} s")
        return found


def row(run: Run) -> Row:
    """Returns the row of a run, from 90 s after its start or its last change to the end."""
    since, allowed = run.case.allowed[-1]
    steady = since + SETTLED_AFTER
    rises = len(run.case.allowed) > 1 and allowed > run.case.allowed[0][1]
    return Row(
        run.case,
        allowed,
        run.goodput(steady, SECONDS),
        run.wasted(steady, SECONDS),
        run.reaches(allowed, since) if rises else None,
    )


def _moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def table(rows: Sequence[Row]) -> str:
    """Returns the table in Markdown."""
    lines = ["| receiver | instances | allowed | taken | 429s | recovery |", "|---|--:|--:|--:|--:|--:|"]
    for each in rows:
        recovery = f"{each.recovery:g} s" if each.recovery is not None else ""
        lines.append(
            f"| {each.case.name} | {each.case.instances} | {each.allowed:g}/s | {each.goodput:.1f}/s"
            f" | {each.wasted:.1%} | {recovery} |"
        )
    return "\n".join(lines)


WIDTH, HEIGHT, LEFT, BOTTOM = 640, 220, 40, 24


def plot(run: Run) -> str:
    """Returns an SVG of the rate, the events taken by the receiver (means of 5 s), and its allowance."""
    step = 5
    top = 1.15 * max(*run.rate, *(rate for _, rate in run.case.allowed))

    def points(values: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{x(at):.0f},{y(value):.1f}" for at, value in values)

    def x(at: float) -> float:
        return LEFT + at / SECONDS * (WIDTH - LEFT)

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - value / top)

    changes = [*run.case.allowed, (SECONDS, 0.0)]
    allowed = [
        point for (since, rate), (until, _) in pairwise(changes) for point in ((since, rate), (until, rate))
    ]
    taken = [(at + step / 2, run.goodput(at, at + step)) for at in range(0, int(SECONDS), step)]
    lines = (
        ("#999999", "4 3", allowed, "allowed"),
        ("#d97706", "", list(enumerate(run.rate)), "rate"),
        ("#2563eb", "", taken, "taken"),
    )
    title = f"{run.case.name}, {run.case.instances} instance{'s' if run.case.instances > 1 else ''}"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            ' font-family="sans-serif" font-size="11">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/><text x="{LEFT + 8}" y="14">{title}</text>',
    ]
    parts += [
        f'<text x="{min(x(at), WIDTH - 36):.0f}" y="{HEIGHT - 8}">{at} s</text>'
        for at in range(0, int(SECONDS) + 1, 60)
    ]
    for share in (0.0, 0.5, 1.0):
        value = top / 1.15 * share
        parts.append(f'<text x="4" y="{y(value) + 4:.0f}">{value:.3g}</text>')
    for number, (colour, dashes, values, name) in enumerate(lines):
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"'
            f' points="{points(values)}"/>'
        )
        parts.append(f'<text x="{WIDTH - 170 + number * 60}" y="14" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


PLOTTED = {
    "throughput-10": ("10/s, 500 ms", 1),
    "throughput-rises": ("10 → 50/s, 100 ms", 1),
    "throughput-falls": ("100 → 10/s, 100 ms", 1),
    "throughput-50-instances": ("50/s, 200 ms", 50),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__)
    parser.add_argument("--plots", type=Path, help="the folder to write the plots to")
    options = parser.parse_args()
    runs = [simulate(case) for case in cases()]
    rows = [row(run) for run in runs]
    at_once = lowered_at_once(50)
    lines = [table(rows), "", f"50 instances that see a 429 at once write the rate {at_once} time(s)."]
    if options.plots is not None:
        by_name = {(run.case.name, run.case.instances): run for run in runs}
        for name, key in PLOTTED.items():
            (options.plots / f"{name}.svg").write_text(plot(by_name[key]))
    faults = [f"{each.case.name}, {each.case.instances}: {fault}" for each in rows for fault in each.faults()]
    sys.stdout.write("\n".join([*lines, *(f"not as promised: {fault}" for fault in faults), ""]))
    return 1 if faults or at_once != 1 else 0


if __name__ == "__main__":
    raise SystemExit(main())
