"""What a platform holds during a long run, and whether it grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from .figures import Figure, at_most


@dataclass(frozen=True, slots=True)
class Sample:
    """`files_mb` is of the data folder; the case says of which part. `wal_mb` is its write-ahead log."""

    pss_mb: float
    descriptors: float
    files_mb: float
    wal_mb: float = 0


def growth(
    name: str, unit: str, parts: Sequence[list[Sample]], value: Callable[[Sample], float]
) -> list[Figure]:
    """The first third of the parts of a run and the last one, of each part what is behind its first third."""
    third = max(1, len(parts) // 3)
    first, last = (
        median(value(sample) for part in chosen for sample in part[len(part) // 3 :])
        for chosen in (parts[:third], parts[-third:])
    )
    return [
        Figure(f"{name}, first third", first, unit),
        Figure(f"{name}, last third", last, unit),
        Figure(f"{name}, ratio", last / first, "", at_most(1.1)),
    ]
