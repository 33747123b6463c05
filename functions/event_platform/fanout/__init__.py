"""The function `fanout`: chooses the subscriptions that get an event, and renders what they get."""

from .fanout import Matched, fan_out, matches

__all__ = ["Matched", "fan_out", "matches"]
