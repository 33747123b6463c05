"""`/metrics`: what is counted holds against what happened, and what it costs."""

import asyncio
import platform
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.broker import dead_letters
from aep.broker.queue import LOOK_SECONDS
from aep.commit import commit
from aep.runtime.meters import OTHER, SUBSCRIPTIONS_NAMED, Counted, Histogram, Meters
from aep.serving import metrics, metrics_page
from aep.store import opening
from aep.store.figures import Figures
from event_platform import __version__
from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.pace.rates import Limits, Observation, Rate
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import suspend
from event_platform.http import App, json_response
from support import one_pim
from support.aep_here import run
from support.clock import START, ManualClock
from support.embedded import Broker
from support.eventually import eventually
from support.processes import Child, free_port, http, received, server, until, with_metrics
from support.records import OWNER, PIM, an_event

MICROSECONDS_A_DELIVERY = 20.0
UNPACED = Limits(100_000, 100_000)
"""Several times what it takes on a slow machine, and a small part of what a delivery costs."""

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
Samples = dict[str, float]
FIGURES = Figures(8192, 4096, 10**9, datetime.now(UTC) - timedelta(hours=1), takes_in=False)


def samples_of(text: str) -> Samples:
    """By name and labels, as `name{label="value"}` with the labels in the page's order."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


async def call(app: Any, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """One request to an ASGI app: status, headers, body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
    }
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]).decode()


async def text_of(meters: Meters, look: Callable[[], Awaitable[float]] | None = None) -> str:
    async def nothing_waits() -> float:
        return 0.0

    app = Starlette(routes=[metrics.route(meters, look or nothing_waits, lambda: FIGURES)])
    status, _, text = await call(app, "/metrics")
    assert status == 200
    return text


async def page(meters: Meters, look: Callable[[], Awaitable[float]] | None = None) -> Samples:
    return samples_of(await text_of(meters, look))


async def test_the_files_their_disk_and_the_last_backup_are_looked_at_when_asked() -> None:
    found = await page(Meters())
    assert found["aep_store_file_bytes"] == 8192
    assert found["aep_store_wal_bytes"] == 4096
    assert found["aep_store_disk_free_bytes"] == 10**9
    assert found["aep_store_takes_in"] == 0
    assert found["aep_backup_age_seconds"] >= 3600


# The broker and the store, counted as they work


class Metered(Broker):
    """The embedded broker with meters, and a handler that answers as the test sets it."""

    answer: Callable[[Delivery], Settlement]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answer = delivered

    async def handle(self, delivery: Delivery) -> Settlement:
        return self.answer(delivery)

    async def samples(self) -> Samples:
        await self.clock.advance(LOOK_SECONDS)
        found = await page(self.meters, self.queue.look)
        holds_together(found)
        return found


def delivered(delivery: Delivery) -> Settlement:
    return Settlement(replace(delivery, attempts=1), Outcome(Kind.DELIVERED, None, 200))


def holds_together(found: Samples, *, started_with: int = 0) -> None:
    """What came in has left or is there still."""
    ended = sum(value for name, value in found.items() if name.startswith("aep_deliveries_ended_total"))
    accounted = (
        found["aep_deliveries_delivered_total"]
        + ended
        + found["aep_deliveries_queued"]
        + found["aep_retries_scheduled"]
        + found["aep_dead_letters"]
    )
    assert found["aep_deliveries_accepted_total"] + started_with == accounted


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Metered]:
    async with Metered(tmp_path) as world:
        yield world


async def test_deliveries_are_counted_from_acceptance_to_delivery(world: Metered) -> None:
    (one,), (other,) = await world.subscribe(), await world.subscribe()
    await world.queue.accept(PIM, [an_event(1), an_event(2), an_event(1)])
    before = await world.samples()
    assert before["aep_events_accepted_total"] == 3
    assert before["aep_events_repeated_total"] == 1
    assert before["aep_deliveries_accepted_total"] == before["aep_deliveries_queued"] == 4
    assert before[f'aep_subscription_deliveries_queued{{subscription="{one.id}"}}'] == 2
    await world.clock.advance(7)
    assert (await world.samples())["aep_oldest_waiting_seconds"] == 7 + 2 * LOOK_SECONDS
    await world.start(world.handle)
    await eventually(lambda: world.meters.delivered == 4)
    after = await world.samples()
    assert after["aep_deliveries_queued"] == after["aep_oldest_waiting_seconds"] == 0
    assert after['aep_attempts_total{outcome="delivered",reason=""}'] == 4
    for subscription in (one, other):
        of_it = f'{{subscription="{subscription.id}"}}'
        assert after[f"aep_subscription_deliveries_delivered_total{of_it}"] == 2
        assert after[f"aep_subscription_deliveries_queued{of_it}"] == 0
    assert after["aep_delivery_seconds_count"] == 4
    assert after["aep_delivery_seconds_sum"] == 4 * (7 + 2 * LOOK_SECONDS)
    assert after['aep_delivery_seconds_bucket{le="5"}'] == 0
    assert after['aep_delivery_seconds_bucket{le="15"}'] == 4


async def test_a_retry_is_scheduled_and_then_queued_again(world: Metered) -> None:
    def later(delivery: Delivery) -> Settlement:
        tried = replace(delivery, attempts=1, failures=1, first_attempt_at=world.clock.now())
        due = world.clock.now() + timedelta(seconds=300)
        return Settlement(tried, Outcome(Kind.RETRYABLE, Reason.CONNECTION_REFUSED), retry_at=due)

    await world.subscribe()
    world.answer = later
    await world.start(world.handle)
    await world.queue.accept(PIM, [an_event(1)])
    await eventually(lambda: world.meters.retries == 1)
    waiting = await world.samples()
    assert (waiting["aep_retries_scheduled"], waiting["aep_deliveries_queued"]) == (1, 0)
    assert waiting['aep_attempts_total{outcome="retryable",reason="connection_refused"}'] == 1
    world.answer = delivered
    await world.clock.advance(301)
    await eventually(lambda: world.meters.delivered == 1)
    gone = await world.samples()
    assert (gone["aep_retries_scheduled"], gone["aep_deliveries_queued"]) == (0, 0)


async def test_a_throttled_delivery_stays_queued(world: Metered) -> None:
    def throttled(delivery: Delivery) -> Settlement:
        world.answer = delivered
        outcome = Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, 429)
        now = world.clock.now()
        seen = Observation(now, Rate(START), 0.1, throttled=True, retry_after=now + timedelta(seconds=2))
        return Settlement(replace(delivery, attempts=1), outcome, back_to_lane=True, pace=seen)

    await world.subscribe()
    await world.clock.advance(1)
    world.answer = throttled
    await world.start(world.handle)
    await world.queue.accept(PIM, [an_event(1)])
    await eventually(lambda: world.meters.attempts)
    assert (await world.samples())["aep_deliveries_queued"] == 1
    await world.clock.advance(2)
    await eventually(lambda: world.meters.delivered)
    assert (await world.samples())["aep_deliveries_queued"] == 0


async def test_ends_are_counted_by_operation_and_reason(world: Metered) -> None:
    def ending(delivery: Delivery) -> Settlement:
        if delivery.event_id == "event-1":
            end = DeliveryEnd(
                Operation.FAILED, "gone", world.clock.now(), Reason.DESTINATION_NOT_FOUND, 404, "secret"
            )
            outcome = Outcome(Kind.SUSPENDING, Reason.DESTINATION_NOT_FOUND, 404)
            return Settlement(replace(delivery, attempts=1), outcome, end=end)
        return Settlement(delivery, None, end=DeliveryEnd(Operation.DROPPED, "suspended", world.clock.now()))

    (subscription,) = await world.subscribe()
    world.answer = ending
    await world.start(world.handle)
    await world.queue.accept(PIM, [an_event(1), an_event(2)])
    await eventually(lambda: world.meters.ended.total() == 2)
    found = await world.samples()
    ended = "aep_deliveries_ended_total"
    operations = 'operation="failed_to_deliver_event",reason="destination_not_found"'
    assert found[f"{ended}{{{operations}}}"] == 1
    assert found[f'{ended}{{operation="deliveries_dropped",reason=""}}'] == 1
    assert found[f'aep_subscription_deliveries_ended_total{{subscription="{subscription.id}"}}'] == 2
    assert sum(value for name, value in found.items() if name.startswith("aep_attempts_total")) == 1


async def test_faults_of_ours_and_dead_letters_are_counted_and_seen_to_leave(
    world: Metered, tmp_path: Path
) -> None:
    """The letters leave by another process, which tells this one nothing."""
    (subscription,) = await world.subscribe()
    await world.queue.accept(PIM, [an_event(1), an_event(2), an_event(3)])
    await world.open()
    for queued in (await waiting(world))[:2]:
        await world.queue.nack(queued)
        await world.queue.dead_letter(queued, "RuntimeError: a bug, for the test")
    found = await world.samples()
    assert (found["aep_dead_letters"], found["aep_deliveries_queued"]) == (2, 1)
    assert found["aep_delivery_faults_total"] == 4
    assert found[f'aep_subscription_deliveries_queued{{subscription="{subscription.id}"}}'] == 1
    with closing(opening.connect(tmp_path / opening.FILE)) as beside:
        ids = dead_letters.chosen(beside, ())
        dead_letters.replay_some(beside, ids, world.clock.now())
    found = await world.samples()
    assert (found["aep_dead_letters"], found["aep_retries_scheduled"]) == (0, 2)
    await world.start(world.handle)
    await eventually(lambda: world.meters.delivered == 3)
    found = await world.samples()
    assert (found["aep_retries_scheduled"], found["aep_deliveries_queued"]) == (0, 0)


async def waiting(world: Metered) -> list[Any]:
    return [
        queued for key in await world.queue.lanes() for queued in await world.queue.waiting(key, 0, 10, 10**6)
    ]


async def test_an_event_that_only_a_dead_letter_keeps_is_not_waiting(world: Metered) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.queue.dead_letter((await waiting(world))[0], "a bug")
    await world.clock.advance(60)
    await world.queue.accept(PIM, [an_event(2)])
    await world.clock.advance(5)
    assert (await world.samples())["aep_oldest_waiting_seconds"] == 5 + LOOK_SECONDS


async def test_a_start_counts_what_the_file_holds(tmp_path: Path) -> None:
    first = Metered(tmp_path)
    (subscription,) = await first.subscribe()
    await first.queue.accept(PIM, [an_event(number) for number in range(5)])
    await first.close()
    second = Metered(tmp_path)
    await second.open()
    found = await page(second.meters, second.queue.look)
    assert found["aep_deliveries_accepted_total"] == 0
    assert found["aep_deliveries_queued"] == 5
    assert found[f'aep_subscription_deliveries_queued{{subscription="{subscription.id}"}}'] == 5
    await second.start(second.handle)
    await eventually(lambda: second.meters.delivered == 5)
    holds_together(await page(second.meters, second.queue.look), started_with=5)
    await second.close()


async def test_scrapes_share_one_look_into_the_file_and_never_use_the_writer(
    world: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.open()
    looks = 0
    read = world.database.read

    async def counted(job: Any) -> Any:
        nonlocal looks
        looks += 1
        return await read(job)

    async def no_job(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a scrape is no job of the writer")

    monkeypatch.setattr(world.database, "read", counted)
    monkeypatch.setattr(world.database, "write", no_job)
    await world.clock.advance(5)
    assert await asyncio.gather(*[world.queue.look() for _ in range(50)]) == [5.0] * 50
    assert looks == 1
    await world.clock.advance(LOOK_SECONDS / 2)
    assert await world.queue.look() == 5 + LOOK_SECONDS / 2
    assert looks == 1, "what was found a moment ago is good enough"
    await world.clock.advance(LOOK_SECONDS / 2)
    await world.queue.look()
    assert looks == 2


async def test_a_look_reads_no_more_of_a_long_queue_than_of_a_short_one(world: Metered) -> None:
    await world.subscribe()
    await world.open()

    async def steps_of_a_look() -> int:
        """How many instructions SQLite runs for it, in tens."""
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        def watch(connection: sqlite3.Connection, on: bool) -> None:
            connection.set_progress_handler(step if on else None, 10)

        await world.database.read(lambda connection: watch(connection, True))
        await world.clock.advance(LOOK_SECONDS)
        await world.queue.look()
        await world.database.read(lambda connection: watch(connection, False))
        return steps

    await world.queue.accept(PIM, [an_event(1)])
    few = await steps_of_a_look()
    await world.queue.accept(PIM, [an_event(number) for number in range(2, 1000)])
    assert 0 < await steps_of_a_look() <= few + 5


async def test_a_scrape_that_is_given_up_takes_the_others_look_away_from_nobody(world: Metered) -> None:
    await world.open()
    first, second = asyncio.create_task(world.queue.look()), asyncio.create_task(world.queue.look())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 0


async def test_a_repeated_settlement_is_counted_once(world: Metered) -> None:
    await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    settlement = delivered((await waiting(world))[0].delivery())
    await world.queue.settle(settlement)
    await world.queue.settle(settlement)
    assert world.meters.delivered == 1
    assert (await world.samples())["aep_deliveries_queued"] == 0


async def test_commits_that_change_something_are_timed_and_those_that_fail_counted(world: Metered) -> None:
    await world.subscribe()
    count = (await world.samples())["aep_commit_seconds_count"]
    assert count == 2
    for _ in range(3):
        assert (await world.samples())["aep_commit_seconds_count"] == count
    await world.queue.accept(PIM, [an_event(1)])
    found = await world.samples()
    assert found["aep_commit_seconds_count"] == found["aep_commit_jobs_count"] == count + 1
    assert found["aep_commit_jobs_sum"] == 3
    assert 0 < found["aep_commit_seconds_sum"] < 5

    def fails(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error, for the test")

    with pytest.raises(StoreUnavailable):
        await world.database.write(fails)
    found = await world.samples()
    assert found["aep_commits_failed_total"] == 1
    assert found["aep_commit_seconds_count"] == count + 1


async def test_what_a_failed_commit_undid_is_not_counted(world: Metered) -> None:
    await world.subscribe()
    begun, submitted = threading.Event(), threading.Event()

    def holds_up(connection: sqlite3.Connection) -> None:
        begun.set()
        submitted.wait(10)

    def fails(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error, for the test")

    holding = asyncio.create_task(world.database.write(holds_up))
    await asyncio.to_thread(begun.wait, 10)  # the writer works on that alone; the next two share a commit
    accepting = asyncio.create_task(world.queue.accept(PIM, [an_event(1)]))
    failing = asyncio.create_task(world.database.write(fails))
    await asyncio.sleep(0)
    submitted.set()
    results = await asyncio.gather(holding, accepting, failing, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StoreUnavailable, StoreUnavailable]
    assert (world.meters.events_accepted, world.meters.queued) == (0, 0)
    await world.queue.accept(PIM, [an_event(1)])
    assert (world.meters.events_accepted, world.meters.queued) == (1, 1)


async def test_a_suspension_moves_nothing_before_the_deliveries_leave(world: Metered) -> None:
    (subscription,) = await world.subscribe()
    await world.queue.accept(PIM, [an_event(1)])
    await world.subscriptions.change_subscription(
        OWNER, subscription.subscriber_id, subscription.id, lambda each: suspend(each, world.clock.now())
    )
    assert (await world.samples())["aep_deliveries_queued"] == 1


# What is bounded


def test_only_the_first_subscriptions_are_counted_by_name() -> None:
    meters = Meters()
    ids = [f"subscription-{number}" for number in range(SUBSCRIPTIONS_NAMED + 50)]
    meters.put_into_lanes(ids)
    meters.put_into_lanes(ids)
    assert list(meters.subscriptions) == ids[:SUBSCRIPTIONS_NAMED]
    assert meters.other.queued == 100
    meters.opened(Counted(0, 0, 0, dict.fromkeys(ids, 3)))
    assert meters.other.queued == 150
    assert meters.subscriptions[ids[0]].queued == 3
    assert meters.queued == 3 * len(ids)


async def test_other_is_shown_when_there_are_others_only() -> None:
    meters = Meters()
    meters.put_into_lanes(["one"])
    name = f'aep_subscription_deliveries_queued{{subscription="{OTHER}"}}'
    assert name not in await page(meters)
    meters.other.queued = 4
    assert (await page(meters))[name] == 4


def test_a_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 8


def test_what_is_counted_costs_little() -> None:
    meters = Meters()
    one = an_event()
    delivery = Delivery("subscription", one.id, one.type, ManualClock().now(), 0, 16, 0, b"")
    settlement = delivered(delivery)
    rounds = 5_000
    best = float("inf")
    for _ in range(5):
        started = time.thread_time()
        for _ in range(rounds):
            meters.accepted(1, 1)
            meters.put_into_lanes(("subscription",))
            meters.settled(settlement, 0.25)
            meters.committed(0.001, 2)
        best = min(best, (time.thread_time() - started) / rounds * 1e6)
    print(f"{best:.2f} µs a delivery")
    assert best < MICROSECONDS_A_DELIVERY


# The page


async def test_scrapes_take_a_small_part_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []

    def slowly(registry: object) -> bytes:
        made.append(now[0])
        now[0] += 0.004
        return b""

    async def nothing_waits() -> float:
        return 0.0

    now = [100.0]
    monkeypatch.setattr(metrics_page, "generate_latest", slowly)
    monkeypatch.setattr(metrics_page, "time", SimpleNamespace(monotonic=lambda: now[0]))
    app = Starlette(routes=[metrics.route(Meters(), nothing_waits, lambda: FIGURES)])
    for _ in range(1000):
        assert (await call(app, "/metrics"))[0] == 200
        now[0] += 0.001
    assert len(made) * 0.004 < 0.06 * (now[0] - 100.0)


async def test_labels_cannot_break_out_of_their_quotes() -> None:
    meters = Meters()
    meters.answered('a"b\\c\nd{e="f"} 1', 200)
    (name,) = (name for name in await page(meters) if name.startswith("aep_http_requests_total"))
    assert name == 'aep_http_requests_total{route="a"b\\c\nd{e="f"} 1",status="200"}'


async def test_a_store_that_is_away_leaves_the_rest_of_the_page() -> None:
    async def away() -> float:
        raise StoreUnavailable("for the test")

    found = await page(Meters(events_accepted=3), away)
    assert found["aep_events_accepted_total"] == 3
    assert "aep_oldest_waiting_seconds" not in found


async def test_requests_are_counted_by_template_and_never_by_path() -> None:
    async def well(request: Request) -> Response:
        return json_response({})

    async def badly(request: Request) -> Response:
        raise RuntimeError("for the test")

    routes = [Route("/things/{id}", well, methods=["GET"]), Route("/bad", badly)]
    meters = Meters()
    app = App(routes, answered=metrics.CountedAnswers(routes, meters))
    for path in ("/things/1", "/things/%22%0a", "/no/such/route", "/things/1/2"):
        await call(app, path)
    await call(app, "/things/1", "PURGE")
    with pytest.raises(RuntimeError):
        await call(app, "/bad")
    assert dict(meters.requests) == {
        ("/things/{id}", "200"): 2,
        (OTHER, "404"): 2,
        ("/things/{id}", "405"): 1,
        ("/bad", "500"): 1,
    }


async def test_the_version_is_a_label() -> None:
    labels = f'commit="{commit()}",python="{platform.python_version()}",version="{__version__}"'
    assert (await page(Meters()))[f"aep_build_info{{{labels}}}"] == 1


async def test_the_page_describes_every_metric_and_no_other() -> None:
    text = await text_of(Meters())
    table, _, _ = DOCUMENT.read_text().partition("## What to alert on")
    cells = re.findall(r"^\| (`aep_.*?) \|", table, re.MULTILINE)
    described = [name for cell in cells for name in re.findall(r"`(\w+)", cell)]
    assert sorted(described) == sorted(re.findall(r"^# TYPE (aep_\w+)", text, re.MULTILINE))


def test_every_metric_that_another_page_names_is_described() -> None:
    root = DOCUMENT.parents[1]
    pages = [*root.glob("*.md"), *root.joinpath("docs").rglob("*.md")]
    named = {name for each in pages for name in re.findall(r"\baep_[a-z_]+\b(?!\.)", each.read_text())}
    described = set(re.findall(r"`(aep_\w+)", DOCUMENT.read_text()))
    bare = {re.sub("_(bucket|sum|count)$", "", name) for name in named}
    assert sorted(bare - described) == []


# As it is served


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with server(tmp_path_factory.mktemp("inbox"), "inbox", "--quiet") as inbox:
        yield inbox.url


def scrape(url: str) -> Samples:
    response = http().get(url, timeout=10)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples_of(response.text)


def test_the_page_agrees_with_what_the_receiver_saw(tmp_path: Path, inbox: str) -> None:
    with one_pim.serve(tmp_path, settings=with_metrics()) as serve:
        good = one_pim.subscribe(serve, f"{inbox}/hook")
        one_pim.subscribe(serve, f"{inbox}/500")
        one_pim.emit(serve, 25)
        until(
            lambda: scrape(serve.metrics)["aep_retries_scheduled"] == 25,
            "all attempts failed at one",
        )
        until(lambda: len(one_pim.ids_received(inbox)) == 25, "all deliveries at the other")
        until(lambda: scrape(serve.metrics)["aep_deliveries_delivered_total"] == 25, "all settled")
        found = scrape(serve.metrics)
        assert len(received(inbox, "/500")) == 25
    holds_together(found)
    assert found['aep_attempts_total{outcome="retryable",reason="destination_failure"}'] == 25
    assert found[f'aep_subscription_deliveries_delivered_total{{subscription="{good}"}}'] == 25
    assert found["aep_delivery_seconds_count"] == 25
    assert 0 < found["aep_oldest_waiting_seconds"] < 60
    assert found['aep_http_requests_total{route="/ingest",status="202"}'] == 1
    assert found['aep_http_requests_total{route="/api/v1/subscribers",status="201"}'] == 2
    assert found["process_resident_memory_bytes"] > 0
    assert not [name for name in found if "_created" in name]


@pytest.mark.provokes("metrics.ready")
def test_it_has_a_port_of_its_own_and_is_not_on_the_public_one(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path, settings=with_metrics()) as serve:
        assert "aep_events_accepted_total" in scrape(serve.metrics)
        (line,) = lines_of(serve, "metrics.ready")
        assert line["url"] == serve.metrics
        assert http().get(f"{serve.url}/metrics", timeout=10).status_code == 404
        for path in ("/api/v1/subscribers", "/ingest", "/health"):
            assert http().get(serve.metrics.replace("/metrics", path), timeout=10).status_code == 404
        assert serve.stop() == 0
        assert serve.stdout() == f"ready {serve.url}\n"


def test_the_address_and_the_port_are_what_is_asked_for(tmp_path: Path) -> None:
    port = str(free_port())
    given = ("--metrics-host", "127.0.0.2", "--metrics-port", port)
    with one_pim.serve(tmp_path, *given):
        assert "aep_events_accepted_total" in scrape(f"http://127.0.0.2:{port}/metrics")


def lines_of(serve: Child, event: str) -> list[dict[str, str]]:
    lines = [orjson.loads(line) for line in serve.stderr().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.provokes("metrics.not_served")
def test_a_metrics_port_that_is_taken_is_warned_of_once_and_the_platform_serves(
    tmp_path: Path, inbox: str
) -> None:
    port = inbox.rpartition(":")[2]
    with one_pim.serve(tmp_path, "--metrics-port", port) as serve:
        assert http().get(f"{serve.url}/health", timeout=10).status_code == 200
        (line,) = lines_of(serve, "metrics.not_served")
    assert line["error"].startswith("the port is taken by ")
    assert "--metrics-port" in line["fix"]


def test_port_0_turns_it_off(tmp_path: Path) -> None:
    with one_pim.serve(tmp_path, "--metrics-port", "0") as serve:
        assert http().get(f"{serve.url}/health", timeout=10).status_code == 200
        assert lines_of(serve, "metrics.ready") == lines_of(serve, "metrics.not_served") == []


def test_it_is_by_default_where_the_docs_say() -> None:
    help_ = " ".join(run("serve", "--help").out.replace("│", "").split())
    assert "default: 127.0.0.1" in help_
    assert "default: 9464" in help_
