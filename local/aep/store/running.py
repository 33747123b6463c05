"""Finds the data folders on which a platform runs on this machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .locking import LOCK
from .opening import FILE

PROCESSES = Path("/proc")


def folders_in_use() -> set[Path]:
    """Returns the folders whose database and lock a process has open, among those that this user may see.

    Only Linux shows it; elsewhere none is found.
    """
    found: set[Path] = set()
    for process in PROCESSES.glob("[0-9]*"):
        opened = set(_open_files(process / "fd"))
        found |= {path.parent for path in opened if path.name == FILE and path.with_name(LOCK) in opened}
    return found


def _open_files(descriptors: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):  # it has ended, or it is another user's
        for descriptor in descriptors.iterdir():
            with contextlib.suppress(OSError):
                yield descriptor.readlink()
