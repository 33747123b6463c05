"""Opening the files of a data folder: by the server, beside it, and only to read."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import structlog

from ..errors import NoStore
from . import identity, migrations, schema
from .identity import OwnFiles
from .locking import LOCK, PRIVATE, lock_of, lock_of_database
from .room import RESERVE

log = structlog.get_logger()

FILE = "aep.db"
KEY_FILE = "secrets.key"
LAST_BACKUP = "last-backup"
OWN_FILES = (FILE, f"{FILE}-wal", f"{FILE}-shm", f"{FILE}-journal", LOCK, KEY_FILE, RESERVE, LAST_BACKUP)
"""The files that the platform keeps in its data folder, for its own user alone."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[OwnFiles]:
    """Holds the folder for this process; the locks end with the process, however that ends.

    Connections are opened and closed inside. Raises DataFolderInUse, StoreDamaged.
    """
    path = folder / FILE
    with lock_of(folder) as lock:
        identity.check_present(path)
        with lock_of_database(path) as database:
            identity.check_wal(path, database, identity.read_mark(lock))
            yield OwnFiles(path, database, lock)


@contextlib.contextmanager
def beside_the_server(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens a connection for commands that work on the folder while a server may run on it.

    A new folder is made ready and an older one migrated, but never under a running server: that raises
    DataFolderInUse. Raises StoreUnavailable for a file of a newer program.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    identity.check(path)
    while True:
        with contextlib.closing(connect(path)) as connection:
            if migrations.is_current(connection):
                yield connection
                return
        # Only now, as closing what this opens would end SQLite's locks on an open connection.
        with exclusive(folder), contextlib.closing(connect(path)) as connection:
            migrations.prepare(connection)


def connect(path: Path) -> sqlite3.Connection:
    """Opens a connection with the settings that durability rests on, in autocommit mode."""
    _make_private(path)  # SQLite gives the files beside it the same mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.executescript(schema.PRAGMAS)
    return connection


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Opens a connection that changes nothing, whoever writes meanwhile and whatever schema the file has."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _make_private(path: Path) -> None:
    """Makes a file that is not there yet, mode 0600 whatever the umask is.

    An existing one is not opened: closing it would drop the locks that SQLite holds in this process.
    """
    identity.check_present(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))


def narrow(folder: Path) -> None:
    """Takes the rights of other users away from the platform's own files, and logs which files had them."""
    narrowed: list[str] = []
    for path in (folder / name for name in OWN_FILES):
        try:
            if path.stat().st_mode & 0o077:
                path.chmod(PRIVATE)
                narrowed.append(path.name)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("store.file_open_to_others", file=str(path), error=error.strerror, fix="chmod 0600")
    if narrowed:
        log.warning("store.files_narrowed", folder=str(folder), files=narrowed, mode=f"{PRIVATE:04o}")


def file_of(folder: Path) -> Path:
    """Returns the file of a folder that a platform has run on. Raises NoStore."""
    path = folder / FILE
    if not path.is_file():
        raise NoStore(
            f"there is no store in {folder}: name the platform's data folder with --data;"
            " `aep serve` makes one"
        )
    return path
