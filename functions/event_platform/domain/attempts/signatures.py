"""Signatures of delivered bodies (contract/wire.md 10)."""

import hashlib
import hmac
from collections.abc import Sequence
from functools import lru_cache

ALGORITHM = "HmacSHA256"
PRIMARY_HEADER = "X-AKENEO-SIGNATURE-PRIMARY"
SECONDARY_HEADER = "X-AKENEO-SIGNATURE-SECONDARY"
ALGORITHM_HEADER = "X-AKENEO-SIGNATURE-ALGORITHM"


def sign(body: bytes | bytearray, secret: str, prefix: bytes = b"") -> str:
    """Lower-case hex HMAC-SHA256 of the raw body, behind `prefix`."""
    state = _keyed(secret).copy()
    if prefix:
        state.update(prefix)
    state.update(body)
    return state.hexdigest()


def verify(body: bytes, secret: str, signature: str) -> bool:
    """True if `signature` is that of `body`; they are compared in constant time."""
    return hmac.compare_digest(sign(body, secret).encode(), signature.encode())


def verify_any(
    body: bytes | bytearray, secrets: Sequence[str], signatures: Sequence[str], prefix: bytes = b""
) -> bool:
    """True if one of the signatures is that of `prefix` and body by one of the secrets; all are compared.

    Without a secret it takes as long as with a wrong one, so that nobody learns which there are.
    """
    expected = [sign(body, secret, prefix).encode() for secret in secrets or [""]]
    compared = [hmac.compare_digest(one, signature.encode()) for one in expected for signature in signatures]
    return any(compared) and bool(secrets)


@lru_cache(maxsize=1024)
def _keyed(secret: str) -> hmac.HMAC:
    """The state that every signature with the secret starts from: half the work of a short body.

    Unlike `hmac.digest`, updating a copy of it keeps Python's lock, which other threads would take.
    """
    return hmac.new(secret.encode(), digestmod=hashlib.sha256)
