"""The words that `docs/glossary.md` rules out do not come back as names."""

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
