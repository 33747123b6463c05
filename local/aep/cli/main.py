"""The command line `aep`: parses, calls, and turns errors into one line that says what to do."""

import platform
import sqlite3
from collections.abc import Mapping
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
from . import sandbox, trials, usage
from .backup import backup
from .bench import run_bench
from .console import console
from .dead import dead
from .dev import dev
from .doctor import doctor
from .events import events
from .filters import filter_
from .logs import list_logs, status
from .moving import export, import_
from .pims import pims
from .replays import replay, retry
from .restore import restore
from .secrets import secrets
from .serve import serve
from .sim import sim
from .subscribers import subscribers
from .subscriptions import subscriptions
from .trace import trace
from .trigger import trigger
from .usage import Commands, Group

PANELS: Mapping[str, Mapping[str, Any]] = {
    "Start here": {
        "dev": dev,
        "trigger": trigger,
        "demo": sandbox.run_demo,
        "events": events,
    },
    "Run": {
        "serve": serve,
        "pims": pims,
        "doctor": doctor,
        "secrets": secrets,
    },
    "Look": {
        "status": status,
        "console": console,
        "logs": list_logs,
        "trace": trace,
    },
    "Act": {
        "subscriptions": subscriptions,
        "subscribers": subscribers,
        "replay": replay,
        "retry": retry,
        "dead": dead,
    },
    "Try": {
        "test": trials.send_test,
        "explain": trials.explain,
        "filter": filter_,
        "inbox": sandbox.run_inbox,
        "sim": sim,
        "bench": run_bench,
        "demo-google": sandbox.run_demo_google,
    },
    "Move": {
        "backup": backup,
        "restore": restore,
        "export": export,
        "import": import_,
    },
}
"""All commands, in the panels of the help, in each of which the most used ones come first."""
_SETTINGS = {"bench": {"allow_extra_args": True, "ignore_unknown_options": True}}


class _Root(Group):
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for panel in PANELS.values() for name in panel]


app = Commands(
    name="aep",
    cls=_Root,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, Commands):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            _more = _SETTINGS.get(_name)
            app.command(_name, context_settings=_more, rich_help_panel=_panel)(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        found = commit()
        of = f"commit {found}, " if found else ""
        echo(f"aep {__version__} ({of}Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def options_of_all(
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
        raise SystemExit(app(standalone_mode=False))
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
