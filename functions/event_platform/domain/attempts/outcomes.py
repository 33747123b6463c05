"""Results of attempts, and the outcome that each leads to: one table (contract/wire.md 11 and 13)."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import TypeAlias

from ..values import value_object


class Reason(StrEnum):
    """The reason of a failure: the `error_reason` of a log entry."""

    DESTINATION_TIMEOUT = "destination_timeout"
    DNS_LOOKUP_FAILURE = "dns_lookup_failure"
    INVALID_CERTIFICATE = "invalid_certificate"
    INVALID_TLS_HANDSHAKE = "invalid_tls_handshake"
    CONNECTION_RESET = "connection_reset"
    CONNECTION_REFUSED = "connection_refused"
    NETWORK_UNREACHABLE = "network_unreachable"
    UNEXPECTED_EOF = "unexpected_eof"
    SERVER_GOAWAY = "server_goaway"
    CLIENT_CLOSED_CONNECTION = "client_closed_connection"
    DESTINATION_NOT_FOUND = "destination_not_found"
    DESTINATION_REDIRECTED = "destination_redirected"
    AUTHENTICATION_FAILED = "authentication_failed"
    TOPIC_NOT_FOUND = "topic_not_found"
    INVALID_DESTINATION_CONFIGURATION = "invalid_destination_configuration"
    PUBLISH_REJECTED = "publish_rejected"
    DESTINATION_FAILURE = "destination_failure"


class Kind(StrEnum):
    """The kinds of outcomes."""

    DELIVERED = "delivered"
    THROTTLED = "throttled"  # 429: again at the lane's pace, no retry used up
    RETRYABLE = "retryable"  # on the retry schedule until that is used up
    PERMANENT = "permanent"  # never again; the subscription goes on
    SUSPENDING = "suspending"  # never again, and the subscription is suspended


@value_object
class Answer:
    """An endpoint's answer: status, the headers that we use (names in lower case), the body as read."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


@value_object
class Published:
    """A broker took the event."""


@value_object
class Refusal:
    """A broker answered, and did not take the event. `detail` is for logs: no secret, one line.

    `forbidden`: it does not let us publish there at all, as Pub/Sub says when permission is denied.
    """

    reason: Reason
    detail: str = ""
    forbidden: bool = False


@value_object
class TransportFailure:
    """No answer came. `detail` is for logs: no address book, no secret, one line."""

    reason: Reason
    detail: str = ""


@value_object
class Outcome:
    """An attempt's result: what follows, why, and the HTTP status when there was one."""

    kind: Kind
    reason: Reason | None = None
    status: int | None = None


@value_object
class LastFailure:
    """The last attempt of a subscription that was no success, and when it was."""

    at: datetime
    outcome: Outcome


Result: TypeAlias = Answer | Published | Refusal | TransportFailure

_KINDS: Mapping[Reason, Kind] = {
    Reason.DESTINATION_TIMEOUT: Kind.RETRYABLE,
    Reason.DNS_LOOKUP_FAILURE: Kind.RETRYABLE,
    Reason.INVALID_CERTIFICATE: Kind.RETRYABLE,
    Reason.INVALID_TLS_HANDSHAKE: Kind.RETRYABLE,
    Reason.CONNECTION_RESET: Kind.RETRYABLE,
    Reason.CONNECTION_REFUSED: Kind.RETRYABLE,
    Reason.NETWORK_UNREACHABLE: Kind.RETRYABLE,
    Reason.UNEXPECTED_EOF: Kind.RETRYABLE,
    Reason.SERVER_GOAWAY: Kind.RETRYABLE,
    Reason.CLIENT_CLOSED_CONNECTION: Kind.RETRYABLE,
    Reason.AUTHENTICATION_FAILED: Kind.RETRYABLE,
    Reason.PUBLISH_REJECTED: Kind.RETRYABLE,
    Reason.DESTINATION_FAILURE: Kind.RETRYABLE,
    Reason.INVALID_DESTINATION_CONFIGURATION: Kind.PERMANENT,
    Reason.DESTINATION_NOT_FOUND: Kind.SUSPENDING,
    Reason.DESTINATION_REDIRECTED: Kind.SUSPENDING,
    Reason.TOPIC_NOT_FOUND: Kind.SUSPENDING,
}
"""Every reason has its consequence (contract/wire.md 13, "What follows from a reason")."""


_AFTER_CONNECTING = frozenset(
    {
        Reason.INVALID_CERTIFICATE,
        Reason.INVALID_TLS_HANDSHAKE,
        Reason.CONNECTION_RESET,
        Reason.UNEXPECTED_EOF,
        Reason.SERVER_GOAWAY,
    }
)


def has_connected(result: Result) -> bool:
    """True if the result shows that a connection was made. A timeout leaves that open."""
    return not isinstance(result, TransportFailure) or result.reason in _AFTER_CONNECTING


def classify(result: Result) -> Outcome:
    """The outcome of an attempt. Total: every status from 0 to 999 and every reason has one."""
    if isinstance(result, Answer):
        return _of_answer(result.status)
    if isinstance(result, Published):
        return Outcome(Kind.DELIVERED)
    forbidden = isinstance(result, Refusal) and result.forbidden
    return Outcome(Kind.SUSPENDING if forbidden else _KINDS[result.reason], result.reason)


@lru_cache(maxsize=1000)
def _of_answer(status: int) -> Outcome:
    if 200 <= status <= 299:
        return Outcome(Kind.DELIVERED, None, status)
    if status == 429:
        return Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, status)
    if status == 404:
        return Outcome(Kind.SUSPENDING, Reason.DESTINATION_NOT_FOUND, status)
    if 300 <= status <= 399:
        return Outcome(Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED, status)
    return Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, status)
