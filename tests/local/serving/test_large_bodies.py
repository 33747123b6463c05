"""Large bodies: read in a process of their own, and bounded together."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from event_platform.adapters import reading
from event_platform.adapters.reading import NICENESS, ReadingProcess
from event_platform.domain.errors import InvalidRequest, Overloaded, TooLarge
from event_platform.domain.events import catalog
from event_platform.domain.tenants import Tenant
from event_platform.fanout.published_events import read_published
from event_platform.ingest.reading import read_cloudevents, read_relayed, read_webhook
from event_platform.reading import MAX_VALUES, MAX_WEBHOOK_VALUES, Reading
from support import one_pim
from support.cpu import cpu_seconds
from support.eventually import eventually
from support.processes import Child, http, received, send_events, server, signature, until

CATALOG = catalog.load()
PIM = Tenant(url="https://pim.example.com")
OTHER = Tenant(url="https://other.example.com")
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
BATCH = ("https://pim.example.com", NOW, "application/cloudevents-batch+json", {})
MIB = 1024 * 1024


def name_and_secrets(known: catalog.Catalog, text: bytes, tenant: Tenant) -> tuple[str, int]:
    return tenant.name, len(tenant.events_api_secret)


async def test_a_tenants_secrets_do_not_go_to_another_process(process: ReadingProcess) -> None:
    tenant = Tenant.model_validate({"url": PIM.url, "key": "pim", "events_api_secret": "a-secret-of-the-pim"})
    reader = Reading(CATALOG, process)
    here = await reader.run("pim", name_and_secrets, b"x", tenant)
    there = await reader.run("pim", name_and_secrets, b"x" * MIB, tenant)
    assert (here, there) == ((PIM.url, 1), (PIM.url, 0))


def test_a_published_body_of_the_events_api_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    loads = orjson.loads

    def counted(text: bytes) -> Any:
        parsed.append(text)
        return loads(text)

    monkeypatch.setattr(orjson, "loads", counted)
    text = b'{"events": []}'
    assert read_published(CATALOG, text, PIM, NOW, {}).events == []
    assert parsed == [text]


def batch(number: int = 1, *, size: int = 0) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"specversion": "1.0"} | one_pim.event() for _ in range(number)]
    for event in events:
        event["data"]["filling"] = "x" * size
    return events


def body(number: int = 1, *, size: int = 0) -> bytes:
    return orjson.dumps(batch(number, size=size))


@pytest.fixture
async def process() -> AsyncIterator[ReadingProcess]:
    reader = ReadingProcess(CATALOG)
    yield reader
    await reader.close()


class Nowhere:
    """A reader that must not be used."""

    async def run(
        self, owner: str, function: Callable[..., Any], body: bytes | bytearray, *arguments: object
    ) -> Any:
        raise AssertionError("read elsewhere")


async def test_a_large_body_becomes_the_same_events_there(process: ReadingProcess) -> None:
    large = body(30, size=20_000)
    here = read_cloudevents(CATALOG, large, *BATCH)
    there = await Reading(CATALOG, process).run("pim", read_cloudevents, bytearray(large), *BATCH)
    assert there == here
    assert [event.data_json for event in there] == [event.data_json for event in here]


@pytest.mark.parametrize(
    "small",
    [body(), body(1000), body(1, size=250_000), orjson.dumps([{**batch()[0], "number": 1.5}] * 300)],
    ids=["one", "many", "long", "floats"],
)
async def test_a_small_body_is_read_where_it_is(small: bytes) -> None:
    assert await Reading(CATALOG, Nowhere()).run("pim", read_cloudevents, small, *BATCH)


EVENT = orjson.dumps(batch()[0])[:-2]
DEAR = {
    "floats": EVENT + b',"x":[' + b"1.5," * 30_000 + b"1]}}",
    "deep": EVENT + b',"x":[' + (b"[" * 30 + b"]" * 30 + b",") * 3000 + b"1]}}",
    "numbered keys": EVENT + b',"x":{' + b",".join(b'"%d":1' % number for number in range(20_000)) + b"}}}",
    "brackets": b"[" * 250_000,
    "empty arrays": EVENT + b',"x":[' + b"[]," * 80_000 + b"1]}}",
    "large": body(1, size=300_000),
}


@pytest.mark.parametrize("kind", DEAR)
async def test_what_would_take_long_is_read_there(kind: str) -> None:
    with pytest.raises(AssertionError, match="read elsewhere"):
        await Reading(CATALOG, Nowhere()).run("pim", read_cloudevents, b"[" + DEAR[kind] + b"]", *BATCH)


@pytest.mark.parametrize("number", [1, 1000])
@pytest.mark.parametrize("change", [{"data": {}}, {"type": "x" * 100}, {"time": "x"}, {"id": [1]}], ids=str)
def test_reading_here_is_quick_also_when_all_is_wrong(number: int, change: dict[str, Any]) -> None:
    wrong = orjson.dumps([{**event, **change} for event in batch(number)])
    assert cpu_of(wrong) < 0.05


def cpu_of(text: bytes) -> float:
    """Seconds of CPU of this thread, the least of two."""
    taken: list[float] = []
    for _ in range(2):
        started = time.thread_time()
        with suppress(InvalidRequest):
            read_cloudevents(CATALOG, text, *BATCH)
        taken.append(time.thread_time() - started)
    return min(taken)


READERS = {
    "cloudevents": (MAX_VALUES, partial(read_cloudevents, CATALOG), BATCH),
    "webhook": (MAX_WEBHOOK_VALUES, partial(read_webhook, CATALOG), (PIM,)),
    "relay": (MAX_VALUES, partial(read_relayed, CATALOG), (NOW,)),
    "published": (MAX_WEBHOOK_VALUES, partial(read_published, CATALOG), (PIM, NOW, {})),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_body_of_too_many_values_is_413_before_it_is_parsed(kind: str) -> None:
    """The brackets do not match, which a parser would say."""
    at_most, read, arguments = READERS[kind]

    def refused() -> None:
        with pytest.raises(TooLarge, match=f"more than {at_most} JSON values"):
            read(b"[" * (at_most + 1), *arguments)

    assert cpu_seconds(refused) < 0.1


async def test_too_many_values_are_413_from_the_process(process: ReadingProcess) -> None:
    with pytest.raises(TooLarge, match="more than 1000000 JSON values"):
        await process.run("pim", read_cloudevents, b"[" * (MAX_VALUES + 1), *BATCH)


def test_as_many_values_as_are_taken_are_read_in_little_time() -> None:
    """It takes some 0.5 s; four times that is allowed for, as other programs run."""
    for text in (b"[" * 199 + b"]" * 199 + b",") * (MAX_VALUES // 200 - 2), b"[]," * (MAX_VALUES // 2 - 2):
        read = partial(read_cloudevents, CATALOG, b"[" + text + b"1]", *BATCH)

        def refused(read: Callable[[], object] = read) -> None:
            with pytest.raises(TooLarge, match="at most 1000 are taken"):
                read()

        assert cpu_seconds(refused, tries=1) < 2


async def test_what_is_wrong_is_said_as_it_is_here(process: ReadingProcess) -> None:
    with pytest.raises(InvalidRequest) as here:
        read_cloudevents(CATALOG, b"{", *BATCH)
    with pytest.raises(InvalidRequest) as there:
        await process.run("pim", read_cloudevents, b"{", *BATCH)
    assert there.value.problems == here.value.problems
    with pytest.raises(TooLarge, match="at most 1000 are taken"):
        await process.run("pim", read_cloudevents, b"[" + b"{}," * 2000 + b"{}]", *BATCH)


def end(catalog_: object, text: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(catalog_: object, text: bytes) -> None:
    time.sleep(60)


def wait_in(catalog_: object, folder: bytes) -> int:
    path = Path(folder.decode())
    (path / "begun").touch()
    while not (path / "end").exists():
        time.sleep(0.01)
    return os.getpid()


def fill(catalog_: object, text: bytes) -> int:
    return len(bytearray(2 * reading.MEMORY_BYTES))


def pid(catalog_: object, text: bytes) -> int:
    return os.getpid()


def environment(catalog_: object, text: bytes) -> dict[str, str]:
    return dict(os.environ)


BEFORE_AND_AFTER = """
import io, os
from event_platform.adapters import reading
before = os.nice(0)
reading.main(io.BytesIO(), io.BytesIO())
print(before, os.nice(0))
"""


def test_a_process_gives_way_to_all_others() -> None:
    """Asks the process itself: what started it may be given another niceness at any time."""
    printed = subprocess.run([sys.executable, "-c", BEFORE_AND_AFTER], check=True, capture_output=True)
    before, after = map(int, printed.stdout.split())
    assert after == min(19, before + NICENESS)


@pytest.mark.provokes("reading.failed")
async def test_a_process_that_ends_is_503_and_the_next_body_gets_a_new_one(process: ReadingProcess) -> None:
    with structlog.testing.capture_logs() as lines, pytest.raises(Overloaded):
        await process.run("pim", end, b"")
    assert [line["event"] for line in lines] == ["reading.failed"]
    assert len(await process.run("pim", read_cloudevents, body(), *BATCH)) == 1


async def test_a_body_that_takes_too_long_is_503(
    process: ReadingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.run("pim", pid, b"")
    monkeypatch.setattr(reading, "SECONDS", 0.1)
    with pytest.raises(Overloaded):
        await process.run("pim", hang, b"")
    monkeypatch.undo()
    assert await process.run("pim", pid, b"") > 0


@pytest.mark.provokes("reading.replaced")
async def test_a_process_that_hangs_is_replaced_before_it_gets_a_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replaced: list[None] = []
    reader = ReadingProcess(CATALOG, on_replaced=partial(replaced.append, None))
    hung = await reader.run("pim", pid, b"")
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(reading, "ANSWER_SECONDS", 0.1)
    with structlog.testing.capture_logs() as lines:
        assert await reader.run("pim", pid, b"") != hung
    assert [line["event"] for line in lines] == ["reading.replaced"]
    assert len(replaced) == 1
    await reader.close()


async def test_a_process_has_its_time_though_we_stood_still(
    process: ReadingProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, ahead = asyncio.get_running_loop(), [0.0]
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + ahead[0])
    work = asyncio.create_task(process.run("pim", wait_in, str(tmp_path).encode()))
    await eventually((tmp_path / "begun").exists)
    ahead[0] = 3600.0  # as behind a SIGSTOP or a sleep of the machine
    for _ in range(10):
        await asyncio.sleep(0)
    assert not work.done()
    (tmp_path / "end").touch()
    assert await work > 0


async def test_a_body_that_fills_the_memory_is_413_and_the_process_goes_on(process: ReadingProcess) -> None:
    before = await process.run("pim", pid, b"")
    with pytest.raises(TooLarge):
        await process.run("pim", fill, b"")
    assert await process.run("pim", pid, b"") == before


async def test_the_process_knows_no_setting_of_ours(
    process: ReadingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEP_SECRETS_KEY", "secret")
    assert not [name for name in await process.run("pim", environment, b"") if name.startswith("AEP_")]


async def test_after_a_rest_the_process_ends(
    process: ReadingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "REST_SECONDS", 0.05)
    number = await process.run("pim", pid, b"")
    await eventually(lambda: not Path(f"/proc/{number}").exists())
    assert await process.run("pim", pid, b"") != number


async def test_an_abandoned_call_leaves_no_answer_for_the_next(process: ReadingProcess) -> None:
    await process.run("pim", pid, b"")
    abandoned = asyncio.create_task(process.run("pim", hang, b""))
    await asyncio.sleep(0.05)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    assert await process.run("pim", pid, b"") > 0


async def test_owners_take_turns(process: ReadingProcess) -> None:
    await process.run("pim", pid, b"")
    ended: list[str] = []

    async def run(owner: str) -> None:
        await process.run(owner, pid, b"")
        ended.append(owner)

    await asyncio.gather(*(run("many") for _ in range(10)), run("one"))
    assert ended.index("one") <= 1
    assert process._locks == {}


async def test_a_webhook_of_15_mib_keeps_the_loop_free(process: ReadingProcess) -> None:
    """Many small values, which are dear to parse. The watchdog of the tests looks at each callback, too."""
    value = {"locale": None, "scope": None, "data": "a value"}
    event = {
        "action": "product.updated",
        "event_id": "event",
        "event_datetime": "2026-01-31T12:00:00+00:00",
        "author": "erp",
        "author_type": "api",
        "data": {"resource": {"uuid": "00000000-0000-4000-8000-000000000001", "values": [value] * 60_000}},
    }
    large = orjson.dumps({"events": [event] * 6})
    assert len(large) > 15 * MIB
    await process.run("pim", pid, b"")
    started = time.thread_time()
    taken = await process.run("pim", read_webhook, large, PIM)
    assert time.thread_time() - started < 0.25  # in hundreds of pieces, to move it
    assert len(taken.events) == 6


# Over HTTP


SECRET = "the-secret-of-the-webhook"
NAME_IN_PATHS = "large-bodies"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, str]]:
    folder = tmp_path_factory.mktemp("large-bodies")
    pim = one_pim.entry(events_api_secret=SECRET, key=NAME_IN_PATHS)
    with server(folder, "inbox") as inbox, one_pim.serve(folder, pims=[pim]) as serve:
        one_pim.subscribe(serve, f"{inbox.url}/hook")
        yield serve, inbox.url


def test_a_large_batch_is_delivered(platform: tuple[Child, str]) -> None:
    serve, inbox = platform
    events = batch(4, size=100_000)
    assert send_events(serve.url, one_pim.INGEST_KEY, *events) == 202
    ids = {event["id"] for event in events}
    until(lambda: ids <= {each["id"] for each in received(inbox, "/hook")}, "all of the batch")


def stranger(serve: Child, size: int, *, key: str = "no-pim") -> socket.socket:
    """A connection that has sent so many bytes of a body, and not the last."""
    host, port = serve.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = (
        f"POST /ingest/events-api/{key} HTTP/1.1\r\nHost: x\r\nContent-Length: {20 * MIB}\r\n"
        f"X-Akeneo-Request-Signature: {'0' * 64}\r\nX-Akeneo-Request-Timestamp: {int(time.time())}\r\n\r\n"
    )
    connection.sendall(head.encode())
    for _ in range(size // MIB):
        connection.sendall(b"x" * MIB)
    return connection


def webhook(serve: Child) -> int:
    """The status of a PIM's own webhook of 1 MiB."""
    event = {
        "action": "product.updated",
        "event_id": one_pim.event()["id"],
        "event_datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "author": "erp",
        "author_type": "api",
        "data": {"resource": {"uuid": "00000000-0000-4000-8000-000000000001", "filling": "x" * MIB}},
    }
    sent, now = orjson.dumps({"events": [event]}), str(int(time.time()))
    signed = signature(SECRET, f"{now}.".encode() + sent)
    headers = {"X-Akeneo-Request-Signature": signed, "X-Akeneo-Request-Timestamp": now}
    headers["Content-Type"] = "application/json"
    return (
        http()
        .post(f"{serve.url}/ingest/events-api/{NAME_IN_PATHS}", sent, headers=headers, timeout=20)
        .status_code
    )


def test_strangers_with_one_made_up_signature_are_503_and_the_pim_gets_in(
    tmp_path: Path, platform: tuple[Child, str]
) -> None:
    serve, _ = platform
    with ExitStack() as stack:
        held = [stack.enter_context(stranger(serve, 18 * MIB)) for _ in range(2)]
        late = stack.enter_context(stranger(serve, 0))
        with suppress(ConnectionError):
            for _ in range(10):
                late.sendall(b"x" * MIB)
        response = HTTPResponse(late)
        response.begin()
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert orjson.loads(response.read())["errors"]
        assert webhook(serve) == 200
        assert memory_of(serve) < 400 * MIB
        del held
    assert serve.stderr().count('"bodies.refused"') == 1
    until(lambda: webhook(serve) == 200, "room")


def memory_of(serve: Child) -> int:
    """Resident bytes of the process that takes events in."""
    status = Path(f"/proc/{serve.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
