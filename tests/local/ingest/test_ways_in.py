"""The Events API webhook and the relay over sockets, on a running platform (contract/ingest.md 3 and 4)."""

import json
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from event_platform.domain.tenants import tenant_key
from support import one_pim
from support.processes import Child, command, delivered, http, ready, received, signature, until
from support.records import UPDATED

EVENTS_API_SECRET = "the-secret-that-the-pim-made"
OLD_RELAY_SECRET = "the-relay-secret-before"
RELAY_SECRET = "the-relay-secret-of-now"
KEY = tenant_key(one_pim.PIM)
UNKNOWN_KEY = "0123456789abcdef"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Sending:
    serve: Child
    inbox: str

    def webhook(self, body: bytes, *, key: str = KEY, **changes: Any) -> requests.Response:
        return self.post(f"/ingest/events-api/{key}", body, webhook_headers(body, **changes))

    def relay(self, body: bytes, secret: str = RELAY_SECRET, *, key: str = KEY) -> requests.Response:
        headers = {"X-AKENEO-SIGNATURE-PRIMARY": signature(secret, body), "Content-Type": "application/json"}
        return self.post(f"/ingest/relay/{key}", body, headers)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        return http().post(self.serve.url + path, body, headers=headers, timeout=10, allow_redirects=False)

    def delivered(self, event_id: str) -> dict[str, Any]:
        return delivered(self.inbox, "/hook", event_id)

    def logged(self, name: str) -> list[dict[str, Any]]:
        lines = [line for line in self.serve.stderr().splitlines() if f'"{name}"' in line]
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sending]:
    folder = tmp_path_factory.mktemp("ways-in")
    secrets = {
        "events_api_secret": ["another-secret-of-the-pim", EVENTS_API_SECRET],
        "relay_secret": [RELAY_SECRET, OLD_RELAY_SECRET],
    }
    pims = [one_pim.entry(**secrets), {"url": "https://closed.example.com"}]
    with ExitStack() as stack:
        inbox = ready(
            stack.enter_context(command(folder, "inbox", "--port", "0", "--secret", one_pim.PRIMARY))
        )
        settings = {"AEP_RATE_MIN": "100000", "AEP_RATE_MAX": "100000"}
        serve = stack.enter_context(one_pim.serve(folder, pims=pims, settings=settings))
        one_pim.subscribe(serve, f"{inbox.url}/hook")
        yield Sending(serve, inbox.url)


def webhook_headers(
    body: bytes, *, timestamp: int | None = None, secret: str = EVENTS_API_SECRET
) -> dict[str, str]:
    timestamp = int(time.time()) if timestamp is None else timestamp
    return {
        "Content-Type": "application/json",
        "X-Akeneo-Request-Signature": signature(secret, f"{timestamp}.".encode() + body),
        "X-Akeneo-Request-Timestamp": str(timestamp),
    }


def php(*events: dict[str, Any]) -> bytes:
    """As PHP's json_encode writes it: slashes and all that is not ASCII escaped."""
    return json.dumps({"events": events}, separators=(",", ":")).replace("/", "\\/").encode()


def an_update(**more: Any) -> dict[str, Any]:
    values = {"description": [{"locale": "fr_FR", "scope": None, "data": "<p>Lampe / é</p>"}]}
    resource = {"uuid": str(uuid.uuid4()), "identifier": "LMP/001", "values": values}
    return {
        "action": "product.updated",
        "event_id": str(uuid.uuid4()),
        "event_datetime": "2026-01-31T13:00:00+01:00",
        "author": "julia",
        "author_type": "ui",
        "pim_source": "http://localhost:8080",
        "data": {"resource": resource},
    } | more


def a_cloudevent(**more: Any) -> bytes:
    attributes = {"specversion": "1.0", "time": datetime.now(UTC).isoformat()}
    return orjson.dumps(attributes | one_pim.event() | more)


# --- the Events API ----------------------------------------------------------------------------------


def test_ten_events_of_a_pim_are_delivered(world: Sending) -> None:
    events = [an_update() for _ in range(10)]
    answer = world.webhook(php(*events))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 10, "skipped": 0, "malformed": 0})
    for event in events:
        delivery = world.delivered(event["event_id"])
        assert delivery["verified"]
        body = json.loads(delivery["body"])
        assert body["data"]["product"] == {"uuid": event["data"]["resource"]["uuid"]}
        assert body["time"] == "2026-01-31T12:00:00Z"


@pytest.mark.provokes("subscription.lacks_identifiers")
def test_a_subscription_that_cannot_know_the_product_is_warned_of_once(world: Sending) -> None:
    events = [an_update(data={"resource": {"identifier": f"LMP-{number}"}}) for number in range(3)]
    assert world.webhook(php(*events)).json()["accepted"] == 3
    delivery = world.delivered(events[0]["event_id"])
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, one_pim.PIM)
    assert json.loads(delivery["body"])["data"]["product"] == {"uuid": str(uuid.uuid5(namespace, "LMP-0"))}
    (line,) = until(lambda: world.logged("subscription.lacks_identifiers"), "the warning")
    assert line["subscription_id"] == json.loads(delivery["body"])["subject"]


@pytest.mark.parametrize("body", [b"", b'{"events":[]}'])
def test_the_test_button_and_an_empty_list_are_200(world: Sending, body: bytes) -> None:
    answer = world.webhook(body)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 0, "skipped": 0, "malformed": 0})


@pytest.mark.provokes("events.skipped")
def test_what_is_left_out_is_counted_and_logged(world: Sending) -> None:
    good = an_update()
    answer = world.webhook(php(an_update(action="family.created"), an_update(event_id=7), good))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "skipped": 1, "malformed": 1})
    world.delivered(good["event_id"])
    line = until(lambda: world.logged("events.skipped"), "the line of the log")[-1]
    assert line["unknown_actions"] == {"family.created": 1}
    assert line["problems"] == ["events[1].event_id: must be a string of 1 to 256 characters"]


@pytest.mark.parametrize("value", [b'"\\ud800"', b"1e400", b"[" * 2000 + b"]" * 2000])
@pytest.mark.parametrize("padding", [0, MIB])
def test_a_value_that_is_thrown_away_costs_no_event(world: Sending, value: bytes, padding: int) -> None:
    events = [an_update() for _ in range(10)]
    events[3]["data"]["resource"] |= {"values": "here", "padding": "x" * padding}
    answer = world.webhook(php(*events).replace(b'"here"', value))
    assert (answer.status_code, answer.json()) == (200, {"accepted": 10, "skipped": 0, "malformed": 0})
    for event in events:
        world.delivered(event["event_id"])


def test_a_body_that_is_no_webhook_is_400(world: Sending) -> None:
    answer = world.webhook(b'{"id":"1"}')
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "events"


def test_who_is_not_the_pim_learns_nothing(world: Sending) -> None:
    body = php(an_update())
    now = int(time.time())
    refused = [
        world.webhook(body, secret="another"),
        world.webhook(body, key=UNKNOWN_KEY),
        world.webhook(body, key=tenant_key("https://closed.example.com")),
        world.webhook(b"{", secret="another"),
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.content for answer in refused}) == 1
    stale = [world.webhook(body, timestamp=now - 400), world.webhook(body, timestamp=now + 100)]
    assert [answer.status_code for answer in stale] == [401, 401]
    assert world.post(f"/ingest/events-api/{KEY}", body, {}).status_code == 401


def test_ten_whole_products_may_have_19_mib_and_not_21(world: Sending) -> None:
    event = an_update()
    event["data"]["resource"]["values"] = {"text": "x" * 19 * MIB}
    assert world.webhook(php(event)).json()["accepted"] == 1
    event["data"]["resource"]["values"] = {"text": "x" * 21 * MIB}
    assert world.webhook(php(event)).status_code == 413


@pytest.mark.parametrize(("padding", "reset"), [(0, False), (3 * MIB, False), (0, True)])
def test_what_a_pim_sent_is_taken_in_though_it_hung_up(world: Sending, padding: int, reset: bool) -> None:
    """As a PIM whose 0.5 s are over: the whole request is out, and then the connection is gone.

    A reset throws away what the kernel has not handed out yet, so it comes when that has happened.
    """
    ids: list[str] = []
    host, _, port = world.serve.url.removeprefix("http://").partition(":")
    for _ in range(3 if padding else 50):
        event = an_update()
        event["data"]["resource"]["values"] = {"text": "x" * padding}
        body = php(event)
        headers = webhook_headers(body) | {"Host": host, "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"POST /ingest/events-api/{KEY} HTTP/1.1\r\n{head}\r\n".encode() + body)
            if reset:
                time.sleep(0.05)  # until it has arrived
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ids.append(event["event_id"])
    wanted = set(ids)

    def all_came() -> bool:
        return wanted <= {each["id"] for each in received(world.inbox, "/hook")}

    until(all_came, "every event that was sent")


# --- the relay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [RELAY_SECRET, OLD_RELAY_SECRET])
def test_a_relayed_event_is_delivered(world: Sending, secret: str) -> None:
    body = a_cloudevent(source="akeneo-event-platform", subject="theirs")
    answer = world.relay(body, secret)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "skipped": 0})
    assert world.delivered(orjson.loads(body)["id"])["verified"]


def test_a_secondary_signature_is_enough(world: Sending) -> None:
    body = a_cloudevent()
    headers = {
        "X-AKENEO-SIGNATURE-PRIMARY": "x",
        "X-AKENEO-SIGNATURE-SECONDARY": signature(RELAY_SECRET, body),
    }
    assert world.post(f"/ingest/relay/{KEY}", body, headers).status_code == 202


@pytest.mark.provokes("relay.differs")
def test_an_event_that_fits_no_schema_is_delivered_and_logged(world: Sending) -> None:
    data = {"product": {"uuid": "none"}, "count": 9007199254740993}  # which a double cannot hold
    body = a_cloudevent(data=data)
    assert world.relay(body).json() == {"accepted": 1, "skipped": 0}
    event_id = orjson.loads(body)["id"]
    assert '"count":9007199254740992' in world.delivered(event_id)["body"]
    line = until(lambda: world.logged("relay.differs"), "the line of the log")[-1]
    assert line["event_id"] == event_id
    assert "data.product.uuid does not fit the schema" in line["reasons"]


@pytest.mark.provokes("relay.skipped")
def test_what_cannot_be_delivered_is_2xx_and_logged_once_a_minute(world: Sending) -> None:
    old = a_cloudevent(time=(datetime.now(UTC) - timedelta(days=4, hours=1)).isoformat())
    for body in (b"", b"{", b"[]", a_cloudevent(type="com.akeneo.pim.v9.new"), old):
        answer = world.relay(body)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "skipped": 1})
    (line,) = until(lambda: world.logged("relay.skipped"), "the line of the log")
    assert line["times"] == 1


def test_a_large_event_that_is_rightly_signed_is_not_refused(world: Sending) -> None:
    for data in ({"text": "x" * 19 * MIB}, {"list": [[]] * 1_100_000}):
        answer = world.relay(a_cloudevent(data=data))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "skipped": 1})
    assert world.relay(b"x" * 21 * MIB).status_code == 413


@pytest.mark.parametrize("key", [KEY, UNKNOWN_KEY, f"{KEY}/", f"{KEY}/more", ""])
def test_a_wrong_signature_is_401_wherever_it_goes(world: Sending, key: str) -> None:
    assert world.relay(a_cloudevent(), "another", key=key).status_code == 401
    assert world.post(f"/ingest/relay/{key}", a_cloudevent(), {}).status_code == 401


@pytest.mark.parametrize("path", ["", "/", f"//{KEY}", f"/{KEY}%0A", f"/{KEY}%0Aa", "/a%0A%0D%00/b"])
def test_the_relay_answers_401_where_no_pim_is(world: Sending, path: str) -> None:
    body = a_cloudevent()
    headers = {"X-AKENEO-SIGNATURE-PRIMARY": signature(RELAY_SECRET, body)}
    assert world.post(f"/ingest/relay{path}", body, headers).status_code == 401


def test_what_only_begins_like_the_relay_is_no_route(world: Sending) -> None:
    assert world.post(f"/ingest/relay{KEY}", a_cloudevent(), {}).status_code == 404


# --- the simulated PIM -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format_", "secret"), [("events-api", EVENTS_API_SECRET), ("relay", RELAY_SECRET)], ids=["PIM", "relay"]
)
def test_what_is_emitted_each_way_is_delivered(
    world: Sending, tmp_path: Path, format_: str, secret: str
) -> None:
    before = len(received(world.inbox, "/hook"))
    url = f"{world.serve.url}/ingest/{format_}/{KEY}"
    arguments = ("sim", "emit", UPDATED, "--to", url, "--format", format_, "--count", "3", "--rate", "99")
    with command(tmp_path, *arguments, settings={"AEP_SIGNING_SECRET": secret}):
        until(lambda: len(received(world.inbox, "/hook")) >= before + 3, "three deliveries")
