"""`aep export` and `aep import`: move records from one machine to Google Cloud and back."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.words import counted

from ..errors import WrongKey
from ..google import keys as google_keys
from ..google import moving as on_google
from ..output import echo, echo_json
from ..store import export_file, keys, migrations, moving, opening
from ..store.export_file import ExportFile, Records
from ..store.moving import Waiting
from .options import DEFAULT_DATA, AsJson, Data, VersionBuckets, settings

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file that records move in.")]
Google = Annotated[
    str | None,
    typer.Option("--google", metavar="PROJECT", help="The Firestore of a Google Cloud project instead."),
]


def export(file: File, data: Data = DEFAULT_DATA, google: Google = None, as_json: AsJson = False) -> None:
    """Write PIMs, subscribers, subscriptions and feeds to FILE, to import them elsewhere.

    Example: aep export moving.json --data /var/lib/aep

    FILE has mode 0600 and is new. Its secrets are sealed with the key of the store, which is not in it.
    Events that wait, kept events, the log, counts, rates and what was deleted stay where they are. With
    --google the key is the first of AEP_SECRETS_KEY, AEP_REGISTRY_KEY opens the registry of PIMs, and
    AEP_FEED_KEY feeds, which stay without it.
    """
    waiting = None
    if google is not None:
        known = google_keys.load()
        seal = known.records
        records, staying = asyncio.run(on_google.take_out(google, known))
        if staying:
            echo(f"aep: stays here without AEP_FEED_KEY: {counted(staying, 'feed')}", err=True)
    else:
        opening.file_of(data)
        seal = keys.load(data, settings().secrets_key)
        with opening.beside_the_server(data) as connection:
            records, waiting = moving.take_out(connection, seal)
    export_file.write(file, records, seal)
    if as_json:
        shown = {"file": str(file.absolute()), "key_id": seal.key_id, **records.counts()}
        echo_json(shown | ({} if waiting is None else {"waiting": waiting.total}))
        return
    echo(f"{file}: {_counted(records)}")
    echo(
        f"Its secrets are sealed with the key {seal.key_id}, which is not in it; `aep import` needs both."
        " It names endpoints and addresses: remove it when it has been imported."
    )
    if waiting is not None and waiting.has_kept_events:
        echo("Kept events stay here, with replays of them and what subscriptions have to catch up with.")
    if waiting is not None and waiting.total:
        echo(_stays(waiting))


def import_(
    file: File,
    data: Data = DEFAULT_DATA,
    google: Google = None,
    version_buckets: VersionBuckets = 1,
    as_json: AsJson = False,
) -> None:
    """Bring the records of FILE, which `aep export` wrote, into another store.

    Example: aep import moving.json --google my-project

    All keep their ids, status and times. AEP_SECRETS_KEY holds the key of this store, and behind a comma the
    one that FILE was sealed with; the first seals. With --google AEP_REGISTRY_KEY seals the PIMs. What is
    there already and the same is left alone, what differs is refused. Feeds come switched off, and need
    AEP_FEED_KEY with --google; one that is there stays as it is. On one machine all comes at once or
    nothing, and the platform must not run; on Google Cloud an import that was ended can be begun again.
    """
    content = export_file.read(file)
    if google is not None:
        known = google_keys.load()
        seal, records = known.records, export_file.open_with(content, known.records)
        if known.feeds is None and records.feeds:
            echo(f"aep: not brought without AEP_FEED_KEY: {counted(len(records.feeds), 'feed')}", err=True)
            records = replace(records, feeds=())
        new = asyncio.run(on_google.bring_in(google, known, records, buckets=version_buckets))
    else:
        seal = _seal_of_folder(data, content)
        records = export_file.open_with(content, seal)
        with opening.exclusive(data), contextlib.closing(opening.connect(data / opening.FILE)) as store:
            migrations.prepare(store)
            new = moving.bring_in(store, seal, records)
    there = sum(records.counts().values()) - new
    if as_json:
        shown = {"key_id": seal.key_id, **records.counts(), "new": new, "there_already": there}
        echo_json(shown)
        return
    echo(f"{_counted(records)}; new: {new}, there already: {there}.")
    if records.feeds:
        echo(
            "Feeds that are new here are off, and begin from where they were complete. Once they are off over"
            " there, by `aep pims feed URL --off`, any setting has them begin, such as `--every 300`."
        )
    echo(f"Their secrets are sealed with the key {seal.key_id}. Remove {file}: nobody needs it any more.")


def _seal_of_folder(data: Path, content: ExportFile) -> AesGcmSeal:
    """Returns the seal that the platform on the folder will have.

    Makes no key, as nothing could be sealed with it.
    """
    given, own = settings().secrets_key, data / keys.KEY_FILE
    if given is None:
        if not own.exists() and not (data / opening.FILE).exists():
            raise WrongKey(
                f"AEP_SECRETS_KEY must hold the key {content.key_id}, which the file was sealed with;"
                f" the platform on {data} gets it too, or another one that stands before it"
            )
        return keys.load(data, None)
    seal = keys.configured(given)
    if own.exists() and (first := keys.load(data, None).key_id) != seal.key_id:
        raise WrongKey(f"{own} seals what is in {data}: its key {first} must be the first in AEP_SECRETS_KEY")
    return seal


def _counted(records: Records) -> str:
    counts = records.counts()
    nouns = {"pims": "PIM", "subscribers": "subscriber", "subscriptions": "subscription"}
    if records.feeds:
        nouns["feeds"] = "feed"
    return ", ".join(counted(counts[name], noun) for name, noun in nouns.items())


def _stays(waiting: Waiting) -> str:
    parts = [
        counted(waiting.queued, "delivery") + " in lanes" if waiting.queued else "",
        counted(waiting.retries, "delivery") + " with another attempt to come" if waiting.retries else "",
        counted(waiting.dead_letters, "dead letter") if waiting.dead_letters else "",
        counted(waiting.accepted, "event") + " not fanned out yet" if waiting.accepted else "",
    ]
    return (
        f"WARNING: what waits does not move: {', '.join(filter(None, parts))}."
        " Let it go out first: `aep status` shows it."
    )
