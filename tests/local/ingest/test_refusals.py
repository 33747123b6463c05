"""Calls that ingest refuses are in the log, once a minute for each PIM, way in, status and reason."""

import asyncio
import hmac
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
import structlog

from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.events.event import Event
from event_platform.domain.front_door import ADDRESS_BURST
from event_platform.domain.tenants import Tenant, Way
from support import one_pim
from support.clock import ManualClock
from support.eventually import eventually
from support.ingesting import Ingesting, ingesting
from support.processes import signature

PIM, KEY, SECRET = "https://pim.example.com", "pim", "a-secret-of-the-pim-for-all-ways"
CLOSED = Tenant(url="https://closed.example.com", key="closed")
TENANTS = (
    Tenant.model_validate(
        {"url": PIM, "key": KEY, **dict.fromkeys(("ingest_key", "events_api_secret", "relay_secret"), SECRET)}
    ),
    CLOSED,
)
MIB = 1024 * 1024


@dataclass
class Observed:
    """The port `IngestObserver`."""

    taken_calls: list[tuple[str, Way, int]] = field(default_factory=list)
    refused_calls: list[tuple[str, Way, int, str]] = field(default_factory=list)

    def taken(self, tenant: str, way: Way, events: int) -> None:
        self.taken_calls.append((tenant, way, events))

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None:
        self.refused_calls.append((tenant, way, status, reason))


class Registry:
    async def tenants(self) -> Sequence[Tenant]:
        return TENANTS


class Intake:
    is_away = False

    async def accept(self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS) -> None:
        if self.is_away:
            raise StoreUnavailable("the disk is full")


@dataclass
class Calls(Ingesting):
    """Calls of a PIM with secrets, and what the log says of those that were refused."""

    clock: ManualClock
    observed: Observed
    intake: Intake
    lines: list[Any]

    def logged(self) -> list[dict[str, Any]]:
        return [dict(line) for line in self.lines if line["event"] == "ingest.refused"]

    async def events(self, body: bytes | None = None, key: str = SECRET, **headers: str) -> int:
        body = orjson.dumps([one_pim.event()]) if body is None else body
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | headers
        return await self.post("/ingest", body, sent)

    async def webhook(
        self, body: bytes = b"", secret: str = SECRET, key: str = KEY, age: int = 0, **headers: str
    ) -> int:
        stamp = str(int(self.clock.now().timestamp()) - age)
        signed = hmac.digest(secret.encode(), f"{stamp}.".encode() + body, "sha256").hex()
        sent = {"X-Akeneo-Request-Signature": signed, "X-Akeneo-Request-Timestamp": stamp} | headers
        return await self.post(f"/ingest/events-api/{key}", body, sent)

    async def relay(self, body: bytes, secret: str = SECRET, key: str = KEY) -> int:
        sent = {"X-AKENEO-SIGNATURE-PRIMARY": signature(secret, body)}
        return await self.post(f"/ingest/relay/{key}", body, sent)


@pytest.fixture
async def world() -> AsyncIterator[Calls]:
    clock, observed, intake = ManualClock(), Observed(), Intake()
    with structlog.testing.capture_logs() as lines:
        async with ingesting(Registry(), intake, clock, observer=observed) as served:
            yield Calls(served.session, served.url, clock, observed, intake, lines)


MALFORMED = b'{"events":[{"action":"product.updated"}]}'
REFUSED: dict[str, tuple[Callable[[Calls], Any], Way, int, str, str]] = {
    "a wrong secret": (lambda w: w.webhook(secret="another"), Way.EVENTS_API, 401, "wrong_signature", PIM),
    "a wrong key in the URL": (lambda w: w.webhook(key="nobody"), Way.EVENTS_API, 401, "unknown_key", ""),
    "a secret that nobody gave us": (
        lambda w: w.webhook(key="closed"), Way.EVENTS_API, 401, "no_secret", CLOSED.name,
    ),
    "another time": (lambda w: w.webhook(age=400), Way.EVENTS_API, 401, "clock", PIM),
    "no signature": (
        lambda w: w.post(f"/ingest/events-api/{KEY}", b"{}", {}), Way.EVENTS_API, 401, "credentials", PIM,
    ),
    "the Test of a PIM 5.0.0": (
        lambda w: w.post(f"/ingest/events-api/{KEY}", b"", {}), Way.EVENTS_API, 401, "unsigned_test", PIM,
    ),
    "malformed events alone": (lambda w: w.webhook(MALFORMED), Way.EVENTS_API, 400, "malformed", PIM),
    "no webhook": (lambda w: w.webhook(b"{"), Way.EVENTS_API, 400, "malformed", PIM),
    "a webhook of 21 MiB": (lambda w: w.webhook(b"x" * 21 * MIB), Way.EVENTS_API, 413, "too_large", PIM),
    "a relay with a wrong secret": (
        lambda w: w.relay(b"{}", "another"), Way.RELAY, 401, "wrong_signature", PIM,
    ),
    "a relay to nobody": (lambda w: w.relay(b"{}", key="nobody"), Way.RELAY, 401, "unknown_key", ""),
    "a relay of 21 MiB": (lambda w: w.relay(b"x" * 21 * MIB), Way.RELAY, 413, "too_large", PIM),
    "a wrong ingest key": (lambda w: w.events(key="another"), Way.CLOUDEVENTS, 401, "wrong_key", ""),
    "no ingest key": (lambda w: w.events(Authorization="x"), Way.CLOUDEVENTS, 401, "credentials", ""),
    "no events": (lambda w: w.events(b'[{"id":7}]'), Way.CLOUDEVENTS, 400, "malformed", PIM),
    "another PIM's events": (
        lambda w: w.events(orjson.dumps([{**one_pim.event(), "pimurl": "https://other.example.com"}])),
        Way.CLOUDEVENTS, 403, "another_pim", PIM,
    ),
    "events of 6 MiB": (lambda w: w.events(b"x" * 6 * MIB), Way.CLOUDEVENTS, 413, "too_large", PIM),
    "no JSON": (
        lambda w: w.events(None, SECRET, **{"Content-Type": "text/plain"}),
        Way.CLOUDEVENTS, 415, "media_type", PIM,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.provokes("ingest.refused")
async def test_what_is_refused_is_logged(world: Calls, what: str) -> None:
    call, way, status, reason, tenant = REFUSED[what]
    with suppress(aiohttp.ClientConnectionError):  # a body that is too large is not read to its end
        assert await call(world) == status
    await eventually(lambda: bool(world.logged()))
    (line,) = world.logged()
    assert (line["way"], line["status"], line["reason"], line["times"]) == (way, status, reason, 1)
    assert line.get("tenant", "") == tenant
    assert line["bytes"] >= 0
    assert set(line) <= {
        "event", "log_level", "way", "status", "reason", "times", "tenant", "bytes", "fields",
    }  # fmt: skip
    assert world.observed.refused_calls == [(tenant, way, status, reason)]
    assert world.observed.taken_calls == []


@pytest.mark.alerts("ingest-refused")
async def test_a_line_a_minute_stands_for_all(world: Calls) -> None:
    for _ in range(30):
        await world.webhook(secret="another")
        await world.webhook(b"{")
    assert [(line["reason"], line["times"]) for line in world.logged()] == [
        ("wrong_signature", 1),
        ("malformed", 1),
    ]
    await world.clock.advance(60)
    await world.webhook(secret="another")
    assert world.logged()[-1]["times"] == 30
    assert len(world.observed.refused_calls) == 61


async def test_who_makes_up_keys_makes_no_more_lines(world: Calls) -> None:
    for _ in range(ADDRESS_BURST + 10):
        await world.webhook(key=uuid.uuid4().hex)
        await world.relay(b"", key=uuid.uuid4().hex)
        await world.events(key=uuid.uuid4().hex)
    told = {(line["way"], line["status"], line["reason"]) for line in world.logged()}
    assert told == {
        (Way.EVENTS_API, 401, "unknown_key"),
        (Way.RELAY, 401, "unknown_key"),
        (Way.CLOUDEVENTS, 401, "wrong_key"),
        (Way.EVENTS_API, 429, "too_many_wrong"),
        (Way.RELAY, 429, "too_many_wrong"),
        (Way.CLOUDEVENTS, 429, "too_many_wrong"),
    }
    assert len(world.logged()) == 6


async def test_what_could_not_be_kept_is_logged(world: Calls) -> None:
    world.intake.is_away = True
    assert await world.events() == 503
    (line,) = world.logged()
    assert (line["status"], line["reason"], line["tenant"]) == (503, "unavailable", PIM)


async def test_a_body_that_did_not_arrive_is_logged(world: Calls) -> None:
    host, _, port = world.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    stamp = int(world.clock.now().timestamp())
    head = (
        f"POST /ingest/events-api/{KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"X-Akeneo-Request-Signature: {'0' * 64}\r\nX-Akeneo-Request-Timestamp: {stamp}\r\n\r\n"
    )
    writer.write(head.encode() + b"x")
    await writer.drain()
    writer.close()
    await eventually(lambda: bool(world.logged()))
    (line,) = world.logged()
    assert (line["status"], line["reason"], line["tenant"], line["bytes"]) == (400, "incomplete", PIM, 1000)


@pytest.mark.provokes("events.accepted")
async def test_what_is_taken_is_observed(world: Calls) -> None:
    assert await world.events() == 202
    assert await world.webhook() == 200
    assert await world.relay(orjson.dumps({"time": "2026-01-31T12:00:00Z"} | one_pim.event())) == 202
    expected = [(PIM, Way.CLOUDEVENTS, 1), (PIM, Way.EVENTS_API, 0), (PIM, Way.RELAY, 1)]
    assert world.observed.taken_calls == expected
    assert world.logged() == []
