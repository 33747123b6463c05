"""The socket file in the data folder: where it is, and who may listen and connect there."""

import contextlib
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import CannotListen

SOCKET = "control.sock"
LONGEST_ADDRESS = 100
"""The bytes of a path that every system takes as the address of a socket: Linux 107, macOS 103."""
BACKLOG = 16
_CREDENTIALS = struct.Struct("3i")
"""The answer of SO_PEERCRED: process, user and group."""


@contextlib.contextmanager
def address_of(folder: Path) -> Iterator[str]:
    """Yields the socket's address, which is good inside the block: a long path gets a short name meanwhile.

    Raises OSError.
    """
    path = str(folder / SOCKET)
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        yield path
        return
    if sys.platform != "linux":
        raise OSError(f"the path {path} is too long for a socket")
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def listening(folder: Path) -> Iterator[socket.socket]:
    """Listens on the folder's socket, mode 0600, inside the block. The caller holds the folder's lock.

    So a socket that is there was left by a process that was killed, and is replaced. Raises CannotListen.
    """
    path = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _remove(path)
            with address_of(folder) as address:
                listener.bind(address)
            path.chmod(0o600)
            own = path.stat()
            listener.listen(BACKLOG)  # before that, whoever connects is refused
        except OSError as error:
            raise CannotListen(f"cannot listen on {path}: {error.strerror or error}") from error
        try:
            yield listener
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), own):
                    path.unlink()


def connect(folder: Path, seconds: float) -> socket.socket | None:
    """Returns a connection to the platform that runs on the folder, or None if none listens there.

    `seconds` is the timeout of the connection. Raises OSError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        with address_of(folder) as address:
            connection.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def is_of_operator(connection: socket.socket) -> bool:
    """True if a process of our own user, or of root, connected. Elsewhere than on Linux the mode decides."""
    if sys.platform != "linux":
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return user in (0, os.geteuid())


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "there is a file that is no socket; move it away")
        path.unlink()
