"""Lines of what went well share entries of Cloud Logging, and none is kept while an instance has no CPU."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from event_platform import shared_lines
from event_platform.shared_lines import KEPT_AT_MOST, TEXT_AT_MOST, SharedLines
from event_platform.telemetry import line_of
from support.clock import ManualClock

UPDATED = "com.akeneo.pim.v1.product.updated"
PIM = "https://pim.example.com"


class Log:
    """A logger whose lines are kept as they were written."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.shared = SharedLines(self.clock.now)
        self.lines: list[dict[str, Any]] = []
        self.written = asyncio.Event()
        self.log: Any = structlog.wrap_logger(self, processors=[self.shared, line_of])

    def info(self, line: bytes) -> None:
        self.lines.append(orjson.loads(line))
        self.written.set()

    def delivered(self, number: int, **fields: Any) -> None:
        about: dict[str, Any] = {
            "event_type": UPDATED,
            "attempt": 1,
            "outcome": "delivered",
            "reason": None,
            "status": 200,
        }
        about |= {"subscription_id": f"sub-{number}", "event_id": f"e-{number}", "milliseconds": 12.5}
        self.log.info("delivery.attempted", **(about | fields))


@pytest.fixture
def log() -> Log:
    return Log()


async def serve(log: Log, work: Callable[[], Any], *, until: asyncio.Event | None = None) -> int:
    """Serves a request that does some work. Returns the number of lines when its answer went out."""
    written: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        work()
        if until is not None:
            await until.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message: Message) -> None:
        written.append(len(log.lines))

    app_of: ASGIApp = log.shared.written_before_answers(app)
    await app_of({"type": "http"}, lambda: asyncio.sleep(0, {}), send)
    return written[0]


@pytest.mark.provokes("deliveries.arrived")
async def test_lines_that_are_alike_share_an_entry_which_is_written_before_the_last_answer(
    log: Log, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as tasks:
        ends = [asyncio.Event() for _ in range(3)]
        requests = [
            tasks.create_task(serve(log, lambda number=number: log.delivered(number), until=end))
            for number, end in enumerate(ends)
        ]
        await asyncio.sleep(0)
        for end, request in zip(ends, requests, strict=True):
            assert log.lines == []
            end.set()
            await request
    assert [await request for request in requests] == [0, 0, 1]
    (line,) = log.lines
    (tmp_path / "lines.err").write_bytes(orjson.dumps(line) + b"\n")  # where the mark looks for it
    line.pop("timestamp")
    assert line == {
        "event": "deliveries.arrived",
        "severity": "INFO",
        "event_type": UPDATED,
        "attempt": 1,
        "outcome": "delivered",
        "reason": None,
        "status": 200,
        "deliveries": 3,
        "event_ids": ["e-0", "e-1", "e-2"],
        "subscription_ids": ["sub-0", "sub-1", "sub-2"],
        "milliseconds": [12.5, 12.5, 12.5],
        "since": log.clock.now().isoformat(),
        "after": [0, 0, 0],
    }


async def test_what_is_kept_is_written_after_a_second_though_a_request_is_open(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_lines, "KEPT_SECONDS", 0)
    end = asyncio.Event()
    request = asyncio.create_task(serve(log, lambda: log.delivered(1), until=end))
    async with asyncio.timeout(30):
        await log.written.wait()
    end.set()
    assert await request == 1


async def test_a_line_outside_of_a_request_waits_for_nothing(log: Log) -> None:
    log.delivered(1)
    assert [line["deliveries"] for line in log.lines] == [1]


async def test_a_request_that_ends_without_an_answer_is_no_longer_open(log: Log) -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        log.delivered(1)
        raise ConnectionResetError

    async def nobody(message: Message) -> None:
        raise AssertionError("there was nothing to send")

    app = log.shared.written_before_answers(breaks)
    with pytest.raises(ConnectionResetError):
        await app({"type": "http"}, lambda: asyncio.sleep(0, {}), nobody)
    assert len(log.lines) == 1


async def test_what_did_not_go_well_is_a_line_of_its_own_at_once(log: Log) -> None:
    def work() -> None:
        log.delivered(1)
        log.delivered(2, outcome="retryable", reason="destination_failure", status=500, retry_at="soon")
        log.delivered(3, outcome="delivered", unknown="a field that no entry has")
        assert [line["event_id"] for line in log.lines] == ["e-2", "e-3"]

    await serve(log, work)
    assert [line["event"] for line in log.lines] == [*["delivery.attempted"] * 2, "deliveries.arrived"]


async def test_lines_that_differ_have_entries_apart(log: Log) -> None:
    def work() -> None:
        for number, status in enumerate((200, 204, 200)):
            log.delivered(number, status=status)
        log.delivered(3, replay_id="r-1")

    await serve(log, work)
    assert [(line["status"], line.get("replay_id"), line["event_ids"]) for line in log.lines] == [
        (200, None, ["e-0", "e-2"]),
        (204, None, ["e-1"]),
        (200, "r-1", ["e-3"]),
    ]


async def test_events_of_a_pim_share_an_entry_and_their_figures_add_up(log: Log) -> None:
    lists = {"event_types": [UPDATED], "entities": ["product:1"], "subscriptions": [["sub-1", "sub-2"]]}

    def work() -> None:
        for number in range(2):
            ids = [f"e-{number}"]
            log.log.info("events.accepted", tenant=PIM, way="cloudevents", events=2, event_ids=ids)
            fanned = {"events": 1, "deliveries": 2, "accepted_at": f"at {number}"}
            log.log.info("events.fanned_out", tenant=PIM, event_ids=ids, **fanned, **lists)
            log.clock.stepped += timedelta(milliseconds=40)
        log.log.info("events.accepted", tenant="https://other.example.com", way="cloudevents", events=1)

    await serve(log, work)
    accepted, fanned_out, other = log.lines
    assert (accepted["calls"], accepted["events"], accepted["event_ids"]) == (2, 4, ["e-0", "e-1"])
    assert (fanned_out["messages"], fanned_out["deliveries"], fanned_out["after"]) == (2, 4, [0, 40])
    assert (fanned_out["tenants"], fanned_out["accepted_at"]) == ([PIM] * 2, ["at 0", "at 1"])
    assert fanned_out["subscriptions"] == [["sub-1", "sub-2"]] * 2
    assert (other["tenant"], other["calls"], other["event_ids"]) == ("https://other.example.com", 1, [])


async def test_a_line_that_is_large_has_an_entry_of_its_own(log: Log) -> None:
    def work() -> None:
        for number in (1, 1_000, 1):
            ids = [f"{n:036}" for n in range(number)]
            log.log.info("events.accepted", tenant=PIM, way="webhook", events=number, event_ids=ids)

    await serve(log, work)
    assert [(line["calls"], len(line["event_ids"])) for line in log.lines] == [(1, 1), (1, 1_000), (1, 1)]


async def test_what_is_kept_is_bounded(log: Log) -> None:
    written: list[int] = []

    def work() -> None:
        for number in range(1_000):
            log.delivered(number)
        written.append(len(log.lines))
        for number in range(1_000):
            log.delivered(number, status=200 + number, event_id="é" * 255)
        written.append(len(log.lines))

    await serve(log, work)
    assert sum(line["deliveries"] for line in log.lines) == 2_000
    assert max(len(orjson.dumps(line)) for line in log.lines) < 1.5 * TEXT_AT_MOST
    of_one_kind, of_many = written
    assert of_one_kind >= 1_000 * len("sub-1e-1") / TEXT_AT_MOST  # each entry by itself
    assert 1_000 - of_many < KEPT_AT_MOST / 255  # all of them together
