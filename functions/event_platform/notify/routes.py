"""The push route of notify: a message names a notification, which is told before the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, notification_id_of
from ..ports import PublishedOutbox, Publisher
from ..push import Pushed, bury_on, push_route
from .notify import Telling, notify, settle

PATH = "/notifications"


@dataclass(frozen=True, slots=True)
class Notify:
    """What notify works with."""

    outbox: PublishedOutbox
    telling: Telling
    publisher: Publisher


def routes(function: Notify) -> Sequence[Route]:
    """The route of notify: where the push subscription of `notifications` points.

    What is not in the outbox any more was told already, by another push of the same message perhaps.
    """

    async def take(pushed: Pushed) -> None:
        pending = await function.outbox.pending(notification_id_of(pushed.message))
        if pending is not None:
            told = await notify(pending, telling=function.telling)
            await settle(function.outbox, pending, told)

    return [push_route(PATH, take, bury=bury_on(function.publisher, DEAD_LETTERS_TOPIC))]
