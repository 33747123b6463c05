"""The function `fanout`: chooses the subscriptions that get an event, and renders what they get."""

from .fanout import Matched, fan_out, matches
from .routes import Fanout, routes

__all__ = ["Fanout", "Matched", "fan_out", "matches", "routes"]
