"""The function `notify`: takes what subscribers are to be told."""

from .notify import Notification, notification_of, notify
from .routes import Notify, routes

__all__ = ["Notification", "Notify", "notification_of", "notify", "routes"]
