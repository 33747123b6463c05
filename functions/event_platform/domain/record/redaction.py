"""Bodies of management calls as log entries show them: no secret wherever it stands, and of bounded size.

What is shown is a list of what is known to be harmless; anything else, misspelt and misplaced keys with it,
reads as the redaction mark.
"""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, TypeAlias, cast

import orjson

from ..subscriptions import REDACTED

MAX_TEXT = 1024
MAX_ITEMS = 100
MAX_KEYS = 40
MAX_KEY = 64
MAX_BODY = 16 * 1024
"""Bytes of JSON, beyond which a body is left out as a whole."""
TOO_LARGE = "***too large to be shown***"
MAX_HIDDEN = 100
"""Texts that are looked for wherever they may stand again; a body with more is left out as a whole."""
MAX_VALUES = 2_000
"""Values of a body that is read for its secrets; one with more is left out as a whole."""
_LARGEST_INTEGER = 2**53
_SHORTEST_SECRET = 6
"""Shorter texts are not looked for elsewhere: they would be found everywhere."""


class _Value:
    """A text, number or truth value that may be shown."""


class _List(_Value):
    """An array of such values."""


class _Names:
    """An object whose keys may be shown and whose values may not."""


_Shown: TypeAlias = "type[_Value] | type[_Names] | Mapping[str, _Shown]"

_SHOWN: _Shown = {
    **dict.fromkeys(("id", "subscriber_id", "status", "created_at", "updated_at"), _Value),
    **dict.fromkeys(("name", "source", "subject", "type", "filter", "send_product_identifier"), _Value),
    "events": _List,
    "options": {"send_product_identifier_in_changes": _Value},
    "contact": {
        "technical_email": _Value,
        "notification_channels": _List,
        "notification_webhook_url": _Value,
        "notification_webhook_secret": {},
    },
    "config": {
        **dict.fromkeys(("url", "project_id", "topic_id", "broker", "topic"), _Value),
        "secret": {"primary": {}, "secondary": {}},
        "headers": _Names,
        "sasl_auth": {
            **dict.fromkeys(("mechanism", "username", "scram_variant"), _Value),
            "password": {},
        },
        "tls": {**dict.fromkeys(("server_name", "ca_pem", "client_cert_pem"), _Value), "client_key_pem": {}},
    },
}

_USER_INFO = re.compile(r"//[^/?#\s]*@")


class Redaction:
    """A body that was read once for its secrets, and shows itself and texts about it without them.

    `body` is plain JSON data. The work is bounded, whatever the body holds.
    """

    def __init__(self, body: Any) -> None:
        self._body = body
        self._secrets = _secrets_of(body)

    def shown(self) -> Any:
        """Returns the body as it may be shown."""
        if self._secrets is None:
            return TOO_LARGE
        try:
            shown = _Shower(self._secrets).value(self._body, _SHOWN)
        except _TooLarge:
            return TOO_LARGE
        return shown if len(orjson.dumps(shown)) <= MAX_BODY else TOO_LARGE

    def scrubbed(self, text: str) -> str:
        """Returns a text about the body (an error message may quote from it) without the body's secrets."""
        return REDACTED if self._secrets is None else _clean(text, self._secrets, MAX_TEXT)


def _secrets_of(body: Any) -> list[str] | None:
    """Returns every text that may not be shown, the longest first; None if the body holds too much."""
    found: set[str] = set()
    seen = 0
    ahead: list[tuple[Any, _Shown]] = [(body, _SHOWN)]
    while ahead:
        value, shown = ahead.pop()
        seen += 1
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            below: Mapping[str, _Shown] = shown if isinstance(shown, Mapping) else {}
            ahead += ((member, below.get(key, {})) for key, member in islice(members.items(), MAX_VALUES))
            seen += max(0, len(members) - MAX_VALUES)
        elif isinstance(value, list):
            items = cast("list[Any]", value)
            ahead += ((item, _Value if shown is _List else {}) for item in islice(items, MAX_VALUES))
            seen += max(0, len(items) - MAX_VALUES)
        elif isinstance(value, str) and _is_secret(value, shown):
            found.add(value)
        if seen + len(ahead) > MAX_VALUES or len(found) > MAX_HIDDEN:
            return None
    return sorted(found, key=len, reverse=True)


def _is_secret(text: str, shown: _Shown) -> bool:
    is_hidden = not isinstance(shown, type) or shown is _Names
    return is_hidden and len(text) >= _SHORTEST_SECRET and text != REDACTED


class _TooLarge(Exception):
    """Raised when what is shown of a body becomes larger than MAX_BODY."""


class _Shower:
    """Makes what is shown of one body, and stops when it becomes too large."""

    def __init__(self, secrets: list[str]) -> None:
        self._secrets = secrets
        self._left = MAX_BODY

    def value(self, value: Any, shown: _Shown) -> Any:
        if value is None:
            return None
        if isinstance(shown, type):
            return self._harmless(value, shown)
        if not isinstance(value, dict) or not shown:
            return REDACTED
        members = islice(cast("dict[str, Any]", value).items(), MAX_KEYS)
        return {self._text(key, MAX_KEY): self.value(member, shown.get(key, {})) for key, member in members}

    def _harmless(self, value: Any, shown: type) -> Any:
        if shown is _Names:
            if not isinstance(value, dict):
                return REDACTED
            names = islice(cast("dict[str, Any]", value), MAX_KEYS)
            return {self._text(name, MAX_KEY): REDACTED for name in names}
        if shown is _List and isinstance(value, list):
            return [self._harmless(item, _Value) for item in islice(cast("list[Any]", value), MAX_ITEMS)]
        if isinstance(value, str):
            return self._text(value, MAX_TEXT)
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            return REDACTED  # no JSON reader is sure to take it
        return value if isinstance(value, bool | int | float) else REDACTED

    def _text(self, text: str, limit: int) -> str:
        shown = _clean(text, self._secrets, limit)
        self._left -= len(shown)
        if self._left < 0:
            raise _TooLarge
        return shown


def _clean(text: str, secrets: list[str], limit: int) -> str:
    """Returns the text without secrets, cut to `limit`. One to be cut that holds any is not shown at all."""
    if "PRIVATE KEY" in text:
        return REDACTED
    if len(text) > limit:
        is_harmless = _USER_INFO.search(text) is None and not any(
            secret in text[: limit + len(secret)] for secret in secrets
        )
        return text[:limit] + "…" if is_harmless else REDACTED
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    return _USER_INFO.sub(f"//{REDACTED}@", text)
