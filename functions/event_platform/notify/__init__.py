"""The function `notify`: tells subscribers what became of their subscriptions, by e-mail and by webhook."""

from .notify import Telling, notify, settle
from .routes import Notify, routes

__all__ = ["Notify", "Telling", "notify", "routes", "settle"]
