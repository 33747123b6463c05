"""The whole way of an event through the six functions as processes of their own, on Google's emulators."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest
import pytest_asyncio
import requests
from google.cloud.firestore_v1.base_query import FieldFilter

from aep.google import cloud_log
from aep.google.emulators import FIRESTORE_HOST, PUBSUB_HOST
from aep.google.functions_on_emulators import Function, GooglePlatform, running
from event_platform.adapters.firestore.client import connect
from event_platform.adapters.pubsub.replay_pushes import subscriber_client
from event_platform.data_model import RETRIES
from event_platform.domain.deliveries import Delivery
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.events.event import envelope
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import Accepted, delivery_message, events_messages
from event_platform.domain.tenants import tenant_key
from support.aep_here import Ended, run
from support.cloud_logging import cloud_logging
from support.kafka_broker import KafkaBroker
from support.mail_server import MailBox, mail_server
from support.main_path import (
    IN_FORCE_SECONDS,
    Subscribed,
    a_500_is_tried_again,
    a_suspension_is_told,
    an_event_by_http_is_delivered,
    an_event_by_the_topic_is_delivered,
    settings,
    subscribe,
    until,
    what_nobody_can_read_becomes_a_dead_letter,
)
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM, PRIMARY, event
from support.processes import http, received, send_events, server
from support.pubsub_project import Project
from support.records import ORDER, ORDER_TYPE, an_event
from support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")


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
    async with running(
        f"test-{uuid.uuid4().hex[:20]}",
        pubsub=pubsub_host,
        firestore=firestore_host,
        folder=tmp_path_factory.mktemp("functions"),
        settings=settings(mail),
        tenant_keys=[tenant_key(PIM)],
        ack_seconds=10,  # so that what a kill interrupts comes again soon
    ) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def subscriptions(platform: GooglePlatform, inbox: str) -> Sequence[Subscribed]:
    """Two at good receivers: one that answers 500 now and then would be suspended while the tests go on."""
    made = await subscribe(platform, inbox, "erp", ("/hook", "/beside"))
    await asyncio.sleep(IN_FORCE_SECONDS)
    return made


@pytest.fixture
def subscribed(subscriptions: Sequence[Subscribed]) -> Subscribed:
    return subscriptions[0]


@pytest.fixture
def beside(subscriptions: Sequence[Subscribed]) -> Subscribed:
    return subscriptions[1]


async def test_an_event_by_http_is_delivered_signed(subscribed: Subscribed) -> None:
    await an_event_by_http_is_delivered(subscribed)


async def test_an_event_by_the_topic_of_a_pim_is_delivered_signed(subscribed: Subscribed) -> None:
    await an_event_by_the_topic_is_delivered(subscribed)


async def test_a_trace_finds_an_event_in_the_lines_of_the_functions(
    subscribed: Subscribed, beside: Subscribed, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = event()
    platform = subscribed.platform
    assert await asyncio.to_thread(send_events, platform.functions["ingest"].url, INGEST_KEY, sent) == 202
    await subscribed.got([sent["id"]])
    await beside.got([sent["id"]])

    async def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for each in platform.functions.values() for line in each.lines()]
        arrived = [
            name for line in found if line["event"] == "deliveries.arrived" for name in line["event_ids"]
        ]
        return found if arrived.count(sent["id"]) == 2 else []

    with cloud_logging() as logging:
        monkeypatch.setattr(cloud_log, "ENDPOINT", logging.url)
        monkeypatch.setattr(cloud_log, "_session", requests.Session)
        for line in await until(lines, "the lines of both attempts"):
            logging.add(datetime.now(UTC), **line)
        entity = f"product:{sent['data']['product']['uuid']}"
        by_id = await asyncio.to_thread(run, "trace", sent["id"], "--google", "p")
        by_entity = await asyncio.to_thread(run, "trace", "--entity", entity, "--google", "p")
    assert by_id == by_entity
    assert f"of {entity}, id {sent['id']}\n    accepted from {PIM} by cloudevents\n" in by_id.out
    for each in (subscribed, beside):
        assert f"matched by {each.subscription}\n" in by_id.out
    assert by_id.out.count("  delivered: 200 after ") == 2


@pytest.mark.full
async def test_what_came_by_both_ways_is_replayed_to_one_subscription_alone(
    subscribed: Subscribed, beside: Subscribed, pubsub_host: str
) -> None:
    started = datetime.now(UTC) - timedelta(seconds=1)
    (by_http,) = await beside.send()
    published = event()
    attributes = {"ce-specversion": "1.0", "ce-id": published["id"], "ce-type": published["type"]}
    topic = f"pim-events-{tenant_key(PIM)}"
    await beside.platform.publish(topic, json.dumps(published["data"]).encode(), attributes)
    ids = [by_http, published["id"]]
    await beside.got(ids)
    await subscribed.got(ids)
    path = f"/subscribers/{beside.subscriber}/subscriptions/{beside.subscription}/replays"
    wanted = {"from": started.isoformat(), "which": "all"}
    replay = await asyncio.to_thread(beside.client.call, "POST", path, wanted, expect=201)

    async def twice() -> bool:
        taken = [each["id"] for each in await beside.taken()]
        return all(taken.count(each) >= 2 for each in ids)

    await until(twice, "both events a second time", seconds=90)
    assert [each["id"] for each in await subscribed.taken() if each["id"] in ids].count(by_http) == 1

    async def counted() -> bool:
        shown = await asyncio.to_thread(beside.client.call, "GET", f"{path}/{replay['id']}", expect=200)
        assert (shown["status"], shown["which"]) == ("running", "all")
        return shown["events"] is not None and shown["delivered"] >= 2 <= shown["events"]

    await until(counted, "the numbers of the replay")
    maintain = beside.platform.functions["maintain"]
    maintain.kill()
    await asyncio.to_thread(beside.client.call, "DELETE", f"{path}/{replay['id']}", expect=200)
    assert await pushed_for_replays(pubsub_host, beside.platform.project) != []
    await maintain.start()
    await until(lambda: nothing_is_replayed(pubsub_host, beside.platform.project), "the pushes to be removed")


async def pushed_for_replays(pubsub_host: str, project: str) -> list[str]:
    """The push subscriptions of replays, and of those who catch up."""
    subscriber = subscriber_client({PUBSUB_HOST: pubsub_host})
    found = await subscriber.list_subscriptions(request={"project": f"projects/{project}"})
    names = [each.name.rpartition("/")[2] async for each in found]
    await subscriber.transport.close()
    return [name for name in names if name.startswith("replay-")]


async def nothing_is_replayed(pubsub_host: str, project: str) -> bool:
    return await pushed_for_replays(pubsub_host, project) == []


async def test_an_operator_sees_the_subscriptions_and_the_log_of_a_project_and_replays(
    subscribed: Subscribed, beside: Subscribed, pubsub_host: str, firestore_host: str
) -> None:
    hosts = {PUBSUB_HOST: pubsub_host, FIRESTORE_HOST: firestore_host}
    project, wanted = subscribed.platform.project, subscribed.subscription

    async def aep(*arguments: str) -> Ended:
        return await asyncio.to_thread(run, *arguments, "--google", project, settings=hosts)

    (state,) = [each for each in orjson.loads((await aep("status", "--json")).out) if each["id"] == wanted]
    assert (state["status"], state["tenant"], state["queued"], state["retries"]) == ("active", PIM, None, 0)
    assert f"{wanted}  Tests" in (await aep("status")).out.replace("\t", "  ")
    entries = [
        orjson.loads(line)
        for line in (await aep("logs", "--subscription", wanted, "--json")).out.splitlines()
    ]
    assert entries[0]["operation"] == "subscription_created_by_the_user"
    assert {each["subscription_id"] for each in entries} == {wanted}
    newest = await aep("logs", "--limit", "2")
    assert newest.out.count("_by_the_user") == 2
    assert (await aep("logs", "--subscription", "nobody")).err.startswith("aep: no subscription nobody")

    since = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    refused = await aep("replay", beside.subscription, "--from", since)
    assert "must be all" in refused.err
    replaying = asyncio.create_task(aep("replay", beside.subscription, "--from", since, "--which", "all"))
    path = f"{beside.path_of_it}/replays"

    async def running() -> list[dict[str, Any]]:
        shown = await asyncio.to_thread(beside.client.call, "GET", path, expect=200)
        return [each for each in shown if each["status"] == "running"]

    (started,) = await until(running, "the replay")
    await asyncio.to_thread(beside.client.call, "DELETE", f"{path}/{started['id']}", expect=200)
    ended = await replaying
    assert (ended.status, ended.out.startswith(f"Replay {started['id']} is cancelled")) == (0, True)


@pytest.mark.full
async def test_a_subscription_catches_up_after_a_suspension(
    platform: GooglePlatform, inbox: str, pubsub_host: str
) -> None:
    (made,) = await subscribe(platform, inbox, "erp", ("/catching-up",))
    manage, deliver = platform.functions["manage"], platform.functions["deliver"]
    await asyncio.sleep(IN_FORCE_SECONDS)
    before = await made.send()
    await made.got(before)
    await made.order("suspend", manage)
    await asyncio.sleep(IN_FORCE_SECONDS)
    dropped = await push_delivery(deliver, made, age=timedelta(minutes=1))  # moves the beginning back
    during = await made.send(3)
    await asyncio.sleep(1)
    assert {each["id"] for each in await made.taken()} == set(before)
    resume = f"{made.path_of_it}/resume"
    await asyncio.to_thread(made.client.call, "POST", resume, {"catch_up": True}, expect=202)
    at_the_switch = await made.send(2)
    await asyncio.sleep(IN_FORCE_SECONDS)
    waited = await push_delivery(deliver, made, age=timedelta(hours=1))
    taken = await made.got([*during, *at_the_switch, waited], seconds=90)

    async def repeated() -> bool:
        return [each["id"] for each in await made.taken()].count(before[0]) >= 2

    await until(repeated, "what was accepted since the dropped delivery was", seconds=90)
    assert dropped not in {each["id"] for each in await made.taken()}  # on no topic that keeps it
    assert all(each["verified"] for each in taken)
    assert any(
        name.startswith("replay-catch-up-")
        for name in await pushed_for_replays(pubsub_host, platform.project)
    )
    platform.functions["maintain"].kill()
    await made.delete()  # ends it
    await platform.functions["maintain"].start()
    await until(lambda: nothing_is_replayed(pubsub_host, platform.project), "the pushes to be removed")


@pytest.mark.full
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


@pytest.mark.full
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
        record = await asyncio.wait_for(consumer.getone(), 60)
    assert orjson.loads(record.value or b"")["id"] == sent
    await until(lambda: suspended(missing), "the suspension")
    await found.delete()


@pytest.mark.full
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
    others = [
        each for path in ("/hook", "/beside") for each in await asyncio.to_thread(received, inbox, path)
    ]
    assert BENCHMARK not in {each["type"] for each in others}


async def test_a_500_is_tried_again_when_it_is_due(platform: GooglePlatform, inbox: str) -> None:
    (flaky,) = await subscribe(platform, inbox, "erp", ("/flaky",))
    await asyncio.sleep(IN_FORCE_SECONDS)
    await a_500_is_tried_again(flaky)
    await flaky.order("suspend", platform.functions["manage"])  # out of the others' way


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
    subscribed: Subscribed, beside: Subscribed, name: str
) -> None:
    function = subscribed.platform.functions[name]
    ids = await subscribed.send(6)
    function.kill()
    ids += await subscribed.send(6)
    await function.start()
    # a push that was on its way may come again only when its ack deadline and a backoff have passed
    await subscribed.got(ids, seconds=90)
    await beside.got(ids, seconds=90)


async def test_a_suspension_is_told_by_mail_and_by_webhook_through_its_topic(
    platform: GooglePlatform, mail: MailBox, inbox: str
) -> None:
    await a_suspension_is_told(platform, mail, inbox)


async def test_what_nobody_can_read_becomes_a_dead_letter_and_an_error_in_the_log(
    platform: GooglePlatform,
) -> None:
    await what_nobody_can_read_becomes_a_dead_letter(platform)


@pytest.mark.full
async def test_a_suspension_is_in_force_in_every_instance_within_5_seconds(
    subscribed: Subscribed, beside: Subscribed
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
    await beside.got(passed_by[-1:])  # so it has been fanned out by now

    await subscribed.order("resume", managers[0])
    await asyncio.sleep(IN_FORCE_SECONDS)
    await subscribed.got(await subscribed.send())
    assert not {each["id"] for each in await subscribed.taken()} & set(passed_by)


@pytest.mark.full
async def test_what_an_instance_sends_before_its_network_is_there_counts_against_nobody(
    platform: GooglePlatform, inbox: str, firestore_host: str
) -> None:
    store, receiver = TcpProxy(firestore_host), TcpProxy(inbox.removeprefix("http://"))
    for proxy in (store, receiver):
        await proxy.mend()  # it has a port from now on, behind which is nothing
        await proxy.cut()
    (made,) = await subscribe(platform, f"http://{receiver.address}", "shop", ("/late",))
    late = replace(made, inbox=inbox)
    settings = {FIRESTORE_HOST: store.address, "AEP_AWAIT_NETWORK": store.address, "AEP_RETRY_DELAYS": "3600"}
    starting = asyncio.create_task(platform.another("deliver", settings))
    await store.mend()
    instance = await starting
    failed = await push_delivery(instance, late)
    (retry,) = await retries_of(platform.project, firestore_host, failed)
    assert (retry["attempts"], retry["failures"]) == (1, 0)
    await receiver.mend()
    await late.got([await push_delivery(instance, late)])
    await receiver.cut()
    failed = await push_delivery(instance, late)
    (retry,) = await retries_of(platform.project, firestore_host, failed)
    assert (retry["attempts"], retry["failures"]) == (1, 1), "its network was there before"
    assert await late.status(platform.functions["manage"]) == "active"
    await late.delete()
    await instance.stop()
    await store.cut()


async def retries_of(project: str, firestore_host: str, event_id: str) -> list[dict[str, Any]]:
    """The entries of an event in the retry schedule."""
    firestore = connect(project, emulator=firestore_host)
    query = firestore.client.collection(RETRIES).where(filter=FieldFilter("event_id", "==", event_id))
    found = [snapshot.to_dict() or {} for snapshot in await firestore.query(query)]
    await firestore.close()
    return found


@pytest.mark.full
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


@pytest.mark.full
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
