"""Measures what the machine is fast and slow at, so that results of two machines can be read together."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

TURNS = 5
LOOPS = 200_000
SYSTEM_CALLS = 20_000
ROUND_TRIPS = 2_000
SYNCS = 50
PAGE = bytes(4096)


def speeds(folder: Path) -> dict[str, Any]:
    """Returns microseconds, the medians of some turns: a round of a Python loop, a pair of system calls (a
    byte written to a pipe and read again), waking another process and being woken by it, and fdatasync of a
    page appended to a file in the folder.
    """
    measured: dict[str, Callable[[], float]] = {
        "python_loop_us": _loop,
        "system_calls_us": _system_calls,
        "process_switch_us": _process_switches,
        "fdatasync_us": lambda: _syncs(folder),
    }
    return {name: round(median(measure() for _ in range(TURNS)), 3) for name, measure in measured.items()}


def _each(count: int, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(count):
        act()
    return (time.perf_counter() - began) / count * 1e6


def _loop() -> float:
    began, total = time.perf_counter(), 0
    for number in range(LOOPS):
        total += number & 7
    return (time.perf_counter() - began) / LOOPS * 1e6


def _system_calls() -> float:
    reader, writer = os.pipe()

    def pair() -> None:
        os.write(writer, b"x")
        os.read(reader, 1)

    took = _each(SYSTEM_CALLS, pair)
    os.close(reader)
    os.close(writer)
    return took


def _process_switches() -> float:
    """Half of a round between two processes, each of which waits for the other."""
    there, back = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        while os.read(there[0], 1) == b"x":
            os.write(back[1], b"x")
        os._exit(0)

    def round_trip() -> None:
        os.write(there[1], b"x")
        os.read(back[0], 1)

    took = _each(ROUND_TRIPS, round_trip) / 2
    os.write(there[1], b".")
    os.waitpid(child, 0)
    for descriptor in (*there, *back):
        os.close(descriptor)
    return took


def _syncs(folder: Path) -> float:
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:

        def append() -> None:
            file.write(PAGE)
            os.fdatasync(file.fileno())

        return _each(SYNCS, append)
