"""The locks that keep a data folder for one platform: on the database file itself, and on a file beside it.

Closing any descriptor of a file ends the POSIX locks that the process holds on it, and SQLite's are such.
So a descriptor of the database is opened here before SQLite opens the file, and closed after SQLite has
closed it.
"""

import contextlib
import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import structlog

from ..errors import DataFolderInUse

log = structlog.get_logger()

LOCK = "lock"
PRIVATE = 0o600

Range = tuple[int, int]
"""The first byte and the number of bytes."""
OWN_BYTE: Range = (1 << 62, 1)
"""A byte that no file has, and that SQLite does not lock."""
ALL_OF_SQLITE: Range = (0x4000_0000, 512)
"""The bytes that SQLite locks: whoever has the file open holds some of them (sqlite.org/src, os.h)."""
READERS_OF_SQLITE: Range = (0x4000_0002, 510)


@contextlib.contextmanager
def lock_of(folder: Path) -> Iterator[int]:
    """Holds the file `lock` of the folder, which is made if there is none, and yields its descriptor.

    Older programs lock nothing else. Raises DataFolderInUse.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, PRIVATE), "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(folder) from None
        yield file.fileno()


@contextlib.contextmanager
def lock_of_database(path: Path) -> Iterator[int]:
    """Holds the database, which is made if there is none, and yields its descriptor. Raises DataFolderInUse.

    The caller opens and closes its connections inside.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        lock_database(descriptor, path)
        yield descriptor
    finally:
        os.close(descriptor)


def lock_database(descriptor: int, path: Path) -> None:
    """Locks the database until its descriptor is closed. Raises DataFolderInUse."""
    if not try_lock(descriptor, OWN_BYTE) or not is_at(path, os.fstat(descriptor)):
        raise _in_use(path.parent)


def try_lock(descriptor: int, bytes_: Range, *, shared: bool = False) -> bool:
    """Locks bytes of an open file until the descriptor is closed; False if somebody else holds them.

    Only Linux has such locks; elsewhere the file `lock` has to do.
    """
    if sys.platform != "linux":
        return True
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    flock = struct.pack("hhqqi4x", kind, os.SEEK_SET, *bytes_, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, flock)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno != errno.EINVAL:
            raise
        log.warning("store.locks_missing", fix=f"this system knows no OFD locks: never remove {LOCK}")
    return True


def is_at(path: Path, found: os.stat_result) -> bool:
    """True if the path names that file."""
    try:
        return os.path.samestat(path.stat(), found)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _in_use(folder: Path) -> DataFolderInUse:
    return DataFolderInUse(
        f"another process already runs the platform on {folder}; stop it, or choose another --data"
    )
