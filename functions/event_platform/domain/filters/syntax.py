"""Filters as they are written: the nodes of an expression, its limits, and its names."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

from .errors import FilterError

if TYPE_CHECKING:
    from lark import Token

FIELDS = ("user", "user_type", "attribute", "scope", "channel", "locale", "ready_on_scopes")
MAX_LENGTH = 500
MAX_OPERATORS = 10
MAX_NESTING = 10
_OPERATORS = ("and", "or", "not")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, and the strings of which one must be its. Every node stands from `start` to before `end`."""

    field: str
    strings: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Not:
    """True when its part is not."""

    part: "Node"
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class And:
    """True when all of its parts are; there are at least two."""

    parts: tuple["Node", ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Or:
    """True when one of its parts is; there are at least two."""

    parts: tuple["Node", ...]
    start: int
    end: int


Node: TypeAlias = Comparison | Not | And | Or


def parse(expression: str) -> Node:
    """The expression's tree. Raises FilterError for the first thing that is wrong with it."""
    if len(expression) > MAX_LENGTH:
        problem = f"more than {MAX_LENGTH} characters, there are {len(expression)}"
        raise FilterError(expression, MAX_LENGTH, problem)
    from . import grammar  # its library is imported only where there are filters

    return grammar.tree(expression, check=_check)


def load() -> None:
    """Loads what the first filter of a process needs, which takes some 60 ms."""
    parse('user = ""')


def _check(expression: str, token: "Token", before: Sequence["Token"]) -> None:
    """Checks what the grammar leaves open: limits and names. Raises FilterError."""
    problem = None
    if token.type == "NAME":
        at_field = not before or before[-1] in (*_OPERATORS, "(")
        problem = _not_lower_case(token) or (_unknown_field(token) if at_field else None)
    elif token in _OPERATORS and sum(each in _OPERATORS for each in before) == MAX_OPERATORS:
        problem = f"more than {MAX_OPERATORS} logical operators (and, or, not)"
    elif token.type == "LPAR" and before.count("(") - before.count(")") == MAX_NESTING:
        problem = f"parentheses nested more than {MAX_NESTING} deep"
    if problem is not None:
        raise FilterError(expression, token.start_pos or 0, problem)


def _not_lower_case(name: str) -> str | None:
    keyword = name.lower()
    return f"write {keyword!r} in lower case" if keyword in (*_OPERATORS, "in") else None


def _unknown_field(name: str) -> str | None:
    if name in FIELDS:
        return None
    nearest = get_close_matches(name.lower(), FIELDS, n=1, cutoff=0.5)
    known = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(FIELDS)}"
    return f"unknown field '{name}'; {known}"
