"""Plain words for what libraries find wrong with a value: pydantic, jsonschema-rs and readers of JSON."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from .words import counted

_COUNTED = re.compile(r"\b([0-9]{1,18}) ([a-z]+)\(s\)", re.ASCII)
_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "is_instance_of": "is of the wrong kind",
    "string_sub_type": "must be a string",
    "string_unicode": "must be text without halves of surrogate pairs",
    "bytes_type": "must be a string",
    "url_parsing": "must be a URL",
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} character(s)",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
    "greater_than": "must be greater than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than": "must be less than {lt:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "literal_error": "must be {expected}",
    "extra_forbidden": "is no known field",
}
_FORMS: Mapping[str, str] = {
    r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$": "must be 3 to 255 letters, digits and ._~+%-, first a letter",
    r"^[A-Za-z][A-Za-z0-9._~+%-]+$": "must be letters, digits and ._~+%-, first a letter",
    r"^[A-Za-z0-9._-]{1,249}$": "must be 1 to 249 letters, digits and ._-",
    r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$": "must be words of letters and digits with . _ or - between them",
    r"^[^.]+(\.[^.]+)*$": "must be names with dots between them, such as product.uuid",
    r"^[0-9a-f]{64}$": "must be a SHA-256 in 64 lower-case hex digits",
    r"^(/[^/]*)+$": "must be a JSON pointer, such as /client_id",
    r"^[A-Za-z0-9_]{1,255}$": "must have 1 to 255 letters, digits and _",
    r"^\*(\.[a-z0-9-]+){2,}$": "must be a host after *, such as *.example.com",
    r"^[\x21-\x7e]+$": "must be printable ASCII characters without spaces",
    r"^[a-z0-9-]{1,64}$": "must have 1 to 64 lower-case letters, digits and -",
    r"^[a-z0-9-]{1,63}@[a-z0-9.-]{1,200}\.gserviceaccount\.com$": (
        "must be a service account, such as name@project.iam.gserviceaccount.com"
    ),
}
"""The patterns of our fields, in words."""


def words_of(error: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors. A validator of ours is quoted as it is."""
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    if kind in ("value_error", "assertion_error") and "error" in context:
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return _FORMS.get(context["pattern"], "has a form that is not taken")
    if kind in _MESSAGES:
        return _in_number(_MESSAGES[kind].format(**context))
    return "is not of the form that is expected here"


def place_words(location: Iterable[str | int]) -> str:
    """Names a place in a list or an object; entries are counted from 1: "entry 2, url"."""
    return ", ".join(f"entry {part + 1}" if isinstance(part, int) else part for part in location)


_CONTROL = r"line ends and other control characters in a text are written as \n or \u000a"
_JSON: Mapping[str, str] = {
    "Expecting value": "a value is expected there",
    "Expecting property name": 'a name in double quotes is expected there, and no comma before a closing "}"',
    "Expecting ':'": "a colon is expected there",
    "Expecting ','": "a comma or a closing bracket is expected there",
    "Extra data": "the value ends before it, and nothing may follow",
    "Unterminated string": "the text in quotes that begins there has no end",
    "Invalid control character": _CONTROL,
    "Invalid \\escape": r"in a text, a backslash is written as \\",
    "Invalid \\u": r"\u must have four hexadecimal digits",
    "Unexpected UTF-8 BOM": "it begins with a byte order mark: save it without one",
    "Illegal trailing comma": "a comma is too many there",
    # orjson's
    "Input is a zero-length": "it is empty",
    "input data is empty": "it is empty",
    "unexpected end of data": "it ends too early",
    "trailing comma": "a comma is too many there",
    "unexpected content after": "the value ends before it, and nothing may follow",
    "unexpected character, expected a string key": "a name in double quotes is expected there",
    "unexpected character, expected ':'": "a colon is expected there",
    "unexpected character, expected ','": "a comma or a closing bracket is expected there",
    "unexpected character": "a value is expected there",
    "invalid literal": "a value is expected there",
    "unexpected control": _CONTROL,
    "invalid escape": r"a backslash in a text begins an escape such as \n, and is itself written as \\",
    "no low surrogate": "half of a surrogate pair stands there",
    "invalid high surrogate": "half of a surrogate pair stands there",
    "invalid low surrogate": "half of a surrogate pair stands there",
    "str is not valid UTF-8": "it is not UTF-8",
    "invalid utf-8": "it is not UTF-8",
    "depth limit": "it is nested too deeply",
    "number is infinity": "the number there is too large",
    "number with leading zero": "a number may not begin with 0 there",
    "no digit": "a digit is missing there",
    "UTF-8 byte order mark": "it begins with a byte order mark: save it without one",
}
"""Our words for the messages of `json` and of orjson, by what each begins with."""


def json_words(error: json.JSONDecodeError) -> str:
    """Says what keeps a text from being JSON, and where: "not JSON at line 1, column 8: …"."""
    words = next((words for start, words in _JSON.items() if error.msg.startswith(start)), "look there")
    return f"not JSON at line {error.lineno}, column {error.colno}: {words}"


_TYPES: Mapping[str, str] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_SCHEMA: Mapping[str, str] = {
    "falseSchema": "has something that the schema does not allow",
    "additionalItems": "has more elements than the schema allows",
    "unevaluatedItems": "has more elements than the schema allows",
    "enum": "must be one of {value}",
    "const": "must be {value}",
    "minLength": "must have at least {value} character(s)",
    "maxLength": "must have at most {value} character(s)",
    "minItems": "must have at least {value} element(s)",
    "maxItems": "must have at most {value} element(s)",
    "minProperties": "must have at least {value} field(s)",
    "maxProperties": "must have at most {value} field(s)",
    "minimum": "must be at least {value}",
    "maximum": "must be at most {value}",
    "exclusiveMinimum": "must be greater than {value}",
    "exclusiveMaximum": "must be less than {value}",
    "multipleOf": "must be a multiple of {value}",
    "uniqueItems": "must not have the same element twice",
    "pattern": "must have the form that `pattern` of the schema gives",
    "contains": "must have an element that the schema asks for (contains)",
    "propertyNames": "has a field whose name the schema does not allow",
    "anyOf": "fits none of the forms that the schema allows (anyOf)",
    "oneOf": "must fit exactly one of the forms that the schema gives (oneOf)",
    "not": "has a form that the schema rules out (not)",
}


def schema_words(error: Any) -> str:
    """Says what a ValidationError of jsonschema-rs is about, without the value that failed and its path."""
    keyword: str = error.kind.name
    value: Any = error.kind.value
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    match keyword:
        case "required":
            return f"{_name(error.kind.property)} is required"
        case "type":
            return f"must be {' or '.join(_TYPES.get(kind, str(kind)) for kind in values)}"
        case "format":
            return f"must be {'a UUID' if value == 'uuid' else f'of the format {value}'}"
        case "additionalProperties" | "unevaluatedProperties":
            return f"has fields that are not known: {', '.join(map(_name, error.kind.unexpected[:5]))}"
        case _:
            words = _SCHEMA.get(keyword, "does not fit `{keyword}` of the schema")
            return _in_number(words.format(value=_cut(", ".join(map(_shown, values[:50]))), keyword=keyword))


def _in_number(words: str) -> str:
    """Returns the words with singular or plural for each `noun(s)` behind a number."""
    return _COUNTED.sub(lambda found: counted(int(found[1]), found[2]), words)


def _name(field: str) -> str:
    return _shown(field[:100])


def _shown(value: object) -> str:
    return _cut(json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    return text if len(text) <= 150 else text[:147] + "..."
