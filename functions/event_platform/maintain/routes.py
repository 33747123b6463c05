"""The route of maintain, which Cloud Scheduler calls each minute."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..http import json_response
from ..ports import Clock, PublishedOutbox, Publisher, RetrySchedule
from .publish_notifications import publish_notifications
from .requeue import requeue_due

PATH = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintain:
    """The services of maintain."""

    schedule: RetrySchedule
    outbox: PublishedOutbox
    publisher: Publisher
    clock: Clock
    project: str


def routes(maintain: Maintain) -> Sequence[Route]:
    """The route of maintain. A tick that failed in part answers 503, and the next one goes on."""

    async def tick(request: Request) -> Response:
        try:
            published = await publish_notifications(
                maintain.outbox, publisher=maintain.publisher, clock=maintain.clock
            )
        finally:  # retries do not wait for notifications that fail
            returned = await requeue_due(
                maintain.schedule,
                publisher=maintain.publisher,
                clock=maintain.clock,
                project=maintain.project,
            )
        return json_response({"put_back": returned, "notifications": published})

    return [Route(PATH, tick, methods=["POST"])]
