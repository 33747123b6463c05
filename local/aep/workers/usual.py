"""The usual number of workers: what is fastest on this machine, where nobody says how many there are to be.

A worker takes half of the work off the process that takes events in, and costs some hand-overs between
processes. Whether that pays depends on the cores, and on what the machine takes to wake a process on another
core: from 5 microseconds to 50 on virtual machines (docs/decisions/0085).
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DEAR_SWITCH_MICROSECONDS = 16.0
"""The CPU of waking another process from which on a worker costs more than it brings on two cores."""
ROUNDS = 200
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""The quota of a container: microseconds of CPU in a period, or `max`, and the microseconds of the period."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of workers, and what it was chosen by."""

    workers: int
    reason: str


def usual(cores: float | None = None, switch: Callable[[], float] | None = None) -> Choice:
    """Returns the usual number. Where it depends on it, `switch` measures a wake-up, in microseconds of CPU.

    Call it before this process has threads, as the measurement forks.
    """
    usable = usable_cores() if cores is None else cores
    if usable < 2:
        return Choice(0, f"{usable:g} of a core may be used" if usable < 1 else "one core may be used")
    if usable >= 3:
        return Choice(1, f"{usable:g} cores may be used")
    took = (switch or switch_microseconds)()
    takes = f"two cores, where waking a process takes {took:.0f} µs"
    if took < DEAR_SWITCH_MICROSECONDS:
        return Choice(1, takes)
    return Choice(0, f"{takes}, from {DEAR_SWITCH_MICROSECONDS:.0f} µs on a worker costs more than it brings")


def usable_cores() -> float:
    """Returns how many cores this process may use, by its affinity and the quota of its container."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_MAX.read_text().split()
    except (OSError, ValueError):  # no cgroup of version 2, or the root of all
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def switch_microseconds(rounds: int = ROUNDS) -> float:
    """Measures what it takes to wake a process that waits on another core, in some 30 ms.

    It is the time of the write that wakes it: the quickest quarter is taken, which other programs disturb
    least.
    """
    cores = sorted(os.sched_getaffinity(0))
    there, back = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        _echo(there, back, cores[-1])
    os.close(there[0])
    os.close(back[1])
    try:
        os.sched_setaffinity(0, cores[:1])
        took = sorted(_write_and_wait(there[1], back[0]) for _ in range(rounds))
    finally:
        os.sched_setaffinity(0, cores)
        os.close(there[1])
        os.close(back[0])
        os.waitpid(pid, 0)
    return took[rounds // 4] / 1000


def _write_and_wait(there: int, back: int) -> int:
    """Wakes the other process and waits for it; returns the nanoseconds of the first of the two."""
    began = time.perf_counter_ns()
    os.write(there, b"x")
    ended = time.perf_counter_ns()
    os.read(back, 1)
    return ended - began


def _echo(there: tuple[int, int], back: tuple[int, int], core: int) -> None:
    """Answers each byte from the other core, until the other end is closed. Never returns."""
    with suppress(OSError):
        os.close(there[1])
        os.close(back[0])
        os.sched_setaffinity(0, {core})
        while os.read(there[0], 1):
            os.write(back[1], b"x")
    os._exit(0)
