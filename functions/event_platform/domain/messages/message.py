"""Messages as the queues between the functions carry them, in Pub/Sub's terms."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_NO_ATTRIBUTES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Of those with the same `ordering_key` one is outstanding at a time; "" orders nothing."""

    data: bytes = field(repr=False)
    attributes: Mapping[str, str] = field(default_factory=lambda: _NO_ATTRIBUTES)
    ordering_key: str = ""


class MalformedMessage(ValueError):
    """Raised when a message is not what its topic carries; trying again would change nothing."""
