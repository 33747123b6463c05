"""The help of a command: what it does, an example, its arguments and options, at the terminal's width."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from ..output import console, text

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.text import Text

LEFT = 26
"""The columns of the names of options. A longer one has a line of its own."""
WIDEST = 110
"""A line longer than that is hard to read, however wide the terminal is."""
_OF_THE_LIBRARY = {
    "--help": "Show this help.",
    "--install-completion": "Set up completion of commands and options for your shell.",
    "--show-completion": "Print the script of that completion.",
}
"""The texts of options that typer adds by itself."""
_Rows: TypeAlias = Sequence[tuple[str, str]]
_Table: TypeAlias = tuple[str, _Rows, int]


def show_help(context: typer.Context) -> None:
    """Prints the help of the context's command; that of a group has its commands in panels."""
    command: Any = context.command
    shown = console()
    width = min(shown.width, WIDEST)
    parameters = [each for each in command.get_params(context) if not getattr(each, "hidden", False)]
    for line in _head(context, parameters, width):
        shown.print(line, soft_wrap=True)
    for title, rows, left in _tables(command, context, parameters):
        if rows:
            shown.print(_panel(title, rows, width, left))


def example_of(command: Any) -> str | None:
    """Returns the command line of the example in the help of a command."""
    for paragraph in _paragraphs(command.help or ""):
        if paragraph.startswith("Example: "):
            return paragraph.removeprefix("Example: ").partition("\n")[0]
    return None


def is_option(parameter: Any) -> bool:
    """True for an option, False for an argument."""
    return parameter.opts[0].startswith("-")


def name_of(parameter: Any) -> str:
    """Returns the name that the user types, or that stands for an argument."""
    if is_option(parameter):
        return max(parameter.opts, key=len)
    return parameter.metavar or parameter.name.upper()


def bounds_of(parameter: Any) -> str:
    """Says which numbers an option takes; empty if all."""
    info = parameter.type_descriptor.parameter_info
    if info.min is None:
        return ""
    return f"at least {info.min}" if info.max is None else f"{info.min} to {info.max}"


def _head(context: typer.Context, parameters: Iterable[Any], width: int) -> "Iterator[Text]":
    command: Any = context.command
    usage = [_usage(each) for each in parameters if each.required or not is_option(each)]
    if not hasattr(command, "commands"):
        usage.append("[OPTIONS]")
    else:
        usage.append("[OPTIONS] [COMMAND]" if command.invoke_without_command else "COMMAND")
    yield text(" ".join([context.command_path, *usage]), "bold")
    for paragraph in _paragraphs(command.help or ""):
        yield text("")
        if paragraph.startswith("Example: "):
            yield text("Example: ").append_text(text(paragraph.removeprefix("Example: "), "green"))
            continue
        for line in _wrapped(paragraph, width):
            yield text(line)
    yield text("")


def _usage(parameter: Any) -> str:
    name = name_of(parameter)
    if is_option(parameter):
        return f"{name} {_value(parameter)}"
    several = "" if parameter.nargs == 1 or "…" in name else "…"
    return f"{name}{several}" if parameter.required or name.startswith("[") else f"[{name}{several}]"


def _tables(command: Any, context: typer.Context, parameters: Sequence[Any]) -> Iterator[_Table]:
    """Yields the tables of the help: title, rows and the columns of what stands at the left."""
    arguments = [each for each in parameters if not is_option(each)]
    yield "Arguments", _described(arguments), LEFT
    panels = _panels(command, context)
    left = max((len(name) for names in panels.values() for name in names), default=0) + 2
    for title, names in panels.items():
        yield title, [(name, _summary(command.commands[name])) for name in names], left
    yield "Options", _described(each for each in parameters if is_option(each)), LEFT


def _described(parameters: Iterable[Any]) -> _Rows:
    return [(_left(each), _right(each)) for each in parameters]


def _panels(command: Any, context: typer.Context) -> dict[str, list[str]]:
    panels: dict[str, list[str]] = {}
    for name in command.list_commands(context) if hasattr(command, "commands") else ():
        if not (below := command.commands[name]).hidden:
            panels.setdefault(below.rich_help_panel or "Commands", []).append(name)
    return panels


def _panel(title: str, rows: _Rows, width: int, indent: int) -> "Panel":
    from rich.panel import Panel

    inside = text("")
    for left, right in rows:
        lines = _wrapped(right, width - indent - 4)
        if len(left) > indent - 2:
            lines = ["", *lines]
        for number, line in enumerate(lines):
            inside.append(left.ljust(indent) if number == 0 else " " * indent, "cyan")
            inside.append(f"{line}\n")
    inside.rstrip()
    return Panel(inside, title=title, title_align="left", width=width)


def _left(parameter: Any) -> str:
    if not is_option(parameter):
        return name_of(parameter)
    names = ", ".join(sorted((*parameter.opts, *parameter.secondary_opts), key=len))
    return f"{names} {_value(parameter)}".rstrip()


def _value(parameter: Any) -> str:
    """Returns what stands for the value of an option; empty if it takes none."""
    if parameter.metavar is not None:
        return parameter.metavar
    described = parameter.type_descriptor
    if described.choices is not None:
        return "|".join(map(str, described.choices))
    if getattr(parameter, "is_flag", False):
        return ""
    if described.annotation in (int, float):
        return "N"
    return parameter.name.rpartition("_")[2].upper()


def _right(parameter: Any) -> str:
    said = " ".join((_OF_THE_LIBRARY.get(name_of(parameter)) or parameter.help or "").split())
    more = [bounds_of(parameter)]
    default = parameter.default
    if default not in (None, False, "", []) and not callable(default) and parameter.show_default is not False:
        more.append(f"default: {default}")
    if parameter.envvar:
        names = [parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar
        more.append(f"or {' or '.join(names)}")
    noted = "; ".join(filter(None, more))
    return f"{said} ({noted})" if noted else said


def _summary(command: Any) -> str:
    return " ".join(next(_paragraphs(command.help or ""), "").split()).rstrip(".")


def _paragraphs(help_: str) -> Iterator[str]:
    return (each.strip() for each in textwrap.dedent(help_).split("\n\n") if each.strip())


def _wrapped(paragraph: str, width: int) -> list[str]:
    return textwrap.wrap(" ".join(paragraph.split()), width, break_long_words=False, break_on_hyphens=False)
