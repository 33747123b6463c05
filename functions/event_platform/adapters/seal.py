"""Secrets at rest: AES-256-GCM, bound to the resource that they belong to."""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..documents import FEED_CONTEXT, TENANT_CONTEXT

KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: a random nonce of 96 bits
_SEALED = re.compile(r"[0-9a-f]{8}\.[A-Za-z0-9_-]+")
_SEPARATORS = re.compile(r"[,\s]+")


class AesGcmSeal:
    """The port `Seal`. The first of `keys` seals, every one opens what was sealed with it.

    A sealed text is the id of its key, a dot, and the unpadded base64url of nonce and ciphertext.
    """

    def __init__(self, *keys: bytes) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise ValueError(f"keys must have {KEY_BYTES} bytes, and there must be one")
        self.key_id = key_id(keys[0])
        self._ciphers = {key_id(key): AESGCM(key) for key in keys}
        self.has_older_keys = len(self._ciphers) > 1
        self._first = keys[0]

    def derived_key(self, purpose: str) -> bytes:
        """Returns another key of 32 bytes, which is made from the first one and reveals nothing of it."""
        return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(self._first)

    def seal(self, plain: str, *, context: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._ciphers[self.key_id].encrypt(nonce, plain.encode(), context.encode())
        return f"{self.key_id}.{_encode(nonce + box)}"

    def open(self, sealed: str, *, context: str) -> str:
        name, dot, text = sealed.partition(".")
        cipher = self._ciphers.get(name)
        if cipher is None or not dot:
            raise ValueError("sealed with another key, or no sealed text")
        box = _decode(text)
        try:
            plain = cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise ValueError("sealed for another context, or changed since") from error
        return plain.decode()


class KeylessSeal:
    """The port `Seal` of a function without a key: secrets stay sealed, and are written back as they were."""

    def seal(self, plain: str, *, context: str) -> str:
        if _SEALED.fullmatch(plain) is None:
            raise ValueError("this function has no key to seal a secret with")
        return plain

    def open(self, sealed: str, *, context: str) -> str:
        return sealed


class SplitSeal:
    """The port `Seal` of commands that know all keys: the registry's entries, and feeds, have their own.

    Without that of feeds their secrets stay sealed.
    """

    def __init__(self, records: AesGcmSeal, registry: AesGcmSeal, feeds: AesGcmSeal | None = None) -> None:
        self.records = records
        self.registry = registry
        self.feeds = feeds

    def seal(self, plain: str, *, context: str) -> str:
        return self._of(context).seal(plain, context=context)

    def open(self, sealed: str, *, context: str) -> str:
        return self._of(context).open(sealed, context=context)

    def _of(self, context: str) -> "AesGcmSeal | KeylessSeal":
        if context.startswith(FEED_CONTEXT):
            return self.feeds or KeylessSeal()
        return self.registry if context.startswith(TENANT_CONTEXT) else self.records


def key_id(key: bytes) -> str:
    """The name of a key, which reveals nothing of it: 8 hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:8]


def keys_from_base64(text: str, variable: str = "AEP_SECRETS_KEY") -> Sequence[bytes]:
    """The keys in a variable or a file of keys, one or several, separated by commas or white space.

    Raises ValueError, without quoting it, when one is no base64 of 32 bytes or none is there.
    """
    keys = [_key_from_base64(part) for part in _SEPARATORS.split(text.strip(", \t\r\n"))]
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(
            f"{variable} must be the base64 of {KEY_BYTES} random bytes, as by `openssl rand -base64 32`;"
            " older keys may follow, separated by commas"
        )
    return keys


def _key_from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


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
