"""The memory, descriptors and files of a platform during a long run, and a check that they do not grow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from .figures import Figure, at_most


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample. `files_mb` is of the data folder; the case says of which part.

    `wal_mb` is its write-ahead log.
    """

    pss_mb: float
    descriptors: float
    files_mb: float
    wal_mb: float = 0


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
