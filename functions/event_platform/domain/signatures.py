"""Signatures of delivered bodies (wire contract 10)."""

import hashlib
import hmac

ALGORITHM = "HmacSHA256"
PRIMARY_HEADER = "X-AKENEO-SIGNATURE-PRIMARY"
SECONDARY_HEADER = "X-AKENEO-SIGNATURE-SECONDARY"
ALGORITHM_HEADER = "X-AKENEO-SIGNATURE-ALGORITHM"


def sign(body: bytes, secret: str) -> str:
    """Lower-case hex HMAC-SHA256 of the raw body."""
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def verify(body: bytes, secret: str, signature: str) -> bool:
    """Whether `signature` is that of `body`; compared in constant time."""
    return hmac.compare_digest(sign(body, secret).encode(), signature.encode())
