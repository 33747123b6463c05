"""`aep secrets`: the keys that seal what the store keeps secret."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from event_platform.adapters.seal import AesGcmSeal

from .google import reseal as on_google
from .options import DEFAULT_DATA, AsJson, Data, settings
from .output import echo, echo_json, fail
from .store import database, keys
from .store.reseal import reseal

secrets = typer.Typer(
    no_args_is_help=True,
    help="The keys that seal secrets in the store.\n\nExample: aep secrets rotate --data /var/lib/aep",
)


@secrets.command()
def rotate(
    data: Data = DEFAULT_DATA,
    google: Annotated[
        str | None,
        typer.Option("--google", metavar="PROJECT", help="Those in the Firestore of a Google Cloud project."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Seal all secrets in the store anew, with a new key.

    Example: aep secrets rotate --data /var/lib/aep

    Stop the platform on the folder first. Its key file gets a new key, and the old one goes once nothing is
    sealed with it; ended at any moment, the command can be begun again. Where AEP_SECRETS_KEY holds the keys,
    put the new one before the old one, separated by a comma: the first one seals. So it is with --google too,
    while the functions go on; they must all know both keys before.
    """
    if google is not None:
        seal = _configured()
        if seal is None:
            fail("--google needs AEP_SECRETS_KEY: the new key, a comma, and the key until now")
        records = asyncio.run(on_google.reseal(google, seal))
    else:
        records, seal = _rotate_folder(data)
    if as_json:
        echo_json({"records": records, "key_id": seal.key_id})
        return
    echo(f"Records sealed with the key {seal.key_id}: {records}.")
    echo("Backups made before still need the key until then: keep it apart for as long as you keep them.")


def _rotate_folder(data: Path) -> tuple[int, AesGcmSeal]:
    database.file_of(data)
    configured = _configured()
    with database.exclusive(data), contextlib.closing(database.connect(data / database.FILE)) as connection:
        database.prepare(connection)
        if configured is None:
            keys.put_before(data)
        seal = configured or keys.load(data, None)
        records = reseal(connection, seal)
        if configured is None:
            keys.forget_older(data)
    return records, seal


def _configured() -> AesGcmSeal | None:
    """The seal of AEP_SECRETS_KEY, if that is set."""
    key = settings().secrets_key
    return keys.configured(key) if key is not None else None
