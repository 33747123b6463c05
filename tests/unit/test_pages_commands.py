"""Each command `aep …` that a page shows exists, with the options that it is given, and each is on a page."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from aep.cli.main import app_for

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *(REPOSITORY / "docs").glob("*.md")]
START = re.compile(r"(?:^|[\s`(|&])(?:\.venv/bin/|\.\./\.venv/bin/)?aep ([a-z][^`\n]*)", re.MULTILINE)
END = {"|", "||", "&&", "&", ";", ">", "<", "#"}


def shown(page: Path) -> Iterator[list[str]]:
    """The words behind `aep` of each command, to its end in the shell."""
    text = page.read_text().replace("\\\n", " ")
    code = re.findall(r"^ *```[a-z]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    code += re.findall(r"`[^`\n]+`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))
    for part in code:
        for words in START.findall(part):
            lexer = shlex.shlex(words, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            found: list[str] = []
            try:
                for word in lexer:
                    if word in END:
                        break
                    found.append(word)
            except ValueError:  # a quotation that goes on beyond the line: what stands before it counts
                pass
            yield found


def problem(words: list[str]) -> str | None:
    """Returns the parts of a command line that are unknown."""
    command: Any = typer.main.get_command(app_for())
    rest = list(words)
    while (commands := getattr(command, "commands", None)) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name == "…":  # stands for any of them
            return None
        if name not in commands:
            return f"there is no command {name}"
        command = commands[name]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        name = word.partition("=")[0].rstrip(",.:)]")
        if name.startswith("--") and name not in {*options, "--help"}:
            return f"{command.name} has no option {name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    assert [(words, wrong) for words in shown(page) if words and (wrong := problem(words))] == []


def test_the_pages_show_commands() -> None:
    assert sum(len(list(shown(page))) for page in PAGES) > 100


OPTIONS_PAGE = runpy.run_path(str(REPOSITORY / "docs" / "options_page.py"))


def test_every_command_and_option_is_on_the_page_of_options() -> None:
    assert OPTIONS_PAGE["PAGE"].read_text() == OPTIONS_PAGE["page"](), "run `make options-page`"


def test_every_command_is_in_the_table_of_commands() -> None:
    """A cell names a group once: `aep dead list`, `replay`."""
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    cells = re.findall(r"^\| (`aep .*?) \| ", page, re.MULTILINE)
    command: Any = typer.main.get_command(app_for())
    names = [name.split()[1:] for name, _ in OPTIONS_PAGE["commands"](command, "aep")]
    missing = [
        words
        for words in names
        if not any(f"`aep {words[0]}" in cell and re.search(rf"[` ]{words[-1]}\b", cell) for cell in cells)
    ]
    assert missing == []
