"""Notifications that are due onto their topic: left over by a crash, or to be tried again."""

import structlog

from ..domain.messages.queue_messages import NOTIFICATIONS_TOPIC, notification_message
from ..ports import Clock, PublishedOutbox, Publisher

log = structlog.get_logger()

AT_ONCE = 200
BEGINNING_SECONDS = 15.0
"""No page is begun later than this after the tick, so that retries do not wait long either."""


async def publish_notifications(outbox: PublishedOutbox, *, publisher: Publisher, clock: Clock) -> int:
    """Publishes all that is due, page by page, so that nobody waits behind hundreds of another's.

    Returns their number. Each page is published before it is marked, so that a crash repeats and never loses.
    Raises PublishFailed, StoreUnavailable.
    """
    end = clock.monotonic() + BEGINNING_SECONDS
    published = 0
    while True:
        due = await outbox.due(AT_ONCE)
        if due:
            messages = [notification_message(pending.notification.id) for pending in due]
            await publisher.publish(NOTIFICATIONS_TOPIC, messages)
            await outbox.published(due)
            log.info("notifications.published", notifications=len(due))
            published += len(due)
        if len(due) < AT_ONCE or clock.monotonic() >= end:
            return published
