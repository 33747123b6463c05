"""The front door of a running platform: who is wrong too often, and what every answer bears."""

import asyncio
import gzip
import json
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import requests
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving import server as serving
from event_platform.domain.front_door import ADDRESS_BURST
from event_platform.http import SAFE, App
from support import one_pim
from support.asgi import post
from support.processes import Child, http, signature

RELAY_SECRET = "the-relay-secret-at-the-front-door"
WEBHOOK_SECRET = "the-webhook-secret-at-the-front-door"
NAME_IN_PATHS = "front-door"
SUBSCRIBERS = "/api/v1/subscribers"
IDENTITY = [("X-PIM-URL", one_pim.PIM), ("X-PIM-TOKEN", one_pim.CLIENT_KEY), ("X-PIM-CLIENT-ID", "erp")]


@dataclass(frozen=True)
class Callers:
    serve: Child

    def ask(
        self, method: str, path: str, *headers: tuple[str, str], address: str = "", body: bytes = b""
    ) -> requests.Response:
        """The answer to a request that a proxy passes on for that address."""
        heard = {"X-Forwarded-For": f"made up, {address or new_address()}"}
        return http().request(
            method, self.serve.url + path, data=body, headers={**heard, **dict(headers)}, timeout=10
        )

    def ingest(self, key: str, address: str) -> requests.Response:
        body = orjson.dumps({"specversion": "1.0"} | one_pim.event())
        headers = [("Authorization", f"Bearer {key}"), ("Content-Type", "application/cloudevents+json")]
        return self.ask("POST", "/ingest", *headers, address=address, body=body)

    def relay(self, secret: str, address: str) -> requests.Response:
        body = orjson.dumps({"specversion": "1.0", "time": "2026-01-31T12:00:00Z"} | one_pim.event())
        signed = ("X-AKENEO-SIGNATURE-PRIMARY", signature(secret, body))
        return self.ask("POST", f"/ingest/relay/{NAME_IN_PATHS}", signed, address=address, body=body)

    def webhook(
        self, secret: str, address: str, *, body: bytes = b"", key: str = NAME_IN_PATHS
    ) -> requests.Response:
        now = str(int(time.time()))
        signed = signature(secret, f"{now}.".encode() + body)
        headers = [("X-Akeneo-Request-Signature", signed), ("X-Akeneo-Request-Timestamp", now)]
        return self.ask("POST", f"/ingest/events-api/{key}", *headers, address=address, body=body)

    def manage(self, key: str, address: str) -> requests.Response:
        return self.ask("GET", SUBSCRIBERS, IDENTITY[0], ("X-PIM-TOKEN", key), IDENTITY[2], address=address)

    def call(self, way: str, right: bool, address: str) -> requests.Response:
        """A call by one of the ways in, with a right credential or one that nobody has made up before."""
        wrong = uuid.uuid4().hex
        if way == "ingest":
            return self.ingest(one_pim.INGEST_KEY if right else wrong, address)
        if way == "relay":
            return self.relay(RELAY_SECRET if right else wrong, address)
        if way == "webhook":
            return self.webhook(WEBHOOK_SECRET if right else wrong, address)
        return self.manage(one_pim.CLIENT_KEY if right else wrong, address)


def new_address() -> str:
    return f"2001:db8:{uuid.uuid4().hex[:4]}:{uuid.uuid4().hex[:4]}::1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    folder = tmp_path_factory.mktemp("front-door")
    secrets = {"relay_secret": RELAY_SECRET, "events_api_secret": WEBHOOK_SECRET, "key": NAME_IN_PATHS}
    with one_pim.serve(
        folder, pims=[one_pim.entry(**secrets)], settings={"AEP_TRUSTED_PROXIES": "1"}
    ) as serve:
        yield Callers(serve)


WAYS = ["ingest", "relay", "webhook", "manage"]


@pytest.mark.parametrize("way", WAYS)
def test_who_is_wrong_too_often_is_429_and_holds_up_nobody_else(world: Callers, way: str) -> None:
    flooding, proved = new_address(), new_address()
    right = world.call(way, True, proved).status_code
    assert right in (200, 202)
    statuses = Counter(world.call(way, False, flooding).status_code for _ in range(ADDRESS_BURST + 20))
    assert set(statuses) == {401, 429}
    assert statuses[429] >= 10  # some time passes meanwhile
    refused = world.call(way, False, flooding)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) in (1, 2)
    assert "from this address" in refused.json()["errors"][0]["message"]
    assert world.call(way, False, new_address()).status_code == 401
    assert world.call(way, True, new_address()).status_code == right
    assert world.call(way, True, proved).status_code == right


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("was_right", [True, False])
def test_who_is_right_passes_though_others_at_its_address_are_wrong_too_often(
    world: Callers, way: str, was_right: bool
) -> None:
    """Plays a PIM whose secret was made anew, in a mass edit, and its extensions behind the same proxy."""
    shared = new_address()
    if was_right:
        assert world.call(way, True, shared).status_code in (200, 202)
    for _ in range(ADDRESS_BURST + 20):
        world.call(way, False, shared)
    assert world.call(way, False, shared).status_code == 429
    for _ in range(3):
        assert world.call(way, True, shared).status_code in (200, 202)
    assert world.call(way, False, shared).status_code == 429


def test_a_large_body_for_nobody_is_not_read_for_an_address_that_is_wrong_too_often(world: Callers) -> None:
    flooding = new_address()
    for _ in range(ADDRESS_BURST + 20):
        world.webhook(uuid.uuid4().hex, flooding)
    now, length = str(int(time.time())), str(20 * 1024 * 1024)
    headers = [("X-Akeneo-Request-Signature", "0" * 64), ("X-Akeneo-Request-Timestamp", now)]
    lines = [*headers, ("X-Forwarded-For", flooding), ("Content-Length", length)]
    assert raw(world, "POST", "/ingest/events-api/nobody", lines).startswith("HTTP/1.1 429")
    body = b"x" * 1024 * 1024
    assert world.webhook("another", flooding, body=body).status_code == 429
    assert world.webhook(WEBHOOK_SECRET, flooding, body=b" " * 1024 * 1024).status_code == 400


def test_without_a_trusted_proxy_nobody_can_say_another_address(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path) as serve:
        world = Callers(serve)
        statuses = Counter(world.call("ingest", False, new_address()).status_code for _ in range(80))
    assert statuses[429] >= 10


@pytest.mark.parametrize("name", [name for name, _ in IDENTITY])
def test_a_credential_that_is_sent_twice_is_401(world: Callers, name: str) -> None:
    lines = [*IDENTITY, (name, "another")]
    assert "sent more than once" in raw(world, "GET", SUBSCRIBERS, lines)
    assert raw(world, "GET", SUBSCRIBERS, [*IDENTITY, *IDENTITY]).startswith("HTTP/1.1 200 OK")


def test_an_ingest_key_that_is_sent_twice_is_401(world: Callers) -> None:
    lines = [("Authorization", f"Bearer {key}") for key in (one_pim.INGEST_KEY, "another")]
    assert "sent more than once" in raw(world, "POST", "/ingest", lines)


def raw(world: Callers, method: str, path: str, lines: list[tuple[str, str]], start: str = "") -> str:
    """The whole answer to a request whose headers may repeat, or to `start` in place of its first line."""
    host, port = world.serve.url.removeprefix("http://").split(":")
    head = [start or f"{method} {path} HTTP/1.1", "Host: x", "Connection: close"]
    if not any(name == "Content-Length" for name, _ in lines):
        head.append("Content-Length: 0")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, *(f"{a}: {b}" for a, b in lines), "", ""]).encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@pytest.mark.parametrize(
    ("status", "method", "path", "headers"),
    [
        (200, "GET", "/health", ()),
        (200, "GET", SUBSCRIBERS, IDENTITY),
        (400, "POST", SUBSCRIBERS, IDENTITY),
        (401, "GET", SUBSCRIBERS, ()),
        (401, "POST", "/ingest", ()),
        (404, "GET", "/nowhere", ()),
        (404, "GET", f"{SUBSCRIBERS}/x", IDENTITY),
        (405, "PUT", SUBSCRIBERS, ()),
    ],
)
def test_every_answer_bears_the_headers(
    world: Callers, status: int, method: str, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    answer = world.ask(method, path, *headers)
    assert answer.status_code == status
    assert safe_of(answer) == set(SAFE.items())
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers


def safe_of(answer: requests.Response) -> set[tuple[str, str]]:
    return {(name, answer.headers.get(name, "")) for name in SAFE}


@pytest.mark.parametrize("start", ["no request", "GET / HTTP/1.1\r\nX: " + "x" * 40_000])
def test_what_is_answered_before_any_route_bears_them_too(world: Callers, start: str) -> None:
    answer = raw(world, "", "", [], start=start)
    assert answer.startswith(("HTTP/1.1 400", "HTTP/1.1 431"))
    for name, value in SAFE.items():
        assert f"{name}: {value}" in answer


def test_descriptions_may_be_kept_and_nothing_else(world: Callers) -> None:
    assert world.ask("GET", "/spec/").headers["cache-control"].startswith("public")
    assert world.ask("GET", SUBSCRIBERS, *IDENTITY).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("way", ["ingest", "manage"])
def test_a_packed_body_is_not_unpacked(world: Callers, way: str) -> None:
    bomb = gzip.compress(b'[{"id":"' + b"x" * 50_000_000)
    packed = [("Content-Encoding", "gzip")]
    if way == "ingest":
        headers = [("Authorization", f"Bearer {one_pim.INGEST_KEY}"), ("Content-Type", "application/json")]
        answer = world.ask("POST", "/ingest", *headers, *packed, body=bomb)
    else:
        json_type = ("Content-Type", "application/json")
        answer = world.ask("POST", SUBSCRIBERS, *IDENTITY, json_type, *packed, body=bomb)
    assert answer.status_code == 415
    assert "Content-Encoding" in answer.json()["errors"][0]["message"]


# --- a fault of our own -------------------------------------------------------------------------------

WITHIN = "a-line-of-code-that-nobody-is-to-see"


async def faulty(request: Request) -> Response:
    raise RuntimeError(WITHIN)


async def test_a_fault_is_500_without_a_word_about_the_code() -> None:
    routes = [Route("/", faulty, methods=["GET", "POST"])]
    app = App(routes)
    assert await post(app, "/", b"") == 500
    async with serving.running(app) as url:
        answer = await asyncio.to_thread(lambda: http().get(url, timeout=5))
    assert answer.status_code == 500
    (error,) = json.loads(answer.text)["errors"]
    assert error["message"].startswith("an internal error")
    assert WITHIN not in answer.text + str(answer.headers)
    assert "Traceback" not in answer.text
    assert safe_of(answer) == set(SAFE.items())
