"""Requests that are made to be dear, over sockets to a platform in this process.

Each is answered as any request of its kind. That none holds the event loop is the watchdog's to say, which
fails the test for a callback that does.
"""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from aep.serving import server
from aep.wiring import Platform
from event_platform.domain import filters
from event_platform.settings import Settings
from hostile import keys
from support.garbage import garbage_frames
from support.records import CATEGORY, PIM, UPDATED

KEY = "the-platform-key-of-the-client"
INGEST_KEY = "the-ingest-key-of-the-pim"
WEBHOOK_SECRET = "the-events-api-secret-of-the-pim"
KIB = 1024
MIB = 1024 * KIB
PIECE = 64 * KIB
BATCH = {
    "Authorization": f"Bearer {INGEST_KEY}",
    "Content-Type": "application/cloudevents-batch+json",
}
IDENTITY = {"X-PIM-URL": PIM, "X-PIM-TOKEN": KEY, "X-PIM-CLIENT-ID": "erp"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Here:
    """Where the platform listens, and a subscriber on it."""

    port: int
    subscriber: str

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> int:
        """The status of the answer."""
        length = {} if "Transfer-Encoding" in headers else {"Content-Length": str(len(body))}
        return (await exchange(self.port, method, path, {**headers, **length}, body))[0]

    async def managed(self, method: str, path: str, body: Any) -> int:
        """The same, of a call of the management API; `body` is bytes or plain data."""
        text = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = IDENTITY | {"Content-Type": "application/json"}
        return await self.answer(method, f"/api/v1{path}", headers, text)


async def exchange(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """Status and body of the answer, which may come before all is sent; 0 if the connection just ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{lines}\r\n".encode())
    reading = asyncio.create_task(reader.read())
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(body), PIECE):
            writer.write(body[start : start + PIECE])
            await writer.drain()
    try:
        head, _, rest = (await reading).partition(b"\r\n\r\n")
    except ConnectionError:
        return 0, b""
    finally:
        writer.transport.abort()
    return int(head.split(b" ", 2)[1]) if head else 0, rest


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    folder = tmp_path_factory.mktemp("hostile")
    client = {"client_id": "erp", "key_sha256": sha256(KEY.encode()).hexdigest()}
    entry = {"url": PIM, "key": "pim", "auth": "platform-key", "clients": [client]}
    entry |= {"ingest_key": INGEST_KEY, "events_api_secret": WEBHOOK_SECRET}
    settings = Settings(dev=True, pims=orjson.dumps([entry]).decode())
    faults: list[BaseException] = []
    platform = Platform(settings, folder, base_url="http://test", on_fault=faults.append)
    await platform.start()
    async with server.running(platform.app) as url:
        port = int(url.rpartition(":")[2])
        body = orjson.dumps({"name": "ERP", "contact": {"technical_email": "ops@example.com"}})
        headers = IDENTITY | {"Content-Type": "application/json", "Content-Length": str(len(body))}
        status, made = await exchange(port, "POST", "/api/v1/subscribers", headers, body)
        assert status == 201
        yield Here(port, orjson.loads(made)["id"])
    await platform.stop()
    assert not faults


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    """What a process builds when it is first used is there: it comes once, and at nobody's choice."""
    filters.parse('user="erp"')


# --- A: work on others' input ---


def combining(length: int) -> str:
    return "a" + "\u0315" * (length // 4) + "\u0300" * (length // 4)


SUBSCRIBERS: dict[str, dict[str, Any]] = {
    "an address of combining characters": {"technical_email": f"{combining(16_000)}@example.com"},
    "an address of one long word": {"technical_email": "a" * 200_000 + "@example.com"},
    "an address of quoted pairs": {"technical_email": '"' + '\\"' * 40_000 + '"@example.com'},
    "an address of blanks": {"technical_email": " " * 200_000 + "@example.com"},
    "a URL of combining characters": {"notification_webhook_url": f"https://{combining(16_000)}/"},
    "a URL of one long label": {"notification_webhook_url": f"https://{'é' * 100_000}/"},
}


@pytest.mark.parametrize("kind", SUBSCRIBERS)
async def test_a_subscriber_that_is_dear_to_check_is_400(here: Here, kind: str) -> None:
    contact = {"technical_email": "ops@example.com", **SUBSCRIBERS[kind]}
    assert await here.managed("POST", "/subscribers", {"name": "ERP", "contact": contact}) in {400, 413}


def https_to(url: str) -> dict[str, Any]:
    return {"type": "https", "config": {"url": url, "secret": {"primary": "a-primary-secret-of-tests"}}}


def kafka_with(**tls: Any) -> dict[str, Any]:
    config: dict[str, Any] = keys.kafka_config("127.0.0.1:4", keys.honest_key(2048))
    return {"type": "kafka", "config": config | {"tls": config["tls"] | tls}}


def kafka_with_key(key: RSAPrivateKey) -> dict[str, Any]:
    return {"type": "kafka", "config": keys.kafka_config("127.0.0.1:4", key)}


SUBSCRIPTIONS: dict[str, Any] = {
    "a URL of combining characters": lambda: https_to(f"https://{combining(16_000)}/"),
    "an RSA key of 19,630 bits": lambda: kafka_with_key(keys.rsa_key(keys.RSA_19630)),
    "an RSA key of a short prime": lambda: kafka_with_key(keys.rsa_key(keys.UNEQUAL)),
    "85 authorities": lambda: kafka_with(ca_pem=keys.certificate_of(keys.honest_key(2048)) * 85),
    "unknown event types": lambda: {
        **https_to("http://127.0.0.1:4/"),
        "events": [f"{UPDATED}-{number}" for number in range(1000)],
    },
    "many problems in a large body": lambda: {
        **https_to("http://127.0.0.1:4/"),
        "events": [f"unknown-{number}" for number in range(1000)],
        "more": [0] * 100_000,
    },
    "many secrets": lambda: {
        **https_to("http://127.0.0.1:4/"),
        "events": [f"unknown-{'y' * 200}-{number}" for number in range(900)],
        "more": {f"key-{number}": f"hidden-{number}-" + "x" * 60 for number in range(190)},
    },
}


@pytest.mark.parametrize("kind", SUBSCRIPTIONS)
async def test_a_subscription_that_is_dear_to_check_is_400(here: Here, kind: str) -> None:
    body = {"events": [UPDATED], **SUBSCRIPTIONS[kind]()}
    status = await here.managed("POST", f"/subscribers/{here.subscriber}/subscriptions", body)
    assert status in {400, 413}


async def test_a_large_rsa_key_is_taken(here: Here) -> None:
    body = {"events": [CATEGORY], **kafka_with_key(keys.honest_key(4096))}
    assert await here.managed("POST", f"/subscribers/{here.subscriber}/subscriptions", body) == 201


JSON: dict[str, tuple[bytes, bytes, bytes]] = {
    "lists": (b"[", b"[],", b"1]"),
    "deep lists": (b"[", b"[" * 199 + b"]" * 199 + b",", b"1]"),
    "an open end": (b"", b"[", b""),
    "escapes": (b'["', b"\\n", b'"]'),
    "floats": (b"[", b"1.5,", b"1]"),
    "keys": (b"{", b'"1":1,', b'"2":1}'),
    "escaped characters": (b"[", b'"\\ud83d\\ude00",', b"1]"),
}
"""What a text begins with, repeats and ends with."""


def json_of(kind: str, length: int) -> bytes:
    start, piece, end = JSON[kind]
    return start + piece * ((length - len(start) - len(end)) // len(piece)) + end


@pytest.mark.parametrize("kind", JSON)
async def test_json_that_is_dear_to_read_is_refused_by_management(here: Here, kind: str) -> None:
    """As much as is taken: 256 KiB."""
    assert await here.managed("POST", "/subscribers", json_of(kind, 256 * KIB)) in {400, 413}


@pytest.mark.parametrize("kind", JSON)
async def test_json_that_is_dear_to_read_is_refused_by_ingest(here: Here, kind: str) -> None:
    """As much as is read in the event loop, and more."""
    for length in (250 * KIB, MIB):
        assert await here.answer("POST", "/ingest", BATCH, json_of(kind, length)) in {400, 413}


async def test_a_batch_of_floats_is_taken(here: Here) -> None:
    """An honest PIM may have prices."""
    prices = [round(number / 7, 2) for number in range(500)]
    data = {"product": {"uuid": "00000000-0000-4000-8000-000000000001"}, "prices": prices}
    data |= {"author": {"identifier": "julia", "type": "user"}}
    events = [{"id": f"floats-{number}", "type": UPDATED, "data": data} for number in range(1000)]
    assert await here.answer("POST", "/ingest", BATCH, orjson.dumps(events)) == 202


async def test_unknown_types_in_a_batch_are_400(here: Here) -> None:
    events = [{"id": str(number), "type": f"{UPDATED}-{number}", "data": {}} for number in range(1000)]
    assert await here.answer("POST", "/ingest", BATCH, orjson.dumps(events)) == 400


@pytest.mark.parametrize("piece", [b"[],", b"1.5,", b'{"a":{}},'])
async def test_a_signed_webhook_that_is_dear_to_read_is_refused(here: Here, piece: bytes) -> None:
    body = b'{"events":[' + piece * (2 * MIB // len(piece)) + b"1]}"
    now = int(time.time())
    signature = hmac.digest(WEBHOOK_SECRET.encode(), b"%d.%b" % (now, body), "sha256").hex()
    headers = {"X-Akeneo-Request-Signature": signature, "X-Akeneo-Request-Timestamp": str(now)}
    status = await here.answer("POST", "/ingest/events-api/pim", headers, body)
    assert status in {400, 413}


# --- memory ---


async def refused_email(here: Here) -> int:
    return await here.managed("POST", "/subscribers", {"name": "ERP", "contact": {"technical_email": "x"}})


async def refused_url(here: Here) -> int:
    body = {"events": [UPDATED], **https_to("ftp://x")}
    return await here.managed("POST", f"/subscribers/{here.subscriber}/subscriptions", body)


async def refused_batch(here: Here) -> int:
    return await here.answer("POST", "/ingest", BATCH, json_of("lists", MIB))


async def refused_times(here: Here) -> int:
    events = [{"id": str(number), "type": UPDATED, "time": "x", "data": {}} for number in range(20)]
    return await here.answer("POST", "/ingest", BATCH, orjson.dumps(events))


async def refused_signature(here: Here) -> int:
    headers = {"X-Akeneo-Request-Signature": "0" * 64, "X-Akeneo-Request-Timestamp": str(int(time.time()))}
    return await here.answer("POST", "/ingest/events-api/pim", headers, b"x" * MIB)


async def refused_webhook(here: Here) -> int:
    body = b'{"events":[' + b"1," * MIB + b"1]}"
    now = int(time.time())
    signature = hmac.digest(WEBHOOK_SECRET.encode(), b"%d.%b" % (now, body), "sha256").hex()
    headers = {"X-Akeneo-Request-Signature": signature, "X-Akeneo-Request-Timestamp": str(now)}
    return await here.answer("POST", "/ingest/events-api/pim", headers, body)


async def refused_broker(here: Here) -> int:
    body = {"events": [UPDATED], "filter": "(", **kafka_with(client_key_pem="x", ca_pem="x")}
    return await here.managed("POST", f"/subscribers/{here.subscriber}/subscriptions", body)


async def refused_json(here: Here) -> int:
    return await here.managed("POST", "/subscribers", b"[" * 1000)


async def unknown_subscriber(here: Here) -> int:
    return await here.managed("PATCH", "/subscribers/none", {"name": "x"})


@pytest.mark.parametrize(
    "refused",
    [
        refused_email,
        refused_url,
        refused_batch,
        refused_times,
        refused_signature,
        refused_webhook,
        refused_broker,
        refused_json,
        unknown_subscriber,
    ],
)
async def test_a_refused_body_does_not_wait_for_the_garbage_collector(
    here: Here, refused: Callable[[Here], Awaitable[int]]
) -> None:
    """An error that its own traceback leads back to keeps the frames it went through, and the body there.

    The collector comes after tens of thousands of objects, which may be hundreds of large bodies.
    """
    await refused(here)
    with garbage_frames() as kept:
        assert 400 <= await refused(here) < 500
    assert not kept


# --- syntax in many small pieces ---


@pytest.mark.parametrize("path", ["/health", "/ingest", "/nothing"])
async def test_a_body_in_chunks_of_one_byte_is_answered(here: Here, path: str) -> None:
    body = b"1\r\na\r\n" * 200_000 + b"0\r\n\r\n"
    status = await here.answer("POST", path, {"Transfer-Encoding": "chunked"}, body)
    assert status == 0 or 400 <= status < 500


async def test_a_head_of_thousands_of_lines_is_431(here: Here) -> None:
    headers = {f"a{number}": "" for number in range(4000)}
    assert await here.answer("GET", "/health", headers, b"") == 431


@pytest.mark.parametrize("path", ["/openapi.json", "/asyncapi.json", "/spec/"])
async def test_a_description_is_served(here: Here, path: str) -> None:
    assert await here.answer("GET", path, {}, b"") == 200
