"""The process that listens on a port of this machine, as far as Linux shows it to this user."""

import os
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

PROC = Path("/proc")
LISTENS = "0A"
MOST_DESCRIPTORS = 100_000
"""The descriptors of other processes that are looked at."""


def listener_of(port: int, proc: Path = PROC) -> str | None:
    """Returns the name and the number of the process that listens on the TCP port; None if it is not shown.

    A process of another user is shown to root only.
    """
    links = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    for process, descriptor in islice(_descriptors(proc), MOST_DESCRIPTORS) if links else ():
        try:
            is_it = os.readlink(f"{proc}/{process}/fd/{descriptor}") in links  # noqa: PTH115
        except OSError:  # it was closed, or its process has ended
            continue
        if is_it:
            return f"{_name(proc / process)} (process {process})"
    return None


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *more = line.split()
            if state == LISTENS and int(local.rpartition(":")[2], 16) == port:
                yield more[5]


def _descriptors(proc: Path) -> Iterator[tuple[str, str]]:
    """Yields process and number of each descriptor, as texts: paths as objects cost five times as much."""
    for process in filter(str.isdigit, _names(f"{proc}")):
        for descriptor in _names(f"{proc}/{process}/fd"):
            yield process, descriptor


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:  # another user's, or its process has ended
        return []


def _name(process: Path) -> str:
    """Returns `aep serve` for one of ours, else the program's name: its arguments may hold secrets."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        program = (process / "comm").read_text().strip()
    except OSError:
        return "a process"
    for word, after in pairwise(words):
        if Path(word).name == "aep" and after.isalpha():
            return f"aep {after}"
    return program
