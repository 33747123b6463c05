"""The key that seals the folder's secrets: from AEP_SECRETS_KEY, or from a file beside the store."""

import base64
import contextlib
import os
import secrets
import sqlite3
import tempfile
from pathlib import Path

from pydantic import SecretStr

from event_platform.adapters.seal import KEY_BYTES, AesGcmSeal, key_from_base64
from event_platform.ports import Seal

from ..errors import WrongKey
from . import database

KEY_FILE = "secrets.key"
_CHECK = "seal_check"


def load(folder: Path, configured: SecretStr | None) -> AesGcmSeal:
    """The seal with the configured key, else with the folder's own, which is made for a new folder.

    Raises WrongKey when a used folder has lost its key, or a key is malformed.
    """
    try:
        if configured is not None:
            return AesGcmSeal(key_from_base64(configured.get_secret_value()))
        return AesGcmSeal(_from_file(folder))
    except ValueError as error:
        raise WrongKey(str(error)) from error


def check(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raises WrongKey when the store's secrets were sealed with another key than this seal's."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_CHECK,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (_CHECK, seal.seal(_CHECK, context=_CHECK)))
        return
    try:
        seal.open(row[0], context=_CHECK)
    except ValueError as error:
        raise WrongKey(
            "the store's secrets were sealed with another key: set AEP_SECRETS_KEY to that one,"
            f" or put its {KEY_FILE} back"
        ) from error


def _from_file(folder: Path) -> bytes:
    path = folder / KEY_FILE
    if not path.exists():
        if (folder / database.FILE).exists():
            raise WrongKey(f"{path} is missing, and the store cannot be read without it: put it back")
        _make(path)
    try:
        return key_from_base64(path.read_text())
    except ValueError as error:
        raise WrongKey(
            f"{path} does not hold a key: put the file back that the folder was made with"
        ) from error


def _make(path: Path) -> None:
    """A new key in one step: after an end at any moment the file is whole or not there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    with os.fdopen(handle, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the folder's
            path.hardlink_to(temporary)
    finally:
        Path(temporary).unlink()
    database.sync_folder(path.parent)
