"""The entries of the registry of PIMs while a command works on them, in the data folder or in a file."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from event_platform.adapters.records import tenant_of
from event_platform.domain.tenants import SECRET_FIELDS, Tenant
from event_platform.domain.urls import normalise_pim_url
from event_platform.domain.validation_words import words_of
from event_platform.ports import Seal
from event_platform.settings import Settings

from . import pims
from .errors import BadPims
from .files import new_beside
from .output import fail
from .store import database, keys
from .store.running import folders_in_use

FOLDERS_SHOWN = 5

PimsFile = Annotated[
    Path | None,
    typer.Option("--pims", metavar="FILE", help="Work on this JSON list instead of the data folder."),
]


class Entries:
    """The entries by name; `save` writes what was changed."""

    def __init__(self, tenants: list[Tenant], save: Callable[["Entries"], None]) -> None:
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._save = save

    def get(self, name: str) -> Tenant | None:
        return self._tenants.get(name)

    def all(self) -> list[Tenant]:
        return list(self._tenants.values())

    def put(self, tenant: Tenant) -> None:
        checked = Tenant.model_validate(_plain(tenant))
        self._tenants[checked.name] = checked
        self._save(self)

    def remove(self, name: str) -> bool:
        found = self._tenants.pop(name, None) is not None
        if found:
            self._save(self)
        return found


@contextlib.contextmanager
def open_registry(pims_file: Path | None, data: Path, *, makes: bool = False) -> Iterator[Entries]:
    """The entries of the file or of the data folder, which no other command changes meanwhile.

    A folder without a registry gets one only if the command `makes` it; else the command ends.
    """
    try:
        if pims_file is not None:
            yield _entries_of_file(pims_file)
            return
        if not makes and not has_registry(data):
            fail(f"there is no registry in {data.absolute()}: name the platform's data folder with --data")
        seal = keys.load(data, Settings().secrets_key)
        with database.beside_the_server(data) as connection:
            connection.execute("BEGIN IMMEDIATE")
            keys.check(connection, seal)
            yield _entries_of_store(connection, seal)
            connection.execute("COMMIT")
    except BadPims as error:
        fail(str(error))
    except ValidationError as error:
        fail(_in_one_line(error))


def _in_one_line(error: ValidationError) -> str:
    """The first problem and its field, or its AEP_ variable, without the value that it was found in."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    if error.title == Settings.__name__:
        field = f"AEP_{str(first['loc'][0]).upper()}"
    return f"{field}: {words_of(first)}" if field else words_of(first)


def _entries_of_file(path: Path) -> Entries:
    text = path.read_text(encoding="utf-8") if path.exists() else "[]"

    def save(entries: Entries) -> None:
        content = json.dumps([_plain(tenant) for tenant in entries.all()], indent=2) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = new_beside(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        temporary.replace(path)

    return Entries(pims.parse(text, allow_http=True), save)


def _entries_of_store(connection: sqlite3.Connection, seal: Seal) -> Entries:
    stored = [tenant_of(orjson.loads(text), seal) for text in pims.stored_documents(connection)]

    def save(entries: Entries) -> None:
        connection.execute("DELETE FROM tenants")
        for tenant in entries.all():
            pims.put(connection, tenant, seal)

    return Entries(stored, save)


def _plain(tenant: Tenant) -> dict[str, Any]:
    """The entry as JSON data with its secrets in the clear: for the operator's own file."""
    document = tenant.model_dump(mode="json", exclude_defaults=True)
    for field in SECRET_FIELDS:
        values = [secret.get_secret_value() for secret in getattr(tenant, field)]
        if values:
            document[field] = values
    return document


def pim_url(text: str) -> str:
    """The normalised URL of a PIM; ends the command when it is none."""
    try:
        return normalise_pim_url(text, allow_http=True)
    except ValueError as error:
        fail(f"{text!r} {error}")


def has_registry(data: Path) -> bool:
    """True if the folder has a store, in which the registry is."""
    return (data / database.FILE).exists()


def check_may_make(data: Path) -> None:
    """Ends the command if a platform runs on another folder.

    For a folder that nobody named: a registry that is made there is read by nobody.
    """
    running = sorted(folder for folder in folders_in_use() if folder != data.resolve())
    if running:
        shown = ", ".join(map(str, running[:FOLDERS_SHOWN])) + (", …" if running[FOLDERS_SHOWN:] else "")
        fail(
            f"there is no registry in {data.absolute()}, and a platform runs on {shown}:"
            f" name its folder with --data, or make a registry here with --data {data}"
        )


def pim_name(entries: Entries, text: str) -> str:
    """The name of an entry: a host pattern as it is written, or the normalised URL."""
    return text if entries.get(text) else pim_url(text)
