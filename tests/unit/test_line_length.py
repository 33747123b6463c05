"""The check of the length of lines of pages."""

import runpy
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "line_length.py"))
WORDS = "word " * 25


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WORDS, [1]),
        (f"- {WORDS}\n  {WORDS}", [1, 2]),
        (f"short\n\n```sh\n{WORDS}\n```\n{WORDS}", [6]),
        (f"| {WORDS} |", []),
        (f"## {WORDS}", []),
        (f"- [{WORDS}](page.md)", []),
        (f"- [{WORDS}](page.md) and more", [1]),
        ("a" * 111, []),
        (f"`{'a b' * 50}`", []),
        ("a" * 55 + " " + "b" * 54, []),
        ("a" * 55 + " " + "b" * 55, [1]),
    ],
)
def test_a_line_that_could_be_broken_is_found(text: str, found: list[int]) -> None:
    assert list(CHECK["too_long"](text)) == found
