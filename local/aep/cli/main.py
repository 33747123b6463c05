"""The command line `aep`: parses, calls, and turns errors into one line that says what to do."""

import sqlite3
from typing import Annotated

import typer
from typer.exceptions import TyperException

from event_platform import __version__, telemetry
from event_platform.domain.errors import EventPlatformError

from ..errors import MalformedKey, SetupError
from ..output import echo, fail
from ..store import files
from ..store.identity import with_cure
from . import sandbox, trials
from .backup import backup
from .dead import dead
from .dev import dev, trigger
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
from .trace import trace

app = typer.Typer(name="aep", no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(pims, name="pims")
app.add_typer(dead, name="dead")
app.add_typer(filter_, name="filter")
app.add_typer(secrets, name="secrets")
app.command()(backup)
app.command()(dev)
app.command()(doctor)
app.command()(events)
app.command()(export)
app.command("import")(import_)
app.command()(replay)
app.command()(restore)
app.command()(retry)
app.command("test")(trials.send_test)
app.command()(trials.explain)
app.command("logs")(list_logs)
app.command()(status)
app.command()(trace)
app.command()(trigger)
sandbox.mount(app)
app.command()(serve)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"aep {__version__}")
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
    telemetry.configure_of_commands()
    try:
        # Not typer's own way of ending, which puts usage errors into a box of several lines.
        raise SystemExit(app(standalone_mode=False))
    except typer.Abort:
        raise SystemExit(130) from None
    except TyperException as error:
        if not error.format_message():  # the help was shown instead
            fail("Missing command; choose one of those above")
        fail(f"{error.format_message().rstrip('.')}; --help shows what is expected", error.exit_code)
    except MalformedKey as error:
        fail(str(error))
    except (SetupError, EventPlatformError) as error:
        fail(str(error), 1)
    except sqlite3.DatabaseError as error:
        fail(f"the store cannot be used: {with_cure(error)}", 1)
    except OSError as error:
        fail(files.with_cure(error), 1)
