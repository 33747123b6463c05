"""Figures, and the registry of the cases that measure them."""

from collections.abc import Callable
from dataclasses import dataclass

from .measuring import Bench


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one run; `aim` is what it shall come to on two quiet cores, in words."""

    name: str
    value: float
    unit: str
    aim: str = ""


Measure = Callable[[Bench], list[Figure]]


@dataclass(frozen=True, slots=True)
class Case:
    """A selectable part of the bench; `measure` is called once a run."""

    name: str
    title: str
    measure: Measure


CASES: dict[str, Case] = {}
"""In the order in which they run."""


def case(name: str, title: str) -> Callable[[Measure], Measure]:
    """Registers a function as a case."""

    def register(measure: Measure) -> Measure:
        CASES[name] = Case(name, title, measure)
        return measure

    return register


def percentile(values: list[float], percent: float) -> float:
    """The nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
