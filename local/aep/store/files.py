"""Files that take the place of others at once, and words for what the system refuses."""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CURES: Mapping[int, str] = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room, or raise the quota of this user",
    errno.EROFS: "choose a disk that may be written to",
    errno.EACCES: "run this as a user who may, or change its rights",
    errno.EPERM: "run this as a user who may, or change its rights",
    errno.ENOTDIR: "a part of that path is a file: name another path",
    errno.ENOENT: "look at the path",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EMFILE: "raise the limit of open files",
    errno.ENFILE: "the system has no more open files to give",
}


def written_beside(path: Path, content: bytes) -> Path:
    """Writes a new file of mode 0600 in the folder of `path`, and returns its path when it is on disk.

    Leaves no file if that fails. Raises OSError, which names `path`: the name of the new file is one by
    chance.
    """
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from None
        raise
    return temporary


def with_cure(error: OSError, *, is_named: bool = False) -> str:
    """Says what the system refuses, for which file unless that is named already, and what to do about it."""
    said = error.strerror or "the system refuses it"
    named = f"{said}: {error.filename}" if error.filename and not is_named else said
    cure = _CURES.get(error.errno or 0)
    return f"{named}; {cure}" if cure else named
