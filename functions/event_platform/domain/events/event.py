"""Events, and the bytes in which they are delivered (contract/wire.md 9)."""

from collections.abc import Callable
from dataclasses import field
from functools import lru_cache
from typing import Any

from ..values import value_object
from . import json_form
from .catalog import EventType, schema_url
from .facts import Facts

SOURCE = "akeneo-event-platform"
MAX_EVENT_BYTES = 900 * 1024
"""Largest size of an event's data as they are delivered (contract/ingest.md 2), in whatever format it came.
Every store and topic that an event goes through takes that much."""


@value_object
class Event:
    """A fact from a PIM, validated. `time` is RFC 3339 in UTC with `Z`.

    `data_json` is `data` in JavaScript's form, and `facts` are what fan-out needs of `data` besides: the
    parsed data are not kept. `identity` names the entity and decides the lane. A test event of a benchmark
    names in `benchmark_client` whose benchmark subscriptions it is for (contract/wire.md 14).
    """

    id: str
    type: str
    time: str
    facts: Facts = field(repr=False, compare=False)
    data_json: bytes = field(repr=False)
    identity: tuple[str, ...]
    benchmark_client: str | None = None

    def __reduce__(self) -> "tuple[Callable[..., Event], tuple[Any, ...]]":
        """Pickles it as bytes and short texts, so that another process gets it at the cost of moving them."""
        facts = self.facts.to_json(self.data_json)
        row = (self.id, self.type, self.time, facts, self.data_json, self.identity, self.benchmark_client)
        return event_of_row, row


def event_of_row(
    event_id: str,
    event_type: str,
    time: str,
    facts: bytes,
    data_json: bytes,
    identity: tuple[str, ...],
    benchmark_client: str | None,
) -> Event:
    """The event again; `facts` as `Facts.to_json` wrote them."""
    return Event(event_id, event_type, time, Facts(event_type, facts), data_json, identity, benchmark_client)


def example_of(event_type: EventType, *, event_id: str, time: str) -> Event:
    """An event of the type, with the catalog's example as its data."""
    data = event_type.example
    identity = event_type.identity_of(data)
    facts = Facts(event_type.name, data)
    return Event(event_id, event_type.name, time, facts, json_form.stringify(data), identity)


@value_object
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
    return rendered(event.id, event.type, event.time, data_json, schema_base)


def rendered(event_id: str, event_type: str, time: str, data_json: bytes, schema_base: str) -> Envelope:
    """The envelope around the data of an event, which are in JavaScript's form."""
    before_subject, after_subject = _constant_parts(event_type, schema_base)
    return Envelope(
        before_subject=b'{"specversion":"1.0","id":%b%b' % (json_form.stringify(event_id), before_subject),
        after_subject=b'%b"time":%b,"data":%b}' % (after_subject, json_form.stringify(time), data_json),
    )


@lru_cache(maxsize=1024)
def _constant_parts(event_type: str, schema_base: str) -> tuple[bytes, bytes]:
    """Returns the parts between id, subscription's id and time, which are the same for all of a type."""
    quoted = json_form.stringify
    return (
        b',"source":"%b","type":%b,"subject":"' % (SOURCE.encode(), quoted(event_type)),
        b'","datacontenttype":"application/json","dataschema":%b,'
        % quoted(schema_url(schema_base, event_type)),
    )


def without_identifier(event: Event) -> bytes:
    """`data` in JavaScript's form, `data.product.identifier` left out where it is optional."""
    span = event.facts.identifier_span(event.data_json)
    if span is None:
        return event.data_json
    return event.data_json[: span[0]] + event.data_json[span[1] :]
