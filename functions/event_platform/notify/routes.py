"""The push route of notify."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from ..domain.queue_messages import DEAD_LETTERS_TOPIC
from ..ports import Publisher
from ..push import Pushed, bury_on, push_route
from .notify import notification_of, notify

PATH = "/notifications"


@dataclass(frozen=True, slots=True)
class Notify:
    """What notify works with."""

    publisher: Publisher


def routes(function: Notify) -> Sequence[Route]:
    """The route of notify: where the push subscription of `notifications` points."""

    async def take(pushed: Pushed) -> None:
        notify(notification_of(pushed.message), message_id=pushed.message_id)

    return [push_route(PATH, take, bury=bury_on(function.publisher, DEAD_LETTERS_TOPIC))]
