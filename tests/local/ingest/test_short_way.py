"""The short way of /ingest on one machine: what goes it, and that it does what the ordinary way does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
import structlog

from event_platform.bodies import Bodies, Share
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.events.event import Event
from event_platform.domain.tenants import Tenant, Way
from event_platform.ingest import AtOnce
from support import one_pim
from support.clock import ManualClock
from support.embedded import Embedded
from support.ingesting import ingesting
from support.records import an_event

PIM, KEY = "https://pim.example.com", "an-ingest-key-of-the-pim"
REMOVED = "com.akeneo.pim.v1.connection.deleted"


@dataclass
class World:
    """Ingest with its ports, which the test answers for, and a connection to it."""

    ways: list[str] = field(default_factory=list[str])
    """The way that each accepted request took."""
    observed: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    is_known: bool = True
    error: Exception | None = None
    bodies: list[Bodies] = field(default_factory=list[Bodies])
    held: list[int] = field(default_factory=list[int])
    """The bytes of bodies that were held when events were submitted."""

    async def tenants(self) -> Sequence[Tenant]:
        return [Tenant.model_validate({"url": PIM, "ingest_key": KEY})]

    def tenants_at_once(self) -> Sequence[Tenant] | None:
        return [Tenant.model_validate({"url": PIM, "ingest_key": KEY})] if self.is_known else None

    async def accept(self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS) -> None:
        self.ways.append("ordinary")
        if self.error is not None:
            raise self.error

    def submit(self, tenant: str, events: Sequence[Event], *, way: Way) -> "asyncio.Future[object]":
        self.ways.append("short")
        self.held.append(sum(bodies.size for bodies in self.bodies))
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self.error is None:
            asyncio.get_running_loop().call_soon(future.set_result, None)
        else:
            future.set_exception(self.error)
        return future

    def taken(self, tenant: str, way: Way, events: int) -> None:
        self.observed.append(("taken", tenant, way, events))

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None:
        self.observed.append(("refused", tenant, way, status, reason))


@dataclass
class Served(World):
    reader: asyncio.StreamReader = field(init=False)
    writer: asyncio.StreamWriter = field(init=False)
    lines: list[Any] = field(default_factory=list[Any])

    async def post(self, body: object, *, whole: bool = True, key: str = KEY, more: str = "") -> int:
        """Sends a request, in one piece or in two, and returns the status of its answer."""
        text = orjson.dumps(body)
        head = (
            f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\n{more}Content-Length: {len(text)}\r\n"
        ).encode()
        if whole:
            self.writer.write(head + b"\r\n" + text)
        else:
            self.writer.write(head + b"Expect: 100-continue\r\n\r\n")
            await self.reader.readuntil(b"\r\n\r\n")
            self.writer.write(text)
        answer = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)).decode()
        length = answer.lower().partition("content-length: ")[2].partition("\r\n")[0]
        await self.reader.readexactly(int(length))
        return int(answer.split()[1])


@pytest.fixture
async def world() -> AsyncIterator[Served]:
    served = Served()
    with structlog.testing.capture_logs() as served.lines:
        more: dict[str, Any] = {"observer": served, "at_once": AtOnce(served, served)}
        async with ingesting(served, served, ManualClock(), **more) as ingest:
            port = int(ingest.url.rpartition(":")[2])
            served.reader, served.writer = await asyncio.open_connection("127.0.0.1", port)
            yield served
            served.writer.close()


@pytest.mark.provokes("events.accepted")
async def test_both_ways_log_and_count_the_same(world: Served) -> None:
    for whole in (True, False):
        assert await world.post([one_pim.event(), one_pim.event()], whole=whole) == 202
    assert world.ways == ["short", "ordinary"]
    assert world.lines[0] == world.lines[1]
    assert world.observed == [("taken", PIM, Way.CLOUDEVENTS, 2)] * 2


async def test_binary_mode_goes_the_short_way(world: Served) -> None:
    more = f"ce-specversion: 1.0\r\nce-id: 7\r\nce-type: {one_pim.UPDATED}\r\n"
    assert await world.post(one_pim.event()["data"], more=more) == 202
    assert world.ways == ["short"]


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        ({"body": [{"id": 7}]}, 400, "malformed"),
        ({"body": [one_pim.event()], "key": "another"}, 401, "wrong_key"),
        ({"body": [one_pim.event()], "more": "Authorization: Bearer another\r\n"}, 401, "credentials"),
        ({"body": [one_pim.event()], "more": "Content-Encoding: gzip\r\n"}, 415, "media_type"),
    ],
    ids=["bad events", "a wrong key", "two keys", "packed"],
)
async def test_what_is_refused_is_counted_once(
    world: Served, sent: dict[str, Any], status: int, reason: str
) -> None:
    assert await world.post(**sent) == status
    assert [each[3:] for each in world.observed] == [(status, reason)]
    assert world.ways == []


async def test_events_that_cannot_be_stored_are_answered_by_the_ordinary_way(world: Served) -> None:
    world.error = StoreUnavailable("the disk is full")
    assert await world.post([one_pim.event()]) == 503
    assert world.ways == ["short", "ordinary"]
    assert [each[3:] for each in world.observed] == [(503, "unavailable")]


async def test_a_registry_that_has_to_be_read_is_awaited_on_the_ordinary_way(world: Served) -> None:
    world.is_known = False
    assert await world.post([one_pim.event()]) == 202
    assert world.ways == ["ordinary"]


async def test_a_body_is_counted_until_its_events_are_stored(
    world: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Bodies.of

    def noted(self: Bodies, pim: str) -> Share:
        world.bodies = [self]
        return of(self, pim)

    monkeypatch.setattr(Bodies, "of", noted)
    body = [one_pim.event()]
    assert await world.post(body) == 202
    assert world.held == [len(orjson.dumps(body))]
    assert world.bodies[0].size == 0


async def test_the_queue_submits_no_removals_of_clients(embedded: Embedded) -> None:
    """Their answer waits until the workers know what was revoked."""
    await embedded.open()
    assert embedded.queue.submit(PIM, [an_event(1), an_event(2, event_type=REMOVED)]) is None
    submitted = embedded.queue.submit(PIM, [an_event(1)])
    assert submitted is not None
    assert (await submitted).new == 1
