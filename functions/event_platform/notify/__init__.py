"""The function `notify`: notifies subscribers of changes of their subscriptions, by e-mail and webhook."""

from .notify import NotifyServices, notify, settle
from .routes import Notify, routes

__all__ = ["Notify", "NotifyServices", "notify", "routes", "settle"]
