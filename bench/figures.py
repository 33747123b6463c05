"""Figures, their aims, and the registry of the cases that measure them."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .measuring import Bench


class Relation(StrEnum):
    """The relation of a figure to the bound of its aim."""

    AT_MOST = "≤"
    BELOW = "<"
    AT_LEAST = "≥"


_HOLDS = {Relation.AT_MOST: operator.le, Relation.BELOW: operator.lt, Relation.AT_LEAST: operator.ge}


@dataclass(frozen=True, slots=True)
class Aim:
    """The aim of a figure on two quiet cores, in the unit of the figure."""

    relation: Relation
    bound: float

    def is_reached_by(self, value: float) -> bool:
        return _HOLDS[self.relation](value, self.bound)

    def __str__(self) -> str:
        return (
            f"{self.relation} {self.bound:,.3g}"
            if self.bound < 1000
            else f"{self.relation} {self.bound:,.0f}"
        )


def at_most(bound: float) -> Aim:
    return Aim(Relation.AT_MOST, bound)


def below(bound: float) -> Aim:
    return Aim(Relation.BELOW, bound)


def at_least(bound: float) -> Aim:
    return Aim(Relation.AT_LEAST, bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one run. `is_shown` says whether it is in the table, and not in the file alone."""

    name: str
    value: float
    unit: str
    aim: Aim | None = None
    is_shown: bool = True


Measure = Callable[[Bench], list[Figure]]


@dataclass(frozen=True, slots=True)
class Case:
    """A selectable part of the bench; `measure` is called once a run.

    Without `by_default` it runs only when it is named.
    """

    name: str
    title: str
    measure: Measure
    by_default: bool = True


CASES: dict[str, Case] = {}
"""The cases, in the order in which they run."""


def case(name: str, title: str, *, by_default: bool = True) -> Callable[[Measure], Measure]:
    """Registers a function as a case."""

    def register(measure: Measure) -> Measure:
        CASES[name] = Case(name, title, measure, by_default)
        return measure

    return register


def percentile(values: list[float], percent: float) -> float:
    """Returns the nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
