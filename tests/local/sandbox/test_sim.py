"""The simulated PIM over real sockets, its events against the catalog, its emitter against a real server."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import pytest
import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

from aep.cli import sandbox
from aep.sandbox import ingest_requests, sim
from aep.sandbox.ingest_requests import EVENTS_API_TYPES, Format
from aep.serving import server
from event_platform.domain.events import catalog
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from event_platform.domain.ingest_formats import events_api, relay
from event_platform.domain.tenants import Tenant
from event_platform.domain.timestamps import normalise_rfc3339
from support.processes import signature

ERP = sim.Client("erp", "erp-secret", "erp-user", "erp-password")
SHOP = sim.Client("shop", "shop-secret", "shop-user", "shop-password")
PASSWORD = {"grant_type": "password", "username": "erp-user", "password": "erp-password"}
TYPE = "com.akeneo.pim.v1.product.updated"
SECRET = "the-secret-that-signs"
EVENTS_API_PATH = "/ingest/events-api/0123456789abcdef"


class Time:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


class Pim:
    """A client of the PIM that is under test."""

    def __init__(self, session: aiohttp.ClientSession, clock: Time) -> None:
        self.session = session
        self.clock = clock

    async def token(
        self, body: dict[str, str], *, client: str = "erp", secret: str = ERP.secret, form: bool = False
    ) -> tuple[int, Any]:
        payload: dict[str, Any] = {"data": body} if form else {"json": body}
        headers = {"Authorization": aiohttp.encode_basic_auth(client, secret)}
        return await self.call("POST", "/api/oauth/v1/token", headers=headers, **payload)

    async def info(self, token: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        return await self.call("GET", "/api/rest/v1/token-info", headers=headers)

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, path, **options) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def pim() -> AsyncIterator[Pim]:
    clock = Time()
    async with (
        server.running(sim.create_app([ERP, SHOP], clock.now)) as url,
        aiohttp.ClientSession(url) as session,
    ):
        yield Pim(session, clock)


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
async def test_the_password_grant_answers_as_akeneo_does(pim: Pim, form: bool) -> None:
    status, answer = await pim.token(PASSWORD, form=form)
    assert status == 200
    assert list(answer) == ["access_token", "expires_in", "token_type", "scope", "refresh_token"]
    assert (answer["expires_in"], answer["token_type"], answer["scope"]) == (3600, "bearer", None)
    assert await pim.info(answer["access_token"]) == (200, {"client_id": "erp", "event_platform": True})


async def test_each_client_gets_tokens_of_its_own(pim: Pim) -> None:
    shop = {"grant_type": "password", "username": "shop-user", "password": "shop-password"}
    _, answer = await pim.token(shop, client="shop", secret="shop-secret")
    assert (await pim.info(answer["access_token"]))[1]["client_id"] == "shop"
    assert (await pim.token(shop))[0] == 422


async def test_a_refresh_token_works_once_and_leaves_earlier_tokens_valid(pim: Pim) -> None:
    _, first = await pim.token(PASSWORD)
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    status, second = await pim.token(refresh)
    assert status == 200
    assert second["access_token"] != first["access_token"]
    for answer in (first, second):
        assert (await pim.info(answer["access_token"]))[0] == 200
    assert await pim.token(refresh) == (
        422,
        {"code": 422, "message": "Refresh token is invalid or has expired"},
    )


async def test_a_refresh_token_is_its_clients_alone(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    refresh = {"grant_type": "refresh_token", "refresh_token": answer["refresh_token"]}
    assert (await pim.token(refresh, client="shop", secret="shop-secret"))[0] == 422


async def test_an_access_token_ends_after_an_hour(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    pim.clock.moment += timedelta(seconds=3599)
    assert (await pim.info(answer["access_token"]))[0] == 200
    pim.clock.moment += timedelta(seconds=1)
    status, refusal = await pim.info(answer["access_token"])
    assert (status, refusal) == (401, {"code": 401, "message": "The access token provided has expired."})


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        (PASSWORD, "another"),
        ({**PASSWORD, "password": "another"}, "erp-secret"),
        ({**PASSWORD, "username": "shop-user"}, "erp-secret"),
        ({"grant_type": "password", "username": "erp-user"}, "erp-secret"),
        ({"grant_type": "client_credentials"}, "erp-secret"),
        ({"grant_type": "refresh_token", "refresh_token": "made-up"}, "erp-secret"),
        ({}, "erp-secret"),
    ],
)
async def test_a_bad_token_request_is_422(pim: Pim, body: dict[str, str], secret: str) -> None:
    status, answer = await pim.token(body, secret=secret)
    assert status == 422
    assert answer["code"] == 422
    assert answer["message"]


@pytest.mark.parametrize("authorization", [None, "Bearer x", "Basic !!", "Basic ZXJw"])
async def test_a_token_request_needs_the_clients_credentials(pim: Pim, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    status, answer = await pim.call("POST", "/api/oauth/v1/token", json=PASSWORD, headers=headers)
    assert status == 422
    assert "client_id" in answer["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'])
async def test_a_token_request_that_is_no_json_object_is_400(pim: Pim, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status, answer = await pim.call("POST", "/api/oauth/v1/token", data=body, headers=headers)
    assert (status, answer) == (400, {"code": 400, "message": "Invalid json message received"})


@pytest.mark.parametrize("path", ["/api/rest/v1/token-info", "/api/rest/v1/channels?limit=1"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer unknown"}, {"Authorization": "unknown"}])
async def test_without_a_valid_token_the_api_is_401(pim: Pim, path: str, headers: dict[str, str]) -> None:
    status, answer = await pim.call("GET", path, headers=headers)
    assert (status, answer["code"]) == (401, 401)


async def test_channels_can_be_read_with_a_token(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    headers = {"Authorization": f"Bearer {answer['access_token']}"}
    status, channels = await pim.call("GET", "/api/rest/v1/channels?limit=1", headers=headers)
    assert status == 200
    assert len(channels["_embedded"]["items"]) == 1


async def test_the_permission_is_switched_per_client(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    for allowed in (False, True):
        status, _ = await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": allowed})
        assert status == 200
        assert (await pim.info(answer["access_token"]))[1]["event_platform"] is allowed
    shop = {"grant_type": "password", "username": "shop-user", "password": "shop-password"}
    await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": False})
    _, other = await pim.token(shop, client="shop", secret="shop-secret")
    assert (await pim.info(other["access_token"]))[1]["event_platform"] is True


async def test_a_wrong_permission_switch_says_why(pim: Pim) -> None:
    assert (await pim.call("PUT", "/_sim/clients/nobody", json={"event_platform": False}))[0] == 404
    status, answer = await pim.call("PUT", "/_sim/clients/erp", json={"event_platform": "no"})
    assert status == 422
    assert "event_platform" in answer["message"]


async def test_an_outage_makes_the_api_fail_until_it_is_over(pim: Pim) -> None:
    _, answer = await pim.token(PASSWORD)
    assert (await pim.call("POST", "/_sim/outage", json={"status": 503}))[0] == 200
    assert (await pim.info(answer["access_token"]))[0] == 503
    assert (await pim.call("GET", "/health"))[0] == 200
    assert (await pim.call("POST", "/_sim/outage", json={}))[0] == 200
    assert (await pim.info(answer["access_token"]))[0] == 200


@pytest.mark.parametrize("event_type", sorted(catalog.load().types))
def test_generated_events_fit_the_catalog(event_type: str) -> None:
    known = catalog.load()[event_type]
    generated = list(sim.events(event_type, 25, seed=1))
    assert len(generated) == 25
    for event in generated:
        assert known.problems_of(event["data"]) == []
        assert event["type"] == event_type
        assert uuid.UUID(event["id"]).version == 4
        assert normalise_rfc3339(event["time"]) == event["time"]
    assert len({event["id"] for event in generated}) == 25
    if known.identity:
        identities = {known.identity_of(event["data"]) for event in generated}
        assert () not in identities
        assert len(identities) > 5
        assert known.identity_of(known.example) not in identities


def test_a_seed_decides_the_entities_and_never_the_ids() -> None:
    first, again, other = (list(sim.events(TYPE, 10, seed)) for seed in (3, 3, 4))
    assert [event["data"] for event in first] == [event["data"] for event in again]
    assert [event["data"] for event in first] != [event["data"] for event in other]
    assert not {event["id"] for event in first} & {event["id"] for event in again}


@pytest.mark.parametrize("event_type", sorted(IDENTIFIER_TYPES))
def test_an_identifier_goes_with_its_product(event_type: str) -> None:
    products = [event["data"]["product"] for event in sim.events(event_type, 200)]
    pairs = {(product["uuid"], product["identifier"]) for product in products}
    assert len({uuid for uuid, _ in pairs}) == len({identifier for _, identifier in pairs}) == len(pairs) > 50


def test_the_time_of_an_event_is_when_it_is_drawn() -> None:
    before = datetime.now(UTC)
    event = next(sim.events(TYPE, 1))
    moment = datetime.fromisoformat(event["time"])
    assert before - timedelta(milliseconds=1) <= moment <= datetime.now(UTC)


class Ingest:
    """A server that answers as told, and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.answer: Any = {"accepted": 1}
        self.app = Starlette(routes=[Route("/ingest{path:path}", self._post, methods=["POST"])])

    async def _post(self, request: Request) -> Response:
        self.requests.append((dict(request.headers), await request.body()))
        success = 200 if "/events-api/" in request.url.path else 202
        return JSONResponse(self.answer, self.statuses.pop(0) if self.statuses else success)


async def emit(
    ingest: Ingest, count: int, event_type: str = TYPE, path: str = "", **options: Any
) -> sim.Emitted:
    async with server.running(ingest.app) as url:
        events = sim.events(event_type, count)
        options = {"rate": 1000.0, "pauses": (0.01, 0.01), "key": "ingest-key", **options}
        return await sim.emit(events, to=url + path, **options)


async def test_structured_mode_sends_one_event_a_request() -> None:
    ingest = Ingest()
    assert await emit(ingest, 3) == sim.Emitted(accepted=3)
    assert len(ingest.requests) == 3
    for headers, body in ingest.requests:
        assert headers["content-type"] == "application/cloudevents+json"
        assert headers["authorization"] == "Bearer ingest-key"
        assert orjson.loads(body)["type"] == TYPE


async def test_batch_mode_fills_requests_up_to_the_size() -> None:
    ingest = Ingest()
    assert await emit(ingest, 7, format=Format.BATCH, batch=3) == sim.Emitted(accepted=7)
    assert [len(orjson.loads(body)) for _, body in ingest.requests] == [3, 3, 1]
    assert {headers["content-type"] for headers, _ in ingest.requests} == {
        "application/cloudevents-batch+json"
    }


async def test_binary_mode_puts_the_attributes_into_headers() -> None:
    ingest = Ingest()
    assert await emit(ingest, 1, format=Format.BINARY) == sim.Emitted(accepted=1)
    headers, body = ingest.requests[0]
    assert headers["content-type"] == "application/json"
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == TYPE
    assert uuid.UUID(headers["ce-id"])
    assert normalise_rfc3339(headers["ce-time"])
    assert catalog.load()[TYPE].problems_of(orjson.loads(body)) == []


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a PIM waits."""
    monkeypatch.setattr(ingest_requests, "PIM_PATIENCE_SECONDS", 10.0)


async def as_a_pim(ingest: Ingest, count: int, event_type: str = TYPE, **more: Any) -> sim.Emitted:
    more = {"format": Format.EVENTS_API, "key": SECRET, **more}
    return await emit(ingest, count, event_type, EVENTS_API_PATH, **more)


async def test_the_events_api_puts_up_to_ten_events_into_a_signed_request() -> None:
    ingest = Ingest()
    assert await as_a_pim(ingest, 23) == sim.Emitted(accepted=23)
    assert [len(orjson.loads(body)["events"]) for _, body in ingest.requests] == [10, 10, 3]
    for headers, body in ingest.requests:
        timestamp = headers["x-akeneo-request-timestamp"]
        assert abs(int(timestamp) - datetime.now(UTC).timestamp()) < 60
        expected = signature(SECRET, timestamp.encode() + b"." + body)
        assert headers["x-akeneo-request-signature"] == expected
        assert headers["content-type"] == "application/json"
        assert "authorization" not in headers


async def test_the_events_api_writes_as_php_does() -> None:
    ingest = Ingest()
    await as_a_pim(ingest, 2, batch=1)
    (_, body), _ = ingest.requests
    assert body.isascii()
    assert b"http:\\/\\/localhost:8080" in body
    assert rb"f\u00fcr" in body
    assert b"/" not in body.replace(b"\\/", b"")
    (event,) = orjson.loads(body)["events"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", event["event_datetime"])


@pytest.mark.parametrize("event_type", EVENTS_API_TYPES)
async def test_what_the_events_api_sends_becomes_the_event_that_it_is_of(event_type: str) -> None:
    ingest = Ingest()
    await as_a_pim(ingest, 3, event_type)
    taken = events_api.read(ingest.requests[0][1], Tenant(url="https://pim.example.com"), catalog.load())
    assert not taken.left_out()
    assert [event.type for event in taken.events] == [event_type] * 3
    assert len({event.identity for event in taken.events}) == 3


async def test_a_pim_does_not_send_again() -> None:
    ingest = Ingest()
    ingest.statuses = [503]
    result = await as_a_pim(ingest, 10)
    assert (result.accepted, result.failed, result.retried) == (0, 10, 0)
    assert len(ingest.requests) == 1


async def test_what_the_platform_leaves_out_was_not_accepted() -> None:
    ingest = Ingest()
    ingest.answer = {"accepted": 7, "skipped": 2, "malformed": 1}
    result = await as_a_pim(ingest, 10)
    assert (result.accepted, result.failed) == (7, 3)
    assert "skipped" in (result.error or "")


@pytest.mark.parametrize("answer", ["hello", [1]])
async def test_an_answer_of_success_that_is_no_platforms_is_a_failure(answer: Any) -> None:
    ingest = Ingest()
    ingest.answer = answer
    assert (await emit(ingest, 2)).failed == 2


async def test_the_relay_is_a_delivery_of_akeneos_platform() -> None:
    ingest = Ingest()
    ingest.statuses = [500, 202]
    path = "/ingest/relay/0123456789abcdef"
    assert (await emit(ingest, 1, path=path, format=Format.RELAY, key=SECRET)).accepted == 1
    assert len({body for _, body in ingest.requests}) == 1
    headers, body = ingest.requests[0]
    assert headers["x-akeneo-signature-primary"] == signature(SECRET, body)
    assert headers["x-akeneo-signature-algorithm"] == "HmacSHA256"
    assert "authorization" not in headers
    relayed = relay.read(body, catalog.load(), datetime.now(UTC))
    assert relayed.event is not None
    assert (relayed.event.type, list(relayed.warnings)) == (TYPE, [])
    assert list(orjson.loads(body)) == list(orjson.loads(envelope_of(relayed.event)))


def envelope_of(event: Event) -> bytes:
    return envelope(event, "https://x", with_identifier=True).addressed_to("id")


async def test_a_5xx_is_sent_again_with_the_same_id() -> None:
    ingest = Ingest()
    ingest.statuses = [503, 500, 202]
    assert await emit(ingest, 1) == sim.Emitted(accepted=1, retried=2)
    assert len({body for _, body in ingest.requests}) == 1
    assert len(ingest.requests) == 3


async def test_a_5xx_for_good_is_a_failure_that_says_why() -> None:
    ingest = Ingest()
    ingest.statuses = [503] * 10
    result = await emit(ingest, 4, format=Format.BATCH, batch=4)
    assert (result.accepted, result.failed, result.retried) == (0, 4, 2)
    assert "503" in (result.error or "")


async def test_a_refusal_is_not_sent_again() -> None:
    ingest = Ingest()
    ingest.statuses = [401]
    result = await emit(ingest, 2)
    assert (result.accepted, result.failed, result.retried) == (1, 1, 0)
    assert len(ingest.requests) == 2


async def test_no_answer_is_tried_again_and_then_a_failure() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        url = server.url_of(listener)
    result = await sim.emit(sim.events(TYPE, 1), to=url, key="k", rate=100, pauses=(0.01,))
    assert (result.accepted, result.failed, result.retried) == (0, 1, 1)
    assert "no answer" in (result.error or "")


async def test_the_rate_holds_however_slow_the_answers_are() -> None:
    release = asyncio.Event()
    arrived: list[float] = []
    loop = asyncio.get_running_loop()

    async def slow(_: Request) -> Response:
        arrived.append(loop.time())
        if len(arrived) == 10:
            release.set()
        await release.wait()  # a closed loop would never send the second
        return JSONResponse({"accepted": 1}, 202)

    app = Starlette(routes=[Route("/ingest", slow, methods=["POST"])])
    async with asyncio.timeout(20), server.running(app) as url:
        result = await sim.emit(sim.events(TYPE, 10), to=url, key="k", rate=20)
    assert result == sim.Emitted(accepted=10)
    assert arrived[-1] - arrived[0] > 0.3  # nine gaps of 50 ms, not all at once


def _cli() -> typer.Typer:
    app = typer.Typer()
    sandbox.mount(app)
    return app


def test_emit_names_the_nearest_type_for_an_unknown_one() -> None:
    result = CliRunner().invoke(_cli(), ["sim", "emit", "com.akeneo.pim.v1.produkt.updated", "--key", "k"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "com.akeneo.pim.v1.product.updated?" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["--key", "k", "--to", "localhost:8080"]], ids=["key", "url"])
def test_emit_needs_a_key_and_a_url(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEP_INGEST_KEY", raising=False)
    result = CliRunner().invoke(_cli(), ["sim", "emit", TYPE, *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["events-api", "--to", f"http://x{EVENTS_API_PATH}"], "--secret"),
        (["events-api", "--to", "http://x", "--secret", "s"], "/ingest/events-api/KEY"),
        (["events-api", "--to", "http://x/ingest/events-api/", "--secret", "s"], "/ingest/events-api/KEY"),
        (["relay", "--to", f"http://x{EVENTS_API_PATH}", "--secret", "s"], "/ingest/relay/KEY"),
    ],
    ids=["secret", "base", "no key", "another way"],
)
def test_emit_needs_the_secret_and_the_url_of_a_way_in(
    arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AEP_SIGNING_SECRET", raising=False)
    result = CliRunner().invoke(_cli(), ["sim", "emit", TYPE, "--format", *arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert expected in result.stderr


def test_emit_says_what_the_events_api_can_send() -> None:
    arguments = ["--format", "events-api", "--to", f"http://x{EVENTS_API_PATH}", "--secret", "s"]
    result = CliRunner().invoke(_cli(), ["sim", "emit", "com.akeneo.pim.v1.family.updated", *arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "com.akeneo.pim.v1.product-model.deleted" in result.stderr


async def test_emit_prints_its_counts_as_json() -> None:
    ingest = Ingest()
    async with server.running(ingest.app) as url:
        arguments = ["sim", "emit", TYPE, "--to", url, "--key", "k", "--count", "2", "--rate", "99", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, _cli(), arguments)
    assert result.exit_code == 0
    assert orjson.loads(result.stdout).items() >= {"accepted": 2, "failed": 0}.items()
    assert len(ingest.requests) == 2


async def test_emit_fails_when_an_event_is_refused() -> None:
    ingest = Ingest()
    ingest.statuses = [401]
    async with server.running(ingest.app) as url:
        arguments = ["sim", "emit", TYPE, "--to", url, "--key", "k", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, _cli(), arguments)
    assert result.exit_code == 1
    assert orjson.loads(result.stdout)["failed"] == 1
    assert "--key" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_app_says_when_it_is_ready_and_ends_with_0(number: signal.Signals) -> None:
    program = "import typer; from aep.cli import sandbox; a = typer.Typer(); sandbox.mount(a); a()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "sim", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", line)
            os.kill(process.pid, number)
            rest, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert rest == ""
    assert process.returncode == 0


def test_a_port_in_use_is_one_line_that_says_what_to_do() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        port = str(listener.getsockname()[1])
        # In a process of its own, as it configures the log.
        command = [sys.executable, "-m", "aep", "inbox", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert port in ended.stderr
