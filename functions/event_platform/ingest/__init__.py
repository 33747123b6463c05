"""The function `ingest`: takes a PIM's events in (contract/ingest.md 1 to 4)."""

from .routes import routes
from .services import Ingest

__all__ = ["Ingest", "routes"]
