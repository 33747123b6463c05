"""The push subscriptions of a replay, on Google's emulator of Pub/Sub."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving.server import running
from event_platform.adapters.pubsub.publisher import publisher_client
from event_platform.adapters.pubsub.replay_pushes import PubSubReplayPushes, subscriber_client
from event_platform.domain.replays import PushedReplay, Replay, ReplayRequest, Which
from support.records import PIM


class Fanout:
    """The receiver of the pushes: the ids of messages by the path."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def take(self, request: Request) -> Response:
        pushed = orjson.loads(await request.body())
        await self.came.put((request.url.path, pushed["message"]["attributes"]["name"]))
        return Response(status_code=204)


@pytest.fixture
async def fanout() -> AsyncIterator[tuple[Fanout, str]]:
    taking = Fanout()
    routes = [Route("/{path:path}", taking.take, methods=["POST"])]
    async with running(Starlette(routes=routes)) as url:
        yield taking, url


async def test_what_a_topic_kept_is_pushed_again_until_the_pushes_are_removed(
    pubsub_host: str, project: str, fanout: tuple[Fanout, str]
) -> None:
    taking, url = fanout
    topics = publisher_client({"PUBSUB_EMULATOR_HOST": pubsub_host})
    subscriber = subscriber_client({"PUBSUB_EMULATOR_HOST": pubsub_host})
    names = {"events": "one of all", "pim-events-pim": "one of its own"}
    for topic, name in names.items():
        path = f"projects/{project}/topics/{topic}"
        kept = {"name": path, "message_retention_duration": timedelta(hours=1)}
        await topics.create_topic(request=kept)
        message = {"data": b"x", "attributes": {"name": name}}
        await topics.publish(request={"topic": path, "messages": [message]})
    await topics.create_topic(request={"name": f"projects/{project}/topics/dead-letters"})
    now = datetime.now(UTC)
    since = now - timedelta(minutes=10)
    replay = Replay("0199a000", "s", ReplayRequest(since, now, which=Which.ALL), now)
    pushed = PushedReplay(replay, PIM, "pim", 0, since, now)
    pushes = PubSubReplayPushes(project, fanout_url=url, caller=None, client=subscriber)
    await pushes.make(pushed)
    await pushes.make(pushed)  # as after a kill
    async with asyncio.timeout(60):
        came = {await taking.came.get()}
        while len(came) < 2:
            came.add(await taking.came.get())
    assert came == {("/replays/0199a000", "one of all"), ("/replays/0199a000/pim", "one of its own")}
    await pushes.remove(pushed)
    await pushes.remove(pushed)
    left = await subscriber.list_subscriptions(request={"project": f"projects/{project}"})
    assert [each.name async for each in left] == []
    await topics.transport.close()
    await subscriber.transport.close()


async def test_a_pim_without_a_topic_of_its_own_is_no_failure(
    pubsub_host: str, project: str, fanout: tuple[Fanout, str]
) -> None:
    _, url = fanout
    topics = publisher_client({"PUBSUB_EMULATOR_HOST": pubsub_host})
    subscriber = subscriber_client({"PUBSUB_EMULATOR_HOST": pubsub_host})
    for topic in ("events", "dead-letters"):
        await topics.create_topic(request={"name": f"projects/{project}/topics/{topic}"})
    now = datetime.now(UTC)
    replay = Replay("0199a001", "s", ReplayRequest(now, now, which=Which.ALL), now)
    pushes = PubSubReplayPushes(project, fanout_url=url, caller=None, client=subscriber)
    await pushes.make(PushedReplay(replay, PIM, "pim", 0, now, now))
    left = await subscriber.list_subscriptions(request={"project": f"projects/{project}"})
    assert [each.name.rpartition("/")[2] async for each in left] == ["replay-0199a001"]
    await topics.transport.close()
    await subscriber.transport.close()
