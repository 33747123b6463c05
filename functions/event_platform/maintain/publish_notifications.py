"""Notifications that are due onto their topic: left over by a crash, or to be tried again."""

import structlog

from ..domain.queue_messages import NOTIFICATIONS_TOPIC, notification_message
from ..ports import PublishedOutbox, Publisher

log = structlog.get_logger()

AT_ONCE = 200


async def publish_notifications(outbox: PublishedOutbox, *, publisher: Publisher) -> int:
    """How many it were; what is left beyond AT_ONCE comes with the next tick.

    Published first, so that a crash repeats and never loses. Raises PublishFailed, StoreUnavailable.
    """
    due = await outbox.due(AT_ONCE)
    if due:
        await publisher.publish(
            NOTIFICATIONS_TOPIC, [notification_message(pending.notification.id) for pending in due]
        )
        await outbox.published(due)
        log.info("notifications.published", notifications=len(due))
    return len(due)
