"""Records and events for tests, valid and short."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import uuid_utils
from pydantic import SecretStr

from event_platform.domain.events import json_form
from event_platform.domain.events.catalog import Catalog
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import Accepted, acceptance_of, events_of
from event_platform.domain.subscriptions import (
    Config,
    Contact,
    HttpsConfig,
    KafkaConfig,
    Owner,
    PubSubConfig,
    Sasl,
    Subscriber,
    Subscription,
    Tls,
)
from event_platform.ports import Subscriptions
from support.clock import START

PIM = "https://pim.example.com"
OWNER = Owner(PIM, "erp")
UPDATED = "com.akeneo.pim.v1.product.updated"
CATEGORY = "com.akeneo.pim.v1.category.updated"
PRIMARY = "a primary secret of tests"
ORDER = "com.example.shop.v1.order.created"
ORDER_TYPE: dict[str, Any] = {
    "type": ORDER,
    "trigger": "An order is placed.",
    "identity": ["order.number"],
    "schema": {
        "type": "object",
        "properties": {"order": {"$ref": "#/$defs/order"}},
        "required": ["order"],
        "$defs": {"order": {"type": "object", "properties": {"number": {"type": "string"}}}},
    },
    "example": {"order": {"number": "A-1"}},
}
"""A type that an operator adds to the catalog."""


def a_subscriber(
    owner: Owner = OWNER,
    *,
    name: str = "ERP",
    now: datetime = START,
    channels: tuple[str, ...] = ("email", "webhook"),
) -> Subscriber:
    """An active one."""
    return Subscriber(
        id=str(uuid_utils.uuid7()),
        owner=owner,
        name=name,
        subject=owner.tenant + "/",
        contact=Contact(
            "ops@example.com",
            channels,
            "https://hooks.example.com/aep",
            SecretStr("a webhook secret of tests"),
        ),
        created_at=now,
        updated_at=now,
    )


def https_config(url: str = "https://erp.example.com/events") -> HttpsConfig:
    """With every optional part set."""
    return HttpsConfig(
        url=url,
        primary_secret=SecretStr(PRIMARY),
        secondary_secret=SecretStr("a secondary secret of tests"),
        headers={"X-Api-Key": SecretStr("a header value of tests")},
    )


PUBSUB_CONFIG = PubSubConfig("their-project", "pim-events", {"X-Stage": SecretStr("a header value of tests")})
KAFKA_CONFIG = KafkaConfig(
    "kafka.example.com:9093",
    "pim.events",
    Sasl("SCRAM-SHA-256", "aep", SecretStr("a password of tests")),
    Tls("kafka.example.com", "authorities", "our certificate", SecretStr("a client key of tests")),
    {"X-Stage": SecretStr("a header value of tests")},
)


def a_subscription(
    subscriber: Subscriber,
    *,
    events: Sequence[str] = (UPDATED,),
    url: str = "https://erp.example.com/events",
    config: Config | None = None,
    now: datetime = START,
    source: str = "pim",
    filter: str | None = 'not user = "nobody"',  # noqa: A002 - the field's name
    **more: Any,
) -> Subscription:
    """An active one with every optional part set."""
    return Subscription(
        id=str(uuid_utils.uuid7()),
        subscriber_id=subscriber.id,
        owner=subscriber.owner,
        source=source,
        subject=subscriber.subject,
        events=tuple(events),
        config=config or https_config(url),
        created_at=now,
        updated_at=now,
        filter=filter,
        options={"send_product_identifier_in_changes": True},
        **more,
    )


async def subscribed(
    store: Subscriptions, number: int = 1, owner: Owner = OWNER, **more: Any
) -> list[Subscription]:
    """Adds as many subscriptions of a new subscriber to the store, made by `a_subscription`."""
    subscriber = a_subscriber(owner)
    await store.add_subscriber(subscriber, limit=20)
    made = [a_subscription(subscriber, **more) for _ in range(number)]
    for subscription in made:
        await store.add_subscription(subscription, lambda _: None, limit=20)
    return made


def an_event(number: int = 1, *, entity: str | None = None, event_type: str = UPDATED) -> Event:
    """A product's update; the same `entity` travels in the same lane."""
    uuid = entity or f"00000000-0000-4000-8000-{number:012}"
    data = {"product": {"uuid": uuid}, "author": {"identifier": "erp", "type": "api"}}
    return Event(
        id=f"event-{number}",
        type=event_type,
        time="2026-01-31T11:59:59Z",
        facts=Facts(event_type, data),
        data_json=json_form.stringify(data),
        identity=(uuid,),
    )


def with_data(event: Event, data: dict[str, Any]) -> Event:
    """The event with other data, which its identity says nothing of."""
    return replace(event, facts=Facts(event.type, data), data_json=json_form.stringify(data))


def data_of(event: Event) -> Any:
    """Its data, parsed."""
    return json_form.parse(event.data_json, round_integers=True)


def accepted_of(message: Message, types: Catalog) -> Accepted:
    """Returns what `events_messages` wrote."""
    return Accepted(*acceptance_of(message), list(events_of(message, types)))
