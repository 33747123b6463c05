"""Plain words for what pydantic finds wrong with a value."""

from collections.abc import Mapping
from typing import Any

_MESSAGES: Mapping[str, str] = {
    "missing": "is required",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
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
    r"^[a-z0-9-]{1,64}$": "must have 1 to 64 lower-case letters, digits and -",
    r"^[a-z0-9-]{1,63}@[a-z0-9.-]{1,200}\.gserviceaccount\.com$": (
        "must be a service account, such as name@project.iam.gserviceaccount.com"
    ),
}
"""Each pattern that a field of ours has, in words."""


def words_of(error: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors. A validator of ours is quoted as it is."""
    context: Mapping[str, Any] = error.get("ctx", {})
    kind = error["type"]
    if kind in ("value_error", "assertion_error") and "error" in context:
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return _FORMS.get(context["pattern"], "has a form that is not taken")
    if kind in _MESSAGES:
        return _MESSAGES[kind].format(**context)
    message = str(error["msg"])
    return message[:1].lower() + message[1:]
