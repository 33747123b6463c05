"""Writes `docs/command-options.md` from the commands themselves: `make options-page`."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from aep.cli.help_page import is_option
from aep.cli.main import app_for

PAGE = Path(__file__).parent / "command-options.md"
HEAD = """# Options of the commands

Every command of `aep` with its arguments and options, as `aep COMMAND --help` shows them.
[Commands](commands.md) says what they are for, [settings](settings.md) what the variables mean. This page is
written by `make options-page`."""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yields every command below `command` that does something by itself, with its full name."""
    is_group = hasattr(command, "commands")
    if not is_group or command.invoke_without_command:
        yield name, command
    if not is_group:
        return
    for word in command.list_commands(None):
        yield from commands(command.commands[word], f"{name} {word}")


def page() -> str:
    """Returns the page as it must be."""
    sections = [HEAD]
    for name, command in commands(typer.main.get_command(app_for()), "aep"):
        arguments = [_name_of(each) for each in command.params if not is_option(each)]
        summary = " ".join(command.help.partition("\n\n")[0].split())
        sections.append(f"## {name}\n\n`{' '.join([name, *arguments])}`\n\n{_wrapped(summary)}")
        rows = [_row(each) for each in command.params if each.help and not each.hidden]
        if rows:
            sections.append("\n".join(["| option | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(sections) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def _name_of(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _row(parameter: Any) -> str:
    options = [*parameter.opts, *parameter.secondary_opts]
    names = options if is_option(parameter) else [_name_of(parameter)]
    default = "must be given" if parameter.required else _default(parameter.default)
    variables = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or []
    shown = ", ".join([*([default] if default else []), *(f"or `{each}`" for each in variables)])
    meaning = " ".join(parameter.help.split()).replace("|", "\\|")
    return f"| {', '.join(f'`{name}`' for name in names)} | {shown} | {meaning} |".replace("|  |", "| |")


def _default(value: Any) -> str:
    if value is None or value is False or value == [] or callable(value):
        return ""
    return f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page())
