"""The file by which `aep trigger` finds the `aep dev` that runs: one for a user, of mode 0600.

`aep dev` holds a lock on it, so that a file of a process that was killed counts for nothing.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from ..errors import SetupError
from ..store.locking import is_at

NAME = "aep-dev.json"
COUNT = "aep-dev.count"
"""The file that has a byte for each event that was triggered."""
FOLDER_PREFIX = "aep-dev-"
MOST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DevSession:
    """The parts of an `aep dev` that runs. `subscription` is a path of its management API.

    Every event whose number `lose` divides is not sent. `folder` holds the platform's data.
    """

    platform: str
    pim: str
    ingest_key: str = field(repr=False)
    subscription: str
    receiver: str
    folder: str
    lose: int | None = None


@contextmanager
def held(environ: Mapping[str, str] = os.environ) -> Iterator[Callable[[DevSession], None]]:
    """Holds the file, which is gone after the block, and yields the function that writes the session.

    Raises SetupError when another `aep dev` runs.
    """
    path = _folder(environ) / NAME
    while True:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SetupError("an `aep dev` of yours runs already: end it with Ctrl-C first") from None
            if not is_at(path, os.fstat(file.fileno())):  # the one before has just ended, and removed it
                continue
            try:
                _remove_folder(file.read(MOST_BYTES))
                file.seek(0)
                file.truncate()
                (path.parent / COUNT).unlink(missing_ok=True)

                def write(session: DevSession) -> None:
                    file.write(orjson.dumps(asdict(session)))
                    file.flush()

                yield write
            finally:
                path.unlink(missing_ok=True)
                (path.parent / COUNT).unlink(missing_ok=True)
            return


def _remove_folder(left: bytes) -> None:
    """Removes the data of an `aep dev` that was killed, as the file that it left names them."""
    session = _read(left)
    if session is not None and Path(session.folder).name.startswith(FOLDER_PREFIX):
        shutil.rmtree(session.folder, ignore_errors=True)


def _read(written: bytes) -> DevSession | None:
    """Returns the session; None if another version of this program wrote it, or nobody has yet."""
    try:
        return TypeAdapter(DevSession).validate_json(written)
    except ValidationError:
        return None


def count(events: int, environ: Mapping[str, str] = os.environ) -> int:
    """Counts events that are triggered; returns how many were before them."""
    descriptor = os.open(
        _folder(environ) / COUNT, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600
    )
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        file.write(bytes(events))
        return file.tell() - events


def running(environ: Mapping[str, str] = os.environ) -> DevSession:
    """Returns the session that runs. Raises SetupError when there is none, or when it is not ready yet."""
    none = SetupError("no `aep dev` of yours runs here: start it in another terminal")
    try:
        descriptor = os.open(_folder(environ) / NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise none from None
    with os.fdopen(descriptor, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = file.read(MOST_BYTES)
        else:
            raise none
    if not written:
        raise SetupError("the `aep dev` that runs here is not ready: it starts, or waits for your app")
    if (session := _read(written)) is None:
        raise SetupError("the `aep dev` that runs here is of another version: end it, and start it again")
    return session


def _folder(environ: Mapping[str, str]) -> Path:
    """Returns the user's runtime folder, or one of mode 0700 among the temporary files."""
    if (given := environ.get("XDG_RUNTIME_DIR")) and Path(given).is_dir():
        return Path(given)
    folder = Path(tempfile.gettempdir()) / f"aep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
        raise SetupError(
            f"{folder} must be a folder of yours with mode 0700: remove it, or set XDG_RUNTIME_DIR"
        )
    return folder
