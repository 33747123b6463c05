"""Each function calls of Google what its permissions allow: neither more nor fewer."""

import asyncio
import base64
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import grpc
import orjson
import pytest
from google.cloud.firestore_v1 import AsyncQuery
from google.cloud.firestore_v1.base_query import FieldFilter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.sandbox.events import events
from aep.sandbox.ingest_requests import Format, post
from aep.serving.server import running
from event_platform import telemetry, wiring
from event_platform.adapters import https
from event_platform.adapters.firestore import feeds
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.replay_documents import REPLAY
from event_platform.adapters.firestore.retries import FirestoreRetrySchedule
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.adapters.seal import AesGcmSeal
from event_platform.data_model import NOTIFICATIONS, REPLAYS, RETRIES
from event_platform.deliver import edge
from event_platform.domain.deliveries import Delivery
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
    delivery_message,
    notification_message,
)
from event_platform.domain.tenants import tenant_key
from event_platform.permissions import (
    DELIVERIES_TOPICS,
    PERMISSIONS,
    PERMISSIONS_OF_CALLS,
    PUBLISHES_TO,
    permissions_of,
)
from support.clock import ManualClock
from support.feeding import a_feed
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM, PRIMARY, event
from support.processes import Client, http, send_events
from support.pubsub_project import Project
from support.records import UPDATED

TOPIC = "deliveries-0"
PIM_SECRET = "the-secret-of-the-events-api"
WEBHOOK_SECRET = "the-secret-of-the-notifications"


class Recorder:
    """Notes what is called of Google, as the permissions that it needs, under the function at work."""

    def __init__(self) -> None:
        self.function = ""
        self.used: defaultdict[str, set[str]] = defaultdict(set)
        self.published_to: defaultdict[str, set[str]] = defaultdict(set)

    def note(self, method: str | bytes, request: Any) -> None:
        name = (method.decode() if isinstance(method, bytes) else method).rpartition(".")[2]
        if name == "Publisher/Publish":
            topic = request.topic.rpartition("/")[2]
            self.published_to[self.function].add(DELIVERIES_TOPICS if topic == TOPIC else topic)
        writes = type(request).pb(request).writes if name == "Firestore/Commit" else ()
        for call in [f"{name}, {kind_of(write)}" for write in writes] or [name]:
            assert call in PERMISSIONS_OF_CALLS, (
                f"{self.function} calls {call}, of which no one knows a permission"
            )
            self.used[self.function] |= PERMISSIONS_OF_CALLS[call]


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._recorder.note(client_call_details.method, request)
        return await continuation(client_call_details, request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self._recorder.note(client_call_details.method, request)
        return await continuation(client_call_details, request)


def kind_of(write: Any) -> str:
    if write.WhichOneof("operation") == "delete":
        return "a deletion"
    condition = write.current_document
    if condition.WhichOneof("condition_type") is None:
        return "a write to whatever is there"
    must_create = condition.WhichOneof("condition_type") == "exists" and not condition.exists
    return "a write that must create" if must_create else "a write to what exists"


@pytest.fixture
async def beside(firestore_host: str, project: str) -> AsyncIterator[Firestore]:
    """A connection of the test's own, opened before the functions' are recorded."""
    firestore = connect(project, emulator=firestore_host)
    await leave_expired_leases(firestore)
    yield firestore
    await firestore.close()


@pytest.fixture
async def recorder(
    beside: Firestore, pubsub_host: str, firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Recorder]:
    """In every channel that a function opens in the project, whose topics are there."""
    topics = Project(pubsub_host, project)
    for topic in (EVENTS_TOPIC, TOPIC, NOTIFICATIONS_TOPIC, DEAD_LETTERS_TOPIC):
        await topics.create_topic(topic)
    await topics.close()
    key = sha256(CLIENT_KEY.encode()).hexdigest()
    clients = [{"client_id": client_id, "key_sha256": key} for client_id in ("erp", "shop")]
    entry = {
        "url": PIM,
        "auth": "platform-key",
        "clients": clients,
        "ingest_key": INGEST_KEY,
        "events_api_secret": PIM_SECRET,
    }
    await feeds.put(beside, a_feed(PIM), AesGcmSeal(b"f" * 32))
    for name, value in {
        "GOOGLE_CLOUD_PROJECT": project,
        "PUBSUB_EMULATOR_HOST": pubsub_host,
        "FIRESTORE_EMULATOR_HOST": firestore_host,
        "AEP_PIMS": orjson.dumps([entry]).decode(),
        "AEP_SECRETS_KEY": base64.b64encode(b"k" * 32).decode(),
        "AEP_REGISTRY_KEY": base64.b64encode(b"r" * 32).decode(),
        "AEP_PUBLIC_URL": "https://events.example.com",
        "AEP_RETRY_DELAYS": "0.01",
        "AEP_SMTP_URL": "smtp://127.0.0.1:1",  # nobody answers, so mails are to be tried again
        "AEP_MAIL_FROM": "events@example.com",
        "AEP_FANOUT_URL": "http://127.0.0.1:1",  # nobody answers, so what is replayed is pushed again
        "AEP_DEV": "true",
        "AEP_FEEDS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    recorder, plain = Recorder(), grpc.aio.insecure_channel

    def recorded(target: str, **options: Any) -> grpc.aio.Channel:
        return plain(target, interceptors=[_UnaryUnary(recorder), _UnaryStream(recorder)], **options)

    monkeypatch.setattr(grpc.aio, "insecure_channel", recorded)
    monkeypatch.setattr(edge, "HELD_AT_MOST", 0.0)
    senders: list[HttpsSender] = []

    def opened(network: GuardedNetwork) -> HttpsSender:
        senders.append(HttpsSender(network))
        return senders[-1]

    monkeypatch.setattr(https, "HttpsSender", opened)
    # It would bind the loggers of this process for good, and tests that look at lines would see none.
    monkeypatch.setattr(telemetry, "configure", lambda level, first: None)
    forget_the_functions()
    yield recorder
    forget_the_functions()
    for sender in senders:  # which end with the process elsewhere
        await sender.close()


def forget_the_functions() -> None:
    for name in PERMISSIONS:
        getattr(wiring, name).cache_clear()


async def leave_expired_leases(firestore: Firestore) -> None:
    """As an instance that was lost an hour ago."""
    schedule = FirestoreRetrySchedule(firestore, ManualClock(datetime.now(UTC) - timedelta(hours=1)))
    for shard in range(schedule.shards):
        assert await schedule.lease(shard, 1)


async def leave_a_retry_that_nobody_can_read(firestore: Firestore) -> None:
    """It becomes a dead letter."""
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    schedule = FirestoreRetrySchedule(firestore, ManualClock(an_hour_ago))
    await schedule.schedule(a_delivery("of nobody"), an_hour_ago)
    retries = firestore.client.collection(RETRIES).where(
        filter=FieldFilter("subscription_id", "==", "of nobody")
    )
    (left,) = await firestore.query(retries)
    await left.reference.update({"lane": "none"})


async def leave_a_notification_unpublished(firestore: Firestore) -> None:
    """As an instance of manage that was lost an hour ago."""
    left, *_ = await firestore.query(AsyncQuery(firestore.client.collection(NOTIFICATIONS)))
    await left.reference.update({"due": datetime.now(UTC) - timedelta(hours=1)})


async def leave_a_notification_held(firestore: Firestore) -> None:
    """As when the allowance of its subscriber was used up."""
    left, *_ = await firestore.query(AsyncQuery(firestore.client.collection(NOTIFICATIONS)))
    subscriber_id = orjson.loads(left.get("document"))["subscriber_id"]
    await left.reference.update({"held_for": subscriber_id})


async def leave_a_replay_that_is_due(firestore: Firestore) -> None:
    """As one that was started an hour ago."""
    (left,) = await firestore.query(
        AsyncQuery(firestore.client.collection(REPLAYS)).where(filter=FieldFilter("kind", "==", REPLAY))
    )
    await left.reference.update({"created_at": datetime.now(UTC) - timedelta(hours=1)})


async def cancel_the_replay(firestore: Firestore) -> None:
    (left,) = await firestore.query(
        AsyncQuery(firestore.client.collection(REPLAYS)).where(filter=FieldFilter("kind", "==", REPLAY))
    )
    assert left.get("pushed_at") is not None
    await left.reference.update({"status": "cancelled"})


async def test_each_function_uses_just_what_it_is_permitted(beside: Firestore, recorder: Recorder) -> None:
    async with running(Starlette(routes=[Route("/{status:int}", answer, methods=["POST"])])) as endpoint:
        recorder.function = "manage"
        async with running(wiring.manage()) as url:
            ids = await asyncio.to_thread(manage_all_there_is, url, endpoint)
        recorder.function = "ingest"
        async with running(wiring.ingest()) as url:
            assert await asyncio.to_thread(send_events, url, INGEST_KEY, event()) == 202
            await asyncio.to_thread(send_webhook, f"{url}/ingest/events-api/{tenant_key(PIM)}")
        recorder.function = "fanout"
        async with running(wiring.fanout()) as url:
            published = orjson.dumps({"specversion": "1.0", **event()})
            await push(f"{url}/pim-events/{tenant_key(PIM)}", Message(published))
            await push(f"{url}/pim-events/{tenant_key(PIM)}", Message(orjson.dumps(the_shop_is_gone())))
            await push(f"{url}/events", Message(b"no events"))
        recorder.function = "deliver"
        async with running(wiring.deliver()) as url:
            for subscription in ids:
                await push(f"{url}/{TOPIC}", delivery_message(a_delivery(subscription)))
            await push(f"{url}/{TOPIC}", Message(b"no delivery"))
        recorder.function = "maintain"
        await leave_a_notification_unpublished(beside)
        await leave_a_retry_that_nobody_can_read(beside)
        await leave_a_replay_that_is_due(beside)
        async with running(wiring.maintain()) as url:
            await tick_until_one_is_put_back(url)
            await cancel_the_replay(beside)
            await asyncio.to_thread(http().post, url, timeout=60)
        await leave_a_notification_held(beside)
        recorder.function = "notify"
        async with running(wiring.notify()) as url:
            for notification in await beside.query(AsyncQuery(beside.client.collection(NOTIFICATIONS))):
                await push(f"{url}/notifications", notification_message(notification.id))
            await push(f"{url}/notifications", Message(b"no notification"))
    assert recorder.used == {name: permissions_of(name, feeds=True) for name in PERMISSIONS}
    assert recorder.published_to == {name: topics for name, topics in PUBLISHES_TO.items() if topics}


def manage_all_there_is(url: str, endpoint: str) -> list[str]:
    """Subscriptions that answer 200, 429, 301 and 500, after every kind of change to others.

    Of some is told by a webhook that answers, of others by mail.
    """
    client = Client(url, PIM, CLIENT_KEY, "erp")
    contact = {
        "technical_email": "ops@example.com",
        "notification_channels": ["webhook"],
        "notification_webhook_url": f"{endpoint}/200",
        "notification_webhook_secret": WEBHOOK_SECRET,
    }
    first = client.call("POST", "/subscribers", {"name": "A", "contact": contact}, expect=201)["id"]
    subscribers = f"/subscribers/{first}"
    ids = [
        client.call("POST", f"{subscribers}/subscriptions", wanted(f"{endpoint}/{status}"), expect=201)["id"]
        for status in (200, 429, 301, 500)
    ]
    other = client.call("POST", f"{subscribers}/subscriptions", wanted(f"{endpoint}/200"), expect=201)["id"]
    for method, path, body in [
        ("PATCH", subscribers, {"name": "B"}),
        ("GET", "/subscribers", None),
        ("PATCH", f"{subscribers}/subscriptions/{other}", {"send_product_identifier": True}),
        ("GET", f"{subscribers}/subscriptions", None),
        ("POST", f"{subscribers}/subscriptions/{other}/suspend", None),
        ("POST", f"{subscribers}/subscriptions/{other}/resume", {"catch_up": True}),
        ("DELETE", f"{subscribers}/subscriptions/{other}", None),
    ]:
        assert client.call(method, path, body).ok
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    replay = {"from": an_hour_ago, "which": "all"}
    client.call("POST", f"{subscribers}/subscriptions/{ids[0]}/replays", replay, expect=201)
    refused = client.call("POST", f"{subscribers}/subscriptions/{ids[1]}/replays", {"from": an_hour_ago})
    assert refused.status_code == 400
    client.call("POST", "/subscribers", {}, expect=400)
    client.call("GET", "/logs", expect=200)
    shop = Client(url, PIM, CLIENT_KEY, "shop")
    at_shop = shop.call("POST", "/subscribers", {"name": "S", "contact": contact}, expect=201)["id"]
    shop.call("POST", f"/subscribers/{at_shop}/subscriptions", wanted(f"{endpoint}/200"), expect=201)
    benchmarked = wanted(f"{endpoint}/200") | {"source": "benchmark"}
    client.call("POST", f"{subscribers}/subscriptions", benchmarked, expect=201)
    client.call("POST", "/benchmark", {"type": BENCHMARK, "count": 1}, expect=202)
    second = client.call("POST", "/subscribers", {"name": "C", "contact": contact}, expect=201)["id"]
    client.call("DELETE", f"/subscribers/{second}", expect=200)
    return ids


def send_webhook(url: str) -> None:
    """Sends a webhook of the PIM, which has a feed."""
    sent = post(list(events(UPDATED, 1)), Format.EVENTS_API, PIM_SECRET)
    assert http().post(url, data=sent.body, headers=sent.headers, timeout=20).status_code == 200


def the_shop_is_gone() -> dict[str, Any]:
    data = {"connection": {"client_id": "shop"}, "author": {"identifier": "x", "type": "user"}}
    gone = {"id": "gone", "source": "x", "type": "com.akeneo.pim.v1.connection.deleted", "data": data}
    return {"specversion": "1.0", **gone, "time": datetime.now(UTC).isoformat()}


def wanted(url: str) -> dict[str, Any]:
    return {"events": [UPDATED], "type": "https", "config": {"url": url, "secret": {"primary": PRIMARY}}}


def a_delivery(subscription: str) -> Delivery:
    return Delivery(subscription, "id", UPDATED, datetime.now(UTC), lane=0, lanes=16, epoch=0, body=b"{}")


async def answer(request: Request) -> Response:
    """What the path says; with a 429 a pause that is too long to be waited for inside a push."""
    return Response(status_code=request.path_params["status"], headers={"Retry-After": "3600"})


async def push(url: str, message: Message) -> None:
    wrapped = {
        "message": {
            "data": base64.b64encode(message.data).decode(),
            "attributes": dict(message.attributes),
            "messageId": "1",
            "orderingKey": message.ordering_key,
        },
        "subscription": "projects/p/subscriptions/s",
    }
    answered = await asyncio.to_thread(http().post, url, json=wrapped, timeout=20)
    assert answered.status_code == 204, answered.text


async def tick_until_one_is_put_back(url: str) -> None:
    """Ticks until a retry was due and went back."""
    for _ in range(100):
        answered = await asyncio.to_thread(http().post, url, timeout=20)
        if answered.json()["put_back"]:
            return
    raise AssertionError("no retry came back")
