"""The platform on one machine: embedded broker and store, server, command line and sandbox."""

import sys
from importlib.util import find_spec


def _import_structlog_alone() -> None:
    """Imports structlog as if rich were not installed, and so without it.

    structlog imports rich for tracebacks that we never print, which takes 5 MB and 40 ms of each process. The
    functions on Google Cloud have no rich at all.
    """
    if {"structlog", "rich"} & sys.modules.keys() or find_spec("structlog") is None:  # in a build
        return
    sys.modules["rich"] = None  # pyright: ignore[reportArgumentType] - an import of it fails meanwhile
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


_import_structlog_alone()
