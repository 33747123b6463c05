"""The help of every command: panels, 80 columns, an example that runs. And wrong usage, in one line."""

import asyncio
import base64
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from aep.cli import main
from aep.cli.help_page import example_of
from aep.cli.usage import Command, Group
from support.aep_here import run
from support.records import UPDATED
from support.replaying import Receiver, Replaying

ROOT: Any = typer.main.get_command(main.app_for())
KEY = base64.b64encode(b"\x01" * 32).decode()
"""That of the stores that `Replaying` opens."""
SUBSCRIPTION = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"
"""The subscription of the examples."""


def commands_of(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands_of(below, *path, name)


PATHS = list(commands_of(ROOT))


def command_at(path: tuple[str, ...]) -> Any:
    command = ROOT
    for name in path:
        command = command.commands[name]
    return command


def help_of(*arguments: str, columns: int = 80) -> str:
    ended = run(*arguments, settings={"COLUMNS": str(columns)})
    assert (ended.status, ended.err) == (0, "")
    return ended.out


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_help_is_ours_with_an_example(path: tuple[str, ...]) -> None:
    command = command_at(path)
    assert isinstance(command, Command | Group)
    shown = help_of(*path, "-h")
    assert shown == help_of(*path, "--help")
    assert shown.startswith(" ".join(["aep", *path]))
    assert f"Example: {' '.join(['aep', *path])}" in " ".join(shown.split())
    example = example_of(command) or ""
    too_wide = [line for line in shown.splitlines() if len(line) > 80 and line != f"Example: {example}"]
    assert too_wide == []
    for words in ("<bool>", "<str>", "<int>", "list[", "Show this message", "[required]"):
        assert words not in shown


def test_panels_come_in_their_order_and_begin_with_what_is_used_most() -> None:
    found = re.findall(r"^╭─ ([\w ]+?) ─+╮\n│ (\S+)", help_of("-h"), re.MULTILINE)
    assert found[:-1] == [(title, next(iter(commands))) for title, commands in main.PANELS.items()]
    assert list(main.PANELS) == ["Start here", "Run", "Look", "Act", "Try", "Move"]
    assert {name for panel in main.PANELS.values() for name in panel} == set(ROOT.commands)


def test_help_is_plain_where_no_colour_is_wanted() -> None:
    coloured = {"COLUMNS": "80", "FORCE_COLOR": "1", "TERM": "xterm"}
    assert "\x1b[1m" in run("-h", settings=coloured).out
    assert "\x1b" not in run("-h", settings=coloured | {"NO_COLOR": "1"}).out


def test_a_wide_terminal_has_no_longer_lines_than_can_be_read() -> None:
    assert max(map(len, help_of("pims", "add", "-h", columns=200).splitlines())) == 110


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_example_is_right_usage(path: tuple[str, ...]) -> None:
    words = shlex.split(example_of(command_at(path)) or "")
    assert words.pop(0) == "aep"
    command, context = ROOT, None
    while hasattr(command, "commands") and words and words[0] in command.commands:
        name = words.pop(0)
        command = command.commands[name]
    command.make_context("aep", words, parent=context).close()


EXAMPLES = [
    ["events"],
    ["filter", "test"],
    ["pims", "add"],
    ["pims", "client"],
    ["pims", "clients"],
    ["pims", "revoke"],
    ["pims", "list"],
    ["pims", "remove"],
    ["status"],
    ["logs"],
    ["subscriptions"],
    ["subscribers"],
    ["retry"],
    ["dead", "list"],
    ["dead", "drop"],
    ["backup"],
    ["export"],
    ["restore"],
]
"""Those that end by themselves and need nobody else, in an order in which each finds what it is about."""


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"

    async def subscribed() -> str:
        async with Replaying(data, Receiver()) as world:
            await world.run()
            return (await world.one()).id

    subscription = asyncio.run(subscribed())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "event.json").write_text(run("events", UPDATED).out)
    for path in EXAMPLES:
        example = example_of(command_at(tuple(path))) or ""
        for word, here in (
            ("/var/lib/aep", str(data)),
            ("/backups/", f"{tmp_path}/"),
            (SUBSCRIPTION, subscription),
            (" --follow", ""),
        ):
            example = example.replace(word, here)
        ended = run(*shlex.split(example)[1:], settings={"AEP_DATA": str(data), "AEP_SECRETS_KEY": KEY})
        assert (ended.status, ended.err) == (0, ""), example


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("serve --port x", "--port x: must be a whole number"),
        ("serve --port 70000", "--port 70000: must be 0 to 65535"),
        ("serve --port", "--port needs a value; -h says which"),
        ("serve --dev=1", "--dev takes no value"),
        ("serve -p 1", "no option -p: `aep serve -h` lists them"),
        ("status --jsno", "no option --jsno: did you mean --json?"),
        ("status x y", "'x y' is not expected here: `aep status -h` shows what is"),
        ("inbox --delay x", "--delay x: must be a number"),
        ("inbox --every 0", "--every 0: must be at least 1"),
        (
            "pims add https://pim.example.com --auth x",
            "--auth x: must be one of token-info, platform-key, probe",
        ),
        ("nonsense", "no command nonsense: `aep -h` lists them"),
        ("pims ad https://pim.example.com", "no command ad: did you mean add?"),
        ("replay 0199", "--from is missing, as in: aep replay "),
        ("pims client", "URL is missing, as in: aep pims client https://pim.example.com "),
    ],
)
def test_wrong_usage_is_one_line_in_our_words(arguments: str, said: str) -> None:
    ended = run(*arguments.split())
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith(f"aep: {said}")


def test_a_wrong_variable_is_named() -> None:
    ended = run("serve", settings={"AEP_WORKERS": "many"})
    assert (ended.status, ended.err) == (2, "aep: AEP_WORKERS=many: must be a whole number\n")


@pytest.mark.parametrize("group", [[], ["pims"], ["dead"]], ids=["aep", "pims", "dead"])
def test_a_group_of_commands_without_one_shows_what_there_is(group: list[str]) -> None:
    ended = run(*group)
    assert ended.status == 2
    assert "list" in ended.out or "Start here" in ended.out
    assert ended.err == "aep: a command is missing: choose one of those above\n"
