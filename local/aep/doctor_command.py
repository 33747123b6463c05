"""`aep doctor`: what of the environment works."""

import asyncio
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import ValidationError

from event_platform.settings import Settings

from . import doctor as checks
from .doctor import Check, State
from .options import DEFAULT_DATA, AsJson, Data, printable, wrong_setting


def doctor(
    data: Data = DEFAULT_DATA,
    pims_file: Annotated[
        str | None, typer.Option("--pims", metavar="FILE", help="The JSON list of PIMs, as for `aep serve`.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what the platform and its tools need, one line each, with what to do.

    Example: aep doctor --data /var/lib/aep

    Changes nothing. Exit status 1 only when something is broken that `aep serve` needs.
    """
    found = _checks(data, pims_file)
    if as_json:
        typer.echo(orjson.dumps([asdict(check) for check in found]))
    else:
        for check in found:
            typer.echo(f"{check.state:8} {check.name:20} {printable(check.detail)}")
    if any(check.needed and check.state is not State.OK for check in found):
        raise SystemExit(1)


def _checks(folder: Path, pims_file: str | None) -> list[Check]:
    settings, wrong = _settings(pims_file)
    return [
        *checks.of_the_program(),
        *wrong,
        *checks.of_the_folder(folder, settings),
        *asyncio.run(checks.of_the_surroundings(folder, settings, os.environ)),
    ]


def _settings(pims_file: str | None) -> tuple[Settings, list[Check]]:
    """The defaults when a variable is wrong, and that as a finding."""
    given = {} if pims_file is None else {"pims": pims_file}
    try:
        return Settings(**given), []  # pyright: ignore[reportArgumentType] - checked by pydantic
    except ValidationError as error:
        return Settings.model_construct(), [checks.broken("settings", wrong_setting(error))]
