"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver, request_headers
from .routes import Deliver, routes

__all__ = ["Deliver", "deliver", "request_headers", "routes"]
