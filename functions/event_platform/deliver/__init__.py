"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver
from .judge import Judge
from .routes import Deliver, routes

__all__ = ["Deliver", "Judge", "deliver", "routes"]
