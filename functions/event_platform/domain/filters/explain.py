"""Explains why an event matches a filter or does not: the value of each part, and the part that decided."""

from collections.abc import Iterator
from dataclasses import dataclass

from ..events.event import Event
from ..events.facts import Facts
from .closures import looks_at, wanted_by
from .syntax import And, Comparison, Node, Not, Or, parse

_SHOWN_VALUES = 10


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a filter as it is written, whether it is true, and what makes it so.

    `why` says what the event has there; it is empty where `parts` decide.
    """

    text: str
    holds: bool
    why: str
    parts: tuple["Part", ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Returns whether the event matches, the filter part by part, and the comparisons that decided it.

    They are those without which the answer could be another: of an `and` that is false the false parts, of
    an `or` that is true the true ones, and all of them otherwise.
    """

    matches: bool
    decided_by: tuple[Part, ...]
    whole: Part


def explain(expression: str, event: Event) -> Explanation:
    """Raises FilterError."""
    node, facts = parse(expression), event.facts
    whole = _part(node, expression, facts)
    return Explanation(whole.holds, tuple(_deciding(node, whole)), whole)


def _part(node: Node, expression: str, facts: Facts) -> Part:
    text = expression[node.start : node.end]
    match node:
        case Comparison():
            holds, why = _compared(node, facts)
            return Part(text, holds, why)
        case Not(part):
            inner = _part(part, expression, facts)
            return Part(text, not inner.holds, "", (inner,))
        case And(parts):
            inner = tuple(_part(part, expression, facts) for part in parts)
            return Part(text, all(each.holds for each in inner), "", inner)
        case Or(parts):
            inner = tuple(_part(part, expression, facts) for part in parts)
            return Part(text, any(each.holds for each in inner), "", inner)


def _compared(node: Comparison, facts: Facts) -> tuple[bool, str]:
    name = looks_at(node)
    values = getattr(facts, name)
    return not wanted_by(node).isdisjoint(values), _shown(name, values)


def _shown(name: str, values: frozenset[str | None]) -> str:
    if not values:
        return f"the event has no {name}"
    texts = [f'"{value}"' for value in sorted(each for each in values if each is not None)]
    if None in values:
        texts.insert(0, "none (fits any)")
    more = len(texts) - _SHOWN_VALUES
    shown = ", ".join(texts[:_SHOWN_VALUES]) + (f" and {more} more" if more > 0 else "")
    return f"the event's {name}: {shown}"


def _deciding(node: Node, part: Part) -> Iterator[Part]:
    match node:
        case Comparison():
            yield part
        case Not(inner):
            yield from _deciding(inner, part.parts[0])
        case And(nodes) | Or(nodes):
            decides = not isinstance(node, And)
            pairs = list(zip(nodes, part.parts, strict=True))
            one_is_enough = part.holds is decides
            for inner, each in pairs:
                if not one_is_enough or each.holds is decides:
                    yield from _deciding(inner, each)
