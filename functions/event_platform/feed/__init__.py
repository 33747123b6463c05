"""The feed: what a PIM's REST API shows as changed becomes events, beside its webhook (docs/pim-feed.md)."""

from .agreement import WebhookMemory
from .feed import FeedReader
from .reading import FeedObserver
from .resources import event_types
from .session import PimSession

__all__ = ["FeedObserver", "FeedReader", "PimSession", "WebhookMemory", "event_types"]
