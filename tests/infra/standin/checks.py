"""Checks of inputs against the argument classes of pulumi_gcp, and against rules where a file has some."""

import base64
import inspect
import json
import os
import re
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pulumi import _types

from .package import arguments_of, classes, plain_types, snake_case
from .wire import ARCHIVE, ASSET, SIGNATURE, Properties, is_unknown

Failures = list[tuple[str, str]]
"""Path and reason of each."""

SCALARS: Mapping[Any, tuple[str, typing.Callable[[Any], bool]]] = {
    bool: ("a boolean", lambda value: isinstance(value, bool)),
    int: (
        "an integer",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        ),
    ),
    float: ("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    str: ("a string", lambda value: isinstance(value, str)),
}


@cache
def all_rules() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Returns the rules by token and path; none without a file of rules."""
    file = os.environ.get("STANDIN_RULES")
    return json.loads(Path(file).read_text()) if file else {}


def rules_of(token: str) -> Mapping[str, Mapping[str, Any]]:
    """Returns the rules of a resource type by path."""
    return all_rules().get(token, {})


def check(token: str, inputs: Properties) -> Failures:
    """Returns what is wrong with the inputs of a resource."""
    return _check_object(inputs, classes(token)[1], "") + _check_rules(token, inputs)


def _check(value: Any, kinds: Sequence[Any], path: str) -> Failures:
    if value is None or is_unknown(value) or not kinds or typing.Any in kinds:
        return []
    tried = [_check_one(value, kind, path) for kind in kinds]
    return [] if [] in tried else min(tried, key=len)


def _check_one(value: Any, kind: Any, path: str) -> Failures:
    origin = typing.get_origin(kind)
    if origin in (list, Sequence) and (inner := typing.get_args(kind)):
        if not isinstance(value, list):
            return [(path, f"expected a list, got {_shown(value)}")]
        return [
            each
            for index, item in enumerate(value)
            for each in _check(item, plain_types(inner[0]), f"{path}[{index}]")
        ]
    if origin in (dict, Mapping) and (inner := typing.get_args(kind)):
        if not isinstance(value, dict):
            return [(path, f"expected a map, got {_shown(value)}")]
        return [
            each
            for key, item in value.items()
            for each in _check(item, plain_types(inner[1]), f"{path}.{key}")
        ]
    if inspect.isclass(kind) and _types.is_input_type(kind):
        if not isinstance(value, dict):
            return [(path, f"expected an object, got {_shown(value)}")]
        return _check_object(value, kind, f"{path}.")
    if inspect.isclass(kind) and kind.__module__.startswith("pulumi.asset"):
        signed = isinstance(value, dict) and value.get(SIGNATURE) in (ASSET, ARCHIVE)
        return [] if signed else [(path, f"expected an asset or archive, got {_shown(value)}")]
    wanted, fits = SCALARS.get(kind, ("", lambda _: True))
    return [] if fits(value) else [(path, f"expected {wanted}, got {_shown(value)}")]


def _check_object(value: Properties, cls: type, prefix: str) -> Failures:
    known = arguments_of(cls)
    failures: Failures = []
    for key, inner in value.items():
        if key == "__defaults":
            continue
        if key in known:
            failures += _check(inner, known[key][0], prefix + key)
            continue
        near = [name for name in known if snake_case(name).replace("_", "") == key.replace("_", "").lower()]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        failures.append((prefix + key, f"an argument named {key!r} is not expected here{hint}"))
    failures += [
        (prefix + key, f"missing required argument {key!r}")
        for key, (_, required, _) in known.items()
        if required and value.get(key) is None
    ]
    return failures


def _shown(value: Any) -> str:
    return json.dumps(value)[:60]


def _at(value: Any, path: str) -> list[tuple[str, Any]]:
    """Returns path and value of each place that the path of a rule names; lists are passed through."""
    places: list[tuple[str, Any]] = [("", value)]
    for step in path.split("."):
        following: list[tuple[str, Any]] = []
        for where, here in places:
            items = enumerate(here) if isinstance(here, list) else [(None, here)]
            for index, item in items:
                if isinstance(item, dict):
                    spot = where if index is None else f"{where}[{index}]"
                    following.append((f"{spot}.{step}".lstrip("."), item.get(step)))
        places = following
    return places


def _is_given(value: Properties, path: str) -> bool:
    return any(found is not None for _, found in _at(value, path))


def _has_form(form: str, text: str) -> bool:
    """True if the text has one of the forms that the Terraform schema checks with a function."""
    if form == "iamMember":
        return ":" in text or text in ("allUsers", "allAuthenticatedUsers")
    if form == "domain":
        return "." in text
    try:
        json.loads(text) if form == "json" else base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _check_rules(token: str, inputs: Properties) -> Failures:
    failures: Failures = []
    for path, rule in rules_of(token).items():
        for where, found in _at(inputs, path):
            if found is None or is_unknown(found):
                continue
            failures += [(where, reason) for reason in _breaks(rule, path, found, inputs)]
        failures += [(path, reason) for reason in _breaks_group(rule, path, inputs)]
    return failures


def _breaks(rule: Mapping[str, Any], path: str, found: Any, inputs: Properties) -> Sequence[str]:
    """Returns the reasons for which a value breaks a rule."""
    reasons: list[str] = []
    if isinstance(found, str):
        if (allowed := rule.get("enum")) and found not in allowed:
            reasons.append(f"expected {path} to be one of {allowed}, got {found}")
        if (pattern := rule.get("pattern")) and not re.search(pattern, found):
            reasons.append(f"{found!r} does not match {pattern!r}")
        if (form := rule.get("format")) and not _has_form(form, found):
            reasons.append(f"{found!r} is no valid {form}")
    low, high = rule.get("range", (None, None))
    if isinstance(found, int | float) and (
        (low is not None and found < low) or (high is not None and found > high)
    ):
        reasons.append(f"expected {path} to be in the range ({low} - {high}), got {found}")
    if isinstance(found, list) and (most := rule.get("maxItems")) and len(found) > most:
        reasons.append(f"too many items: at most {most}, got {len(found)}")
    reasons += [
        f"conflicts with {other}" for other in rule.get("conflictsWith", ()) if _is_given(inputs, other)
    ]
    reasons += [
        f"all of {[path, *rule['requiredWith']]} must be specified"
        for other in rule.get("requiredWith", ())
        if not _is_given(inputs, other)
    ]
    return reasons


def _breaks_group(rule: Mapping[str, Any], path: str, inputs: Properties) -> Sequence[str]:
    """Returns the reasons for which too many or too few members of a group of arguments are given."""
    reasons: list[str] = []
    for word, words, fits in (
        ("exactlyOneOf", "exactly", lambda count: count == 1),
        ("atLeastOneOf", "at least", lambda count: count > 0),
    ):
        group = rule.get(word)
        if group and path == group[0] and _at(inputs, path):
            given = sum(_is_given(inputs, other) for other in group)
            if not fits(given):
                reasons.append(f"{words} one of {group} must be specified")
    return reasons


def with_defaults(token: str, inputs: Properties) -> Properties:
    """Returns the inputs with the defaults of the rules, at the top and in every block that is given."""
    for path, rule in rules_of(token).items():
        if "default" not in rule:
            continue
        *parents, last = path.split(".")
        blocks: list[Any] = [inputs]
        for step in parents:
            inner = [block.get(step) for block in blocks]
            flat = [item for value in inner for item in (value if isinstance(value, list) else [value])]
            blocks = [item for item in flat if isinstance(item, dict) and SIGNATURE not in item]
        conflicts = any(_is_given(inputs, other) for other in rule.get("conflictsWith", ()))
        for block in blocks:
            if block.get(last) is None and not conflicts:
                block[last] = rule["default"]
    return inputs
