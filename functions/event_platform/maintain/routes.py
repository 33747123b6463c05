"""The routes of maintain, each of which Cloud Scheduler calls every minute."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..http import json_response
from ..ports import (
    Clock,
    OpenReplays,
    PublishedOutbox,
    Publisher,
    ReplayPushes,
    RetrySchedule,
    SubscriptionLookup,
)
from .feeds import FeedTicks
from .publish_notifications import publish_notifications
from .replays import work_on_replays
from .requeue import requeue_due

PATH = "/"
FEEDS_PATH = "/feeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintain:
    """The services of maintain. Without `pushes` nothing is replayed, and without `feeds` no PIM is asked."""

    schedule: RetrySchedule
    outbox: PublishedOutbox
    publisher: Publisher
    clock: Clock
    project: str
    subscriptions: SubscriptionLookup
    replays: OpenReplays
    pushes: ReplayPushes | None
    feeds: FeedTicks | None = None


def routes(maintain: Maintain) -> Sequence[Route]:
    """The routes of maintain. A tick that failed in part answers 503, and the next one goes on."""

    async def tick(request: Request) -> Response:
        replays = 0
        try:
            published, returned = await requeue()
        finally:  # a replay does not wait for what fails
            if maintain.pushes is not None:
                replays = await work_on_replays(
                    maintain.replays,
                    maintain.pushes,
                    subscriptions=maintain.subscriptions,
                    clock=maintain.clock,
                )
        return json_response({"put_back": returned, "notifications": published, "replays": replays})

    async def requeue() -> tuple[int, int]:
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
        return published, returned

    async def read_feeds(request: Request) -> Response:
        feeds = 0 if maintain.feeds is None else await maintain.feeds.tick()
        return json_response({"feeds": feeds})

    return [
        Route(PATH, tick, methods=["POST"]),
        Route(FEEDS_PATH, read_feeds, methods=["POST"]),
    ]
