"""The function `ingest`: takes a PIM's events in (contract/ingest.md 1 to 4)."""

from .routes import routes
from .services import AtOnce, Ingest

__all__ = ["AtOnce", "Ingest", "routes"]
