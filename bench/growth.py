"""The memory, descriptors and files of a platform during a long run, and a check that they do not grow."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from .figures import Figure, at_most
from .platform import Relay

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample. `files_mb` is of the data folder; the case says of which part.

    `wal_mb` is its write-ahead log, `oldest_seconds` the age of the oldest event that waits.
    """

    pss_mb: float
    descriptors: float
    files_mb: float
    wal_mb: float = 0
    oldest_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a run, such as its first third, by their samples."""

    name: str
    samples: Sequence[list[Sample]]


def growth(name: str, unit: str, early: Parts, late: Parts, value: Callable[[Sample], float]) -> list[Figure]:
    """Returns the values of the samples early and late; the first third of each part does not count."""
    first, last = (
        median(value(sample) for part in parts.samples for sample in part[len(part) // 3 :])
        for parts in (early, late)
    )
    return [
        Figure(f"{name}, {early.name}", first, unit),
        Figure(f"{name}, {late.name}", last, unit),
        Figure(f"{name}, ratio", last / first, "", at_most(1.1)),
    ]


@dataclass(slots=True)
class Highest:
    """The most memory that a platform had while it was watched."""

    pss_mb: float = 0


@contextmanager
def watched_memory(running: Relay) -> Iterator[Highest]:
    """Samples the memory of a platform during the block."""
    highest, ended = Highest(), threading.Event()

    def sample() -> None:
        while True:
            highest.pss_mb = max(highest.pss_mb, running.pss_mb())
            if ended.wait(SAMPLE_SECONDS):
                return

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        yield highest
    finally:
        ended.set()
        sampling.join()
