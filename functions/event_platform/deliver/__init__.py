"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver
from .judge import Judge
from .routes import Deliver, routes
from .sending import Senders

__all__ = ["Deliver", "Judge", "Senders", "deliver", "routes"]
