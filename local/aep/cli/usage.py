"""Commands as this program has them: with help of its own, and wrong usage in its own words.

typer has both, in words of programmers.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import typer
from pydantic import ValidationError
from typer import core
from typer._click import exceptions as wrong

from event_platform.domain.validation_words import words_of

from . import help_page

LONGEST_VALUE = 100


class UnknownCommand(wrong.UsageError):
    """Raised when a group has no command of that name."""


class Command(core.TyperCommand):
    """A command with a help of our own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        help_page.show_help(ctx)


class Group(core.TyperGroup):
    """A group of commands with a help of our own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        help_page.show_help(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not name.startswith("-") and name not in self.commands and not ctx.resilient_parsing:
            nearest = get_close_matches(name, self.commands, 1)
            advice = f"did you mean {nearest[0]}?" if nearest else f"`{ctx.command_path} -h` lists them"
            raise UnknownCommand(f"no command {name}: {advice}", ctx)
        return super().resolve_command(ctx, args)


class Commands(typer.Typer):
    """A group of commands, each of which is ours. A group without a command shows its help."""

    def __init__(self, **more: Any) -> None:
        usual = {"cls": Group, "no_args_is_help": not more.get("invoke_without_command")}
        super().__init__(**usual | more)

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=Command, **more)


def words(error: typer.TyperException) -> str:
    """Says what is wrong with how a command was used, and what to do."""
    match error:
        case wrong.NoSuchOption():
            nearest = error.possibilities
            advice = f"did you mean {nearest[0]}?" if nearest else f"{_help(error.ctx)} lists them"
            return f"no option {error.option_name}: {advice}"
        case wrong.MissingParameter():
            return f"{help_page.name_of(error.param)} is missing{_as_in(error.ctx)}"
        case wrong.BadParameter():
            return _bad_value(error)
        case wrong.BadOptionUsage():
            takes_none = "does not take a value" in error.message
            return f"{error.option_name} {'takes no value' if takes_none else 'needs a value; -h says which'}"
        case UnknownCommand():
            return error.message
        case wrong.UsageError() if "extra argument" in error.message:
            extra = error.message.partition("(s) (")[2].rstrip(")")
            return f"{extra!r} is not expected here: {_help(error.ctx)} shows what is"
        case _:
            return f"{error.format_message().rstrip('.')}; --help shows what is expected"


def is_shown_help(error: typer.TyperException) -> bool:
    """True if the help was shown, as a group was called without a command."""
    return isinstance(error, wrong.NoArgsIsHelpError)


def _bad_value(error: Any) -> str:
    parameter, context = error.param, error.ctx
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return f"{help_page.name_of(parameter)}: {error.message}"
    found = cause.errors()[0]
    source = context.get_parameter_source(parameter.name)
    is_variable = source is not None and source.name == "ENVIRONMENT"
    named = f"{parameter.envvar}=" if is_variable else f"{help_page.name_of(parameter)} "
    return f"{named}{str(found['input'])[:LONGEST_VALUE] or repr('')}: {_must(parameter, found)}"


def _must(parameter: Any, found: Any) -> str:
    if (choices := parameter.type_descriptor.choices) is not None:
        return f"must be one of {', '.join(map(str, choices))}"
    said = words_of(found)
    bounds = help_page.bounds_of(parameter)
    return f"{said.partition(' at ')[0]} {bounds}" if bounds and " at " in said else said


def _as_in(context: Any) -> str:
    example = None if context is None else help_page.example_of(context.command)
    return "" if example is None else f", as in: {example}"


def _help(context: Any) -> str:
    return f"`{context.command_path} -h`"
