"""`aep backup`: copies the store, for a platform that continues from the copy."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..errors import BackupRefused, WrongKey
from ..output import echo, echo_json, echo_whole, fail
from ..store import keys
from ..store.backup import back_up
from .options import DEFAULT_DATA, AsJson, Data, settings


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE when it exists.")] = False,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Copy the store of queue and records to FILE, while the platform runs or not.

    Example: aep backup /backups/aep.db --data /var/lib/aep --force

    FILE is one consistent file of mode 0600, and stands under its name only when it is whole. `aep restore`
    puts it in the place of the store. Events that were delivered after the backup are then delivered again.
    """
    has_key_from_setting = settings().secrets_key is not None
    try:
        size = back_up(data, file, overwrite=force)
    except BackupRefused as error:
        fail(str(error))
    key = None if has_key_from_setting else _file_of_key(data)
    if as_json:
        shown = None if key is None else str(key)
        echo_json({"file": str(file.absolute()), "bytes": size, "key_file": shown})
        return
    echo(f"{file}: {size / 1e6:.1f} MB")
    needed = "the AEP_SECRETS_KEY that the platform runs with" if key is None else f"a copy of {key}"
    echo(f"A restore also needs {needed}, which is not in it: keep that apart, as safe as a password.")
    echo("To restore, stop the platform and run")
    echo_whole(f"  {shlex.join(['aep', 'restore', str(file), '--data', str(data)])}")


def _file_of_key(data: Path) -> Path | None:
    """Returns the folder's file of keys; None if the store's secrets are sealed with other keys.

    Then the platform has its key from its own environment.
    """
    try:
        keys.check_folder(data, keys.load(data, None))
    except WrongKey:
        return None
    return (data / keys.KEY_FILE).absolute()
