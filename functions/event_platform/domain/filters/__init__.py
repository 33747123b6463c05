"""Filters of subscriptions (contract/wire.md 7): parsed once, matched as closures, explained by parts."""

from ..events.facts import Facts
from .closures import Predicate, is_compiled, predicate_of
from .errors import FilterError
from .explain import Explanation, Part, explain
from .syntax import FIELDS, MAX_LENGTH, MAX_NESTING, MAX_OPERATORS, load, parse

__all__ = [
    "FIELDS",
    "MAX_LENGTH",
    "MAX_NESTING",
    "MAX_OPERATORS",
    "Explanation",
    "Facts",
    "FilterError",
    "Part",
    "Predicate",
    "explain",
    "is_compiled",
    "load",
    "parse",
    "predicate_of",
]
