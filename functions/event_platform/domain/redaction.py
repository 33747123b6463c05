"""Bodies of management calls as log entries show them: no secret wherever it stands, and of bounded size.

What is shown is a list of what is known to be harmless; anything else, misspelt and misplaced keys with it,
reads as the redaction mark.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import orjson

from .subscriptions import REDACTED

MAX_TEXT = 1024
MAX_ITEMS = 100
MAX_KEYS = 40
MAX_KEY = 64
MAX_BODY = 16 * 1024
"""Bytes of JSON, beyond which a body is left out as a whole."""
TOO_LARGE = "***too large to be shown***"
MAX_HIDDEN = 200
"""Texts that are looked for wherever they may stand again; a body with more is left out as a whole."""
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


def redacted(body: Any) -> Any:
    """The body as it may be shown. `body` is plain JSON data."""
    hidden = frozenset(secrets_of(body))
    if len(hidden) > MAX_HIDDEN:
        return TOO_LARGE
    shown = _redacted(body, _SHOWN, hidden)
    return shown if len(orjson.dumps(shown)) <= MAX_BODY else TOO_LARGE


def scrubbed(text: str, body: Any) -> str:
    """A text about the body (an error message may quote from it) without the body's secrets."""
    hidden = frozenset(secrets_of(body))
    return REDACTED if len(hidden) > MAX_HIDDEN else _clean(text, hidden)


def secrets_of(body: Any) -> Iterator[str]:
    """Every text in the body that is not among what may be shown."""
    yield from _hidden(body, _SHOWN)


def _redacted(value: Any, shown: _Shown, hidden: frozenset[str]) -> Any:
    if value is None:
        return None
    if isinstance(shown, type):
        return _value(value, shown, hidden)
    if not isinstance(value, dict) or not shown:
        return REDACTED
    members = list(cast("dict[str, Any]", value).items())[:MAX_KEYS]
    return {
        _clean(key, hidden)[:MAX_KEY]: _redacted(member, shown.get(key, {}), hidden)
        for key, member in members
    }


def _value(value: Any, shown: type, hidden: frozenset[str]) -> Any:
    if shown is _Names:
        names = list(cast("dict[str, Any]", value))[:MAX_KEYS] if isinstance(value, dict) else None
        return REDACTED if names is None else {_clean(name, hidden)[:MAX_KEY]: REDACTED for name in names}
    if shown is _List and isinstance(value, list):
        return [_value(item, _Value, hidden) for item in cast("list[Any]", value)[:MAX_ITEMS]]
    if isinstance(value, str):
        return _clean(value, hidden)
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return REDACTED  # no JSON reader is sure to take it
    return value if isinstance(value, bool | int | float) else REDACTED


def _clean(text: str, hidden: frozenset[str]) -> str:
    if "PRIVATE KEY" in text:
        return REDACTED
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    text = _USER_INFO.sub(f"//{REDACTED}@", text)
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def _hidden(value: Any, shown: _Shown) -> Iterator[str]:
    """The texts below `value` that are not shown: a value's, and never a key's."""
    if isinstance(value, str):
        if not isinstance(shown, type) or shown is _Names:
            yield from _worth_looking_for(value)
    elif isinstance(value, dict):
        for key, member in cast("dict[str, Any]", value).items():
            yield from _hidden(member, shown.get(key, {}) if isinstance(shown, Mapping) else {})
    elif isinstance(value, list):
        below: _Shown = _Value if shown is _List else {}
        for item in cast("Sequence[Any]", value):
            yield from _hidden(item, below)


def _worth_looking_for(text: str) -> Iterator[str]:
    if len(text) >= _SHORTEST_SECRET and text != REDACTED:
        yield text
