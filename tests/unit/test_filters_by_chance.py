"""Filters made by chance: the predicate against a naive evaluator, and texts that are mostly no filter.

AEP_TEST_FILTER_CASES sets how many texts; beyond the default both differ from run to run.
"""

import itertools
import os
import pickle
import random
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.filters import FilterError, explain, parse, predicate_of
from support.records import data_of

CASES = int(os.environ.get("AEP_TEST_FILTER_CASES", "5000"))
IS_LONG = CASES > 5000

TYPES = [name for name in catalog.load().types if name.startswith("com.akeneo.pim.")]
DELTAS = [name for name in TYPES if name.startswith("com.akeneo.pim.v1.product") and name.endswith(".delta")]
READY = [name for name in TYPES if name.endswith(".became-ready")]
WORDS = [
    "a",
    "b",
    "erp-sync-client-id",
    "api",
    "user",
    "name",
    "weight",
    "ecommerce",
    "print",
    "en_US",
    'q"\\',
]
FIELDS = ["user", "user_type", "attribute", "scope", "channel", "locale", "ready_on_scopes"]


@dataclass(frozen=True)
class Has:
    field: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Op:
    """`not` of one part, `and` or `or` of two."""

    word: str
    parts: tuple["Tree", ...]


Tree = Has | Op


def trees(depth: int = 3) -> st.SearchStrategy[Tree]:
    """At most 7 operators."""
    leaf: st.SearchStrategy[Tree] = st.builds(
        Has, st.sampled_from(FIELDS), st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(tuple)
    )
    if depth == 0:
        return leaf
    below = trees(depth - 1)
    return st.one_of(
        leaf,
        st.builds(lambda part: Op("not", (part,)), below),
        st.builds(lambda word, *parts: Op(word, parts), st.sampled_from(["and", "or"]), below, below),
    )


BINDS = {"or": 0, "and": 1, "not": 2}


def written(tree: Tree, *, around: int = 0) -> str:
    """With the parentheses that it needs and no others."""
    if isinstance(tree, Has):
        words = [f'"{word}"'.replace("\\", "\\\\").replace('q"', 'q\\"') for word in tree.words]
        return f"{tree.field}={words[0]}" if len(words) == 1 else f"{tree.field} in [{', '.join(words)}]"
    binds = BINDS[tree.word]
    parts = [written(part, around=binds) for part in tree.parts]
    text = f"not {parts[0]}" if tree.word == "not" else f" {tree.word} ".join(parts)
    return f"({text})" if binds < around else text


def true_of(tree: Tree, event: Event) -> bool:
    """By the words of the contract, over the event as it stands."""
    match tree:
        case Op("not", (part,)):
            return not true_of(part, event)
        case Op("and", (first, second)):
            return true_of(first, event) and true_of(second, event)
        case Op("or", (first, second)):
            return true_of(first, event) or true_of(second, event)
        case Has(field, words):
            return any(has(event, field, word) for word in words)
    raise AssertionError(tree)


def has(event: Event, field: str, word: str) -> bool:
    data = data_of(event)
    author = data.get("author")
    entity = data.get("product_model" if "product-model" in event.type else "product") or {}
    values = entity["changes"]["values"] if event.type in DELTAS else {}
    match field:
        case "user":
            return author is not None and author["identifier"] == word
        case "user_type":
            return author is not None and author["type"] == word
        case "attribute":
            return word in values
        case "ready_on_scopes":
            return "v1.product" in event.type and word in entity.get("ready_on_scopes", [])
    key = "locale" if field == "locale" else "scope"
    for changed in values.values():
        for value in changed:
            if value.get(key) is None or value[key] == word:
                return True
    return False


@st.composite
def values(draw: st.DrawFn) -> dict[str, Any]:
    """A changed value; scope and locale are there, null or absent."""
    value: dict[str, Any] = {"previous": None, "new": 1, "type": "pim_catalog_number"}
    for key in ("locale", "scope"):
        if draw(st.booleans()):
            value[key] = draw(st.none() | st.sampled_from(WORDS))
    return value


@st.composite
def events(draw: st.DrawFn) -> Event:
    """The catalog's example of a type, changed where filters look; its data still fits the schema."""
    event_type = draw(st.sampled_from(TYPES) | st.sampled_from(DELTAS) | st.sampled_from(READY))
    data = deepcopy(catalog.load()[event_type].example)
    author = {"identifier": st.sampled_from(WORDS), "type": st.sampled_from(["user", "api", "job", "system"])}
    if draw(st.booleans()):
        data["author"] = draw(st.fixed_dictionaries(author))
    for name in ("product", "product_model"):
        if isinstance(data.get(name), dict) and draw(st.booleans()):
            data[name]["ready_on_scopes"] = draw(st.lists(st.sampled_from(WORDS), max_size=3))
    if event_type in DELTAS and draw(st.booleans()):
        changed = st.dictionaries(st.sampled_from(WORDS), st.lists(values(), max_size=2), max_size=3)
        data[next(iter(data))]["changes"]["values"] = draw(changed)
    assert catalog.load()[event_type].problems_of(data) == []
    return Event(
        "1", event_type, "2026-01-31T12:00:00Z", Facts(event_type, data), json_form.stringify(data), ()
    )


@settings(max_examples=max(200, CASES // 50), deadline=None, database=None, derandomize=not IS_LONG)
@given(st.lists(trees(), min_size=5, max_size=5), st.lists(events(), min_size=3, max_size=3))
def test_the_predicate_says_what_a_naive_evaluator_says(some: list[Tree], of: list[Event]) -> None:
    for tree, event in itertools.product(some, of):
        expression, expected = written(tree), true_of(tree, event)
        assert predicate_of(expression)(event.facts) is expected
        assert predicate_of(expression)(pickle.loads(pickle.dumps(event)).facts) is expected  # noqa: S301
        explained = explain(expression, event)
        assert explained.matches is expected
        assert explained.decided_by
        assert explained.whole.text == expression


PIECES = [*FIELDS, "and", "or", "not", "in", "(", ")", "[", "]", ",", "=", '"', "\\", '"a"', '"b"', " ", "\n"]
FILTERS = [
    'user_type in ["user", "api"] and not (attribute = "stock" or channel = "print")',
    'ready_on_scopes = "a \\"b\\"" or locale\n= "fr_FR" and scope in ["x"]',
    f'{"(" * 10}not not user = "julia"{")" * 10}',
]


def a_text(chance: random.Random) -> str:
    """Any characters, pieces of filters in any order, or a filter of which some places are replaced."""
    kind = chance.randrange(4)
    if kind == 0:
        return "".join(chr(chance.randrange(0x300)) for _ in range(chance.randrange(40)))
    if kind == 1:
        return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.choice([3, 30, 600])))
    if kind == 2:
        return chance.choice(["", " "]).join(chance.choices(PIECES, k=chance.randrange(60)))
    text = chance.choice(FILTERS)
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = start + chance.randrange(8)
        text = text[:start] + chance.choice([*PIECES, "", chr(chance.randrange(0x110000))]) + text[end:]
    return text


def refusal_of(text: str) -> FilterError | None:
    try:
        parse(text)
    except FilterError as error:
        return error
    return None


def test_any_text_is_a_filter_or_refused_with_a_place() -> None:
    chance = random.Random() if IS_LONG else random.Random(7)
    filters = 0
    for _ in range(CASES):
        text = a_text(chance)
        error = refusal_of(text)
        if error is None:
            filters += 1
            continue
        told, line, caret = str(error).split("\n")
        assert told == error.reason, repr(text)
        assert line.isprintable(), repr(text)
        assert 0 <= error.position <= len(text), repr(text)
        assert caret == " " * (len(caret) - 1) + "^", repr(text)
        assert len(caret) <= len(line) + 1, repr(text)
    assert 0 < filters < CASES / 2
