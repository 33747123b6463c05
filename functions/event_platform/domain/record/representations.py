"""Subscribers and subscriptions as responses and the log show them, redacted (contract/wire.md 3 and 4)."""

from collections.abc import Sequence
from typing import Any

from ..events.event import Event
from ..matching import Check
from ..subscriptions import (
    REDACTED,
    Config,
    HttpsConfig,
    KafkaConfig,
    PubSubConfig,
    Sasl,
    Subscriber,
    Subscription,
    Tls,
)
from ..timestamps import to_rfc3339


def subscriber(record: Subscriber) -> dict[str, Any]:
    """The keys in the contract's order."""
    contact: dict[str, Any] = {
        "technical_email": record.contact.technical_email,
        "notification_channels": list(record.contact.notification_channels),
    }
    if record.contact.notification_webhook_url is not None:
        contact["notification_webhook_url"] = record.contact.notification_webhook_url
    return {
        "id": record.id,
        "name": record.name,
        "subject": record.subject,
        "status": record.status,
        "contact": contact,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
    }


def subscription(record: Subscription) -> dict[str, Any]:
    """The keys in the contract's order."""
    shown: dict[str, Any] = {
        "id": record.id,
        "config": config(record.config),
        "events": list(record.events),
        "type": record.type,
        "source": record.source,
        "subject": record.subject,
        "status": record.status,
        "subscriber_id": record.subscriber_id,
        "created_at": to_rfc3339(record.created_at),
        "updated_at": to_rfc3339(record.updated_at),
    }
    if record.filter is not None:
        shown["filter"] = record.filter
    shown["send_product_identifier"] = record.send_product_identifier
    return shown if record.options is None else shown | {"options": dict(record.options)}


def explanation(event: Event, found: Sequence[Check]) -> dict[str, Any]:
    """Whether a subscription gets an event, and what each of its parts says."""
    return {
        "event": {"id": event.id, "type": event.type},
        "matches": all(check.passes for check in found),
        "checks": [{"part": check.part, "passes": check.passes, "message": check.message} for check in found],
    }


def config(shown: Config) -> dict[str, Any]:
    """The config with its secrets and header values redacted."""
    headers = {"headers": dict.fromkeys(shown.headers, REDACTED)} if shown.headers else {}
    match shown:
        case HttpsConfig():
            secret = {"primary": REDACTED} | ({"secondary": REDACTED} if shown.secondary_secret else {})
            return {"url": shown.url, "secret": secret} | headers
        case PubSubConfig():
            return {"project_id": shown.project_id, "topic_id": shown.topic_id} | headers
        case KafkaConfig():
            return {
                "broker": shown.broker,
                "topic": shown.topic,
                "sasl_auth": _sasl(shown.sasl),
                **({"tls": _tls(shown.tls)} if shown.tls is not None else {}),
                **headers,
            }


def _sasl(sasl: Sasl) -> dict[str, str]:
    known: dict[str, str] = {"username": sasl.username, "password": REDACTED}
    scram, _, variant = sasl.mechanism.lower().partition("-")
    return {"mechanism": scram} | known | ({"scram_variant": variant} if variant else {})


def _tls(tls: Tls) -> dict[str, str]:
    return {
        "server_name": tls.server_name,
        "ca_pem": tls.ca_pem,
        "client_cert_pem": tls.client_cert_pem,
        "client_key_pem": REDACTED,
    }
