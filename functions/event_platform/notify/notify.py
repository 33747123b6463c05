"""A notification from its message to the log, where operators find it."""

from dataclasses import dataclass

import structlog

from ..domain.messages import MalformedMessage, Message

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Notification:
    """What happened (`kind`), and whom to tell."""

    kind: str
    subscriber_id: str
    subscription_id: str | None = None


def notification_of(message: Message) -> Notification:
    """The notification in a message's attributes. Raises MalformedMessage naming the attribute."""
    for name in ("kind", "subscriber_id"):
        if not message.attributes.get(name):
            raise MalformedMessage(f"the attribute {name} is missing")
    return Notification(
        message.attributes["kind"],
        message.attributes["subscriber_id"],
        message.attributes.get("subscription_id") or None,
    )


def notify(notification: Notification, *, message_id: str) -> None:
    """Logs the notification by its ids."""
    log.info(
        "notification.received",
        message_id=message_id,
        kind=notification.kind,
        subscriber_id=notification.subscriber_id,
        subscription_id=notification.subscription_id,
    )
