"""The function `maintain`: puts retries back, publishes notifications, has replays pushed, reads feeds."""

from .feeds import FeedLog, FeedTicks
from .publish_notifications import publish_notifications
from .requeue import requeue_due
from .routes import Maintain, routes

__all__ = ["FeedLog", "FeedTicks", "Maintain", "publish_notifications", "requeue_due", "routes"]
