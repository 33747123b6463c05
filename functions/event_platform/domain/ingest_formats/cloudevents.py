"""CloudEvents 1.0 over HTTP, in its three modes, as validated events (contract/ingest.md 2).

Pure: bytes and headers in, events or the list of every problem out.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import unquote

from ..errors import Forbidden, InvalidRequest, Problem, TooLarge, UnsupportedMediaType
from ..events import json_form
from ..events.catalog import Catalog, EventType
from ..events.event import MAX_EVENT_BYTES, Event
from ..events.facts import Facts
from ..events.json_form import MalformedJson
from ..timestamps import normalise_rfc3339, to_rfc3339
from ..urls import normalise_pim_url
from ..values import value_object

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_EVENTS = 1000
MAX_ID_LENGTH = 256
MANY_PROBLEMS = 100
LARGE_EVENT_BYTES = 16 * 1024
"""The limits beyond which only the first problem of an event's data is named: half a million of them fit into
one event, and would take the validator seconds."""


@value_object
class Context:
    """Values that reading needs besides the request: the tenant's normalised URL, the types, the time."""

    tenant: str
    catalog: Catalog
    now: datetime


def read(media_type: str, headers: Mapping[str, str], body: bytes, context: Context) -> list[Event]:
    """The events of a request, all of them valid.

    Raises UnsupportedMediaType, InvalidRequest (every bad event by its index and field), TooLarge
    (events, or one event's data) and Forbidden (an event that claims another PIM); of several that apply,
    the first in the contract's order of checks (contract/wire.md 2).
    """
    if not body:
        raise InvalidRequest(Problem("", "the body is empty; a CloudEvent is needed"))
    plain = json_form.is_plain(body)
    if media_type == BATCH:
        return _batch(_parse(body, plain), context, plain=plain, name_indexes=True)
    if media_type == STRUCTURED:
        return _batch([_parse(body, plain)], context, plain=plain, name_indexes=False)
    if media_type != "application/json":
        raise UnsupportedMediaType(f"the body must be application/json, {STRUCTURED} or {BATCH}")
    if "ce-id" in headers or "ce-type" in headers or "ce-specversion" in headers:
        return _batch([_binary(headers, _parse(body, plain))], context, plain=plain, name_indexes=False)
    value = _parse(body, plain)
    if isinstance(value, list):
        return _batch(value, context, plain=plain, name_indexes=True)
    return _batch([value], context, plain=plain, name_indexes=False)


def read_value(value: json_form.Json, context: Context) -> Event:
    """Returns the event of a structured CloudEvent that was parsed already. Raises as `read` does."""
    (event,) = _batch([value], context, plain=False, name_indexes=False)
    return event


def _parse(body: bytes, plain: bool) -> json_form.Json:
    try:
        return json_form.parse(body, plain=plain)
    except MalformedJson as error:
        raise InvalidRequest(Problem("", error.said_of("the body"))) from error


def _binary(headers: Mapping[str, str], data: json_form.Json) -> dict[str, Any]:
    """Attributes from `ce-` headers, whose values are percent-encoded (CloudEvents HTTP binding 3.1.3.2)."""
    attributes = {
        name[3:]: unquote(_without_quotes(value)) for name, value in headers.items() if name.startswith("ce-")
    }
    return {**attributes, "data": data}


def _without_quotes(value: str) -> str:
    """The value of a quoted string (RFC 9110 5.6.4), which the binding takes as well."""
    if len(value) < 2 or not (value[0] == value[-1] == '"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def _batch(values: json_form.Json, context: Context, *, plain: bool, name_indexes: bool) -> list[Event]:
    if not isinstance(values, list):
        raise InvalidRequest(Problem("", "the body must be an array of CloudEvents"))
    if len(values) > MAX_EVENTS:
        raise TooLarge(f"the request holds {len(values)} events; at most {MAX_EVENTS} are taken")
    problems: list[Problem] = []
    events: list[Event] = []
    for index, value in enumerate(values):
        found = _Problems(f"[{index}]." if name_indexes else "")
        event = _event(
            value, context, found, plain=plain, index=index, briefly=len(problems) >= MANY_PROBLEMS
        )
        problems += found.problems
        if event is not None:
            events.append(event)
    if problems:
        raise InvalidRequest(*problems)
    for value in values:
        _check_pim(value, context)
    return events


class _Problems:
    """The problems of one event, each field named with the event's index before it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.problems: list[Problem] = []

    def add(self, field: str, message: str) -> None:
        self.problems.append(Problem((self.prefix + field).rstrip("."), message))


def _event(
    value: json_form.Json, context: Context, found: _Problems, *, plain: bool, index: int, briefly: bool
) -> Event | None:
    if not isinstance(value, dict):
        found.add("", "must be a CloudEvent: a JSON object")
        return None
    if value.get("specversion") not in (None, "1.0"):
        found.add("specversion", "must be '1.0'")
    if value.get("data_base64") is not None:
        found.add("data_base64", "is not taken; send JSON in data")
    event_id = _text(value, "id", found, _check_id)
    event_type = _text(value, "type", found, _known_type(context.catalog))
    time = _time(value, context.now, found)
    data = value.get("data")
    if not isinstance(data, dict):
        found.add("data", "must be an object" if "data" in value else "is required")
        return None
    data = cast("dict[str, Any]", data)
    data_json = json_form.stringify(data, plain=plain)
    if len(data_json) > MAX_EVENT_BYTES:
        raise TooLarge(f"event {index} is larger than {MAX_EVENT_BYTES // 1024} KiB")
    if event_type is not None:
        briefly = briefly or len(data_json) > LARGE_EVENT_BYTES
        _check_data(context.catalog[event_type], data, found, briefly=briefly)
    if found.problems or event_id is None or event_type is None or time is None:
        return None
    identity = context.catalog[event_type].identity_of(data)
    return Event(event_id, event_type, time, Facts(event_type, data), data_json, identity)


def _check_pim(value: Any, context: Context) -> None:
    """The attribute `pimurl` may repeat what the credential says, and nothing else (contract/ingest.md 1)."""
    claimed = value.get("pimurl")
    if claimed is None:
        return
    try:
        claimed = claimed if isinstance(claimed, str) else ""
        same = normalise_pim_url(claimed, allow_http=True) == context.tenant
    except ValueError:
        same = False
    if not same:
        raise Forbidden("pimurl names another PIM than the one this key belongs to")


def _text(value: dict[str, Any], field: str, found: _Problems, check: Callable[[str], str]) -> str | None:
    """A required string attribute; `check` answers what is wrong with it, or nothing."""
    text = value.get(field)
    if text is None:
        found.add(field, "is required")
    elif not isinstance(text, str) or not text:
        found.add(field, "must be a string that is not empty")
    elif json_form.has_lone_surrogates(text):
        found.add(field, "must not hold half of a surrogate pair")
    elif wrong := check(text):
        found.add(field, wrong)
    else:
        return text
    return None


def _check_id(text: str) -> str:
    return "" if len(text) <= MAX_ID_LENGTH else f"must have at most {MAX_ID_LENGTH} characters"


def _known_type(catalog: Catalog) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name in catalog:
            return ""
        return f"unknown event type {name[:128]!r}; did you mean {catalog.nearest(name[:128])!r}?"

    return check


def _time(value: dict[str, Any], now: datetime, found: _Problems) -> str | None:
    text = value.get("time")
    if text is None:
        return to_rfc3339(now)
    try:
        return normalise_rfc3339(text if isinstance(text, str) else "")
    except ValueError as error:
        found.add("time", str(error))
        return None


def _check_data(event_type: EventType, data: dict[str, Any], found: _Problems, *, briefly: bool) -> None:
    for path, message in event_type.problems_of(data, first_only=briefly):
        found.add(f"data.{path}", message)
