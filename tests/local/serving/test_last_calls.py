"""The last calls of each PIM by each way in: in `aep pims list`, `aep doctor` and `/metrics`."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from aep.runtime.meters import PIMS_NAMED, LastCalls, Meters
from aep.serving import metrics_page
from aep.serving.last_calls import WRITE_EVERY, CallObserver
from aep.store import calls
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.tenants import Tenant, Way
from support import one_pim
from support.aep_here import Ended, run
from support.clock import START
from support.embedded import Embedded
from support.eventually import eventually
from support.processes import Child, http, send_events, signature, until, with_metrics

SECRET = "the-secret-that-the-pim-made"
PIM, OTHER = "https://pim.example.com", "https://other.example.com"


class Registry:
    def __init__(self, *urls: str) -> None:
        self.urls = urls

    async def tenants(self) -> list[Tenant]:
        return [Tenant(url=url) for url in self.urls]


class Observing(Embedded):
    """The store, and an observer of the calls of these PIMs."""

    def __init__(self, folder: Path, *urls: str) -> None:
        super().__init__(folder)
        self.observer = self.observe(*urls)

    async def written(self) -> dict[Any, LastCalls]:
        return dict(await self.database.read(calls.read))

    async def eventually_written(self) -> dict[Any, LastCalls]:
        """Returns the written calls as soon as there are some: the writer is a thread of its own."""
        deadline = time.monotonic() + 60
        while not (found := await self.written()):
            assert time.monotonic() < deadline, "nothing was written"
        return found

    def again(self, *urls: str) -> CallObserver:
        """An observer after a restart with these PIMs."""
        self.meters = Meters()
        return self.observe(*urls)

    def observe(self, *urls: str) -> CallObserver:
        return CallObserver(
            self.database, Registry(*urls), self.meters, self.clock, on_fault=self.faults.append
        )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Observing]:
    async with Observing(tmp_path, PIM, OTHER) as world:
        await world.observer.start()
        yield world
        await world.observer.stop()


async def test_what_was_seen_is_written_every_few_seconds(world: Observing) -> None:
    world.observer.taken(PIM, Way.RELAY, 3)
    assert await world.written() == {}
    await world.clock.advance(WRITE_EVERY)
    begun = START.timestamp()
    assert await world.eventually_written() == {(PIM, Way.RELAY): LastCalls(begun, begun)}
    world.observer.refused(PIM, Way.RELAY, 401, "wrong_signature")
    world.observer.taken(OTHER, Way.EVENTS_API, 0)
    await world.observer.stop()
    later = begun + WRITE_EVERY
    assert await world.written() == {
        (PIM, Way.RELAY): LastCalls(begun, begun, later, 401, "wrong_signature"),
        (OTHER, Way.EVENTS_API): LastCalls(None, later),
    }


async def test_it_is_known_after_a_restart_of_pims_that_there_are(world: Observing) -> None:
    world.observer.taken(PIM, Way.RELAY, 1)
    world.observer.taken(OTHER, Way.RELAY, 1)
    world.observer.refused("", Way.RELAY, 401, "unknown_key")
    await world.observer.stop()
    again = world.again(PIM)
    await again.start()
    assert set(world.meters.last_calls) == {(PIM, Way.RELAY), ("", Way.RELAY)}
    await again.stop()
    assert set(await world.written()) == {(PIM, Way.RELAY), ("", Way.RELAY)}


async def test_a_start_on_a_full_disk_knows_them(world: Observing, monkeypatch: pytest.MonkeyPatch) -> None:
    world.observer.taken(PIM, Way.RELAY, 1)
    await world.observer.stop()
    monkeypatch.setattr(world.database.room, "look", lambda: None)  # the real disk has room
    monkeypatch.setattr(world.database.room, "is_short", True)
    again = world.again(PIM)
    await again.start()
    assert set(world.meters.last_calls) == {(PIM, Way.RELAY)}
    await again.stop()


@pytest.mark.provokes("last_calls.not_written", "last_calls.written_again")
async def test_what_the_store_did_not_take_is_written_later_and_said_once(
    world: Observing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*arguments: Any) -> None:
        raise StoreUnavailable("the disk is full")

    world.observer.taken(PIM, Way.RELAY, 1)
    with capture_logs() as lines:
        with monkeypatch.context() as patched:
            patched.setattr(world.database, "write", away)
            for _ in range(3):
                await world.clock.advance(WRITE_EVERY)
        assert await world.written() == {}
        assert [line["event"] for line in lines] == ["last_calls.not_written"]
        await world.clock.advance(WRITE_EVERY)
        assert set(await world.eventually_written()) == {(PIM, Way.RELAY)}
        await eventually(lambda: len(lines) == 2)
    assert lines[1]["event"] == "last_calls.written_again"


def test_metrics_name_so_many_pims_and_no_more() -> None:
    meters = Meters()
    for number in range(PIMS_NAMED + 50):
        pim = f"https://{number}.example.com"
        meters.last_calls[pim, Way.RELAY] = LastCalls(taken_at=float(number))
        meters.refused(pim, Way.RELAY, 401)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics_page.Page(meters))
    lines = [line for line in generate_latest(registry).decode().splitlines() if line.startswith("aep_pim")]
    assert len(lines) == 2 * (PIMS_NAMED + 1)
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    assert all(f"`{line.partition('{')[0]}{{" in page for line in lines)
    assert 'aep_pim_last_taken_timestamp_seconds{pim="other",way="relay"} 249.0' in lines
    assert 'aep_pim_calls_refused_total{pim="other",status="401",way="relay"} 50.0' in lines


# A platform that runs


@dataclass(frozen=True)
class Running:
    serve: Child
    folder: Path

    def webhook(self, secret: str = SECRET, *, key: str = "pim") -> int:
        now = str(int(time.time()))
        headers = {
            "X-Akeneo-Request-Signature": signature(secret, f"{now}.".encode()),
            "X-Akeneo-Request-Timestamp": now,
        }
        return (
            http().post(f"{self.serve.url}/ingest/events-api/{key}", headers=headers, timeout=10).status_code
        )

    def aep(self, *words: str) -> Ended:
        data, pims = str(self.folder / "data"), str(self.folder / "pims.json")
        return run(*words, "--data", data, "--pims", pims)

    def known(self) -> dict[str, Any]:
        return orjson.loads(self.aep("pims", "list", "--json").out)[0].get("calls", {})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    pim = one_pim.entry(key="pim", events_api_secret=SECRET)
    with one_pim.serve(tmp_path, pims=[pim], settings=with_metrics()) as serve:
        yield Running(serve, tmp_path)


def test_the_last_calls_are_shown(running: Running) -> None:
    assert running.webhook("another") == 401
    page = http().get(running.serve.metrics, timeout=10).text
    assert f'aep_pim_calls_refused_total{{pim="{PIM}",status="401",way="events-api"}} 1.0' in page
    until(lambda: '"ingest.refused"' in running.serve.stderr(), "the line of the log")
    until(lambda: "events-api" in running.known(), "the refusal")
    refused = running.known()["events-api"]
    assert refused["last_taken_at"] is None
    assert (refused["last_refused"]["status"], refused["last_refused"]["reason"]) == (401, "wrong_signature")
    at = datetime.fromisoformat(refused["last_refused"]["at"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=5)
    assert "events-api 401 wrong_signature" in running.aep("pims", "list").out
    doctor = running.aep("doctor")
    assert doctor.status == 0
    (line,) = (line for line in doctor.out.splitlines() if " senders " in line)
    assert line.startswith("problem")
    assert f"{PIM} by events-api: refused at" in line
    assert "--events-api-secret" in line

    assert running.webhook() == 200  # as the Test button
    assert send_events(running.serve.url, one_pim.INGEST_KEY, one_pim.event()) == 202
    until(lambda: "cloudevents" in running.known(), "the event")
    assert running.known()["cloudevents"]["last_taken_at"] is not None
    (line,) = (line for line in running.aep("doctor").out.splitlines() if " senders " in line)
    assert line.startswith("ok")
    assert "the last events came at" in line


@pytest.mark.full
def test_a_call_of_nobody_is_told_and_is_no_pims_problem(running: Running) -> None:
    assert running.webhook(key="nobody") == 401

    def line() -> str:
        return next(line for line in running.aep("doctor").out.splitlines() if " senders " in line)

    until(lambda: "unknown_key" in line(), "the refusal")
    assert line().startswith("ok")
    assert running.known() == {}
