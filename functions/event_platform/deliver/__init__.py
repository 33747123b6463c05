"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver, request_headers
from .judge import Judge
from .routes import Deliver, routes

__all__ = ["Deliver", "Judge", "deliver", "request_headers", "routes"]
