"""The part of Cloud Logging's query language that our filters use, so that tests try them on lines.

https://cloud.google.com/logging/docs/view/logging-query-language
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
_TOKEN = re.compile(r'\s*(\(|\)|!=|>=|<=|[=<>:]|"[^"]*"|[\w.]+)')


def matches(filter_: str, entry: Mapping[str, Any]) -> bool:
    """True if the entry fits the filter. Raises ValueError where the filter is no filter that we know."""
    tokens = list(_tokens(filter_))
    result = _alternatives(tokens, lambda inner: _comparison(inner, entry))
    if tokens:
        raise ValueError(f"not understood: {' '.join(tokens)}")
    return result


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while text[at:].strip():
        found = _TOKEN.match(text, at)
        if not found:
            raise ValueError(f"not understood: {text[at:]}")
        yield found[1]
        at = found.end()


def _alternatives(tokens: list[str], one: Callable[[list[str]], bool]) -> bool:
    result = _all(tokens, one)
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        result = _all(tokens, one) or result
    return result


def _all(tokens: list[str], one: Callable[[list[str]], bool]) -> bool:
    result = one(tokens)
    while tokens and tokens[0] == "AND":
        tokens.pop(0)
        result = one(tokens) and result
    return result


def _comparison(tokens: list[str], entry: Mapping[str, Any]) -> bool:
    name = tokens.pop(0)
    if name == "(":
        return _in_parentheses(tokens, lambda inner: _comparison(inner, entry))
    if name == "log_id":
        tokens.pop(0)
        wanted = _text(tokens.pop(0)).replace("/", "%2F")
        tokens.pop(0)
        return str(entry.get("logName", "")).endswith(f"/logs/{wanted}")
    operator = tokens.pop(0)
    value: Any = entry
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if tokens[0] == "(":
        tokens.pop(0)
        return _in_parentheses(tokens, lambda inner: _compare(value, operator, _text(inner.pop(0)), name))
    return _compare(value, operator, _text(tokens.pop(0)), name)


def _in_parentheses(tokens: list[str], one: Callable[[list[str]], bool]) -> bool:
    result = _alternatives(tokens, one)
    if tokens.pop(0) != ")":
        raise ValueError("a parenthesis is not closed")
    return result


def _compare(value: Any, operator: str, wanted: str, name: str) -> bool:
    if value is None:  # every comparison with a missing field fails
        return False
    against: Any
    if name == "severity":
        value, against = SEVERITIES.index(value), SEVERITIES.index(wanted)
    elif isinstance(value, int):
        against = int(wanted)
    else:
        value, against = str(value).lower(), wanted.lower()  # text is compared without case
    compared: dict[str, Callable[[], bool]] = {
        "=": lambda: value == against,
        "!=": lambda: value != against,
        ">=": lambda: value >= against,
        "<=": lambda: value <= against,
        "<": lambda: value < against,
        ">": lambda: value > against,
        ":": lambda: str(against) in str(value),
    }
    return compared[operator]()


def _text(token: str) -> str:
    return token.strip('"')
