"""The errors of a feed.

FeedError           the root; never raised itself. `reason` is a word for the log and metrics
├── ResourceError   of one resource: the others go on
│   ├── NoRight     the connection may not read it (403)
│   └── Missing     the PIM has no such route or item (404)
└── PimTrouble      of the PIM as a whole: nothing is asked for a while
"""

from ..domain.errors import EventPlatformError

SERVER_ERROR = "server_error"
"""The reason of a PimTrouble that may be of one list alone: it answered 408 or 5xx."""


class FeedError(EventPlatformError):
    """The root of the tree above."""

    def __init__(self, message: str, reason: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class ResourceError(FeedError):
    """Raised when a resource cannot be read, whatever becomes of the others."""


class NoRight(ResourceError):
    """Raised when the connection lacks a right."""


class Missing(ResourceError):
    """Raised when the PIM does not have what was asked for."""


class PimTrouble(FeedError):
    """Raised when the PIM cannot be asked now."""
