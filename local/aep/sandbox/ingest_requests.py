"""The requests that bring events to a platform's ingest, one for each format (contract/ingest.md 2 to 4)."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from event_platform.domain.attempts import signatures
from event_platform.domain.attempts.delivery_headers import Sent, signed
from event_platform.domain.events import json_form
from event_platform.domain.events.catalog import schema_url
from event_platform.domain.events.event import SOURCE
from event_platform.domain.ingest_formats import events_api

from .events import CloudEvent

Resources = Mapping[str, dict[str, Any]]
NO_RESOURCES: Resources = {}

PIM_MOST_EVENTS = 10
"""The most events in one request of a PIM's Events API."""
PIM_PATIENCE_SECONDS = 0.5
"""The seconds that a PIM waits for the answer; it does not send again (contract/ingest.md 3)."""
PATIENCE_SECONDS = 10.0
EVENTS_API_PLACE, RELAY_PLACE = "/ingest/events-api/", "/ingest/relay/"

_ACTION_OF = {event_type: action for action, event_type in events_api.ACTIONS.items()}
_AUTHOR_TYPES = {"user": "ui", "api": "api"}
_RELAYED_SUBJECT = "01890a5d-ac96-774b-bcce-b302099a8057"  # of the subscription at Akeneo's Event Platform
_SPEC = "https://event-platform.example.com"


class Format(StrEnum):
    """The three ways in which CloudEvents travel, a PIM's Events API, and Akeneo's own Event Platform."""

    STRUCTURED = "structured"
    BATCH = "batch"
    BINARY = "binary"
    EVENTS_API = "events-api"
    RELAY = "relay"

    @property
    def place(self) -> str | None:
        """The part that the URL to send to must have, before a PIM's key; None if every URL of a platform
        will do.
        """
        return {Format.EVENTS_API: EVENTS_API_PLACE, Format.RELAY: RELAY_PLACE}.get(self)

    @property
    def patience(self) -> float:
        """The seconds that the sender waits for an answer."""
        return PIM_PATIENCE_SECONDS if self is Format.EVENTS_API else PATIENCE_SECONDS

    @property
    def is_sent_again(self) -> bool:
        """True if the sender repeats a request that failed."""
        return self is not Format.EVENTS_API

    def carries(self, event_type: str) -> bool:
        """True if events of the type can be sent so: the Events API knows products and product models."""
        return self is not Format.EVENTS_API or event_type in _ACTION_OF

    def most_events(self, batch: int) -> int:
        """Returns the number of events in a request, when `batch` are wanted."""
        match self:
            case Format.BATCH:
                return batch
            case Format.EVENTS_API:
                return min(batch, PIM_MOST_EVENTS)
            case _:
                return 1


EVENTS_API_TYPES = tuple(sorted(_ACTION_OF))


@dataclass(frozen=True, slots=True)
class Post:
    """A request with so many events; `success` is the status by which they are accepted."""

    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    events: int
    success: int


def post(
    group: Sequence[CloudEvent],
    format: Format,  # noqa: A002 - as CloudEvents name it
    key: str,
    resources: Resources = NO_RESOURCES,
) -> Post:
    """Returns the request of these events now; `key` is the ingest key, or the secret that signs.

    `resources` are the entities in the PIM's form by the ids of their events, for the Events API; an event
    without one gets an example.
    """
    match format:
        case Format.STRUCTURED:
            headers, body = _bearer(key, "application/cloudevents+json"), orjson.dumps(group[0])
        case Format.BATCH:
            headers, body = _bearer(key, "application/cloudevents-batch+json"), orjson.dumps(group)
        case Format.BINARY:
            attributes = ("specversion", "id", "source", "type", "time")
            of_it = {f"ce-{name}": group[0][name] for name in attributes}
            headers, body = of_it | _bearer(key, "application/json"), orjson.dumps(group[0]["data"])
        case Format.EVENTS_API:
            body = _php_json({"events": [_as_the_pim_says(event, resources) for event in group]})
            headers = _signed_by_a_pim(body, key)
        case Format.RELAY:
            body = json_form.stringify(_relayed(group[0]))
            headers = dict(signed(Sent(group[0]["id"], body, key)))
    return Post(headers, body, len(group), 200 if format is Format.EVENTS_API else 202)


def _bearer(key: str, content_type: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": content_type}


def _signed_by_a_pim(body: bytes, secret: str) -> dict[str, str]:
    timestamp = str(int(time.time()))
    return {
        "Content-Type": "application/json",
        events_api.SIGNATURE_HEADER: signatures.sign(b"%b.%b" % (timestamp.encode(), body), secret),
        events_api.TIMESTAMP_HEADER: timestamp,
    }


def _php_json(value: Any) -> bytes:
    """Returns JSON as PHP's json_encode writes it by default: slashes and all that is not ASCII escaped."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/").encode()


def _as_the_pim_says(event: CloudEvent, resources: Resources) -> dict[str, Any]:
    author = event["data"]["author"]
    moment = datetime.fromisoformat(event["time"]).astimezone()  # with the offset of this machine
    return {
        "action": _ACTION_OF[event["type"]],
        "event_id": event["id"],
        "event_datetime": moment.isoformat(timespec="seconds"),
        "author": author["identifier"],
        "author_type": _AUTHOR_TYPES.get(author["type"], "system"),
        "pim_source": "http://localhost:8080",  # the setting's default, which most leave as it is
        "data": {"resource": resources.get(event["id"]) or _resource(event)},
    }


def _resource(event: CloudEvent) -> dict[str, Any]:
    """Returns the PIM's form of an entity: all of it, or only its name if it was removed."""
    noun = "product" if "product" in event["data"] else "product_model"
    known_as: dict[str, Any] = event["data"][noun]
    if event["type"].endswith(".deleted"):
        return known_as
    values = {
        "name": [{"locale": "de_DE", "scope": None, "data": "Gelenkleuchte für Schreibtische"}],
        "description": [{"locale": "fr_FR", "scope": "ecommerce", "data": "<p>Lampe à poser / 40 W</p>"}],
        "weight": [{"locale": None, "scope": None, "data": {"amount": "1.2500", "unit": "KILOGRAM"}}],
    }
    times = {"created": "2026-01-05T09:30:00+00:00", "updated": "2026-01-31T12:00:00+00:00"}
    own = {"enabled": True, "groups": []} if noun == "product" else {"family_variant": "lamps_by_colour"}
    both = {"family": "lamps", "parent": None, "categories": ["office", "lighting"], "values": values}
    return {**known_as, **both, **own, **times, "associations": {}, "quantified_associations": {}}


def _relayed(event: CloudEvent) -> dict[str, Any]:
    """Returns an event as Akeneo's Event Platform delivers it (contract/wire.md 9)."""
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": SOURCE,
        "type": event["type"],
        "subject": _RELAYED_SUBJECT,
        "datacontenttype": "application/json",
        "dataschema": schema_url(_SPEC, event["type"]),
        "time": event["time"],
        "data": event["data"],
    }
