"""Events that Akeneo's own Event Platform delivers to us, to be delivered on (contract/ingest.md 4).

Pure. What comes was accepted over there, so nothing in it is refused: a refusal would count against our
subscription there until it is suspended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeGuard, cast

from pydantic import SecretStr

from ..attempts import signatures
from ..errors import Unauthenticated
from ..events import json_form
from ..events.catalog import Catalog
from ..events.event import MAX_EVENT_BYTES, Event
from ..events.facts import Facts
from ..events.json_form import MalformedJson
from ..timestamps import normalise_rfc3339, to_rfc3339
from . import json_parts
from .cloudevents import LARGE_EVENT_BYTES, MAX_ID_LENGTH

MAX_AGE = timedelta(days=4)
"""The greatest age of an event, by its `time`. A request's signature has no time, so a copy of it would else
be good for ever. Over there an event is given up within hours."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The event, if one can be made of it, and what an operator should know; neither quotes the payload."""

    event: Event | None
    warnings: Sequence[str] = ()
    event_id: str | None = None


def signatures_of(headers: Mapping[str, str]) -> Sequence[str]:
    """The signatures that a request bears. Raises Unauthenticated when it bears none."""
    names = (signatures.PRIMARY_HEADER, signatures.SECONDARY_HEADER)
    found = [headers[name] for name in names if headers.get(name)]
    if not found:
        raise Unauthenticated(f"{signatures.PRIMARY_HEADER} is needed, as the Event Platform sends it")
    return found


def check(found: Sequence[str], body: bytes | bytearray, secrets: Sequence[SecretStr]) -> None:
    """Raises Unauthenticated when none of the signatures was made with any of the secrets."""
    if not signatures.verify_any(body, [each.get_secret_value() for each in secrets], found):
        raise Unauthenticated(
            f"{signatures.PRIMARY_HEADER} is not that of a PIM with this key: the subscription there must"
            " have the relay secret of this PIM as its primary or secondary secret"
        )


def read(body: bytes, catalog: Catalog, now: datetime) -> Relayed:
    """The event in a body: a structured CloudEvent of which `id`, `type`, `time` and `data` are kept."""
    try:
        value = _parse(body)
    except MalformedJson as error:
        return Relayed(None, [error.said_of("the body")], id_in(body))
    if not isinstance(value, dict):
        return Relayed(None, ["the body is no JSON object"])
    event_id, event_type, data = value.get("id"), value.get("type"), value.get("data")
    if not _is_id(event_id):
        return Relayed(None, [f"id is no text of 1 to {MAX_ID_LENGTH} characters"])
    if not isinstance(event_type, str) or event_type not in catalog:
        return Relayed(None, [f"unknown event type {str(event_type)[:128]!r}"], event_id)
    if not isinstance(data, dict):
        return Relayed(None, ["data is no object"], event_id)
    data = cast("dict[str, Any]", data)
    time, warnings = _time(value.get("time"), now)
    if now - datetime.fromisoformat(time[:19] + "Z") > MAX_AGE:
        return Relayed(None, [f"its time {time} is more than {MAX_AGE.days} days ago"], event_id)
    data_json = json_form.stringify(data, plain=json_form.is_plain(body))
    if len(data_json) > MAX_EVENT_BYTES:
        size = f"data has {len(data_json)} bytes as it is delivered; at most {MAX_EVENT_BYTES} are taken"
        return Relayed(None, [size], event_id)
    warnings += _misfits(catalog, event_type, data, data_json)
    identity = catalog[event_type].identity_of(data)
    event = Event(event_id, event_type, time, Facts(event_type, data), data_json, identity)
    return Relayed(event, warnings, event_id)


def id_in(body: bytes | bytearray) -> str | None:
    """The id of an event that is not read, where it can be found in a short time."""
    event_id = json_parts.find_text(body, "id")
    return event_id if _is_id(event_id) else None


def _parse(body: bytes) -> json_form.Json:
    """The body as JSON; of one that cannot be read as a whole, all that is kept. Raises MalformedJson."""
    try:
        return json_form.parse(body, round_integers=True)
    except MalformedJson:
        data = next((group for group in json_parts.groups(body, 1) if group.key == "data"), None)
        value = json_parts.members(body)
        if data is None or not value:
            raise
        return {**value, "data": json_form.parse(data.text_of(body), round_integers=True)}


def _is_id(value: object) -> TypeGuard[str]:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH:
        return False
    return not json_form.has_lone_surrogates(value)


def _time(value: object, now: datetime) -> tuple[str, list[str]]:
    try:
        return normalise_rfc3339(value if isinstance(value, str) else ""), []
    except ValueError:
        return to_rfc3339(now), ["time is no RFC 3339 date-time, so it is now"]


def _misfits(catalog: Catalog, event_type: str, data: dict[str, Any], data_json: bytes) -> list[str]:
    briefly = len(data_json) > LARGE_EVENT_BYTES  # all problems of a large event would take long
    found = catalog[event_type].problems_of(data, first_only=briefly)
    return [f"data.{path} does not fit the schema".replace(". ", " ") for path, _ in found[:10]]
