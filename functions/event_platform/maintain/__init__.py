"""The function `maintain`: puts back due retries and publishes due notifications. It judges nobody."""

from .publish_notifications import publish_notifications
from .put_back import put_back
from .routes import Maintain, routes

__all__ = ["Maintain", "publish_notifications", "put_back", "routes"]
