"""Subscribers and subscriptions as responses and the log show them, redacted (wire contract 3 and 4)."""

from collections.abc import Sequence
from typing import Any

from .events import Event
from .matching import Check
from .subscriptions import REDACTED, HttpsConfig, Subscriber, Subscription
from .timestamps import to_rfc3339


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
        "config": https_config(record.config),
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


def https_config(config: HttpsConfig) -> dict[str, Any]:
    """The config with its secrets and header values redacted."""
    secret = {"primary": REDACTED} | ({"secondary": REDACTED} if config.secondary_secret else {})
    headers = {"headers": dict.fromkeys(config.headers, REDACTED)} if config.headers else {}
    return {"url": config.url, "secret": secret} | headers
