"""JSON as JavaScript reads and writes it (contract/wire.md 9).

A delivered body equals `JSON.stringify(JSON.parse(body))` byte for byte, because receivers verify
signatures over that. `parse` reads, `stringify` writes; the rules are those of ECMA-262 (25.5, and
6.1.6.1.20 for numbers), which RFC 8785 restates except for the order of keys.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Any, NoReturn, TypeAlias, cast

import orjson

from ..validation_words import json_words

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None

MAX_DEPTH = 200
"""Levels of nesting that are taken. Bounds the stack of every recursive reader behind us."""
QUICK_BYTES = 16 * 1024
_QUICK_VALUES = 40_000
_QUICK_CAREFUL_BYTES = 128 * 1024
_QUICK_CAREFUL_VALUES = 8_000
MAX_SAFE_INTEGER = 2**53 - 1
_MAX_ARRAY_INDEX = 2**32 - 2

_ARRAY_INDEX = re.compile(r"0|[1-9]\d{0,9}", re.ASCII)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER_OF_CARE = re.compile(
    rb"\d(?:"
    rb"[.eE]"  # a float: JavaScript writes 1.0 as 1 and 1e-7 as 1e-7
    rb"|\d{15}"  # perhaps an integer that a double cannot hold
    rb")"
)
_INDEX_KEY = re.compile(rb'"\d+"\s*:')  # perhaps an array-index key, which JavaScript puts first
_ESCAPE_OF_CARE = re.compile(
    rb"\\u003\d"  # a digit, so perhaps such a key
    rb"|\\u[dD]"  # perhaps a lone surrogate
)
"""One of the three is in every text whose JavaScript form may differ from what orjson writes, the first of
them outside of strings."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_GLANCED_LEVELS = 16
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class MalformedJson(ValueError):
    """Raised when a text is not JSON, or is JSON that we refuse; the message says why and where."""

    verb = "is"

    def said_of(self, text: str) -> str:
        """The sentence about the text, such as `the body`."""
        return f"{text} {self.verb} {self}"


class IntegerTooLarge(MalformedJson):
    """Raised when an integer is beyond ±(2^53 - 1), which JavaScript would round (contract/wire.md 9)."""

    verb = "holds"


class NumberTooLarge(MalformedJson):
    """Raised when a number is beyond what a double can hold."""

    verb = "holds"


def parse(
    text: bytes | bytearray, *, round_integers: bool = False, max_depth: int = MAX_DEPTH, plain: bool = False
) -> Json:
    """The value of a JSON text in UTF-8. Of repeated keys the last one wins, as in JavaScript.

    `plain` says that the text `is_plain`, which allows for a fast reader. Integers beyond ±(2^53 - 1) raise
    IntegerTooLarge, or are rounded to a double where `round_integers` says so (the relay). Raises
    MalformedJson for anything that is not RFC 8259 JSON, for nesting deeper than `max_depth`, and, unless
    rounding, for numbers that overflow a double.
    """
    if not plain and not _is_shallow(text, max_depth):
        _check_depth(text, max_depth)
    if plain:
        with suppress(orjson.JSONDecodeError):  # the reader below says better what is wrong
            return orjson.loads(text)
    try:
        characters = text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedJson(f"not UTF-8 from byte {error.start} on") from error
    try:
        value = _decoder(round_integers).decode(characters)
    except json.JSONDecodeError as error:
        raise MalformedJson(json_words(error)) from error
    return value


def is_quick(text: bytes | bytearray) -> bool:
    """True if up to 256 KiB of JSON are read and written in a few milliseconds, whatever they hold.

    What is plain is read and written by orjson alone, and the rest partly in Python.
    """
    if len(text) <= QUICK_BYTES:
        return True
    is_small = len(text) <= _QUICK_CAREFUL_BYTES
    at_most = _count_values(text)
    if is_small and at_most <= _QUICK_CAREFUL_VALUES:
        return True  # a glance, which is all that most batches need
    is_careful = not is_plain(text, at_a_glance=True)
    if is_careful and not is_small:
        return False
    most = _QUICK_CAREFUL_VALUES if is_careful else _QUICK_VALUES
    return at_most <= most or _count_values(_outside_strings(text)) <= most


def has_more_values(text: bytes | bytearray, than: int) -> bool:
    """True if a JSON text holds more than `than` values; it is not parsed."""
    if len(text) <= than:
        return False
    return _count_values(text) > than and _count_values(_outside_strings(text)) > than


def _count_values(text: bytes | bytearray) -> int:
    """Returns how many values there can be: each but the first follows a comma or an opening bracket."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def is_plain(source: bytes | bytearray, *, at_a_glance: bool = False) -> bool:
    """True if nothing in a JSON text takes a form in JavaScript that differs from the usual one.

    And if it is not nested deeper than MAX_DEPTH. To count the levels of many brackets takes some 0.1 s a
    million; `at_a_glance` says False for what is nested so that it would have to be done.
    """
    if b"\\" in source and _ESCAPE_OF_CARE.search(source) is not None:
        return False
    if _INDEX_KEY.search(source) is not None:
        return False
    outside = _outside_strings(source)
    if _NUMBER_OF_CARE.search(outside) is not None:
        return False
    return _are_shallow(outside, MAX_DEPTH) or (not at_a_glance and _depth_of(outside) <= MAX_DEPTH)


def stringify(value: Json, *, plain: bool = False) -> bytes:
    """Returns what `JSON.stringify` writes for a value that `parse` read.

    `plain` says that the text it was read from `is_plain`, which allows for a fast writer.
    """
    if plain:
        return orjson.dumps(value)
    if isinstance(value, str):
        return _string(value).encode("utf-8")
    pieces: list[str] = []
    _write(value, pieces.append)
    return "".join(pieces).encode("utf-8")


def has_lone_surrogates(value: Json) -> bool:
    """True if a string or key in `value` holds half of a surrogate pair, which UTF-8 cannot carry."""
    match value:
        case str():
            return not value.isascii() and _LONE_SURROGATE.search(value) is not None
        case list():
            return any(map(has_lone_surrogates, value))
        case dict():
            return any(has_lone_surrogates(key) or has_lone_surrogates(item) for key, item in value.items())
        case _:
            return False


def replace_lone_surrogates(value: Any) -> Any:
    """`value` with U+FFFD for each lone surrogate: for readers that take UTF-8 only."""
    match value:
        case str():
            return _LONE_SURROGATE.sub("\ufffd", value)
        case list() | tuple():
            return [replace_lone_surrogates(item) for item in cast("Iterable[Any]", value)]
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {replace_lone_surrogates(key): replace_lone_surrogates(item) for key, item in items}
        case _:
            return value


def number(value: float) -> str:
    """ECMA-262 Number::toString(value, 10). Infinite values, which JSON.stringify writes as null, are too."""
    if not math.isfinite(value):
        return "null"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e16:  # there Python writes it without an exponent, as JavaScript does
        return repr(value).removesuffix(".0")
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    point = len(whole) - leading_zeros + int(exponent or 0)
    digits = digits.rstrip("0")
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    """`digits` are the shortest ones; the value is 0.digits × 10^point (`k` and `n` of ECMA-262)."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    exponent = f"e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}{exponent}"


def _write(value: Json, emit: Callable[[str], None]) -> None:
    match value:
        case None:
            emit("null")
        case bool():
            emit("true" if value else "false")
        case str():
            emit(_string(value))
        case int():
            emit(str(value))
        case float():
            emit(number(value))
        case list():
            separator = "["
            for item in value:
                emit(separator)
                _write(item, emit)
                separator = ","
            emit("]" if value else "[]")
        case dict():
            separator = "{"
            for key in _keys_in_order(value):
                emit(separator)
                emit(_string(key))
                emit(":")
                _write(value[key], emit)
                separator = ","
            emit("}" if value else "{}")


def _keys_in_order(value: dict[str, Any]) -> list[str]:
    """Array-index keys ascending, then the others as inserted (ECMA-262 10.1.11)."""
    indexes: list[str] = []
    others: list[str] = []
    for key in value:
        (indexes if _is_array_index(key) else others).append(key)
    return sorted(indexes, key=int) + others


def _is_array_index(key: str) -> bool:
    return _ARRAY_INDEX.fullmatch(key) is not None and int(key) <= _MAX_ARRAY_INDEX


def _string(text: str) -> str:
    quoted = json.encoder.encode_basestring(text)
    if quoted.isascii():
        return quoted
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _outside_strings(text: bytes | bytearray) -> bytes:
    """Returns a JSON text without its strings."""
    if b"\\" in text:
        # So that each quote that is left begins or ends a string.
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    return b"".join(text.split(b'"')[::2])


def _is_shallow(text: bytes | bytearray, max_depth: int) -> bool:
    """True if `text` is surely no deeper than that; `_check_depth` counts if it is not sure."""
    return text.count(b"[") + text.count(b"{") <= max_depth or _are_shallow(_outside_strings(text), max_depth)


def _are_shallow(outside: bytes, max_depth: int) -> bool:
    """Does what `_is_shallow` does, for a text without its strings."""
    if outside.count(b"[") + outside.count(b"{") <= max_depth:
        return True
    brackets = outside.translate(None, _NO_BRACKETS)
    for _ in range(min(_GLANCED_LEVELS, max_depth)):
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


def _check_depth(text: bytes | bytearray, max_depth: int) -> None:
    """Raises MalformedJson if brackets open on more levels than that."""
    if _depth_of(_outside_strings(text)) > max_depth:
        raise MalformedJson(f"nested deeper than {max_depth} levels")


def _depth_of(outside: bytes) -> int:
    """Returns on how many levels brackets open in what stands beside the strings of a text."""
    brackets = outside.translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"not JSON: {name} is no number there")


def _safe_integer(digits: str) -> int:
    if len(digits) > 17 or abs(value := int(digits)) > MAX_SAFE_INTEGER:
        raise IntegerTooLarge(
            f"the integer {digits[:40]}, beyond ±(2^53 - 1), which would be rounded; send it as a string"
        )
    return value


def _rounded_integer(digits: str) -> int | float:
    return int(digits) if len(digits.removeprefix("-")) < 16 else float(digits)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise NumberTooLarge(f"the number {digits[:40]}, which is too large")
    return value


_STRICT = json.JSONDecoder(
    parse_int=_safe_integer, parse_float=_finite_float, parse_constant=_refuse_constant
)
_ROUNDING = json.JSONDecoder(parse_int=_rounded_integer, parse_constant=_refuse_constant)


def _decoder(round_integers: bool) -> json.JSONDecoder:
    return _ROUNDING if round_integers else _STRICT
