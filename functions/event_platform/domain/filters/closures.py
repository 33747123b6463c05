"""Filters as closures, so that matching an event walks no tree."""

from collections.abc import Callable
from functools import reduce
from weakref import WeakValueDictionary

from ..events.facts import Facts, Values
from .syntax import And, Comparison, Node, Not, Or, parse

Predicate = Callable[[Facts], bool]

_NONE_FITS = frozenset({"scope", "locale"})
"""Fields for which a changed value without scope or locale fits each question (contract/wire.md 7)."""

_compiled_before: WeakValueDictionary[str, Predicate] = WeakValueDictionary()
"""Predicates that a list of subscriptions holds. They go with the last such list, so no tenant's filters can
evict those of another."""


def predicate_of(expression: str) -> Predicate:
    """Compiles the filter, which takes about 1 ms, unless `is_compiled`. Raises FilterError.

    The predicate says whether an event with these facts matches. The caller holds it for as long as it may
    be needed.
    """
    predicate = _compiled_before.get(expression)
    if predicate is None:
        predicate = _compiled_before[expression] = _compiled(parse(expression))
    return predicate


def is_compiled(expression: str) -> bool:
    """True if somebody holds the filter's predicate."""
    return expression in _compiled_before


def looks_at(comparison: Comparison) -> str:
    """The name of the facts."""
    return "scope" if comparison.field == "channel" else comparison.field


def wanted_by(comparison: Comparison) -> Values:
    """The values of which the event must have one."""
    strings = frozenset(comparison.strings)
    return strings | {None} if looks_at(comparison) in _NONE_FITS else strings


def _compiled(node: Node) -> Predicate:
    match node:
        case Comparison():
            return _has_one_of(looks_at(node), wanted_by(node))
        case Not(part):
            return _not(_compiled(part))
        case And(parts):
            return reduce(_both, map(_compiled, parts))
        case Or(parts):
            return reduce(_either, map(_compiled, parts))


def _has_one_of(name: str, wanted: Values) -> Predicate:
    return lambda facts: not wanted.isdisjoint(getattr(facts, name))


def _not(part: Predicate) -> Predicate:
    return lambda facts: not part(facts)


def _both(first: Predicate, second: Predicate) -> Predicate:
    return lambda facts: first(facts) and second(facts)


def _either(first: Predicate, second: Predicate) -> Predicate:
    return lambda facts: first(facts) or second(facts)
