"""The function `maintain`: requeues due retries, publishes due notifications and has replays pushed."""

from .publish_notifications import publish_notifications
from .requeue import requeue_due
from .routes import Maintain, routes

__all__ = ["Maintain", "publish_notifications", "requeue_due", "routes"]
