"""The function `maintain`: puts retries that are due back into their lanes. It judges nobody."""

from .put_back import put_back
from .routes import Maintain, routes

__all__ = ["Maintain", "put_back", "routes"]
