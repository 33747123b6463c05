"""Checks of Python, its libraries and the limits of the process."""

import platform
import resource
import sqlite3
import sys
from collections.abc import Iterator, Mapping

from event_platform import __version__
from event_platform.adapters import descriptors
from event_platform.settings import Settings

from ..commit import commit
from ..serving.accepting import RAISE_THE_LIMIT
from ..workers.usual import Choice, usual
from .findings import Check, broken, ok, problem

WAL_RESET_MENDED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))
"""The first versions without SQLite's WAL-reset bug, of the latest line and of older ones."""
OLDEST_SQLITE = (3, 35)  # DELETE … RETURNING


def checks(settings: Settings) -> Iterator[Check]:
    """Runs the checks of Python and the libraries."""
    version = platform.python_version()
    yield ok("aep", f"{__version__}, commit {commit()}" if commit() else __version__)
    yield ok("python", f"{version}, {sys.executable}")  # an older one does not get as far as here
    yield sqlite(sqlite3.sqlite_version_info)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], settings.connections)
    yield workers(usual())


def workers(chosen: Choice) -> Check:
    """Says how many processes deliver beside the one that takes events in, unless a setting says it."""
    return ok("workers", f"{chosen.workers} unless --workers or AEP_WORKERS says it: {chosen.reason}")


def unknown_settings(unknown: Mapping[str, str | None]) -> Iterator[Check]:
    """Returns a finding for each variable that is misspelt."""
    for name, nearest in unknown.items():
        meant = f"did you mean {nearest}?" if nearest else "docs/settings.md lists them"
        yield problem("settings", f"nothing reads {name}: {meant}")


def sqlite(version: tuple[int, ...]) -> Check:
    shown = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        return broken("sqlite", f"{shown} is too old: use a Python with SQLite 3.35 or later")
    if not _is_mended(version):
        return ok(
            "sqlite",
            f"{shown}, which has the WAL-reset bug (mended in 3.51.3, 3.50.7, 3.44.6): the platform and its"
            " commands keep clear of it; let no other program write or checkpoint aep.db while it runs",
        )
    return ok("sqlite", shown)


def _is_mended(version: tuple[int, ...]) -> bool:
    newest, *older = WAL_RESET_MENDED
    return version >= newest or any(each <= version and version[:2] == each[:2] for each in older)


def open_files(limit: int, connections: int) -> Check:
    """Checks how many files, connections included, the process may open."""
    if limit == resource.RLIM_INFINITY:
        return ok("open files", "no limit")
    if limit < descriptors.LEAST:
        return broken("open files", f"at most {limit}, and {descriptors.LEAST} are needed: {RAISE_THE_LIMIT}")
    if (most := descriptors.most_clients(connections, limit)) < connections:
        return problem(
            "open files",
            f"at most {limit}, so that AEP_CONNECTIONS={connections} is lowered to {most}: {RAISE_THE_LIMIT}",
        )
    return ok("open files", f"up to {limit}, of which {connections} may be connections of clients")
