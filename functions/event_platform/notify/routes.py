"""The push route of notify: a message names a notification, which is sent before the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, notification_id_of
from ..ports import PublishedOutbox, Publisher
from ..push import Pushed, dead_letters_to, push_route
from .notify import NotifyServices, notify, settle

PATH = "/notifications"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """The outbox and the services of notify."""

    outbox: PublishedOutbox
    services: NotifyServices
    publisher: Publisher


def routes(function: Notify) -> Sequence[Route]:
    """The route of notify: where the push subscription of `notifications` points.

    A notification that is not in the outbox any more was sent already, perhaps for an earlier push.
    """

    async def take(pushed: Pushed) -> None:
        pending = await function.outbox.pending(notification_id_of(pushed.message))
        if pending is not None:
            result = await notify(pending, services=function.services)
            await settle(function.outbox, pending, result)

    return [
        push_route(PATH, take, publish_dead_letter=dead_letters_to(function.publisher, DEAD_LETTERS_TOPIC))
    ]
