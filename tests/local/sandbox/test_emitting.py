"""Events as a PIM sends them against the catalog, and what sends them against a real server."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
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
from aep.cli.sim import sim
from aep.errors import SetupError
from aep.sandbox import emitting, events, ingest_requests
from aep.sandbox.ingest_requests import EVENTS_API_TYPES, Format
from aep.serving import server
from event_platform.domain.events import catalog
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from event_platform.domain.ingest_formats import events_api, relay
from event_platform.domain.tenants import Tenant
from event_platform.domain.timestamps import normalise_rfc3339
from support.processes import http, signature
from support.simulated_pim import simulated_pim

TYPE = "com.akeneo.pim.v1.product.updated"
SECRET = "the-secret-that-signs"
EVENTS_API_PATH = "/ingest/events-api/0123456789abcdef"


@pytest.mark.parametrize("event_type", sorted(catalog.load().types))
def test_generated_events_fit_the_catalog(event_type: str) -> None:
    known = catalog.load()[event_type]
    generated = list(events.events(event_type, 25, seed=1))
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
    first, again, other = (list(events.events(TYPE, 10, seed)) for seed in (3, 3, 4))
    assert [event["data"] for event in first] == [event["data"] for event in again]
    assert [event["data"] for event in first] != [event["data"] for event in other]
    assert not {event["id"] for event in first} & {event["id"] for event in again}


@pytest.mark.parametrize("event_type", sorted(IDENTIFIER_TYPES))
def test_an_identifier_goes_with_its_product(event_type: str) -> None:
    products = [event["data"]["product"] for event in events.events(event_type, 200)]
    pairs = {(product["uuid"], product["identifier"]) for product in products}
    assert len({uuid for uuid, _ in pairs}) == len({identifier for _, identifier in pairs}) == len(pairs) > 50


def test_the_time_of_an_event_is_when_it_is_drawn() -> None:
    before = datetime.now(UTC)
    event = next(events.events(TYPE, 1))
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
) -> emitting.Emitted:
    async with server.running(ingest.app) as url:
        drawn = events.events(event_type, count)
        options = {"rate": 1000.0, "pauses": (0.01, 0.01), "key": "ingest-key", **options}
        return await emitting.emit(drawn, to=url + path, **options)


async def test_structured_mode_sends_one_event_a_request() -> None:
    ingest = Ingest()
    assert await emit(ingest, 3) == emitting.Emitted(accepted=3)
    assert len(ingest.requests) == 3
    for headers, body in ingest.requests:
        assert headers["content-type"] == "application/cloudevents+json"
        assert headers["authorization"] == "Bearer ingest-key"
        assert orjson.loads(body)["type"] == TYPE


async def test_batch_mode_fills_requests_up_to_the_size() -> None:
    ingest = Ingest()
    assert await emit(ingest, 7, format=Format.BATCH, batch=3) == emitting.Emitted(accepted=7)
    assert [len(orjson.loads(body)) for _, body in ingest.requests] == [3, 3, 1]
    assert {headers["content-type"] for headers, _ in ingest.requests} == {
        "application/cloudevents-batch+json"
    }


async def test_binary_mode_puts_the_attributes_into_headers() -> None:
    ingest = Ingest()
    assert await emit(ingest, 1, format=Format.BINARY) == emitting.Emitted(accepted=1)
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


async def as_a_pim(ingest: Ingest, count: int, event_type: str = TYPE, **more: Any) -> emitting.Emitted:
    more = {"format": Format.EVENTS_API, "key": SECRET, **more}
    return await emit(ingest, count, event_type, EVENTS_API_PATH, **more)


async def test_the_events_api_puts_up_to_ten_events_into_a_signed_request() -> None:
    ingest = Ingest()
    assert await as_a_pim(ingest, 23) == emitting.Emitted(accepted=23)
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
    assert await emit(ingest, 1) == emitting.Emitted(accepted=1, retried=2)
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
    result = await emitting.emit(events.events(TYPE, 1), to=url, key="k", rate=100, pauses=(0.01,))
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
        result = await emitting.emit(events.events(TYPE, 10), to=url, key="k", rate=20)
    assert result == emitting.Emitted(accepted=10)
    assert arrived[-1] - arrived[0] > 0.3  # nine gaps of 50 ms, not all at once


def _cli() -> typer.Typer:
    app = typer.Typer()
    app.add_typer(sim, name="sim")
    app.command("inbox")(sandbox.run_inbox)
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
    with subprocess.Popen(
        [sys.executable, "-m", "aep", "inbox", "--port", "0"], stdout=subprocess.PIPE, text=True
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


def test_the_simulated_pim_prints_its_credentials_and_a_command_that_gets_a_token() -> None:
    command = [sys.executable, "-m", "aep", "sim", "--port", "0", "--callback-url", "http://127.0.0.1:1/back"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline().strip() for _ in range(9)]
            url = lines[0].removeprefix("ready ")
            curl = shlex.split(lines[6])
            authorization = {"Authorization": aiohttp.encode_basic_auth(*curl[4].split(":"))}
            headers = {**authorization, "Content-Type": "application/json"}
            token = http().post(curl[2], data=curl[8], headers=headers, timeout=10).json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            read = http().get(f"{url}/api/rest/v1/products-uuid", headers=bearer, timeout=10)
            back = http().get(lines[8], allow_redirects=False, timeout=10).headers["Location"]
        finally:
            process.kill()
    assert lines[1:5] == [
        "client id  demo-client",
        "secret     demo-secret",
        "username   demo-user",
        "password   demo-password",
    ]
    assert read.status_code == 200
    assert back.startswith("http://127.0.0.1:1/back?code=")


@pytest.mark.parametrize(
    ("option", "value"), [("--timezone", "Europe/Pari"), ("--callback-url", "127.0.0.1:3000")]
)
def test_a_wrong_option_of_the_simulated_pim_is_one_line(option: str, value: str) -> None:
    result = CliRunner().invoke(_cli(), ["sim", option, value])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"{option} {value}" in result.stderr


async def test_emitted_events_change_the_catalogue_and_the_webhook_has_the_entity() -> None:
    ingest = Ingest()
    async with simulated_pim() as pim:
        assert (await as_a_pim(ingest, 3, pim=pim.url)).accepted == 3
        (sent,) = [orjson.loads(body)["events"] for _, body in ingest.requests]
        for event in sent:
            resource = event["data"]["resource"]
            shown = (await pim.get(f"/products-uuid/{resource['uuid']}")).body
            assert shown.items() <= resource.items()
            assert shown["updated"] == "2026-01-31T12:00:00+00:00"


async def test_every_nth_request_is_lost_after_the_change() -> None:
    ingest = Ingest()
    async with simulated_pim() as pim:
        before = len(pim.catalogue)
        created = "com.akeneo.pim.v1.product.created"
        result = await emit(ingest, 6, created, pim=pim.url, lose=3)
        assert (result.accepted, result.lost, len(ingest.requests)) == (4, 2, 4)
        assert len(pim.catalogue) > before


async def test_a_simulated_pim_that_does_not_answer_is_said() -> None:
    with server.listen("127.0.0.1", 0) as listener:
        silent = server.url_of(listener)
    with pytest.raises(SetupError, match="Is `aep sim` running"):
        await emit(Ingest(), 1, pim=silent)
