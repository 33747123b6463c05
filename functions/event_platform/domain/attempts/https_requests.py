"""The request of an https delivery, and what of its answer may be shown (contract/wire.md 4 and 10)."""

import re
from dataclasses import replace
from urllib.parse import quote

from ..subscriptions import REDACTED, HttpsConfig
from . import signatures
from .outcomes import Answer, TransportFailure

EXCERPT_BYTES = 1024
"""Of an endpoint's answer are shown."""
SECRET_LENGTH_AT_LEAST = 4
"""Shorter header values are no secrets, and stand in every other text."""
_SAFE_IN_HEADER = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_NEEDS_NO_QUOTES = re.compile(r"[!#$&-~]+")


def request_headers(event_id: str, body: bytes, config: HttpsConfig) -> list[tuple[str, str]]:
    """The headers of a delivery, in the contract's order (contract/wire.md 10); custom ones come last.

    An event id may hold any character, so it is percent-encoded as the HTTP binding of CloudEvents
    does (3.1.3.2).
    """
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "akeneo/event-platform"),
        ("X-Correlation-ID", _quoted(event_id)),
        (signatures.PRIMARY_HEADER, signatures.sign(body, config.primary_secret.get_secret_value())),
    ]
    if config.secondary_secret is not None:
        signature = signatures.sign(body, config.secondary_secret.get_secret_value())
        headers.append((signatures.SECONDARY_HEADER, signature))
    headers.append((signatures.ALGORITHM_HEADER, signatures.ALGORITHM))
    return headers + [(name, value.get_secret_value()) for name, value in config.headers.items()]


def _quoted(event_id: str) -> str:
    if _NEEDS_NO_QUOTES.fullmatch(event_id) is not None:
        return event_id
    return quote(event_id, safe=_SAFE_IN_HEADER, errors="replace")


def without_secrets(result: Answer | TransportFailure, config: HttpsConfig) -> Answer | TransportFailure:
    """An answer that echoes a secret of ours must not carry it into the log (contract/wire.md 4)."""
    if not isinstance(result, Answer):
        return result
    body = result.body
    for secret in (config.primary_secret, config.secondary_secret, *config.headers.values()):
        value = secret.get_secret_value().encode() if secret is not None else b""
        if len(value) >= SECRET_LENGTH_AT_LEAST:
            body = body.replace(value, REDACTED.encode())
    return replace(result, body=body)
