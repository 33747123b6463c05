"""`aep restore`: puts a backup in the place of the store."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from event_platform.settings import Settings

from ..errors import RestoreRefused, WrongKey
from ..output import echo, echo_json, echo_whole, fail
from ..store import keys, opening
from ..store.restore import CHECK_SECONDS
from ..store.restore import restore as put_in_place
from .options import DEFAULT_DATA, AsJson, Data, settings


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup that `aep backup` made.")],
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Put a copy of FILE in the place of the store. The platform must not run.

    Example: aep restore /backups/aep.db --data /var/lib/aep

    FILE is checked first. What was there is kept beside it, as aep.db.kept- and the time. The store needs
    the key that its secrets were sealed with. Events that were delivered after the backup are then delivered
    again.
    """
    own = settings()
    try:
        done = put_in_place(data, file)
    except RestoreRefused as error:
        fail(str(error))
    needed = _needed(data, own)
    if as_json:
        kept = None if done.kept is None else str(done.kept.absolute())
        shown = {"file": str((data / opening.FILE).absolute()), "bytes": done.size, "kept": kept}
        echo_json(shown | {"checked": done.is_checked, "key": needed is None})
        return
    echo(f"{data / opening.FILE}: {done.size / 1e6:.1f} MB from {file}")
    if not done.is_checked:
        echo(f"WARNING: {CHECK_SECONDS:g} s were not enough to look for damage in all of it; none was found.")
    if done.kept is not None:
        echo(f"What was there before is {done.kept}: remove it when nobody needs it any more.")
    if needed is not None:
        echo(needed)
        return
    echo("The key fits. Start the platform with")
    echo_whole(f"  {shlex.join(['aep', 'serve', '--data', str(data)])}")


def _needed(data: Path, own: Settings) -> str | None:
    """Returns the advice for a store whose secrets need another key before a start; None if the key fits."""
    path = data / keys.KEY_FILE
    if own.secrets_key is None and not path.exists():
        return f"The key is missing: put the {keys.KEY_FILE} of the backup at {path}, or set AEP_SECRETS_KEY."
    try:
        keys.check_folder(data, keys.load(data, own.secrets_key))
    except WrongKey as error:
        return f"The key does not fit: {error}."
    return None
