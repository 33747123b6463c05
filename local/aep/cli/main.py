"""The command line `aep`: parses, calls, and turns errors into one line that says what to do."""

import platform
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from event_platform import __version__, telemetry
from event_platform.domain.errors import EventPlatformError

from ..commit import commit
from ..errors import MalformedKey, SetupError
from ..output import echo, fail
from ..runtime import log_text
from ..store import files
from ..store.identity import with_cure
from . import usage
from .usage import Commands, Group

PANELS: Mapping[str, Mapping[str, str]] = {
    "Start here": {
        "dev": "dev:dev",
        "trigger": "trigger:trigger",
        "demo": "sandbox:run_demo",
        "events": "events:events",
    },
    "Run": {
        "serve": "serve:serve",
        "pims": "pims:pims",
        "doctor": "doctor:doctor",
        "secrets": "secrets:secrets",
    },
    "Look": {
        "status": "logs:status",
        "console": "console:console",
        "logs": "logs:list_logs",
        "trace": "trace:trace",
    },
    "Act": {
        "subscriptions": "subscriptions:subscriptions",
        "subscribers": "subscribers:subscribers",
        "replay": "replays:replay",
        "retry": "replays:retry",
        "dead": "dead:dead",
    },
    "Try": {
        "test": "trials:send_test",
        "explain": "trials:explain",
        "filter": "filters:filter_",
        "inbox": "sandbox:run_inbox",
        "sim": "sim:sim",
        "bench": "bench:run_bench",
        "demo-google": "sandbox:run_demo_google",
    },
    "Move": {
        "backup": "backup:backup",
        "restore": "restore:restore",
        "export": "moving:export",
        "import": "moving:import_",
    },
}
"""All commands with the module and the name of each, in the panels of the help, in each of which the most
used ones come first."""
_SETTINGS = {"bench": {"allow_extra_args": True, "ignore_unknown_options": True}}


class _Root(Group):
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for panel in PANELS.values() for name in panel if name in self.commands]


def app_for(arguments: Sequence[str] = ()) -> Commands:
    """Returns the program with the command that the arguments begin with; with all, if they begin with none.

    To import all commands takes 0.2 s and 10 MB, which a platform would keep.
    """
    app = Commands(
        name="aep",
        cls=_Root,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options_of_all)
    named = arguments[0] if arguments else None
    is_one = any(named in commands for commands in PANELS.values())
    for panel, commands in PANELS.items():
        for name, place in commands.items():
            if not is_one or name == named:
                _add(app, panel, name, place)
    return app


def _add(app: Commands, panel: str, name: str, place: str) -> None:
    module, _, attribute = place.partition(":")
    command = getattr(import_module(f".{module}", __package__), attribute)
    if isinstance(command, Commands):
        app.add_typer(command, name=name, rich_help_panel=panel)
    else:
        app.command(name, context_settings=_SETTINGS.get(name), rich_help_panel=panel)(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        found = commit()
        of = f"commit {found}, " if found else ""
        echo(f"aep {__version__} ({of}Python {platform.python_version()})")
        raise typer.Exit


def _options_of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An open event platform for Akeneo PIMs, on one machine.

    Example: aep demo
    """


def main() -> None:
    """The entry point of the command."""
    telemetry.configure_of_commands(log_text.renderer_of_commands())
    try:
        # Not typer's own way of ending, which puts usage errors into a box of several lines.
        raise SystemExit(app_for(sys.argv[1:])(standalone_mode=False))
    except typer.Abort:
        raise SystemExit(130) from None
    except TyperException as error:
        if usage.is_shown_help(error):
            fail("a command is missing: choose one of those above")
        fail(usage.words(error), error.exit_code)
    except MalformedKey as error:
        fail(str(error))
    except (SetupError, EventPlatformError) as error:
        fail(str(error), 1)
    except sqlite3.DatabaseError as error:
        fail(f"the store cannot be used: {with_cure(error)}", 1)
    except OSError as error:
        fail(files.with_cure(error), 1)
