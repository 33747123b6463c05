"""`aep secrets`: the keys that seal what the store keeps secret."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.words import counted

from ..errors import NothingToRotate
from ..google import keys as google_keys
from ..google import reseal as on_google
from ..output import echo, echo_json
from ..store import keys, migrations, opening
from ..store.reseal import reseal
from .options import DEFAULT_DATA, AsJson, Data, settings
from .usage import Commands

secrets = Commands(
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
    where the registry of PIMs has a key of its own, AEP_REGISTRY_KEY, and feeds have AEP_FEED_KEY, without
    which they stay as they are; the functions go on, and must know old and new keys before.
    """
    if google is not None:
        known = google_keys.load()
        seals = [each for each in (known.records, known.registry, known.feeds) if each is not None]
        if not any(each.has_older_keys for each in seals):
            raise NothingToRotate(_ONE_KEY.format("AEP_SECRETS_KEY, AEP_REGISTRY_KEY or AEP_FEED_KEY"))
        records, feeds_left = asyncio.run(on_google.reseal(google, known))
        ids = {"key_id": known.records.key_id, "registry_key_id": known.registry.key_id}
        if known.feeds is not None:
            ids["feed_key_id"] = known.feeds.key_id
        if feeds_left:
            echo(f"aep: not sealed anew without AEP_FEED_KEY: {counted(feeds_left, 'feed')}", err=True)
    else:
        records, seal = _rotate_folder(data)
        ids = {"key_id": seal.key_id}
    if as_json:
        echo_json({"records": records, **ids})
        return
    registry = f", those of the registry with {ids['registry_key_id']}" if google is not None else ""
    fed = f", feeds with {ids['feed_key_id']}" if "feed_key_id" in ids else ""
    echo(f"Records sealed with the key {ids['key_id']}{registry}{fed}: {records}.")
    echo("Backups from before need the old key: keep it, apart from them, for as long as you keep them.")


_ONE_KEY = (
    "nothing was rotated: all is sealed with the first key already. Put a new key before it in {}, separated"
    " by a comma (`openssl rand -base64 32` makes one), and run this again"
)


def _rotate_folder(data: Path) -> tuple[int, AesGcmSeal]:
    opening.file_of(data)
    configured = _configured()
    with opening.exclusive(data), contextlib.closing(opening.connect(data / opening.FILE)) as connection:
        migrations.prepare(connection)
        if configured is None:
            keys.put_before(data)
        seal = configured or keys.load(data, None)
        if keys.is_marked_by_first(connection, seal):
            raise NothingToRotate(_ONE_KEY.format("AEP_SECRETS_KEY"))
        records = reseal(connection, seal)
        if configured is None:
            keys.forget_older(data)
    return records, seal


def _configured() -> AesGcmSeal | None:
    """Returns the seal of AEP_SECRETS_KEY, if that is set."""
    key = settings().secrets_key
    return keys.configured(key) if key is not None else None
