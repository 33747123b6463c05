"""The platform on one machine: embedded broker and store, server, command line and sandbox."""

import sys


def _import_structlog_alone() -> None:
    """Imports structlog as if rich were not installed, and so without it.

    structlog imports rich for tracebacks that we never print, which takes 5 MB and 40 ms of each process. Its
    functions on Google Cloud have no rich at all.
    """
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # pyright: ignore[reportArgumentType] - an import of it fails meanwhile
        try:
            import structlog  # noqa: F401
        finally:
            del sys.modules["rich"]


_import_structlog_alone()
