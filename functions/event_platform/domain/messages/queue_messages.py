"""Messages of the topics between the functions: accepted events, deliveries in their lanes, and ids of
notifications.

Pub/Sub takes attribute values of at most 1,024 bytes of UTF-8, and requests of at most 10 MB.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from ..deliveries import Delivery
from ..events import json_form
from ..events.catalog import Catalog
from ..events.event import SOURCE, Event
from ..events.facts import Facts
from ..events.json_form import MalformedJson
from ..tenants import tenant_key
from .message import MalformedMessage, Message

EVENTS_TOPIC = "events"
NOTIFICATIONS_TOPIC = "notifications"
DEAD_LETTERS_TOPIC = "dead-letters"
ALONE = "alone"
TENANT_KEY = "tenant_key"
"""The attribute of accepted events by which a subscription of a topic is filtered: no URL fits into the 256
bytes that a filter has."""
MAX_MESSAGE_BYTES = 9_000_000
LARGE_DATA_BYTES = 16 * 1024
"""Larger data travel with their facts, so that fan-out need not parse them."""
_DEPTH_OF_DATA = 2  # levels of nesting around `data`: the array and the event
_BETWEEN = b",\n"  # stands nowhere else: in JSON of ours a line feed is escaped
_BEGINNING = b'{"specversion":"1.0","id":'
_BEFORE_DATA = b',"data":'  # in strings its quotes are escaped
_INTEGER = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_ESCAPED = re.compile("[%\ud800-\udfff]")
_ESCAPE = re.compile(r"%(.?)", re.DOTALL)
_ESCAPE_SHIFT = 0xD000  # takes the surrogates U+D800 to U+DFFF to U+0800 to U+0FFF


def deliveries_topic(tenant: str, shards: int) -> str:
    """The topic of a tenant's deliveries: one of `shards`, the same in every process."""
    digest = hashlib.sha256(tenant.encode()).digest()
    return f"deliveries-{int.from_bytes(digest[:8], 'big') % shards}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """Events that one tenant sent, and when they were accepted."""

    tenant: str
    accepted_at: datetime
    events: Sequence[Event] = field(repr=False)


def events_messages(
    accepted: Accepted, *, max_bytes: int = MAX_MESSAGE_BYTES
) -> Iterator[tuple[Message, Sequence[Event]]]:
    """Messages and which events each holds, in their order: batches of CloudEvents (JSON format 4).

    Data have at most `max_bytes`; an event that is larger alone makes a message of its own.
    """
    attributes = {
        "tenant": accepted.tenant,
        TENANT_KEY: tenant_key(accepted.tenant),
        "accepted_at": _moment(accepted.accepted_at),
    }

    def message(entries: Sequence[bytes]) -> Message:
        return Message(b"[%b]" % _BETWEEN.join(entries), attributes)

    entries: list[bytes] = []
    events: list[Event] = []
    size = 2  # the brackets; each entry brings what stands between two
    for event in accepted.events:
        entry = _cloudevent(event)
        if entries and size + len(entry) > max_bytes:
            yield message(entries), events
            entries, events, size = [], [], 2
        entries.append(entry)
        events.append(event)
        size += len(entry) + len(_BETWEEN)
    if entries:
        yield message(entries), events


def acceptance_of(message: Message) -> tuple[str, datetime]:
    """Returns which tenant sent a message's events, and when they were accepted. Raises MalformedMessage."""
    attributes = _Attributes(message.attributes)
    return attributes.text("tenant"), attributes.moment("accepted_at")


def events_of(message: Message, catalog: Catalog) -> Iterator[Event]:
    """Returns what `events_messages` wrote: `data_json` byte for byte, the identity by the catalog.

    Each event is read when it is drawn. Raises MalformedMessage.
    """
    parts = message.data[1:-1].split(_BETWEEN)
    if not all(part.startswith(_BEGINNING) for part in parts):
        parts = [message.data[1:-1]]  # no message of ours: read as a whole
    index = 0
    for part in parts:
        head, between, data_json = part.partition(_BEFORE_DATA)
        if between and b',"facts":"' in head:
            yield _large_event(index, head, data_json[:-1], catalog)
            index += 1
            continue
        for value in _values(b"%b%b%b" % (message.data[:1], part, message.data[-1:])):
            yield _event(index, value, catalog, plain=json_form.is_plain(part))
            index += 1


def _values(text: bytes) -> list[Any]:
    try:
        # A relay's numbers are rounded already, and are read back as they were.
        depth = json_form.MAX_DEPTH + _DEPTH_OF_DATA
        values = json_form.parse(text, round_integers=True, max_depth=depth)
    except MalformedJson as error:
        raise MalformedMessage(error.said_of("the data")) from error
    if not isinstance(values, list):
        raise MalformedMessage("the data must be an array of CloudEvents")
    return values


def delivery_message(delivery: Delivery) -> Message:
    """The body as data, all else as attributes; ordered by subscription, epoch and lane.

    A replay has lanes of its own, so that new events do not wait behind it.

    What a suspension left in the lanes is dropped no faster than the log is written; nothing of a later
    epoch waits behind it.
    """
    attributes = {
        "subscription_id": delivery.subscription_id,
        "event_id": _escaped(delivery.event_id),
        "event_type": delivery.event_type,
        "accepted_at": _moment(delivery.accepted_at),
        "lane": str(delivery.lane),
        "lanes": str(delivery.lanes),
        "epoch": str(delivery.epoch),
        "attempts": str(delivery.attempts),
        "failures": str(delivery.failures),
    }
    if delivery.first_attempt_at is not None:
        attributes["first_attempt_at"] = _moment(delivery.first_attempt_at)
    if delivery.entered_at is not None:
        attributes["entered_at"] = _moment(delivery.entered_at)
    ordering_key = f"{delivery.subscription_id}/{delivery.epoch}/{delivery.lane}"
    if delivery.replay_id is not None:
        attributes["replay_id"] = delivery.replay_id
        ordering_key += f"/{delivery.replay_id}"
    return Message(delivery.body, attributes, ordering_key)


def delivery_of(message: Message, receipt: object = None) -> Delivery:
    """Returns what `delivery_message` wrote, with a receipt. Raises MalformedMessage naming the attribute."""
    attributes = _Attributes(message.attributes)
    lane, lanes = attributes.number("lane"), attributes.number("lanes")
    if lane >= lanes:
        raise MalformedMessage(f"the attribute lane must be below lanes, {lanes}")
    return Delivery(
        subscription_id=attributes.text("subscription_id"),
        event_id=attributes.escaped("event_id"),
        event_type=attributes.text("event_type"),
        accepted_at=attributes.moment("accepted_at"),
        lane=lane,
        lanes=lanes,
        epoch=attributes.number("epoch"),
        body=message.data,
        attempts=attributes.number("attempts"),
        failures=attributes.number("failures"),
        first_attempt_at=(
            attributes.moment("first_attempt_at") if "first_attempt_at" in message.attributes else None
        ),
        receipt=receipt,
        replay_id=message.attributes.get("replay_id"),
        entered_at=attributes.moment("entered_at") if "entered_at" in message.attributes else None,
    )


def notification_message(notification_id: str) -> Message:
    """Names a notification of the outbox. A second message for one that was sent does nothing."""
    return Message(b"", {"notification_id": notification_id})


def notification_id_of(message: Message) -> str:
    """Returns what `notification_message` wrote. Raises MalformedMessage."""
    return _Attributes(message.attributes).text("notification_id")


def marked_alone(message: Message) -> Message:
    """A delivery's message that nothing else travels near in its lane, so that none need wait after it."""
    return replace(message, attributes={**message.attributes, ALONE: "1"})


def is_alone(message: Message) -> bool:
    """True if `marked_alone` marked it."""
    return message.attributes.get(ALONE) == "1"


def size_of(message: Message) -> int:
    """The bytes that a message takes in a request, rounded up."""
    texts = "".join((message.ordering_key, *message.attributes, *message.attributes.values()))
    return len(message.data) + len(texts.encode()) + 8 * len(message.attributes) + 32


@dataclass(frozen=True, slots=True)
class _Attributes:
    """Readers of one kind of value each, which raise MalformedMessage naming the attribute."""

    attributes: Mapping[str, str]

    def text(self, name: str) -> str:
        text = self.attributes.get(name, "")
        if not text:
            raise MalformedMessage(f"the attribute {name} is missing")
        return text

    def escaped(self, name: str) -> str:
        text = self.text(name)
        try:
            return _unescaped(text)
        except ValueError as error:
            raise MalformedMessage(f"the attribute {name} holds a % that escapes nothing") from error

    def number(self, name: str) -> int:
        text = self.text(name)
        if _INTEGER.fullmatch(text) is None:
            raise MalformedMessage(f"the attribute {name} must be a number from 0")
        return int(text)

    def moment(self, name: str) -> datetime:
        text = self.text(name)
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError("no offset")
            return moment.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise MalformedMessage(f"the attribute {name} must be a date and time with an offset") from error


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()  # with microseconds, so that it reads back the same


def _escaped(text: str) -> str:
    """Text of any characters, lone surrogates too, in at most four bytes of UTF-8 each.

    Percent-encoding could make nine of one, and an id of 256 characters would not fit an attribute.
    """
    return _ESCAPED.sub(
        lambda found: "%%" if found[0] == "%" else f"%{chr(ord(found[0]) - _ESCAPE_SHIFT)}", text
    )


def _unescaped(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        if not "\u0800" <= found[1] <= "\u0fff":
            raise ValueError("escapes nothing")
        return chr(ord(found[1]) + _ESCAPE_SHIFT)

    return _ESCAPE.sub(one, text)


def _cloudevent(event: Event) -> bytes:
    """Extension attributes of ours are `benchmarkclient`, on test events alone, and `identity` and `facts`
    where the data are large."""
    quoted = json_form.stringify
    client = event.benchmark_client
    ours = b"" if client is None else b'"benchmarkclient":%b,' % quoted(client)
    if len(event.data_json) > LARGE_DATA_BYTES:
        facts = event.facts.to_json(event.data_json).decode()
        ours += b'"identity":%b,"facts":%b,' % (quoted(json.dumps(event.identity)), quoted(facts))
    return b'{"specversion":"1.0","id":%b,"source":"%b","type":%b,"time":%b,%b"data":%b}' % (
        quoted(event.id),
        SOURCE.encode(),
        quoted(event.type),
        quoted(event.time),
        ours,
        event.data_json,
    )


def _large_event(index: int, head: bytes, data_json: bytes, catalog: Catalog) -> Event:
    """An event with its facts, of which the data are not parsed; `head` is what stands before them."""
    (value,) = _values(b"[%b}]" % head)
    entry, client = _attributes_of(index, value, catalog)
    try:
        identity = tuple(json.loads(entry["identity"]))
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedMessage(f"the identity of event {index} must be a list") from error
    facts = Facts(entry["type"], str(entry["facts"]).encode())
    return Event(entry["id"], entry["type"], entry["time"], facts, data_json, identity, client)


def _attributes_of(index: int, value: Any, catalog: Catalog) -> tuple[dict[str, Any], str | None]:
    """The event's attributes, and `benchmarkclient` of them."""
    if not isinstance(value, dict):
        raise MalformedMessage(f"event {index} must be an object")
    entry = cast("dict[str, Any]", value)
    for name in ("id", "type", "time"):
        if not isinstance(entry.get(name), str):
            raise MalformedMessage(f"the {name} of event {index} must be a string")
    if entry["type"] not in catalog:
        raise MalformedMessage(f"the type of event {index} is unknown")
    client = entry.get("benchmarkclient")
    if client is not None and not isinstance(client, str):
        raise MalformedMessage(f"the benchmarkclient of event {index} must be a string")
    return entry, client


def _event(index: int, value: Any, catalog: Catalog, *, plain: bool) -> Event:
    entry, client = _attributes_of(index, value, catalog)
    data = entry.get("data")
    if not isinstance(data, dict):
        raise MalformedMessage(f"the data of event {index} must be an object")
    data = cast("dict[str, Any]", data)
    data_json = json_form.stringify(data, plain=plain)
    identity = catalog[entry["type"]].identity_of(data)
    facts = Facts(entry["type"], data)
    return Event(entry["id"], entry["type"], entry["time"], facts, data_json, identity, client)
