"""The inbox over real sockets: what it verifies, counts, remembers and plays."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest

from aep.cli import sandbox
from aep.sandbox import emitting, events, inbox
from aep.sandbox.inbox import Behaviour, Received, Settings
from aep.serving import server
from aep.serving.accepting import UNREAD_BYTES
from event_platform.domain.attempts import signatures
from support.processes import http

PRIMARY = "primary-secret-of-the-test"
SECONDARY = "secondary-secret-of-the-test"


def body_of(event_id: str, subject: str = "subscription-1", *, ago: float = 0) -> bytes:
    moment = datetime.now(UTC) - timedelta(seconds=ago)
    event = {"specversion": "1.0", "id": event_id, "type": "t", "subject": subject}
    return orjson.dumps(event | {"time": moment.isoformat(), "data": {"name": "Lampe à poser"}})


class Sender:
    """Sends signed deliveries to the inbox under test, and asks it what came."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def send(self, path: str, body: bytes, *, headers: dict[str, str] | None = None) -> int:
        signed = {signatures.PRIMARY_HEADER: signatures.sign(body, PRIMARY)}
        request = self.session.post(
            path, data=body, headers=signed if headers is None else headers, allow_redirects=False
        )
        async with request as answer:
            return answer.status

    async def stats(self) -> dict[str, Any]:
        async with self.session.get("/_inbox/stats") as answer:
            return await answer.json()

    async def events(self, after: int | str = 0) -> Any:
        async with self.session.get("/_inbox/events", params={"after": after}) as answer:
            return await answer.json()


@asynccontextmanager
async def an_inbox(
    on_received: Callable[[Received], None] | None = None, **settings: Any
) -> AsyncIterator[Sender]:
    app = inbox.create_app(Settings(**{"secret": PRIMARY, **settings}), on_received)
    async with server.running(app) as url, aiohttp.ClientSession(url) as session:
        yield Sender(session)


def new_id() -> str:
    return str(uuid.uuid4())


async def test_a_good_signature_is_verified() -> None:
    async with an_inbox() as sender:
        assert await sender.send("/ok", body_of(new_id())) == 200
        stats = await sender.stats()
    assert (stats["received"], stats["verified"], stats["bad_signatures"]) == (1, 1, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {signatures.PRIMARY_HEADER: "0" * 64},
        {signatures.PRIMARY_HEADER: signatures.sign(b"another body", PRIMARY)},
    ],
)
async def test_a_bad_signature_is_counted_and_refused(headers: dict[str, str]) -> None:
    async with an_inbox() as sender:
        assert await sender.send("/ok", body_of(new_id()), headers=headers) == 401
        stats = await sender.stats()
    assert (stats["verified"], stats["bad_signatures"], stats["accepted"]) == (0, 1, 0)


async def test_the_raw_body_is_what_is_verified() -> None:
    body = b'{ "id" : "1",  "subject":"s" }'  # written again by any JSON writer, it would differ
    async with an_inbox() as sender:
        assert await sender.send("/ok", body) == 200


async def test_a_secondary_secret_asks_for_both_signatures() -> None:
    body = body_of(new_id())
    primary = {signatures.PRIMARY_HEADER: signatures.sign(body, PRIMARY)}
    secondary = {signatures.SECONDARY_HEADER: signatures.sign(body, SECONDARY)}
    wrong = {signatures.SECONDARY_HEADER: signatures.sign(body, PRIMARY)}
    async with an_inbox(secondary_secret=SECONDARY) as sender:
        assert await sender.send("/ok", body, headers=primary | secondary) == 200
        assert await sender.send("/ok", body, headers=primary) == 401
        assert await sender.send("/ok", body, headers=secondary) == 401
        assert await sender.send("/ok", body, headers=primary | wrong) == 401
        stats = await sender.stats()
    assert (stats["verified"], stats["bad_signatures"]) == (1, 3)


async def test_without_a_secret_nothing_is_verified_and_nothing_refused() -> None:
    async with an_inbox(secret=None) as sender:
        assert await sender.send("/ok", body_of(new_id()), headers={}) == 200
        stats, events = await sender.stats(), await sender.events()
    assert (stats["verified"], stats["bad_signatures"]) == (0, 0)
    assert events[0]["verified"] is None


async def test_an_event_taken_twice_is_a_duplicate() -> None:
    body = body_of(new_id())
    async with an_inbox() as sender:
        for _ in range(3):
            await sender.send("/ok", body)
        stats, events = await sender.stats(), await sender.events()
    assert stats["duplicates"] == 2
    assert [event["attempt"] for event in events] == [1, 2, 3]
    assert [event["duplicate"] for event in events] == [False, True, True]


async def test_one_event_for_two_subscriptions_is_no_duplicate() -> None:
    event_id = new_id()
    async with an_inbox() as sender:
        await sender.send("/ok", body_of(event_id, "subscription-1"))
        await sender.send("/ok", body_of(event_id, "subscription-2"))
        assert (await sender.stats())["duplicates"] == 0


async def test_an_event_with_half_of_a_surrogate_pair_is_known_by_its_id() -> None:
    event_id = new_id()
    body = body_of(event_id).replace(b'"data":{', b'"data":{"torn":"\\ud800",')
    assert b"ud800" in body
    async with an_inbox() as sender:
        await sender.send("/ok", body)
        (received,) = await sender.events()
    assert received["id"] == event_id


async def test_a_retry_after_a_failure_is_no_duplicate() -> None:
    body = body_of(new_id())
    async with an_inbox() as sender:
        assert [await sender.send("/flaky", body) for _ in range(3)] == [500, 200, 200]
        stats = await sender.stats()
    assert (stats["retried"], stats["duplicates"], stats["accepted"]) == (2, 1, 2)
    assert stats["answered"] == {"200": 2, "500": 1}


async def test_flaky_fails_at_first_on_every_nth_event() -> None:
    bodies = [body_of(new_id()) for _ in range(6)]
    async with an_inbox(every=3) as sender:
        first = [await sender.send("/flaky", body) for body in bodies]
        second = [await sender.send("/flaky", body) for body in bodies]
    assert first == [200, 200, 500, 200, 200, 500]
    assert second == [200] * 6


@pytest.mark.parametrize(
    ("path", "status"), [("/ok", 200), ("/429", 429), ("/500", 500), ("/404", 404), ("/redirect", 302)]
)
async def test_a_path_plays_its_part(path: str, status: int) -> None:
    async with an_inbox() as sender:
        assert await sender.send(path, body_of(new_id())) == status
        assert (await sender.stats())["answered"] == {str(status): 1}


async def test_a_redirect_says_where_to() -> None:
    body = body_of(new_id())
    async with an_inbox() as sender:
        request = sender.session.post(
            "/redirect",
            data=body,
            headers={signatures.PRIMARY_HEADER: signatures.sign(body, PRIMARY)},
            allow_redirects=False,
        )
        async with request as answer:
            assert answer.headers["Location"] == "/ok"


async def test_the_option_is_played_where_the_path_names_no_part() -> None:
    async with an_inbox(behaviour=Behaviour.MISSING) as sender:
        assert await sender.send("/hooks/akeneo", body_of(new_id())) == 404
        assert await sender.send("/", body_of(new_id())) == 404
        assert await sender.send("/ok", body_of(new_id())) == 200


async def test_slow_waits_and_holds_nobody_else_up() -> None:
    async with an_inbox(delay=0.5) as sender:
        started = time.monotonic()
        slow = asyncio.create_task(sender.send("/slow", body_of(new_id())))
        await asyncio.sleep(0.05)
        assert await sender.send("/ok", body_of(new_id())) == 200
        assert not slow.done()
        assert await slow == 200
        assert time.monotonic() - started >= 0.5


async def test_what_came_can_be_read_back_with_headers_and_body() -> None:
    event_id = new_id()
    body = body_of(event_id)
    signature = signatures.sign(body, PRIMARY)
    async with an_inbox() as sender:
        headers = {signatures.PRIMARY_HEADER: signature, "X-Custom": "kept"}
        await sender.send("/ok", body, headers=headers)
        (event,) = await sender.events()
    assert (event["id"], event["type"], event["subject"]) == (event_id, "t", "subscription-1")
    assert (event["path"], event["status"], event["attempt"]) == ("/ok", 200, 1)
    assert event["headers"]["x-custom"] == "kept"
    assert event["headers"]["x-akeneo-signature-primary"] == signature
    assert event["body"] == body.decode()


async def test_more_can_be_read_back_than_the_server_holds_for_a_client() -> None:
    app, size = inbox.create_app(), 4 * 1024 * 1024
    for number in range(UNREAD_BYTES // size + 1):
        app.state.inbox.take("/ok", Behaviour.OK, {}, b"x" * size + str(number).encode())
    async with server.running(app) as url:
        events = await asyncio.to_thread(lambda: http().get(f"{url}/_inbox/events", timeout=60).json())
    assert [event["body"][size:] for event in events] == [str(number) for number in range(len(events))]
    assert sum(len(event["body"]) for event in events) > UNREAD_BYTES


async def test_reading_back_goes_on_after_a_number() -> None:
    ids = [new_id() for _ in range(4)]
    async with an_inbox() as sender:
        for event_id in ids:
            await sender.send("/ok", body_of(event_id))
        first = await sender.events()
        rest = await sender.events(after=first[1]["number"])
        assert [event["id"] for event in first] == ids
        assert [event["id"] for event in rest] == ids[2:]
        assert await sender.events(after=first[-1]["number"]) == []
        assert "number" in (await sender.events(after="x"))["message"]


async def test_only_the_last_deliveries_are_kept_but_all_are_counted() -> None:
    async with an_inbox(keep=2) as sender:
        for _ in range(5):
            await sender.send("/ok", body_of(new_id()))
        assert [event["number"] for event in await sender.events()] == [4, 5]
        assert (await sender.stats())["received"] == 5


async def test_latency_is_reckoned_from_the_time_of_the_event() -> None:
    async with an_inbox() as sender:
        await sender.send("/ok", body_of(new_id(), ago=2))
        (event,) = await sender.events()
        latency = (await sender.stats())["latency_ms"]
    assert 2000 <= event["latency_ms"] < 10_000
    assert latency == {"p50": event["latency_ms"], "p99": event["latency_ms"]}


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]", b'{"id": 5, "time": "soon"}', b"\xff\xfe"])
async def test_a_body_that_is_no_event_is_taken_all_the_same(body: bytes) -> None:
    async with an_inbox() as sender:
        assert [await sender.send("/ok", body) for _ in range(2)] == [200, 200]
        events = await sender.events()
    assert [(event["id"], event["latency_ms"], event["duplicate"]) for event in events] == [
        (None, None, False)
    ] * 2


async def test_the_callback_hears_of_each_delivery() -> None:
    heard: list[Received] = []
    event_id = new_id()
    async with an_inbox(heard.append) as sender:
        await sender.send("/500", body_of(event_id))
    assert [(received.id, received.status) for received in heard] == [(event_id, 500)]


async def test_the_printed_line_shows_what_came_as_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    printer = sandbox._printer()
    async with an_inbox(printer) as sender:
        await sender.send("/ok", orjson.dumps({"id": "[red]\x1b[31m", "type": "t.created"}))
        await sender.send("/ok", body_of("event-2"), headers={})
    shown = capsys.readouterr().out
    first, second = shown.splitlines()
    assert "t.created" in first
    assert "[red]\\x1b[31m" in first
    assert "signature ok" in first
    assert "BAD SIGNATURE" in second
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([], None, None), ([7], 7, 7), ([3, 1, 2], 2, 3), (list(range(1, 101)), 50, 99)],
)
def test_percentiles_are_nearest_rank(values: list[float], p50: float | None, p99: float | None) -> None:
    assert (inbox.percentile(values, 50), inbox.percentile(values, 99)) == (p50, p99)


@pytest.mark.parametrize("path", ["/ingest", "/ingest/events-api/0123", "/api/v1/subscribers"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_it_says_that_it_is_no_platform(method: str, path: str) -> None:
    async with an_inbox() as sender:
        request = sender.session.request(method, path, data=b"{}" if method != "GET" else None)
        async with request as answer:
            assert answer.status == 404
            message = (await answer.json())["errors"][0]["message"]
        assert "is an inbox" in message
        assert "the platform is elsewhere" in message
        assert (await sender.stats())["received"] == 0


async def test_a_platform_at_an_inbox_is_nothing_accepted() -> None:
    async with an_inbox() as sender:
        url = str(sender.session._base_url).rstrip("/")
        result = await emitting.emit(
            events.events("com.akeneo.pim.v1.product.updated", 1), to=url, key="k", rate=1000
        )
    assert (result.accepted, result.failed, result.retried) == (0, 1, 0)
    assert "is an inbox" in (result.error or "")


def test_verbose_shows_the_headers_and_the_body_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    on_received = sandbox._printer(verbose=True)
    received = inbox.Inbox(Settings(), on_received)
    body = b'{"id":"1","type":"t","data":{"name":"[b]\\u001b Lampe"}}'
    received.take("/ok", Behaviour.OK, {"x-akeneo-signature-primary": "5d2c", "x-own": "a\x1b[2J"}, body)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "  x-akeneo-signature-primary: 5d2c",
        r"  x-own: a\x1b[2J",
        f"  {body.decode()}",
    ]


def test_verbose_shows_so_much_of_a_body_and_says_how_much_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_received = sandbox._printer(verbose=True)
    inbox.Inbox(Settings(), on_received).take("/ok", Behaviour.OK, {}, b"x" * (64 * 1024 + 2))
    assert capsys.readouterr().out.splitlines()[-1] == "  … and 2 more characters"
