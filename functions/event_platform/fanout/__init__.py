"""The function `fanout`: chooses the subscriptions that get an event, and renders what they get."""

from .identifier_check import IdentifierCheck
from .matched import Matched, fan_out, matches
from .revoking import log_revoked
from .routes import Fanout, routes

__all__ = ["Fanout", "IdentifierCheck", "Matched", "fan_out", "log_revoked", "matches", "routes"]
