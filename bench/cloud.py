"""Pub/Sub's push subscriptions and Cloud Run's functions as Google documents them, in simulated time.

Where the documentation leaves something open, `Pushing` and `Scaling` have an assumption.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from .cost import CPU_SHARE_USED

T = TypeVar("T")
Steps: TypeAlias = Coroutine["Pause", None, None]
"""The work of a function on a request, in steps between which it pauses."""


class Pause:
    """A pause in simulated seconds, after which `Simulation.play` continues."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __await__(self) -> Generator["Pause", None, None]:
        yield self


class Simulation:
    """Simulated time: callbacks are called in the order of their moments."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = 0
        self._planned: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []

    def at(self, moment: float, do: Callable[..., None], *arguments: Any) -> None:
        self._order += 1
        heapq.heappush(self._planned, (moment, self._order, do, arguments))

    def play(self, steps: Steps) -> None:
        """Runs all that waits for simulated seconds, as an event loop would."""
        try:
            pause = steps.send(None)
        except StopIteration:
            return
        self.at(self.now + pause.seconds, self.play, steps)

    def run(self, until: float) -> None:
        planned, pop = self._planned, heapq.heappop
        while planned and planned[0][0] <= until:
            self.now, _, do, arguments = pop(planned)
            do(*arguments)
        self.now = until


@dataclass(frozen=True, slots=True)
class Scaling:
    """The rules by which Cloud Run adds instances and lets requests wait. Times are seconds."""

    evaluated_every: float = 5.0
    window: float = 60.0
    waits: float = 10.0
    """The seconds that a request waits for a place; then it is answered 429."""


class Instance:
    """One instance: a CPU that works off one thing after the other, and places for requests."""

    __slots__ = ("_changed", "billed", "cpu_free", "cpu_used", "number", "open", "open_seconds")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.open = 0
        self.cpu_free = now
        self.cpu_used = 0.0
        self.open_seconds = 0.0
        self.billed = 0.0
        self._changed = now

    def works(self, now: float, seconds: float) -> float:
        """Adds work to the CPU; returns when it will be done."""
        self.cpu_free = max(now, self.cpu_free) + seconds
        self.cpu_used += seconds
        return self.cpu_free

    def opens(self, now: float, requests: int) -> None:
        """Adds open requests, or takes some away. The time with any open request is billed."""
        passed = now - self._changed
        self.open_seconds += self.open * passed
        self.billed += passed if self.open else 0.0
        self.open += requests
        self._changed = now


@dataclass(slots=True)
class _Waiting:
    """A request that waits. `start` is None once it has a place or was refused."""

    start: Callable[[Instance], None] | None
    refuse: Callable[[], None]


class CloudRun:
    """A function's instances: each request takes a place, waits for one, or is refused.

    A request goes to the emptier of two instances, chosen by chance. Nothing is scaled in: runs are shorter
    than the 15 minutes for which idle instances are kept.
    """

    def __init__(
        self,
        simulation: Simulation,
        chance: random.Random,
        *,
        concurrency: int,
        most: int,
        cold_seconds: float,
        warm: int = 0,
        scaling: Scaling | None = None,
    ) -> None:
        """Starts `warm` instances."""
        self._simulation = simulation
        self._chance = chance
        self._scaling = scaling or Scaling()
        self._concurrency = concurrency
        self.most = most
        self._cold_seconds = cold_seconds
        self.instances = [Instance(number, 0.0) for number in range(min(warm, most))]
        self._starting = 0
        self._open = 0
        self._waiting: deque[_Waiting] = deque()
        self._queued = 0
        self._seen: deque[tuple[float, float, float]] = deque()  # moment, CPU used, request seconds
        self.refused = 0
        self.most_open = 0
        self.wanted = 0.0
        """The instances that the targets of the autoscaler ask for, before rounding and without an upper
        limit.
        """
        simulation.at(self._scaling.evaluated_every, self._evaluate)

    @property
    def cpu_used(self) -> float:
        return sum(instance.cpu_used for instance in self.instances)

    @property
    def open_seconds(self) -> float:
        """The seconds of all requests so far."""
        for instance in self.instances:
            instance.opens(self._simulation.now, 0)
        return sum(instance.open_seconds for instance in self.instances)

    @property
    def billed(self) -> float:
        """The seconds of instances with an open request."""
        for instance in self.instances:
            instance.opens(self._simulation.now, 0)
        return sum(instance.billed for instance in self.instances)

    def request(self, start: Callable[[Instance], None], refuse: Callable[[], None]) -> None:
        """Calls `start` with the instance that takes the request, at once or later, or `refuse`."""
        instance = self._with_a_place()
        if instance is not None:
            self._place(instance, start)
            return
        waiting = _Waiting(start, refuse)
        self._waiting.append(waiting)
        self._queued += 1
        self._simulation.at(self._simulation.now + self._scaling.waits, self._give_up, waiting)
        self._grow(len(self.instances) + math.ceil(self._queued / self._concurrency))

    def release(self, instance: Instance) -> None:
        """Frees the place of a request that was answered."""
        instance.opens(self._simulation.now, -1)
        self._open -= 1
        self._take_waiting(instance)

    def _with_a_place(self) -> Instance | None:
        instances = self.instances
        if self._open >= len(instances) * self._concurrency:
            return None
        count = len(instances)
        one = instances[int(self._chance.random() * count)]
        other = instances[int(self._chance.random() * count)]
        emptier = one if one.open <= other.open else other
        if emptier.open < self._concurrency:
            return emptier
        return min(instances, key=lambda instance: instance.open)

    def _place(self, instance: Instance, start: Callable[[Instance], None]) -> None:
        instance.opens(self._simulation.now, 1)
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        start(instance)

    def _take_waiting(self, instance: Instance) -> None:
        while self._waiting and instance.open < self._concurrency:
            waiting = self._waiting.popleft()
            start, waiting.start = waiting.start, None
            if start is not None:
                self._queued -= 1
                self._place(instance, start)

    def _give_up(self, waiting: _Waiting) -> None:
        if waiting.start is None:
            return
        waiting.start = None
        self._queued -= 1
        self.refused += 1
        waiting.refuse()

    def _grow(self, wanted: int) -> None:
        missing = min(wanted, self.most) - len(self.instances) - self._starting
        for _ in range(missing):
            self._starting += 1
            self._simulation.at(self._simulation.now + self._cold_seconds, self._ready)

    def _ready(self) -> None:
        self._starting -= 1
        instance = Instance(len(self.instances), self._simulation.now)
        self.instances.append(instance)
        self._take_waiting(instance)

    def _evaluate(self) -> None:
        """Sets the number of instances for 60 % of the CPU and of the concurrency, each as the mean of a
        minute.
        """
        now = self._simulation.now
        self._seen.append((now, self.cpu_used, self.open_seconds))
        while now - self._seen[0][0] > self._scaling.window:
            self._seen.popleft()
        since, cpu, open_seconds = self._seen[0]
        if now > since:
            busy = (self.cpu_used - cpu) / (now - since)
            open_at_once = (self.open_seconds - open_seconds) / (now - since)
            self.wanted = max(busy, open_at_once / self._concurrency) / CPU_SHARE_USED
            self._grow(math.ceil(self.wanted))
        self._simulation.at(now + self._scaling.evaluated_every, self._evaluate)


@dataclass(frozen=True, slots=True)
class Pushing:
    """The rules by which Pub/Sub pushes. Times are seconds; the window is in messages."""

    window_at_start: float = 4.0
    """The first window. It is a number of one digit (documented); its value is an assumption."""
    window_floor: float = 3000.0
    slow: float = 1.0
    acknowledged_at_least: float = 0.99
    judged_every: float = 10.0
    """The seconds over which latency and acknowledgements are averaged: an assumption."""
    next_after: float = 0.01
    """The seconds from an acknowledgement to the push of the next message of its key: an assumption."""
    pause_least: float = 0.1
    pause_most: float = 60.0
    retry_least: float = 1.0
    retry_most: float = 60.0
    """The longest pause by the deployed retry policy."""


class Window:
    """The number of messages that may be outstanding.

    Documented: it grows exponentially with successes, beyond 3,000 linearly, shrinks with failures, and falls
    to 3,000 when the mean latency is over 1 s or less than 99 % are acknowledged. Assumed: one more for each
    success (beyond 3,000: for each window of successes), half at most once a second for failures.
    """

    def __init__(self, pushing: Pushing) -> None:
        self._pushing = pushing
        self.size = pushing.window_at_start
        self.falls = 0
        self._count = 0
        self._acknowledged = 0
        self._seconds = 0.0
        self._judged_at = 0.0
        self._halved_at = -math.inf

    def answered(self, now: float, seconds: float, *, acknowledged: bool) -> None:
        self._count += 1
        self._seconds += seconds
        if acknowledged:
            self._acknowledged += 1
            self.size += 1.0 if self.size < self._pushing.window_floor else 1.0 / self.size
        elif now - self._halved_at >= 1:
            self._halved_at = now
            self.size = max(1.0, self.size / 2)
        if now - self._judged_at >= self._pushing.judged_every:
            self._judge(now)

    def _judge(self, now: float) -> None:
        slow = self._seconds > self._pushing.slow * self._count
        failing = self._acknowledged < self._pushing.acknowledged_at_least * self._count
        if (slow or failing) and self.size > self._pushing.window_floor:
            self.size = self._pushing.window_floor
            self.falls += 1
        self._count = self._acknowledged = 0
        self._seconds = 0.0
        self._judged_at = now


class Backoff:
    """The pause of a whole push subscription after a nack.

    Documented: 100 ms to 60 s; of five messages a second, one nack makes it 500 ms, five make it 30 to 60 s.
    Assumed: the line through these three, in the logarithm, by the share of nacks among the last 100 or so.
    """

    LEARNS = 0.02
    _KNOWN = ((0.0, 0.1), (0.2, 0.5), (1.0, 45.0))

    def __init__(self) -> None:
        self.until = -math.inf
        self._share = 0.0

    def acknowledged(self) -> None:
        self._share -= self.LEARNS * self._share

    def refused(self, now: float) -> None:
        self._share += self.LEARNS * (1 - self._share)
        if now >= self.until:
            self.until = now + self.pause(self._share)

    @classmethod
    def pause(cls, share: float) -> float:
        """Returns the pause in seconds, by the share of nacks."""
        left, right = (cls._KNOWN[0], cls._KNOWN[1]) if share < cls._KNOWN[1][0] else cls._KNOWN[1:]
        along = (share - left[0]) / (right[0] - left[0])
        return left[1] * (right[1] / left[1]) ** along


class Lane(Generic[T]):
    """The messages of one ordering key, of which one is outstanding at a time. The last came at `last_at`."""

    __slots__ = ("busy", "last_at", "refused", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.busy = False
        self.refused = 0
        self.last_at = 0.0


class Push(Generic[T]):
    """A message on its way to a function and back; `began` and `instance` are there once it has a place."""

    __slots__ = ("began", "instance", "lane", "message", "pushed_at")
    began: float
    instance: Instance

    def __init__(self, message: T, lane: Lane[T], pushed_at: float) -> None:
        self.message = message
        self.lane = lane
        self.pushed_at = pushed_at


class Handler(Protocol[T]):
    """The work of a function on a push: it calls `PushSubscription.acknowledge` in the end."""

    def __call__(self, push: Push[T]) -> None: ...


@dataclass(slots=True)
class PushCounts:
    """The numbers of pushes by their result."""

    pushes: int = 0
    nacks: int = 0
    seconds: float = 0.0
    most_outstanding: int = 0
    outstanding: list[int] = field(default_factory=list[int])
    """The outstanding messages at each second."""


class PushSubscription(Generic[T]):
    """Pushes what is in its lanes to a function, within its window, one message of a lane at a time."""

    def __init__(
        self,
        simulation: Simulation,
        function: CloudRun,
        handle: Handler[T],
        *,
        pushing: Pushing | None = None,
    ) -> None:
        self._simulation = simulation
        self._function = function
        self._handle = handle
        self._pushing = pushing or Pushing()
        self._ready: deque[Lane[T]] = deque()
        self._resumes = False
        self.window = Window(self._pushing)
        self.backoff = Backoff()
        self.outstanding = 0
        self.waiting = 0
        self.counts = PushCounts()
        simulation.at(1.0, self._look)

    @property
    def held_back(self) -> int:
        """The number of lanes whose next message waits only for the window."""
        return len(self._ready)

    def add(self, lane: Lane[T], message: T) -> None:
        lane.waiting.append(message)
        self.waiting += 1
        if not lane.busy and len(lane.waiting) == 1:
            self._ready.append(lane)
            self._pump()

    def acknowledge(self, push: Push[T]) -> None:
        """Ends a push that was answered with a success."""
        self._function.release(push.instance)
        self._answered(push, acknowledged=True)
        self.backoff.acknowledged()
        push.lane.refused = 0
        if push.lane.waiting:
            self._simulation.at(self._simulation.now + self._pushing.next_after, self._next, push.lane)
        else:
            push.lane.busy = False
        self._pump()

    def _refuse(self, push: Push[T]) -> None:
        """Ends a push that found no place (429): it is pushed again, and its lane waits."""
        self._answered(push, acknowledged=False)
        self.backoff.refused(self._simulation.now)
        self.counts.nacks += 1
        lane = push.lane
        lane.waiting.appendleft(push.message)
        self.waiting += 1
        pause = min(self._pushing.retry_most, self._pushing.retry_least * 2**lane.refused)
        lane.refused = min(lane.refused + 1, 10)
        self._simulation.at(self._simulation.now + pause, self._next, lane)
        self._pump()

    def _answered(self, push: Push[T], *, acknowledged: bool) -> None:
        self.outstanding -= 1
        seconds = self._simulation.now - push.pushed_at
        self.counts.seconds += seconds
        self.window.answered(self._simulation.now, seconds, acknowledged=acknowledged)

    def _next(self, lane: Lane[T]) -> None:
        lane.busy = False
        self._ready.append(lane)
        self._pump()

    def _pump(self) -> None:
        while self._ready and self.outstanding < int(self.window.size):
            now = self._simulation.now
            if now < self.backoff.until:
                if not self._resumes:
                    self._resumes = True
                    self._simulation.at(self.backoff.until, self._resume)
                return
            self._push(self._ready.popleft())

    def _resume(self) -> None:
        self._resumes = False
        self._pump()

    def _push(self, lane: Lane[T]) -> None:
        lane.busy = True
        push = Push(lane.waiting.popleft(), lane, self._simulation.now)
        self.waiting -= 1
        self.outstanding += 1
        counts = self.counts
        counts.pushes += 1
        counts.most_outstanding = max(counts.most_outstanding, self.outstanding)

        def start(instance: Instance) -> None:
            push.instance = instance
            push.began = self._simulation.now
            self._handle(push)

        self._function.request(start, lambda: self._refuse(push))

    def _look(self) -> None:
        self.counts.outstanding.append(self.outstanding)
        self._simulation.at(self._simulation.now + 1.0, self._look)
