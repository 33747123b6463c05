"""The webhook of a PIM's own Events API, as validated events (contract/ingest.md 3).

Pure. Every PIM from 5.0 on can send it; the body is what PHP's json_encode makes of up to ten events.
"""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, cast

import orjson
from pydantic import SecretStr

from ..attempts import signatures
from ..errors import InvalidRequest, Problem, TooLarge, Unauthenticated
from ..events import json_form
from ..events.catalog import Catalog
from ..events.event import Event
from ..events.facts import Facts
from ..tenants import Tenant
from ..timestamps import normalise_rfc3339
from ..validation_words import json_words
from . import json_parts
from .cloudevents import MAX_EVENTS, MAX_ID_LENGTH

SIGNATURE_HEADER = "X-Akeneo-Request-Signature"
TIMESTAMP_HEADER = "X-Akeneo-Request-Timestamp"
MAX_AGE_SECONDS = 300
MAX_AHEAD_SECONDS = 60
MAX_TEXT_LENGTH = 1024
"""The most characters of a user name, an identifier, a code or a time. A PIM's have at most 255."""
UNKNOWN_AUTHOR = "unknown"
"""The author of an event that names none: the schemas want one, and nobody's event is lost for it."""
UNSIGNED_TEST = "unsigned_test"
"""The reason of a refusal: PIMs 5.0.0 and 5.0.1 sign their events, but not the call of the button Test."""
LISTED = 10

_AUTHOR_TYPES = {"ui": "user", "api": "api", "system": "system"}
_OTHER_AUTHOR_TYPE = "unknown-user-type"
_LEVELS = 3
"""The levels of an event down to the members of `data.resource`."""
_LEVELS_WITH_VALUES = 6
"""The levels down to the members of `data.resource.values.<attribute>[]`."""
_UNIX_SECONDS = re.compile(r"\d{1,12}", re.ASCII)
_OFFSET_WITHOUT_COLON = re.compile(r"([+-]\d\d)(\d\d)$", re.ASCII)


class _Becomes(NamedTuple):
    """The type that an action becomes, and what of the catalog's data it is about."""

    type: str
    entity: str


_ACTIONS: Mapping[str, _Becomes] = {
    f"{entity}.{action}": _Becomes(f"com.akeneo.pim.v1.{entity.replace('_', '-')}.{becomes}", entity)
    for entity in ("product", "product_model")
    for action, becomes in (("created", "created"), ("updated", "updated"), ("removed", "deleted"))
}
ACTIONS: Mapping[str, str] = {action: becomes.type for action, becomes in _ACTIONS.items()}
"""The actions that are taken in, and the type that each becomes."""


@dataclass(frozen=True, slots=True)
class Call:
    """The signature of a request: when it was made, and its value."""

    timestamp: str
    signature: str = field(repr=False)

    def check(self, body: bytes | bytearray, secrets: Sequence[SecretStr]) -> None:
        """Raises Unauthenticated when none of the secrets signed the body."""
        keys = [each.get_secret_value() for each in secrets]
        if not signatures.verify_any(body, keys, [self.signature], b"%b." % self.timestamp.encode()):
            raise Unauthenticated(
                f"{SIGNATURE_HEADER} is not that of a PIM with this key: check the URL, and the secret that"
                " `aep pims add URL --events-api-secret -` was given"
            )


@dataclass(frozen=True, slots=True)
class Taken:
    """The events of a request, how often each unknown action came, and what is wrong with malformed ones.

    `updated` is when the entity of each event was updated last, in unix seconds, -1 where the PIM does not
    say so; it is empty unless that was asked for.
    """

    events: Sequence[Event] = ()
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])
    malformed: int = 0
    problems: Sequence[Problem] = ()
    updated: Sequence[int] = ()

    def left_out(self) -> dict[str, Any]:
        """The parts of the request that became no event, for a log line; empty if all did."""
        if not self.skipped and not self.malformed:
            return {}
        return {
            "unknown_actions": dict(islice(self.skipped.items(), LISTED)),
            "malformed": self.malformed,
            "problems": [str(problem) for problem in self.problems[:LISTED]],
        }


def call_of(headers: Mapping[str, str], *now: datetime) -> Call:
    """The call that the headers speak of. Raises Unauthenticated, also for one of another time.

    `now` is the time by each clock that may be right; one of them is enough.
    """
    signature, timestamp = headers.get(SIGNATURE_HEADER, ""), headers.get(TIMESTAMP_HEADER, "")
    if not signature or _UNIX_SECONDS.fullmatch(timestamp) is None:
        is_bare = not signature and not timestamp and headers.get("Content-Length", "0") == "0"
        raise Unauthenticated(
            f"{SIGNATURE_HEADER} and {TIMESTAMP_HEADER} (unix seconds) are needed, as a PIM sends them",
            UNSIGNED_TEST if is_bare else "",
        )
    ages = [each.timestamp() - int(timestamp) for each in now]
    if not any(-MAX_AHEAD_SECONDS <= age <= MAX_AGE_SECONDS for age in ages):
        age = min(ages, key=abs)
        raise Unauthenticated(
            f"{TIMESTAMP_HEADER} is {abs(age):.0f} s {'old' if age > 0 else 'ahead'}: at most"
            f" {MAX_AGE_SECONDS} s old and {MAX_AHEAD_SECONDS} s ahead are taken; check the clocks",
            "clock",
        )
    return Call(timestamp, signature)


def read(body: bytes, tenant: Tenant, catalog: Catalog, *, with_updated: bool = False) -> Taken:
    """The events of a body; the PIM's Test button sends none at all.

    The PIM sends nothing twice, so a malformed event costs none of those beside it, and what no event is made
    of is not judged. Raises InvalidRequest
    when the body is not of this form or holds malformed events alone, and TooLarge (number of events).
    """
    return _read(body, _loads(body), tenant, catalog, with_updated=with_updated) if body else Taken()


def read_if_body(body: bytes, tenant: Tenant, catalog: Catalog) -> Taken | None:
    """Does what `read` does, or returns None for a CloudEvent, where nothing else distinguishes the two."""
    if b'"events"' not in body:
        return None
    value = _loads(body)
    members = json_parts.members(body) if isinstance(value, orjson.JSONDecodeError) else value
    if not isinstance(members, dict) or "events" not in members or "type" in members:
        return None
    return _read(body, value, tenant, catalog)


def _read(body: bytes, value: Any, tenant: Tenant, catalog: Catalog, *, with_updated: bool = False) -> Taken:
    values = _events_in(body, value, _LEVELS if tenant.identifier_attribute is None else _LEVELS_WITH_VALUES)
    problems: list[Problem] = []
    events: list[Event] = []
    updated: list[int] = []
    skipped: Counter[str] = Counter()
    malformed = 0
    for index, value in enumerate(values):
        reader = _Reader(f"events[{index}]", problems)
        if isinstance(value, _Unreadable):
            reader.wrong("", value.problem)
            malformed += 1
            continue
        action = reader.object(value, "").get("action")
        if isinstance(action, str) and action not in _ACTIONS:
            skipped[action[:MAX_ID_LENGTH]] += 1
        elif (event := _event(value, reader, tenant, catalog)) is not None:
            events.append(event)
            if with_updated:
                updated.append(_updated(value))
        else:
            malformed += 1
    if malformed and not events and not skipped:
        raise InvalidRequest(*problems)
    return Taken(events, skipped, malformed, problems, updated)


def made_up_uuid(tenant: str, identifier: str) -> str:
    """The UUID that stands for a product of a PIM that has none yet (before 7.0): the same for ever.

    Version 5 (RFC 9562 5.5) of the identifier, in the namespace that is version 5 of the tenant's
    normalised URL in the namespace of URLs.
    """
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, tenant), identifier))


def has_made_up_uuid(event: Event, tenant: str) -> bool:
    """True if the PIM does not know the product's UUID, so that only the identifier names the product."""
    product = event.facts.part("product")
    identifier, known_as = product.get("identifier"), product.get("uuid")
    if not isinstance(identifier, str) or not isinstance(known_as, str) or known_as[14:15] != "5":
        return False
    return not json_form.has_lone_surrogates(identifier) and known_as.lower() == made_up_uuid(
        tenant, identifier
    )


def _loads(body: bytes) -> Any:
    """The value of a body, or the error that says why it has none."""
    # Nearly all of it is thrown away, and none of it delivered as it is written, so how JavaScript would
    # read it plays no part, and orjson is several times as fast.
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return error


def _events_in(body: bytes, value: Any, levels: int) -> list[Any]:
    if isinstance(value, orjson.JSONDecodeError):
        if readable := list(islice(_events_apart(body, levels), MAX_EVENTS + 1)):
            return _not_too_many(readable)
        raise InvalidRequest(Problem("", f"the body is {json_words(value)}")) from value
    events = cast("dict[str, Any]", value).get("events") if isinstance(value, dict) else None
    if not isinstance(events, list):
        raise InvalidRequest(Problem("events", "must be an array of events, as the Events API sends them"))
    return _not_too_many(cast("list[Any]", events))


def _not_too_many(events: list[Any]) -> list[Any]:
    if len(events) > MAX_EVENTS:
        raise TooLarge(f"the request holds more than {MAX_EVENTS} events, which is the most that are taken")
    return events


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Stands for an event that is no JSON."""

    problem: str


def _events_apart(body: bytes, levels: int) -> Iterator[Any]:
    """Reads the events of a body that is no JSON as a whole, each by itself and without what is thrown away.

    Half of a surrogate pair, a number that is too large or thousands of levels in the values of a product
    cost nothing so. Of each event, so many levels are read.
    """
    for event in json_parts.groups(body, 2, levels=levels):
        if event.parent == "events":
            try:
                yield json_parts.parse(event.text_of(body))
            except json.JSONDecodeError as error:
                yield _Unreadable(f"is {json_words(error)}")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the parts of one event; what is wrong goes to `problems`, named below `prefix`."""

    prefix: str
    problems: list[Problem]

    def wrong(self, field: str, message: str) -> None:
        self.problems.append(Problem(f"{self.prefix}.{field}".rstrip("."), message))

    def object(self, value: object, field: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.wrong(field, "must be an object")
        return {}

    def text(self, holder: Mapping[str, Any], field: str, name: str, at_most: int = MAX_TEXT_LENGTH) -> str:
        """A string that is needed; empty when there is none."""
        if text := _text(holder.get(name), at_most):
            return text
        self.wrong(f"{field}{name}", f"must be a string of 1 to {at_most} characters")
        return ""


def _text(value: object, at_most: int = MAX_TEXT_LENGTH) -> str:
    """A string that can be delivered; empty for anything else."""
    if not isinstance(value, str) or len(value) > at_most or json_form.has_lone_surrogates(value):
        return ""
    return value


def _event(value: Any, reader: _Reader, tenant: Tenant, catalog: Catalog) -> Event | None:
    """None when anything is wrong with it."""
    before = len(reader.problems)
    if not isinstance(value, dict):
        return None
    holder = cast("dict[str, Any]", value)
    event_id = reader.text(holder, "", "event_id", MAX_ID_LENGTH)
    time = _time(holder, reader)
    author = _author(holder, tenant)
    becomes = _ACTIONS.get(reader.text(holder, "", "action"))
    resource = reader.object(reader.object(holder.get("data"), "data").get("resource"), "data.resource")
    if becomes is None or len(reader.problems) > before:
        return None
    data = {becomes.entity: _entity(becomes.entity, resource, reader, tenant), "author": author}
    event_type = catalog[becomes.type]
    for path, message in event_type.problems_of(data) if len(reader.problems) == before else ():
        reader.wrong(f"data.resource.{path.partition('.')[2]}", message)
    if len(reader.problems) > before:
        return None
    facts = Facts(event_type.name, data)
    return Event(
        event_id, event_type.name, time, facts, json_form.stringify(data), event_type.identity_of(data)
    )


def _entity(entity: str, resource: Mapping[str, Any], reader: _Reader, tenant: Tenant) -> dict[str, Any]:
    """Returns the entity of an event: a product by `uuid` and `identifier`, a product model by `code`."""
    if entity == "product_model":
        return {"code": reader.text(resource, "data.resource.", "code")}
    if resource.get("uuid") is not None:
        known_as = reader.text(resource, "data.resource.", "uuid")
        identifier = _text(resource.get("identifier")) or _identifier_in_values(resource, tenant)
        return {"uuid": known_as} | ({"identifier": identifier} if identifier else {})
    identifier = reader.text(resource, "data.resource.", "identifier")
    return {"uuid": made_up_uuid(tenant.name, identifier), "identifier": identifier}


def _identifier_in_values(resource: Mapping[str, Any], tenant: Tenant) -> str:
    """The value of the PIM's identifier attribute; empty when there is none.

    With the option to send UUIDs, a PIM has the identifier there alone, but for a removed product.
    """
    values: Any = resource.get("values")
    if tenant.identifier_attribute is None or not isinstance(values, dict):
        return ""
    match cast("dict[str, Any]", values).get(tenant.identifier_attribute):
        case [{"data": data}, *_]:
            return _text(cast("object", data))
        case _:
            return ""


def _author(holder: Mapping[str, Any], tenant: Tenant) -> dict[str, str]:
    """Returns the author. An api user that is listed has its client id, so that clients know themselves."""
    name, kind = _text(holder.get("author")) or UNKNOWN_AUTHOR, holder.get("author_type")
    if kind == "api":
        name = next((each.client_id for each in tenant.clients if each.username == name), name)
    author_type = _AUTHOR_TYPES.get(kind, _OTHER_AUTHOR_TYPE) if isinstance(kind, str) else _OTHER_AUTHOR_TYPE
    return {"identifier": name, "type": author_type}


def _updated(value: Any) -> int:
    """Returns when the entity of an event was updated last, in unix seconds; -1 if that is not said."""
    try:
        moment = datetime.fromisoformat(value["data"]["resource"]["updated"])
    except (KeyError, TypeError, ValueError):
        return -1
    return -1 if moment.tzinfo is None else int(moment.timestamp())


def _time(holder: Mapping[str, Any], reader: _Reader) -> str:
    """Returns the event's time, which PIMs 5.0.0 and 5.0.1 call `event_date`; empty when it is not valid."""
    has_old_name = holder.get("event_datetime") is None and isinstance(holder.get("event_date"), str)
    name = "event_date" if has_old_name else "event_datetime"
    if not (text := reader.text(holder, "", name)):
        return ""
    try:
        return normalise_rfc3339(_OFFSET_WITHOUT_COLON.sub(r"\1:\2", text))
    except ValueError as error:
        reader.wrong(name, str(error))
        return ""
