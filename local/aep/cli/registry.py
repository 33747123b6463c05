"""The registry of PIMs for a command: in a folder, a file or a project."""

import asyncio
import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from event_platform.adapters.pim_registry import StoredEntry
from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import UnreadableEntry, stored_tenant
from event_platform.domain.tenants import SECRET_FIELDS, Tenant
from event_platform.domain.urls import normalise_pim_url
from event_platform.domain.validation_words import place_words, words_of
from event_platform.ports import Seal

from ..control.client import Control, control
from ..errors import BadPims
from ..google import keys as google_keys
from ..google import registry as on_google
from ..output import fail
from ..store import keys, opening
from ..store import tenants as pims
from ..store.files import written_beside
from ..store.running import folders_in_use
from .options import DEFAULT_DATA, settings

FOLDERS_SHOWN = 5

PimsFile = Annotated[
    Path | None,
    typer.Option("--pims", metavar="FILE", help="Work on this JSON list instead of the data folder."),
]


Project = Annotated[
    str | None,
    typer.Option(
        "--google", metavar="PROJECT", help="Work on the registry in the Firestore of a Google Cloud project."
    ),
]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of the registry: the Firestore of a project, else a file, else the data folder."""

    data: Path
    file: Path | None = None
    project: str | None = None

    def __str__(self) -> str:
        if self.project is not None:
            return f"the Firestore of {self.project}"
        return str((self.file or self.data).absolute())

    def command(self, words: str) -> str:
        """Returns a command of `aep pims` that works on this place, as a person types it."""
        if self.project is not None:
            option = ["--google", self.project]
        elif self.file is not None:
            option = ["--pims", str(self.file)]
        else:
            option = [] if self.data == DEFAULT_DATA else ["--data", str(self.data)]
        return " ".join(["aep pims", words, *([shlex.join(option)] if option else [])])

    @property
    def is_new(self) -> bool:
        """True for a data folder that has no registry yet."""
        return self.project is None and self.file is None and not has_registry(self.data)


class Entries:
    """The entries by name. `unreadable` are the names of those that cannot be understood.

    `put` and `remove` write a change; they get the entries as they are after it.
    """

    def __init__(
        self,
        tenants: Iterable[Tenant],
        *,
        put: Callable[["Entries", Tenant], None],
        remove: Callable[["Entries", str], None],
        unreadable: Sequence[str] = (),
    ) -> None:
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._put = put
        self._remove = remove
        self.unreadable = unreadable

    def get(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    def all(self) -> list[Tenant]:
        return list(self._tenants.values())

    def put(self, tenant: Tenant) -> None:
        checked = Tenant.model_validate(_plain(tenant))
        self._tenants[checked.name] = checked
        self._put(self, checked)

    def remove(self, name: str) -> bool:
        found = self._tenants.pop(name, None) is not None or name in self.unreadable
        if found:
            self._remove(self, name)
        return found


@contextlib.contextmanager
def open_registry(place: Place, *, makes: bool = False) -> Iterator[Entries]:
    """Opens the entries of a place, which no other command changes meanwhile.

    A folder without a registry gets one only if the command `makes` one; else the command ends. In a project,
    only a command that makes an entry needs the key that seals its secrets.
    """
    try:
        if place.project is not None:
            if place.file is not None:
                fail("--pims and --google name two registries: give one of them")
            seal = google_keys.load_registry() if makes else KeylessSeal()
            yield _entries_of_project(place.project, seal)
            return
        if place.file is not None:
            yield _entries_of_file(place.file)
            return
        if not makes and not has_registry(place.data):
            fail(
                f"there is no registry in {place.data.absolute()}:"
                " name the platform's data folder with --data"
            )
        seal = keys.load(place.data, settings().secrets_key)
        with control(place.data) as platform:
            if platform is not None:
                yield _entries_of_platform(platform, place.data, seal)
                return
        with opening.beside_the_server(place.data) as connection:
            connection.execute("BEGIN IMMEDIATE")
            keys.check(connection, seal)
            yield _entries_of_store(
                pims.stored_entries(connection),
                seal,
                put=lambda _, tenant: pims.put(connection, tenant, seal),
                remove=lambda _, name: pims.remove(connection, name),
            )
            connection.execute("COMMIT")
    except BadPims as error:
        fail(str(error))
    except ValidationError as error:
        fail(_in_one_line(error))


def _in_one_line(error: ValidationError) -> str:
    """Returns the first problem and its field, without the value, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (place_words(first["loc"]), words_of(first))))


def _entries_of_file(path: Path) -> Entries:
    text = path.read_text(encoding="utf-8") if path.exists() else "[]"

    def save(entries: Entries, _: object) -> None:
        content = json.dumps([_plain(tenant) for tenant in entries.all()], indent=2) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        written_beside(path, content.encode()).replace(path)

    return Entries(pims.parse(text, str(path), allow_http=True), put=save, remove=save)


def _entries_of_platform(platform: Control, data: Path, seal: Seal) -> Entries:
    """Returns the entries in the store of a platform that runs, which makes the changes."""
    with contextlib.closing(opening.connect_to_read(data / opening.FILE)) as connection:
        keys.check(connection, seal)
        stored = pims.stored_entries(connection)
    documents = {entry.name: entry.document for entry in stored}

    def change(name: str, after: str | None) -> None:
        platform.call("POST", ("pims",), {"name": name, "before": documents.get(name), "after": after})

    return _entries_of_store(
        stored,
        seal,
        put=lambda _, tenant: change(tenant.name, pims.to_document(tenant, seal)),
        remove=lambda _, name: change(name, None),
    )


def _entries_of_store(
    stored: Sequence[StoredEntry],
    seal: Seal,
    *,
    put: Callable[[Entries, Tenant], None],
    remove: Callable[[Entries, str], None],
) -> Entries:
    readable: list[Tenant] = []
    unreadable: list[str] = []
    for entry in stored:
        try:
            readable.append(stored_tenant(entry.document, seal))
        except UnreadableEntry:
            unreadable.append(entry.name)
    return Entries(readable, put=put, remove=remove, unreadable=unreadable)


def _entries_of_project(project: str, seal: Seal) -> Entries:
    read = {entry.name: entry for entry in asyncio.run(on_google.read(project, seal))}

    def put(_: Entries, tenant: Tenant) -> None:
        pims.check(tenant, allow_http=settings().dev)
        asyncio.run(on_google.put(project, tenant, seal, read.get(tenant.name)))

    return Entries(
        [entry.tenant for entry in read.values() if entry.tenant is not None],
        put=put,
        remove=lambda _, name: asyncio.run(on_google.remove(project, name)),
        unreadable=[entry.name for entry in read.values() if entry.tenant is None],
    )


def _plain(tenant: Tenant) -> dict[str, Any]:
    """Returns the entry as JSON data with its secrets in the clear, for the operator's own file."""
    document = tenant.model_dump(mode="json", exclude_defaults=True)
    for field in SECRET_FIELDS:
        values = [secret.get_secret_value() for secret in getattr(tenant, field)]
        if values:
            document[field] = values
    return document


def pim_url(text: str) -> str:
    """Returns the normalised URL of a PIM; ends the command when the text is none."""
    try:
        return normalise_pim_url(text, allow_http=True)
    except ValueError as error:
        fail(f"{text!r} {error}")


def has_registry(data: Path) -> bool:
    """True if the folder has a store, in which the registry is."""
    return (data / opening.FILE).exists()


def check_may_make(data: Path) -> None:
    """Ends the command if a platform runs on another folder.

    It is called for a folder that nobody named: no platform would read a registry that is made there.
    """
    running = sorted(folder for folder in folders_in_use() if folder != data.resolve())
    if running:
        shown = ", ".join(map(str, running[:FOLDERS_SHOWN])) + (", …" if running[FOLDERS_SHOWN:] else "")
        fail(
            f"there is no registry in {data.absolute()}, and a platform runs on {shown}:"
            f" name its folder with --data, or make a registry here with --data {data}"
        )


def pim_name(entries: Entries, text: str) -> str:
    """Returns the name of an entry: a host pattern as it is written, or the normalised URL."""
    return text if entries.get(text) or text in entries.unreadable else pim_url(text)
