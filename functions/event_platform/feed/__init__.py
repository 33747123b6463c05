"""The feed: what a PIM's REST API shows as changed becomes events (docs/connect-a-pim.md)."""

from .agreement import WebhookMemory
from .feed import FeedReader
from .noted import NotedWebhooks
from .reading import FeedObserver
from .resources import event_types
from .session import PimSession

__all__ = ["FeedObserver", "FeedReader", "NotedWebhooks", "PimSession", "WebhookMemory", "event_types"]
