"""Events, and the bytes in which they are delivered (wire contract 9)."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from . import json_form
from .catalog import EventType, schema_url

SOURCE = "akeneo-event-platform"

IDENTIFIER_TYPES = frozenset(
    f"com.akeneo.pim.v1.product.{action}"
    for action in ("created", "updated", "updated.delta", "deleted", "became-complete", "became-incomplete")
)
"""The types whose `data.product.identifier` is delivered only on request (wire contract 4)."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact from a PIM, validated. `time` is RFC 3339 in UTC with `Z`.

    `data_json` is `data` in JavaScript's form; `identity` names the entity and decides the lane. A test event
    of a benchmark names in `benchmark_client` whose benchmark subscriptions it is for (wire contract 14).
    """

    id: str
    type: str
    time: str
    data: dict[str, Any] = field(repr=False)
    data_json: bytes = field(repr=False)
    identity: tuple[str, ...]
    benchmark_client: str | None = None


def example_of(event_type: EventType, *, event_id: str, time: str) -> Event:
    """An event of the type, with the catalog's example as its data."""
    data = event_type.example
    identity = event_type.identity_of(data)
    return Event(event_id, event_type.name, time, data, json_form.stringify(data), identity)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The delivered body of one event, but for the subscription's id that stands between the parts."""

    before_subject: bytes = field(repr=False)
    after_subject: bytes = field(repr=False)

    def addressed_to(self, subscription_id: str) -> bytes:
        """The body as it is signed and sent. Subscription ids are UUIDs, so they need no escaping."""
        return self.before_subject + subscription_id.encode() + self.after_subject


def envelope(event: Event, schema_base: str, *, with_identifier: bool) -> Envelope:
    """The envelope of an event; `schema_base` is the URL under which the schemas are served."""
    data_json = event.data_json if with_identifier else without_identifier(event)
    before_subject, after_subject = _constant_parts(event.type, schema_base)
    return Envelope(
        before_subject=b'{"specversion":"1.0","id":%b%b' % (json_form.stringify(event.id), before_subject),
        after_subject=b'%b"time":%b,"data":%b}' % (after_subject, json_form.stringify(event.time), data_json),
    )


@lru_cache(maxsize=1024)
def _constant_parts(event_type: str, schema_base: str) -> tuple[bytes, bytes]:
    """What lies between the id, the subscription's id and the time, which is the same for all of a type."""
    quoted = json_form.stringify
    return (
        b',"source":"%b","type":%b,"subject":"' % (SOURCE.encode(), quoted(event_type)),
        b'","datacontenttype":"application/json","dataschema":%b,'
        % quoted(schema_url(schema_base, event_type)),
    )


def has_identifier(event: Event) -> bool:
    """Whether the event carries a product identifier that some subscriptions must not get."""
    if event.type not in IDENTIFIER_TYPES:
        return False
    product = event.data.get("product")
    return isinstance(product, dict) and "identifier" in product


def without_identifier(event: Event) -> bytes:
    """`data` in JavaScript's form, `data.product.identifier` left out where it is optional."""
    if not has_identifier(event):
        return event.data_json
    product = {key: value for key, value in event.data["product"].items() if key != "identifier"}
    return json_form.stringify({**event.data, "product": product})
