"""The keys of the folder's secrets: from AEP_SECRETS_KEY, or from a file beside the store."""

import base64
import contextlib
import secrets
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from event_platform.adapters.seal import KEY_BYTES, AesGcmSeal, keys_from_base64
from event_platform.ports import Seal

from ..errors import MalformedKey, WrongKey
from . import opening
from .copies import sync_folder
from .files import written_beside
from .opening import KEY_FILE

_CHECK = "seal_check"


def load(folder: Path, given: SecretStr | None) -> AesGcmSeal:
    """Returns the seal with the keys of the settings, else with the folder's own, which is made for a new
    folder.

    Raises WrongKey when a used folder has lost its key, and MalformedKey.
    """
    return configured(given) if given is not None else AesGcmSeal(*_from_file(folder))


def configured(given: SecretStr, *, variable: str = "AEP_SECRETS_KEY") -> AesGcmSeal:
    """Returns the seal with the keys of a setting. Raises MalformedKey."""
    try:
        return AesGcmSeal(*keys_from_base64(given.get_secret_value(), variable))
    except ValueError as error:
        raise MalformedKey(str(error)) from error


def check(connection: sqlite3.Connection, seal: Seal) -> None:
    """Raises WrongKey when the store's secrets were sealed with another key than this seal's."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_CHECK,)).fetchone()
    if row is None:
        mark(connection, seal)
        return
    try:
        seal.open(row[0], context=_CHECK)
    except ValueError as error:
        raise WrongKey(
            "the store's secrets were sealed with another key: set AEP_SECRETS_KEY to that one,"
            f" or put its {KEY_FILE} back"
        ) from error


def check_folder(folder: Path, seal: Seal) -> None:
    """Does the same as `check` for the store of a folder, if there is one, and changes nothing.

    Other faults of the file are left to other checks.
    """
    file = folder / opening.FILE
    if file.exists():
        # The error is also that of a store without any secrets, which cannot be marked here.
        with (
            contextlib.suppress(sqlite3.DatabaseError),
            contextlib.closing(opening.connect_to_read(file)) as connection,
        ):
            check(connection, seal)


def mark(connection: sqlite3.Connection, seal: Seal) -> None:
    """Notes in the store which key its secrets are sealed with."""
    sealed = seal.seal(_CHECK, context=_CHECK)
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_CHECK, sealed))


def is_marked_by_first(connection: sqlite3.Connection, seal: AesGcmSeal) -> bool:
    """True if the store's secrets are sealed with the first key of this seal."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (_CHECK,)).fetchone()
    return row is not None and row[0].partition(".")[0] == seal.key_id


def put_before(folder: Path) -> None:
    """Puts a new key before those of the folder's file: it seals from now on, and the others still open."""
    keys = [_new_key(), *_from_file(folder)]
    _replace(folder / KEY_FILE, keys)


def forget_older(folder: Path) -> None:
    """Keeps only the first key in the folder's file: nothing may be sealed with the others any more."""
    _replace(folder / KEY_FILE, _from_file(folder)[:1])


def _from_file(folder: Path) -> Sequence[bytes]:
    path = folder / KEY_FILE
    if not path.exists():
        if (folder / opening.FILE).exists():
            raise WrongKey(
                f"{path} is missing, and the store cannot be read without it: put it back, or set"
                " AEP_SECRETS_KEY to the key that the platform runs with"
            )
        _make(path)
    try:
        return keys_from_base64(path.read_text())
    except ValueError as error:
        raise WrongKey(
            f"{path} does not hold a key: put the file back that the folder was made with"
        ) from error


def _new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def _make(path: Path) -> None:
    """Makes a new key in one step: after an end at any moment the file is whole or not there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _written(path, [_new_key()])
    try:
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the folder's
            path.hardlink_to(temporary)
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _replace(path: Path, keys: Sequence[bytes]) -> None:
    _written(path, keys).replace(path)
    sync_folder(path.parent)


def _written(path: Path, keys: Sequence[bytes]) -> Path:
    """Writes a file beside `path` with the keys, one a line; returns its path when it is on disk."""
    return written_beside(path, b"".join(base64.b64encode(key) + b"\n" for key in keys))
