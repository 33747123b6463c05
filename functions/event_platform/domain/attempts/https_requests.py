"""The request of an https delivery, and what of its answer may be shown (contract/wire.md 4 and 10)."""

from dataclasses import replace

from ..subscriptions import REDACTED, HttpsConfig
from .delivery_headers import Sent, signed
from .outcomes import Answer, TransportFailure

EXCERPT_BYTES = 1024
"""The bytes of an endpoint's answer that are shown."""
SECRET_LENGTH_AT_LEAST = 4
"""Shorter header values are no secrets, and stand in every other text."""


def request_headers(
    event_id: str, body: bytes, config: HttpsConfig, replay_id: str | None = None
) -> list[tuple[str, str]]:
    """The headers of a delivery, in the contract's order (contract/wire.md 10); custom ones come last."""
    secondary = config.secondary_secret
    sent = Sent(
        event_id,
        body,
        config.primary_secret.get_secret_value(),
        None if secondary is None else secondary.get_secret_value(),
        replay_id,
    )
    return signed(sent) + [(name, value.get_secret_value()) for name, value in config.headers.items()]


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
