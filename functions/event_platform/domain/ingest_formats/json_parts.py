"""Parts of a JSON text, found without parsing it: what cannot be read costs nothing but itself.

For senders that send nothing twice, or that count a refusal against us. Whoever judges a whole body uses
`json_form`.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
"""A string, closed or cut off at the end of the text, or a bracket."""
_COLON = re.compile(rb"\s*:\s*")
_SEARCHED_BYTES = 64 * 1024
_QUOTE, _OPENING = ord('"'), frozenset(b"[{")
_DECODER = json.JSONDecoder(
    strict=False, parse_int=lambda _: 0, parse_float=lambda _: 0, parse_constant=lambda _: 0
)


Span = tuple[int, int]


@dataclass(slots=True)
class Group:
    """An array or object in a text.

    `key` is its member name and `parent` that of the group around it, empty where that is an array. `deep`
    has the arrays and objects in it that stand too deep to be wanted.
    """

    key: str
    parent: str
    start: int
    end: int = 0
    deep: list[Span] = field(default_factory=list[Span])

    def text_of(self, text: bytes | bytearray) -> bytes:
        """Returns its text, with null for what is too deep."""
        return _without(text, self.deep, self.start, self.end)


def groups(text: bytes | bytearray, depth: int, levels: int = sys.maxsize) -> Iterator[Group]:
    """Finds the arrays and objects that stand inside `depth` others; of each, so many `levels` are wanted.

    One that is not closed ends with the text.
    """
    level, deep_level = 0, depth + levels
    last, parent, deep_start = (0, 0), "", 0
    found = Group("", "", 0)
    for token in _TOKEN.finditer(text):
        at = token.start()
        first = text[at]
        if first == _QUOTE:
            last = token.span()
        elif first in _OPENING:
            if level == depth:
                found = Group(_key(text, *last, at), parent, at)
            elif level == deep_level:
                deep_start = at
            elif level == depth - 1:
                parent = _key(text, *last, at)
            level += 1
        else:
            level -= 1
            if level == depth:
                found.end = at + 1
                yield found
            elif level == deep_level:
                found.deep.append((deep_start, at + 1))
    if level > depth:
        found.end = len(text)
        yield found


def parse(text: bytes | bytearray) -> Any:
    """The value of a text that is not nested deeply. Raises ValueError when it is no JSON.

    Numbers are 0. What is not UTF-8 becomes lone surrogates, and control characters are taken as they are.
    """
    return _DECODER.decode(text.decode("utf-8", "surrogateescape"))


def find_text(text: bytes | bytearray, name: str) -> str | None:
    """The string that an object has as a member, if it is in the first 64 KiB; the rest may be no JSON."""
    level, last = 0, (0, 0)
    for token in _TOKEN.finditer(text, 0, _SEARCHED_BYTES):
        first = text[token.start()]
        if first != _QUOTE:
            level += 1 if first in _OPENING else -1
        elif level == 1:
            if _key(text, *last, token.start()) == name:
                return _text(text[token.start() : token.end()])
            last = token.span()
    return None


def members(text: bytes | bytearray) -> dict[str, Any]:
    """The members of an object, with null for those that are arrays or objects; empty for anything else."""
    try:
        value = parse(_without(text, [(group.start, group.end) for group in groups(text, 1)], 0, len(text)))
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _without(text: bytes | bytearray, spans: Iterable[Span], start: int, end: int) -> bytes:
    """Returns a part of a text with null in place of the spans."""
    pieces: list[bytes | bytearray] = []
    for deep_start, deep_end in spans:
        pieces += text[start:deep_start], b"null"
        start = deep_end
    return b"".join([*pieces, text[start:end]])


def _key(text: bytes | bytearray, start: int, end: int, value: int) -> str:
    """The string before a value, if there is but a colon between them."""
    return (_text(text[start:end]) or "") if _COLON.fullmatch(text, end, value) else ""


def _text(token: bytes | bytearray) -> str | None:
    try:
        return str(parse(token))
    except ValueError:
        return None
