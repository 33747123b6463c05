"""Secrets at rest: AES-256-GCM, bound to the resource that they belong to."""

import base64
import binascii
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: a random nonce of 96 bits
_VERSION = "v1"


class AesGcmSeal:
    """The port `Seal`. A sealed text is `v1.` and the unpadded base64url of nonce and ciphertext.

    What stands before the dot names the way it was sealed, which leaves room for ids of keys.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key must have {KEY_BYTES} bytes, this one has {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, plain: str, *, context: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return f"{_VERSION}.{_encode(nonce + self._cipher.encrypt(nonce, plain.encode(), context.encode()))}"

    def open(self, sealed: str, *, context: str) -> str:
        version, dot, text = sealed.partition(".")
        if version != _VERSION or not dot:
            raise ValueError("not a sealed text of a known version")
        box = _decode(text)
        try:
            plain = self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise ValueError("sealed with another key or for another context, or changed since") from error
        return plain.decode()


def key_from_base64(text: str) -> bytes:
    """The key in AEP_SECRETS_KEY. Raises ValueError, without quoting it, when it is no base64 of 32 bytes."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"AEP_SECRETS_KEY must be the base64 of {KEY_BYTES} random bytes, as by openssl rand -base64 32"
        )
    return key


def _encode(box: bytes) -> str:
    return base64.urlsafe_b64encode(box).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        box = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise ValueError("not a sealed text: no base64url") from error
    if _encode(box) != text:  # the decoder skips strange characters and unused bits, so many texts would open
        raise ValueError("not a sealed text: no base64url")
    return box
