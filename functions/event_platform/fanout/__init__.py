"""The function `fanout`: chooses the subscriptions that get an event, and renders what they get."""

from .fanout import Matched, fan_out, matches
from .identifiers import IdentifierCheck
from .routes import Fanout, routes

__all__ = ["Fanout", "IdentifierCheck", "Matched", "fan_out", "matches", "routes"]
