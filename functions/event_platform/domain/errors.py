"""The errors that a caller of the platform can meet.

EventPlatformError          the root; never raised itself
├── InvalidRequest          the request's content is malformed or invalid; lists every problem (400)
├── Unauthenticated         no or wrong credentials (401)
├── Forbidden               the credentials are good and the right is missing (403)
├── NotFound                unknown, deleted long ago, or somebody else's (404)
├── Conflict                the resource's state or a limit forbids the change (409)
│   └── TopicHeld           another client names the Pub/Sub topic (400 where a body names it)
├── TooLarge                the body is over its limit (413)
├── UnsupportedMediaType    the body is of another media type (415)
├── TooManyRequests         the caller has to wait before it does that again (429)
├── Overloaded              we do more than we can at this moment; nothing was changed, try again (503)
└── Unavailable             a part that we need is away; nothing was changed, try again (503)
    ├── PimUnavailable      the PIM could not be asked
    ├── StoreUnavailable    the store cannot take or give anything now
    ├── CannotConnect       no connection can be opened from here now; never raised itself
    │   ├── OutOfSockets    this process has no socket left
    │   └── NoResolver      names cannot be looked up
    ├── PublishFailed       a topic did not take some of the messages
    │   └── TopicMissing    there is no such topic
    └── DestinationsNotSetUp  the operator has to set up what publishes to subscribers' topics
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request: the dotted path of the field, and what to do about it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class EventPlatformError(Exception):
    """The root of the tree above."""

    def __reduce__(self) -> "tuple[Callable[..., EventPlatformError], tuple[Any, ...], dict[str, Any]]":
        """Returns how another process makes the error: without `__init__`, whose arguments differ."""
        return _without_init, (type(self), self.args), vars(self)


def _without_init(error_type: type[EventPlatformError], arguments: tuple[Any, ...]) -> EventPlatformError:
    return error_type.__new__(error_type, *arguments)


class InvalidRequest(EventPlatformError):
    """Raised when a request's content is malformed or invalid. Carries every problem, not only the first."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Unauthenticated(EventPlatformError):
    """Raised when a caller is not who it says it is, or says nothing. `reason` is a word for the operator."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Forbidden(EventPlatformError):
    """Raised when a known caller lacks the right to do this."""


class NotFound(EventPlatformError):
    """Raised when a resource is unknown, was deleted long ago, or belongs to another client."""


class Conflict(EventPlatformError):
    """Raised when the state of a resource, or a limit on their number, forbids a change."""


class TopicHeld(Conflict):
    """Raised when a Pub/Sub topic is held by another client, and no proof came with the change."""

    def __init__(self, project_id: str, topic_id: str) -> None:
        super().__init__("another client names the Pub/Sub topic")
        self.project_id = project_id
        self.topic_id = topic_id


class TooLarge(EventPlatformError):
    """Raised when a body, or an event in it, is over its limit."""


class UnsupportedMediaType(EventPlatformError):
    """Raised when a body has a media type that the route does not take."""


class TooManyRequests(EventPlatformError):
    """Raised when a caller has to wait, for `retry_after` seconds, before it may do something again."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(EventPlatformError):
    """Raised when we have no room for a request now; it may be sent again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(EventPlatformError):
    """Raised when something that we depend on is away. Nothing was changed; the caller may try again."""


class PimUnavailable(Unavailable):
    """Raised when the PIM cannot be reached, is too slow or answers 5xx, so that a token proves nothing."""


class StoreUnavailable(Unavailable):
    """Raised when the store cannot be written or read now (full disk, lost connection)."""


class CannotConnect(Unavailable):
    """The errors that say nothing about the peer. Nothing was sent. `log_event` names the log's line."""

    log_event: ClassVar[str]


class OutOfSockets(CannotConnect):
    """Raised when this process has no file descriptor or memory left for a connection."""

    log_event = "egress.out_of_sockets"


class NoResolver(CannotConnect):
    """Raised when no nameserver answers us."""

    log_event = "egress.no_resolver"


class PublishFailed(Unavailable):
    """Raised when a topic did not take messages. `failed` has their positions among those handed over."""

    def __init__(self, message: str, failed: tuple[int, ...]) -> None:
        super().__init__(message)
        self.failed = failed


class TopicMissing(PublishFailed):
    """Raised when there is no such topic, so that trying again would fail as well."""


class DestinationsNotSetUp(Unavailable):
    """Raised when we cannot publish to subscribers' topics for want of packages, credentials or settings."""
