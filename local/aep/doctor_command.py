"""`aep doctor`: what of the environment works."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from .options import DEFAULT_DATA, AsJson, Data, printable


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
    from . import doctor as checks  # so that the other commands start without what it needs

    found = checks.everything(data, pims_file)
    if as_json:
        typer.echo(orjson.dumps([asdict(check) for check in found]))
    else:
        for check in found:
            typer.echo(f"{check.state:8} {check.name:20} {printable(check.detail)}")
    if any(check.needed for check in found):
        raise SystemExit(1)
