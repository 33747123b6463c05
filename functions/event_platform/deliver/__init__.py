"""The function `deliver`: sends one delivery and says what follows."""

from .deliver import deliver
from .judge import Judge
from .observer import Observer
from .pipeline import Attempt, Pipeline
from .routes import Deliver, routes
from .sending import Senders

__all__ = ["Attempt", "Deliver", "Judge", "Observer", "Pipeline", "Senders", "deliver", "routes"]
