"""The whole way of an event through the six functions as processes of their own, on Google's emulators."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
import pytest_asyncio

from aep.tools.on_google import Function, GooglePlatform, running
from aep_here import run
from contract.pubsub import Project
from event_platform.domain.catalog import BENCHMARK
from event_platform.domain.deliveries import Delivery
from event_platform.domain.events import envelope
from event_platform.domain.messages import Message
from event_platform.domain.queue_messages import EVENTS_TOPIC, Accepted, delivery_message, events_messages
from event_platform.domain.tenants import tenant_key
from event_platform.push import REASON
from kafka_broker import KafkaBroker
from mail_server import MailBox, mail_server
from one_pim import CLIENT_KEY, INGEST_KEY, PIM, PRIMARY, event
from processes import Client, http, received, send_events, server
from records import ORDER, ORDER_TYPE, an_event

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
PIM_TOPIC = f"pim-events-{tenant_key(PIM)}"
IN_FORCE_SECONDS = 5.0


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    arguments = ("inbox", "--quiet", "--secret", PRIMARY)
    with server(tmp_path_factory.mktemp("inbox"), *arguments) as child:
        yield child.url


@pytest.fixture(scope="module")
def mail() -> Iterator[MailBox]:
    with mail_server() as box:
        yield box


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    pubsub_host: str, firestore_host: str, mail: MailBox, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[GooglePlatform]:
    key = sha256(CLIENT_KEY.encode()).hexdigest()
    clients = [{"client_id": client_id, "key_sha256": key} for client_id in ("erp", "shop")]
    entry = {"url": PIM, "auth": "platform-key", "clients": clients, "ingest_key": INGEST_KEY}
    async with running(
        f"test-{uuid.uuid4().hex[:20]}",
        pubsub=pubsub_host,
        firestore=firestore_host,
        folder=tmp_path_factory.mktemp("functions"),
        settings={
            "AEP_PIMS": orjson.dumps([entry]).decode(),
            "AEP_RETRY_DELAYS": "0.5,1,2",
            "AEP_EVENT_TYPES": orjson.dumps([ORDER_TYPE]).decode(),
            "AEP_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
            "AEP_MAIL_FROM": "events@example.com",
        },
        tenant_keys=[tenant_key(PIM)],
        ack_seconds=10,  # so that what a kill interrupts comes again soon
    ) as started:
        yield started


@dataclass
class Subscribed:
    """A subscription of an own subscriber, and what a test does with it."""

    platform: GooglePlatform
    client: Client
    inbox: str
    path: str
    subscriber: str
    subscription: str

    async def send(self, count: int = 1) -> list[str]:
        """Updates of as many products into ingest, each in a request of its own; their ids."""
        events = [event() for _ in range(count)]
        url = self.platform.functions["ingest"].url
        for each in events:
            assert await asyncio.to_thread(send_events, url, INGEST_KEY, each) == 202
        return [each["id"] for each in events]

    async def got(self, ids: Sequence[str], *, seconds: float = 30.0) -> list[dict[str, Any]]:
        """The deliveries that were taken, once there is one of each id."""

        async def all_of_them() -> list[dict[str, Any]] | None:
            taken = await self.taken()
            return taken if {each["id"] for each in taken} >= set(ids) else None

        return await until(all_of_them, f"{len(ids)} deliveries to {self.path}", seconds=seconds)

    async def taken(self) -> list[dict[str, Any]]:
        found = await asyncio.to_thread(received, self.inbox, self.path)
        return [each for each in found if 200 <= each["status"] < 300]

    async def order(self, verb: str, manager: Function) -> None:
        await asyncio.to_thread(self.by(manager).call, "POST", f"{self.path_of_it}/{verb}", expect=202)

    async def delete(self) -> None:
        await asyncio.to_thread(self.client.call, "DELETE", self.path_of_it, expect=200)

    async def status(self, manager: Function) -> str:
        row = await asyncio.to_thread(self.by(manager).call, "GET", self.path_of_it, expect=200)
        return row["status"]

    @property
    def path_of_it(self) -> str:
        return f"/subscribers/{self.subscriber}/subscriptions/{self.subscription}"

    def by(self, manager: Function) -> Client:
        return replace(self.client, base=manager.url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def subscriptions(platform: GooglePlatform, inbox: str) -> Sequence[Subscribed]:
    """One at a good receiver, one at a receiver that answers 500 to the first attempt of each event."""
    made = await subscribe(platform, inbox, "erp", ("/hook", "/flaky"))
    await asyncio.sleep(IN_FORCE_SECONDS)
    return made


async def subscribe(
    platform: GooglePlatform, inbox: str, client_id: str, paths: Sequence[str]
) -> list[Subscribed]:
    """One at each path of the inbox."""
    client = Client(platform.functions["manage"].url, PIM, CLIENT_KEY, client_id)
    body = {"name": "Tests", "contact": {"technical_email": "ops@example.com"}}
    subscriber = await asyncio.to_thread(client.call, "POST", "/subscribers", body, expect=201)
    made: list[Subscribed] = []
    for path in paths:
        config = {"url": inbox + path, "secret": {"primary": PRIMARY}}
        wanted = {"events": [event()["type"]], "type": "https", "config": config}
        at = f"/subscribers/{subscriber['id']}/subscriptions"
        answer = await asyncio.to_thread(client.call, "POST", at, wanted, expect=201)
        made.append(Subscribed(platform, client, inbox, path, subscriber["id"], answer["id"]))
    return made


@pytest.fixture
def subscribed(subscriptions: Sequence[Subscribed]) -> Subscribed:
    return subscriptions[0]


@pytest.fixture
def flaky(subscriptions: Sequence[Subscribed]) -> Subscribed:
    return subscriptions[1]


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 30.0) -> Any:
    """What `condition` gives, once that is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (result := await condition()):
        assert loop.time() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.1)
    return result


async def test_an_event_by_http_is_delivered_signed(subscribed: Subscribed) -> None:
    ids = await subscribed.send()
    (taken,) = [each for each in await subscribed.got(ids) if each["id"] in ids]
    assert taken["verified"] is True
    assert taken["subject"] == subscribed.subscription


async def test_an_event_by_the_topic_of_a_pim_is_delivered_signed(subscribed: Subscribed) -> None:
    published = event()
    attributes = {"ce-specversion": "1.0", "ce-id": published["id"], "ce-type": published["type"]}
    data = json.dumps(published["data"]).encode()
    await subscribed.platform.publish(PIM_TOPIC, data, attributes)
    arrived = await subscribed.got([published["id"]])
    (taken,) = [each for each in arrived if each["id"] == published["id"]]
    assert taken["verified"] is True


async def test_an_operators_own_type_is_delivered_and_described(
    platform: GooglePlatform, subscriptions: Sequence[Subscribed], inbox: str
) -> None:
    manager = platform.functions["manage"].url
    config = {"url": f"{inbox}/orders", "secret": {"primary": PRIMARY}}
    wanted = {"events": [ORDER], "type": "https", "config": config}
    path = f"/subscribers/{subscriptions[0].subscriber}/subscriptions"
    await asyncio.to_thread(subscriptions[0].client.call, "POST", path, wanted, expect=201)
    await asyncio.sleep(IN_FORCE_SECONDS)
    sent = {"id": str(uuid.uuid4()), "type": ORDER, "data": ORDER_TYPE["example"]}
    assert await asyncio.to_thread(send_events, platform.functions["ingest"].url, INGEST_KEY, sent) == 202

    async def arrived() -> list[dict[str, Any]]:
        return await asyncio.to_thread(received, inbox, "/orders")

    (taken,) = await until(arrived, "the order")
    assert (taken["id"], taken["verified"]) == (sent["id"], True)
    schema = f"{manager}/spec/{ORDER}.schema.json"
    served = await asyncio.to_thread(http().get, schema, timeout=10)
    assert (served.status_code, served.json()["$id"]) == (200, schema)
    described = await asyncio.to_thread(http().get, f"{manager}/asyncapi.json", timeout=10)
    assert ORDER in described.json()["components"]["messages"]


async def to_brokers(
    platform: GooglePlatform, by: Subscribed, kind: str, *configs: dict[str, Any]
) -> tuple[list[Subscribed], str]:
    """A subscription for each config, and the id of an event that was sent once they were in force."""
    path = f"/subscribers/{by.subscriber}/subscriptions"
    made: list[Subscribed] = []
    for config in configs:
        wanted = {"events": [event()["type"]], "type": kind, "config": config}
        row = await asyncio.to_thread(by.client.call, "POST", path, wanted, expect=201)
        made.append(replace(by, subscription=row["id"]))
    await asyncio.sleep(IN_FORCE_SECONDS)
    (sent,) = await by.send()
    return made, sent


async def suspended(subscribed: Subscribed) -> bool:
    return await subscribed.status(subscribed.platform.functions["manage"]) == "suspended"


async def test_an_event_gets_to_a_topic_of_another_project_and_a_missing_topic_suspends(
    platform: GooglePlatform, subscribed: Subscribed, pubsub_host: str
) -> None:
    project = Project(pubsub_host, f"test-{uuid.uuid4().hex[:20]}")
    await project.create_topic("pim-events")
    there, gone = ({"project_id": project.name, "topic_id": name} for name in ("pim-events", "there-is-none"))
    (found, missing), sent = await to_brokers(platform, subscribed, "pubsub", there, gone)
    (message,) = await project.pull("pim-events", 1)
    assert (dict(message.attributes), orjson.loads(message.data)["id"]) == ({"type": event()["type"]}, sent)
    await until(lambda: suspended(missing), "the suspension")
    await found.delete()
    await project.close()
    own = {"project_id": platform.project, "topic_id": "deliveries-0"}
    path = f"/subscribers/{subscribed.subscriber}/subscriptions"
    body = {"events": [event()["type"]], "type": "pubsub", "config": own}
    answer = await asyncio.to_thread(subscribed.client.call, "POST", path, body, expect=400)
    assert answer["errors"][0]["field"] == "config.project_id"


async def test_an_event_gets_to_a_kafka_topic_and_a_missing_topic_suspends(
    platform: GooglePlatform, subscribed: Subscribed, kafka: KafkaBroker
) -> None:
    sasl = {"mechanism": "plain", "username": kafka.says["username"], "password": kafka.says["password"]}
    there = {"broker": kafka.bootstrap("sasl_plaintext"), "topic": kafka.topic, "sasl_auth": sasl}
    async with kafka.consumed() as consumer:
        (found, missing), sent = await to_brokers(
            platform, subscribed, "kafka", there, there | {"topic": "there.is.none"}
        )
        record = await asyncio.wait_for(consumer.getone(), 20)
    assert orjson.loads(record.value or b"")["id"] == sent
    await until(lambda: suspended(missing), "the suspension")
    await found.delete()


async def test_a_benchmark_and_a_test_come_to_whom_they_are_for(
    platform: GooglePlatform, subscriptions: Sequence[Subscribed], inbox: str
) -> None:
    client = subscriptions[0].client
    path = f"/subscribers/{subscriptions[0].subscriber}/subscriptions"
    config = {"url": f"{inbox}/benchmark", "secret": {"primary": PRIMARY}}
    wanted = {"source": "benchmark", "events": [ORDER], "type": "https", "config": config}
    made = await asyncio.to_thread(client.call, "POST", path, wanted, expect=201)
    shown = await asyncio.to_thread(client.call, "POST", f"{path}/{made['id']}/test", {}, expect=200)
    assert shown["outcome"] == "delivered"
    await asyncio.sleep(IN_FORCE_SECONDS)
    body = {"type": BENCHMARK, "count": 5, "size": 1}
    started = await asyncio.to_thread(client.call, "POST", "/benchmark", body, expect=202)
    expected = {f"{started['id']}-{number}" for number in range(1, 6)} | {shown["event"]["id"]}

    async def arrived() -> bool:
        got = await asyncio.to_thread(received, inbox, "/benchmark")
        return {each["id"] for each in got if each["verified"]} == expected

    await until(arrived, "the test events")
    others = [each for path in ("/hook", "/flaky") for each in await asyncio.to_thread(received, inbox, path)]
    assert BENCHMARK not in {each["type"] for each in others}


async def test_a_500_is_tried_again_when_it_is_due(flaky: Subscribed) -> None:
    ids = await flaky.send(2)
    taken = [each for each in await flaky.got(ids) if each["id"] in ids]
    assert [each["attempt"] for each in taken] == [2, 2]


async def test_the_log_tells_of_actions_refused_calls_and_deliveries_that_ended(
    subscribed: Subscribed,
) -> None:
    manage = subscribed.platform.functions["manage"]
    await asyncio.to_thread(
        subscribed.by(manage).call, "PATCH", subscribed.path_of_it, {"events": 5}, expect=400
    )
    await push_delivery(subscribed.platform.functions["deliver"], subscribed, age=timedelta(days=4))

    async def log(query: str = "") -> list[dict[str, Any]]:
        of_it = f"/logs?subscription_id={subscribed.subscription}{query}"
        return (await asyncio.to_thread(subscribed.by(manage).call, "GET", of_it, expect=200))["items"]

    assert [(each["log_type"], each["operation"], each["occurrences"]) for each in await log()] == [
        ("error", "failed_to_deliver_event", 1),
        ("error", "request_refused", 1),
        ("action", "subscription_created_by_the_user", 1),
    ]
    assert await log("&order=asc") == (await log())[::-1]
    assert await log("&operation=failed_to_deliver_event") == (await log())[:1]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["fanout", "deliver"])
async def test_nothing_is_lost_when_a_function_is_killed(
    subscribed: Subscribed, flaky: Subscribed, name: str
) -> None:
    function = subscribed.platform.functions[name]
    ids = await subscribed.send(6)
    function.kill()
    ids += await subscribed.send(6)
    await function.start()
    # a push that was on its way may come again only when its ack deadline and a backoff have passed
    await subscribed.got(ids, seconds=90)
    await flaky.got(ids, seconds=90)


async def test_a_suspension_is_told_by_mail_and_by_webhook_through_its_topic(
    platform: GooglePlatform, mail: MailBox, inbox: str
) -> None:
    client = Client(platform.functions["manage"].url, PIM, CLIENT_KEY, "erp")
    contact = {
        "technical_email": "told@example.com",
        "notification_channels": ["email", "webhook"],
        "notification_webhook_url": f"{inbox}/told",
        "notification_webhook_secret": PRIMARY,  # which the inbox verifies with
    }
    body = {"name": "Told", "contact": contact}
    subscriber = await asyncio.to_thread(client.call, "POST", "/subscribers", body, expect=201)
    at = f"/subscribers/{subscriber['id']}/subscriptions"
    config = {"url": f"{inbox}/hook", "secret": {"primary": PRIMARY}}
    wanted = {"events": [event()["type"]], "type": "https", "config": config}
    made = await asyncio.to_thread(client.call, "POST", at, wanted, expect=201)
    for _ in range(2):
        await asyncio.to_thread(client.call, "POST", f"{at}/{made['id']}/suspend", expect=202)

    async def mails() -> list[Any]:
        return [each for each in mail.mails if each["To"] == "told@example.com"]

    (told,) = await until(mails, "the mail")
    assert told["Subject"] == "Suspended: a subscription of Told"
    (webhook,) = await asyncio.to_thread(received, inbox, "/told")
    assert (webhook["type"], webhook["verified"]) == ("subscription.suspended.user", True)


async def test_what_nobody_can_read_becomes_a_dead_letter_and_an_error_in_the_log(
    platform: GooglePlatform,
) -> None:
    await platform.publish(EVENTS_TOPIC, b"\xff", {"tenant": PIM})
    ((data, attributes),) = await until(platform.dead_letters, "a dead letter")
    assert data == b"\xff"
    assert attributes[REASON] == "the attribute accepted_at is missing"
    lines = map(json.loads, platform.functions["fanout"].lines())
    (line,) = [each for each in lines if each["event"] == "message.dead_lettered"]
    assert line["level"] == "error"


async def test_a_suspension_is_in_force_in_every_instance_within_5_seconds(
    subscribed: Subscribed, flaky: Subscribed
) -> None:
    functions = subscribed.platform.functions
    fanouts, deliverers, managers = [
        [functions[name], await subscribed.platform.another(name)] for name in ("fanout", "deliver", "manage")
    ]
    await subscribed.got([await push_delivery(each, subscribed) for each in deliverers])
    assert [await fan_out(each) for each in fanouts] == [2, 2]
    await subscribed.order("suspend", managers[1])
    await asyncio.sleep(IN_FORCE_SECONDS)

    assert [await subscribed.status(each) for each in managers] == ["suspended", "suspended"]
    passed_by = [await push_delivery(each, subscribed) for each in deliverers]
    assert [await fan_out(each) for each in fanouts] == [1, 1]
    passed_by += await subscribed.send()
    await flaky.got(passed_by[-1:])  # so it has been fanned out by now

    await subscribed.order("resume", managers[0])
    await asyncio.sleep(IN_FORCE_SECONDS)
    await subscribed.got(await subscribed.send())
    assert not {each["id"] for each in await subscribed.taken()} & set(passed_by)


async def test_a_404_suspends_and_the_removal_of_the_connection_revokes(
    platform: GooglePlatform, inbox: str, subscribed: Subscribed
) -> None:
    gone, good = await subscribe(platform, inbox, "shop", ("/404", "/shop"))
    manage, deliver = platform.functions["manage"], platform.functions["deliver"]

    async def ended(of: Subscribed) -> list[tuple[str, int]]:
        path = f"/logs?subscription_id={of.subscription}&order=asc"
        found = (await asyncio.to_thread(of.by(manage).call, "GET", path, expect=200))["items"]
        return [
            (each["error_message"], each["occurrences"])
            for each in found
            if not each["operation"].endswith("by_the_user")
        ]

    for _ in range(4):
        await push_delivery(deliver, gone)
    message = "the endpoint answered 404"
    assert await ended(gone) == [(message, 1), (message, 1), ("suspended", 3)]  # and the action between
    assert await gone.status(manage) == "suspended"

    author = {"identifier": "x", "type": "user"}
    data = {"connection": {"client_id": "shop"}, "author": author}
    removed = {"id": str(uuid.uuid4()), "type": "com.akeneo.pim.v1.connection.deleted", "data": data}
    assert await asyncio.to_thread(send_events, platform.functions["ingest"].url, INGEST_KEY, removed) == 202

    async def revoked() -> bool:
        return [await each.status(manage) for each in (gone, good)] == ["revoked", "revoked"]

    await until(revoked, "the revocation")
    await asyncio.sleep(IN_FORCE_SECONDS)
    await push_delivery(deliver, good)
    assert await good.taken() == []
    assert await ended(good) == [("the connection was removed from the PIM", 1), ("revoked", 1)]
    assert await subscribed.status(manage) == "active"


async def push_delivery(function: Function, subscribed: Subscribed, *, age: timedelta = timedelta(0)) -> str:
    """A delivery pushed to this instance and handled by it; the event's id."""
    made = an_event(entity=str(uuid.uuid4()))
    delivery = Delivery(
        subscription_id=subscribed.subscription,
        event_id=str(uuid.uuid4()),
        event_type=made.type,
        accepted_at=datetime.now(UTC) - age,
        lane=0,
        lanes=16,
        epoch=0,
        body=b"",
    )
    body = envelope(replace(made, id=delivery.event_id), "https://x/spec", with_identifier=True)
    body_of_it = body.addressed_to(subscribed.subscription)
    await push(f"{function.url}/deliveries-0", delivery_message(replace(delivery, body=body_of_it)))
    return delivery.event_id


async def fan_out(function: Function) -> int:
    """An event pushed to this instance; how many deliveries it made of it."""
    made = replace(an_event(entity=str(uuid.uuid4())), id=str(uuid.uuid4()))
    ((message, _),) = events_messages(Accepted(PIM, datetime.now(UTC), [made]))
    await push(f"{function.url}/events", message)
    lines = map(json.loads, function.lines())
    return [each for each in lines if each["event"] == "events.fanned_out"][-1]["deliveries"]


async def push(url: str, message: Message) -> None:
    """As Pub/Sub does, until it is acknowledged."""
    pushed = {
        "data": base64.b64encode(message.data).decode(),
        "attributes": dict(message.attributes),
        "messageId": uuid.uuid4().hex,
    }
    body = orjson.dumps({"message": pushed, "subscription": "projects/p/subscriptions/s"})
    answer = await asyncio.to_thread(http().post, url, data=body, timeout=30)
    assert answer.status_code == 204, answer.text


async def test_the_doctor_finds_all_six_functions_well(platform: GooglePlatform, tmp_path: Path) -> None:
    known = {
        "AEP_INGEST_URL": f"{platform.functions['ingest'].url}/ingest",
        "AEP_INGEST_KEY": INGEST_KEY,
        "AEP_PIM_URL": PIM,
        "AEP_PIM_CLIENT_ID": "shop",
        "AEP_PIM_TOKEN": CLIENT_KEY,
    }
    with server(tmp_path, "inbox") as inbox:
        arguments = ("--endpoint", inbox.url, "--email", "ops@example.com", "--wait", "30", "--json")
        manage = platform.functions["manage"].url
        ended = await asyncio.to_thread(run, "doctor", "--deployed", manage, *arguments, settings=known)
    checks = {check["name"]: check["detail"] for check in orjson.loads(ended.out) if check["state"] == "ok"}
    assert ended.status == 0, ended
    assert {"ingest", "an event", "suspension", "notification", "a retry", "clean-up"} <= checks.keys()
