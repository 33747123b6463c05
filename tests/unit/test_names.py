"""The words that `docs/glossary.md` rules out do not come back as names, nor clauses as docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def not_used() -> list[tuple[str, ...]]:
    """The first column of the glossary's last table, each as its words."""
    section = GLOSSARY.split("## Words that are not used")[1]
    entries = ", ".join(re.findall(r"^\| (?!not |--)([^|]+) \|", section, re.MULTILINE))
    return [tuple(each.split()) for each in entries.split(", ")]


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def is_ruled_out(name: str) -> bool:
    words = words_of(name)
    return any(
        tuple(words[start : start + len(each)]) == each for each in not_used() for start in range(len(words))
    )


def names_in(path: Path) -> Iterator[str]:
    """Yields what a module calls itself, its classes, functions, parameters, variables and attributes."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.arg(arg=name):
                yield name
            case _:
                pass


def ruled_out(folder: str) -> set[str]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    return {name for path in paths for name in names_in(path) if is_ruled_out(name)}


@pytest.mark.parametrize("folder", ["functions", "local", "bench", "infra"])
def test_no_name_has_such_a_word(folder: str) -> None:
    assert ruled_out(folder) == set()


@pytest.mark.parametrize("name", ["bury_on", "_Desk", "is_to_be_told", "putBack", "TOLD_EVERY_SECONDS"])
def test_such_a_name_is_found(name: str) -> None:
    assert is_ruled_out(name)


@pytest.mark.parametrize("name", ["return_code", "gateway", "read_only", "callback", "retell"])
def test_words_are_compared_as_a_whole(name: str) -> None:
    assert not is_ruled_out(name)


CLAUSES = re.compile(
    r"(what(ever)?|whether|how|where|when|while|who[ms]?|whose|why|which|as|if|once|until|so|because|though|of|at|by"
    r"|for|from|in|inside|into|on|to|with|without|under|behind|beside|between|but|not|these|those|its?|they|them"
    r"|this|there|told|known)\b",
    re.IGNORECASE,
)
"""The first words of docstrings that are no sentence and no noun phrase."""
COUNTED = re.compile(r"\b(how (many|much)|the most) (it|they) (is|are|was|were)\b")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yields line and text of the docstrings of a module, those after variables included."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text
            case _:
                pass


def is_clause(docstring: str) -> bool:
    return CLAUSES.match(docstring.strip()) is not None or COUNTED.search(docstring) is not None


@pytest.mark.parametrize("folder", ["functions", "local", "bench", "infra"])
def test_a_docstring_begins_with_a_verb_or_a_noun(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if text and is_clause(text)
    ]

    assert found == []


@pytest.mark.parametrize(
    "docstring",
    [
        "Of a URL.",
        "What nobody waits for lingers.",
        "Whether it is to be told.",
        "Drops them; how many it were.",
    ],
)
def test_a_clause_is_found(docstring: str) -> None:
    assert is_clause(docstring)


@pytest.mark.parametrize(
    "docstring", ["Returns how many are left.", "The URL of a receiver.", "True if it is."]
)
def test_a_sentence_is_none(docstring: str) -> None:
    assert not is_clause(docstring)
