"""The platform's own headers of what it sends by https: one table (contract/wire.md 8 and 10).

Deliveries and notifications are sent with them, AsyncAPI describes them, and no custom header may have such a
name.
"""

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from . import signatures

_SAFE_IN_HEADER = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_NEEDS_NO_QUOTES = re.compile(r"[!#$&-~]+")


class Sent(NamedTuple):
    """The parts that the values of the headers are made of."""

    id: str
    body: bytes
    primary_secret: str
    secondary_secret: str | None = None
    replay_id: str | None = None


class DeliveryHeader(NamedTuple):
    """A header. `value` returns None if it is left out; `fixed` is the value if that is always the same."""

    name: str
    value: Callable[[Sent], str | None] | None = None
    description: str = ""
    fixed: str | None = None
    pattern: str | None = None
    is_optional: bool = False


def _correlation_id(sent: Sent) -> str:
    """Returns the id. It may hold any character, so it is percent-encoded as the HTTP binding of CloudEvents
    does (3.1.3.2)."""
    if _NEEDS_NO_QUOTES.fullmatch(sent.id) is not None:
        return sent.id
    return quote(sent.id, safe=_SAFE_IN_HEADER, errors="replace")


def _primary_signature(sent: Sent) -> str:
    return signatures.sign(sent.body, sent.primary_secret)


def _secondary_signature(sent: Sent) -> str | None:
    return None if sent.secondary_secret is None else signatures.sign(sent.body, sent.secondary_secret)


def _replay(sent: Sent) -> str | None:
    return sent.replay_id


CORRELATION_ID = DeliveryHeader("X-Correlation-ID", _correlation_id, "The event's id, percent-encoded.")

REPLAY = DeliveryHeader(
    "X-Event-Platform-Replay",
    _replay,
    "The id of the replay by which the event comes again; there in a replay alone.",
    pattern="^[0-9a-f-]{36}$",
    is_optional=True,
)

DELIVERY_HEADERS = (
    DeliveryHeader("Content-Type", fixed="application/json"),
    DeliveryHeader("User-Agent", fixed="akeneo/event-platform"),
    CORRELATION_ID,
    DeliveryHeader(
        signatures.PRIMARY_HEADER,
        _primary_signature,
        "HMAC-SHA256 of the raw body with secret.primary, in lower-case hex.",
        pattern="^[0-9a-f]{64}$",
    ),
    DeliveryHeader(
        signatures.SECONDARY_HEADER,
        _secondary_signature,
        "The same with secret.secondary, when there is one.",
        pattern="^[0-9a-f]{64}$",
        is_optional=True,
    ),
    DeliveryHeader(signatures.ALGORITHM_HEADER, fixed=signatures.ALGORITHM),
    REPLAY,
)
"""The table, in the contract's order."""

_VALUES = [(header.name, header.fixed, header.value) for header in DELIVERY_HEADERS]


def signed(sent: Sent) -> list[tuple[str, str]]:
    """Returns the headers with their values."""
    return [(name, value) for name, fixed, of in _VALUES if (value := fixed or (of and of(sent))) is not None]
