"""A finding of a check, with a cure when it failed."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    MISSING = "missing"  # not there, and only some things need it
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `needed`: without it `aep serve` does not work."""

    name: str
    state: State
    detail: str
    needed: bool = False


def ok(name: str, detail: str) -> Check:
    return Check(name, State.OK, detail)


def missing(name: str, detail: str) -> Check:
    return Check(name, State.MISSING, detail)


def problem(name: str, detail: str) -> Check:
    return Check(name, State.PROBLEM, detail)


def broken(name: str, detail: str) -> Check:
    """Returns a problem that keeps `aep serve` from working."""
    return Check(name, State.PROBLEM, detail, needed=True)
