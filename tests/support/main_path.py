"""The main path of an event on Google's emulators, whoever made the topics."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import orjson

from aep.google.functions_on_emulators import Function, GooglePlatform
from event_platform.domain.messages.queue_messages import EVENTS_TOPIC
from event_platform.domain.tenants import tenant_key
from event_platform.push import REASON
from support.mail_server import MailBox
from support.one_pim import CLIENT_KEY, INGEST_KEY, PIM, PRIMARY, event
from support.processes import Client, received, send_events
from support.records import ORDER_TYPE

PIM_TOPIC = f"pim-events-{tenant_key(PIM)}"
IN_FORCE_SECONDS = 5.0


def settings(mail: MailBox) -> Mapping[str, str]:
    """Of functions for the one PIM with two clients, that try again soon."""
    key = sha256(CLIENT_KEY.encode()).hexdigest()
    clients = [{"client_id": client_id, "key_sha256": key} for client_id in ("erp", "shop")]
    entry = {"url": PIM, "auth": "platform-key", "clients": clients, "ingest_key": INGEST_KEY}
    return {
        "AEP_PIMS": orjson.dumps([entry]).decode(),
        "AEP_RETRY_DELAYS": "0.5,1,2",
        "AEP_EVENT_TYPES": orjson.dumps([ORDER_TYPE]).decode(),
        "AEP_SMTP_URL": f"smtp://127.0.0.1:{mail.port}",
        "AEP_MAIL_FROM": "events@example.com",
    }


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

    async def got(self, ids: Sequence[str], *, seconds: float = 60.0) -> list[dict[str, Any]]:
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


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """What `condition` gives, once that is true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not (result := await condition()):
        assert loop.time() < end, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.1)
    return result


async def an_event_by_http_is_delivered(subscribed: Subscribed) -> None:
    ids = await subscribed.send()
    (taken,) = [each for each in await subscribed.got(ids) if each["id"] in ids]
    assert taken["verified"] is True
    assert taken["subject"] == subscribed.subscription


async def an_event_by_the_topic_is_delivered(subscribed: Subscribed) -> None:
    published = event()
    attributes = {"ce-specversion": "1.0", "ce-id": published["id"], "ce-type": published["type"]}
    data = json.dumps(published["data"]).encode()
    await subscribed.platform.publish(PIM_TOPIC, data, attributes)
    arrived = await subscribed.got([published["id"]])
    (taken,) = [each for each in arrived if each["id"] == published["id"]]
    assert taken["verified"] is True


async def a_500_is_tried_again(flaky: Subscribed) -> None:
    ids = await flaky.send(2)
    taken = [each for each in await flaky.got(ids) if each["id"] in ids]
    assert [each["attempt"] for each in taken] == [2, 2]


async def a_suspension_is_told(platform: GooglePlatform, mail: MailBox, inbox: str) -> None:
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


async def what_nobody_can_read_becomes_a_dead_letter(platform: GooglePlatform) -> None:
    await platform.publish(EVENTS_TOPIC, b"\xff", {"tenant": PIM})
    ((data, attributes),) = await until(platform.dead_letters, "a dead letter")
    assert data == b"\xff"
    assert attributes[REASON] == "the attribute accepted_at is missing"
    lines = map(json.loads, platform.functions["fanout"].lines())
    (line,) = [each for each in lines if each["event"] == "message.dead_lettered"]
    assert line["severity"] == "ERROR"
