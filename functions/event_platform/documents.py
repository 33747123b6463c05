"""Subscribers, subscriptions, tenants and notifications as documents for a store, their secrets sealed.

Every store keeps these same documents, so that records can move from one to the other.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import orjson
from pydantic import SecretStr

from .domain.feeds import Feed
from .domain.pace.rates import Rate
from .domain.record.notifications import About, Kind, Notification
from .domain.subscriptions import (
    Config,
    Contact,
    HttpsConfig,
    KafkaConfig,
    Missed,
    Owner,
    PubSubConfig,
    Sasl,
    Status,
    Subscriber,
    Subscription,
    Tls,
)
from .domain.tenants import SECRET_FIELDS, Tenant
from .ports import Seal

Document = dict[str, Any]
DAMAGED = (ValueError, TypeError, KeyError, AttributeError)
"""The errors of a document that is not as it was written. Those of JSON, seals and models are ValueErrors."""


class UnreadableEntry(Exception):
    """Raised when an entry of the registry cannot be understood. Its text quotes nothing of the entry."""


FEED_CONTEXT = "feed "
_FEED_SECRETS = ("secret", "password")
TENANT_CONTEXT = "tenant "
"""The beginning of the context of a secret of the registry; that of any other is the id of its record."""


def subscriber_document(subscriber: Subscriber, seal: Seal) -> Document:
    """Plain JSON data."""
    contact = subscriber.contact
    return {
        "id": subscriber.id,
        "tenant": subscriber.owner.tenant,
        "client_id": subscriber.owner.client_id,
        "name": subscriber.name,
        "subject": subscriber.subject,
        "status": subscriber.status,
        "technical_email": contact.technical_email,
        "notification_channels": list(contact.notification_channels),
        "notification_webhook_url": contact.notification_webhook_url,
        "notification_webhook_secret": _sealed(contact.notification_webhook_secret, seal, subscriber.id),
        "created_at": subscriber.created_at.isoformat(),
        "updated_at": subscriber.updated_at.isoformat(),
    }


def subscriber_of(document: Mapping[str, Any], seal: Seal) -> Subscriber:
    """The record. Raises ValueError when a secret cannot be opened."""
    return Subscriber(
        id=document["id"],
        owner=Owner(document["tenant"], document["client_id"]),
        name=document["name"],
        subject=document["subject"],
        contact=Contact(
            technical_email=document["technical_email"],
            notification_channels=tuple(document["notification_channels"]),
            notification_webhook_url=document["notification_webhook_url"],
            notification_webhook_secret=_opened(
                document["notification_webhook_secret"], seal, document["id"]
            ),
        ),
        created_at=datetime.fromisoformat(document["created_at"]),
        updated_at=datetime.fromisoformat(document["updated_at"]),
        status=Status(document["status"]),
    )


def subscription_document(subscription: Subscription, seal: Seal) -> Document:
    """Plain JSON data."""
    return {
        "id": subscription.id,
        "subscriber_id": subscription.subscriber_id,
        "tenant": subscription.owner.tenant,
        "client_id": subscription.owner.client_id,
        "source": subscription.source,
        "subject": subscription.subject,
        "events": list(subscription.events),
        "type": subscription.type,
        "config": _config_document(subscription.config, seal, subscription.id),
        "filter": subscription.filter,
        "send_product_identifier": subscription.send_product_identifier,
        "options": dict(subscription.options) if subscription.options is not None else None,
        "status": subscription.status,
        "epoch": subscription.epoch,
        **pace_document(subscription),
        "catch_up": subscription.catch_up,
        "replay_id": subscription.replay_id,
        **({} if subscription.missed is None else {"missed": _missed_document(subscription.missed)}),
        **(
            {}
            if subscription.shared_until is None
            else {"shared_until": subscription.shared_until.isoformat()}
        ),
        "created_at": subscription.created_at.isoformat(),
        "updated_at": subscription.updated_at.isoformat(),
    }


def pace_document(subscription: Subscription) -> Document:
    """The part of a subscription's document that its receiver steers."""
    rate, changed_at = subscription.rate, subscription.lanes_changed_at
    return {
        "lanes": subscription.lanes,
        "lanes_changed_at": changed_at.isoformat() if changed_at is not None else None,
        "rate": rate_document(rate) if rate is not None else None,
    }


def rate_document(rate: Rate) -> Document:
    """Plain JSON data."""
    return {
        "since": rate.since.isoformat(),
        "base": rate.base,
        "ceiling": rate.ceiling,
        "held_until": rate.held_until.isoformat() if rate.held_until is not None else None,
    }


def rate_of_document(document: Mapping[str, Any]) -> Rate:
    """The rate that `rate_document` wrote."""
    return Rate(
        datetime.fromisoformat(document["since"]),
        document["base"],
        document["ceiling"],
        _moment(document["held_until"]),
    )


def subscription_of(document: Mapping[str, Any], seal: Seal) -> Subscription:
    """The record. Raises ValueError when a secret cannot be opened."""
    return Subscription(
        id=document["id"],
        subscriber_id=document["subscriber_id"],
        owner=Owner(document["tenant"], document["client_id"]),
        source=document["source"],
        subject=document["subject"],
        events=tuple(document["events"]),
        config=_config_of(document["type"], document["config"], seal, document["id"]),
        created_at=datetime.fromisoformat(document["created_at"]),
        updated_at=datetime.fromisoformat(document["updated_at"]),
        filter=document.get("filter"),
        send_product_identifier=document["send_product_identifier"],
        options=document["options"],
        status=Status(document["status"]),
        epoch=document["epoch"],
        lanes=document["lanes"],
        lanes_changed_at=_moment(document.get("lanes_changed_at")),
        rate=rate_of(document),
        catch_up=document.get("catch_up", False),
        replay_id=document.get("replay_id"),
        missed=_missed_of(document.get("missed")),
        shared_until=_moment(document.get("shared_until")),
    )


def notification_document(notification: Notification) -> Document:
    """Plain JSON data; a notification has no secrets."""
    return {
        "id": notification.id,
        "kind": notification.kind,
        "at": notification.at.isoformat(),
        "tenant": notification.owner.tenant,
        "client_id": notification.owner.client_id,
        "subscriber_id": notification.subscriber_id,
        "subject": notification.subject,
        "about": [
            {
                "subscription_id": about.subscription_id,
                "destination": about.destination,
                "events": list(about.events),
            }
            for about in notification.about
        ],
        "reason": notification.reason,
    }


def notification_of(document: Mapping[str, Any]) -> Notification:
    """Reads what `notification_document` wrote."""
    return Notification(
        id=document["id"],
        kind=Kind(document["kind"]),
        at=datetime.fromisoformat(document["at"]),
        owner=Owner(document["tenant"], document["client_id"]),
        subscriber_id=document["subscriber_id"],
        subject=document["subject"],
        about=tuple(
            About(about["subscription_id"], about["destination"], tuple(about["events"]))
            for about in document["about"]
        ),
        reason=document["reason"],
    )


def tenant_document(tenant: Tenant, seal: Seal) -> Document:
    """Plain JSON data."""
    document = tenant.model_dump(mode="json", exclude_none=True, exclude=set(SECRET_FIELDS))
    if tenant.url is None:
        del document["key"]  # a pattern takes in no events, so it has no path
    for name in SECRET_FIELDS:
        document[name] = [
            seal.seal(secret.get_secret_value(), context=_tenant_context(tenant.url))
            for secret in getattr(tenant, name)
        ]
    return document


def tenant_of(document: Mapping[str, Any], seal: Seal) -> Tenant:
    """The registry's entry. Raises ValueError when a secret cannot be opened."""
    context = _tenant_context(document.get("url"))
    opened = {name: [seal.open(text, context=context) for text in document[name]] for name in SECRET_FIELDS}
    return Tenant.model_validate({**document, **opened})


def stored_tenant(text: object, seal: Seal) -> Tenant:
    """Returns the registry's entry from the text that a store keeps. Raises UnreadableEntry."""
    try:
        return tenant_of(orjson.loads(cast("str", text)), seal)
    except DAMAGED as error:
        raise UnreadableEntry(type(error).__name__) from error


def feed_document(feed: Feed, seal: Seal) -> Document:
    """Plain JSON data."""
    document = feed.model_dump(mode="json", exclude_defaults=True, exclude=set(_FEED_SECRETS))
    for name in _FEED_SECRETS:
        document[name] = _sealed(getattr(feed, name), seal, f"{FEED_CONTEXT}{feed.tenant}")
    return document


def feed_of(document: Mapping[str, Any], seal: Seal) -> Feed:
    """The settings of a feed. Raises ValueError when a secret cannot be opened."""
    context = f"{FEED_CONTEXT}{document.get('tenant')}"
    opened = {name: seal.open(document[name], context=context) for name in _FEED_SECRETS}
    return Feed.model_validate({**document, **opened})


def _tenant_context(url: str | None) -> str:
    return f"{TENANT_CONTEXT}{url}"


def _config_document(config: Config, seal: Seal, context: str) -> Document:
    headers = {"headers": {name: _sealed(value, seal, context) for name, value in config.headers.items()}}
    match config:
        case HttpsConfig():
            return {
                "url": config.url,
                "primary_secret": _sealed(config.primary_secret, seal, context),
                "secondary_secret": _sealed(config.secondary_secret, seal, context),
            } | headers
        case PubSubConfig():
            return {"project_id": config.project_id, "topic_id": config.topic_id} | headers
        case KafkaConfig(sasl=sasl, tls=tls):
            return {
                "broker": config.broker,
                "topic": config.topic,
                "sasl": {
                    "mechanism": sasl.mechanism,
                    "username": sasl.username,
                    "password": _sealed(sasl.password, seal, context),
                },
                "tls": None
                if tls is None
                else {
                    "server_name": tls.server_name,
                    "ca_pem": tls.ca_pem,
                    "client_cert_pem": tls.client_cert_pem,
                    "client_key_pem": _sealed(tls.client_key_pem, seal, context),
                },
            } | headers


def _config_of(kind: str, document: Mapping[str, Any], seal: Seal, context: str) -> Config:
    def opened(sealed: str) -> SecretStr:
        return SecretStr(seal.open(sealed, context=context))

    headers = {name: opened(value) for name, value in document["headers"].items()}
    match kind:
        case PubSubConfig.type:
            return PubSubConfig(document["project_id"], document["topic_id"], headers)
        case KafkaConfig.type:
            sasl, tls = document["sasl"], document["tls"]
            return KafkaConfig(
                document["broker"],
                document["topic"],
                Sasl(sasl["mechanism"], sasl["username"], opened(sasl["password"])),
                tls and Tls(**tls | {"client_key_pem": opened(tls["client_key_pem"])}),
                headers,
            )
        case _:
            return HttpsConfig(
                url=document["url"],
                primary_secret=opened(document["primary_secret"]),
                secondary_secret=_opened(document["secondary_secret"], seal, context),
                headers=headers,
            )


def _missed_document(missed: Missed) -> Document:
    return {
        "epoch": missed.epoch,
        "since": missed.since.isoformat(),
        "until": None if missed.until is None else missed.until.isoformat(),
        "is_done": missed.is_done,
    }


def _missed_of(document: Mapping[str, Any] | None) -> Missed | None:
    if document is None:
        return None
    since, until = datetime.fromisoformat(document["since"]), _moment(document["until"])
    return Missed(document["epoch"], since, until, document["is_done"])


def rate_of(subscription: Mapping[str, Any]) -> Rate | None:
    """The rate in a subscription's document; None until its receiver first slowed it down."""
    document = subscription.get("rate")
    return rate_of_document(document) if document is not None else None


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def _sealed(secret: SecretStr | None, seal: Seal, context: str) -> str | None:
    return seal.seal(secret.get_secret_value(), context=context) if secret is not None else None


def _opened(sealed: str | None, seal: Seal, context: str) -> SecretStr | None:
    return SecretStr(seal.open(sealed, context=context)) if sealed is not None else None
