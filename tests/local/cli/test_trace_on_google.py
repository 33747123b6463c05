"""`aep trace --google`: the lines of the functions, which a stand-in for Cloud Logging has."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import requests
import structlog
from starlette.types import Message, Receive, Scope, Send

from aep.errors import GoogleFailed
from aep.google import cloud_log
from event_platform.shared_lines import SharedLines
from event_platform.telemetry import line_of
from support.aep_here import Ended, run
from support.cloud_logging import CloudLogging, cloud_logging

NOW = datetime.now(UTC).replace(microsecond=0)
AT = NOW - timedelta(hours=1)
SECOND = timedelta(seconds=1)
PRODUCT = "product:3f2f0f0e-0000-4000-8000-000000000001"
UPDATED = "com.akeneo.pim.v1.product.updated"
PIM = "https://pim.example.com"


@pytest.fixture
def logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudLogging]:
    with cloud_logging() as served:
        monkeypatch.setattr(cloud_log, "ENDPOINT", served.url)
        monkeypatch.setattr(cloud_log, "_session", requests.Session)  # without credentials
        yield served


def traced(*arguments: str) -> Ended:
    return run("trace", *arguments, "--google", "p")


def fanned_out(logging: CloudLogging, *events: tuple[str, list[str]], at: datetime = AT) -> None:
    logging.add(
        at,
        event="events.fanned_out",
        tenant=PIM,
        accepted_at=(at - SECOND).isoformat(),
        event_ids=[event_id for event_id, _ in events],
        event_types=[UPDATED] * len(events),
        entities=[PRODUCT] * len(events),
        subscriptions=[matched for _, matched in events],
        events=float(len(events)),
    )


def attempted(logging: CloudLogging, at: datetime, event_id: str, subscription: str, **fields: Any) -> None:
    ids = {"event_id": event_id, "subscription_id": subscription, "event_type": UPDATED}
    logging.add(at, event="delivery.attempted", **ids, **({"milliseconds": 12.3, "reason": None} | fields))


def test_the_timeline_says_who_got_an_event_and_what_came_of_each_attempt(logging: CloudLogging) -> None:
    logging.add(
        AT - SECOND, event="events.accepted", tenant=PIM, way="cloudevents", event_ids=["other", "e-1"]
    )
    fanned_out(logging, ("other", []), ("e-1", ["sub-a", "sub-b", "sub-c", "sub-d"]))
    attempted(
        logging, AT + SECOND, "e-1", "sub-a", outcome="retryable", reason="destination_failure", status=503.0
    )
    attempted(logging, AT + 300 * SECOND, "e-1", "sub-a", outcome="delivered", status=200.0)
    refused = {"outcome": "suspending", "reason": "destination_not_found", "status": 404.0}
    attempted(logging, AT + SECOND, "e-1", "sub-b", **refused, ended="failed_to_deliver_event")
    dropped = {"operation": "deliveries_dropped", "message": "suspended"}
    logging.add(AT + SECOND, event="delivery.ended", event_id="e-1", subscription_id="sub-c", **dropped)
    attempted(logging, AT + SECOND, "other", "sub-a", outcome="delivered", status=200.0)
    ended = traced("e-1")
    at = [(AT + number * SECOND).strftime("%Y-%m-%dT%H:%M:%S.000Z") for number in (-1, 0, 1, 300)]
    assert ended.out.splitlines() == [
        f"{at[0]}  {UPDATED} of {PRODUCT}, id e-1",
        f"    accepted from {PIM} by cloudevents",
        f"    {at[1]}  matched by sub-a",
        f"      {at[2]}  retryable: 503 destination_failure after 12 ms",
        f"      {at[3]}  delivered: 200 after 12 ms",
        f"    {at[1]}  matched by sub-b",
        f"      {at[2]}  ended: 404 destination_not_found after 12 ms",
        f"    {at[1]}  matched by sub-c",
        f"      {at[2]}  ended: dropped: suspended",
        f"    {at[1]}  matched by sub-d",
        "      waits",
    ]
    assert (ended.status, ended.err) == (0, "")
    (shown,) = map(orjson.loads, traced("other", "--json").out.splitlines())
    assert shown["courses"][0]["outcome"] == "delivered"


def test_lines_that_share_an_entry_are_traced_as_if_each_had_its_own(logging: CloudLogging) -> None:
    entries: list[dict[str, Any]] = []

    class Written:
        def info(self, line: bytes) -> None:
            entries.append(orjson.loads(line))

    moments = [AT + number * timedelta(milliseconds=300) for number in range(6)]
    shared = SharedLines(iter(moments).__next__)
    lines: Any = structlog.wrap_logger(Written(), processors=[shared, line_of])

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        for event_id in ("e-1", "e-2"):
            lines.info("events.accepted", tenant=PIM, way="cloudevents", events=1, event_ids=[event_id])
        for event_id in ("e-1", "e-2"):
            matched = {"event_types": [UPDATED], "entities": [PRODUCT], "subscriptions": [["sub-a"]]}
            accepted = {"tenant": PIM, "accepted_at": moments[event_id == "e-2"].isoformat(), "events": 1}
            lines.info("events.fanned_out", event_ids=[event_id], deliveries=1, **accepted, **matched)
        for event_id, milliseconds in (("e-1", 7.2), ("e-2", 12.3)):
            ids = {"event_id": event_id, "subscription_id": "sub-a", "event_type": UPDATED}
            lines.info(
                "delivery.attempted", **ids, outcome="delivered", status=200, milliseconds=milliseconds
            )

    async def nothing() -> Message:
        raise AssertionError("nobody asks for the request")

    async def nowhere(message: Message) -> None:
        raise AssertionError("nothing is answered")

    async def serve() -> None:
        await shared.written_before_answers(served)({}, nothing, nowhere)

    asyncio.run(serve())
    assert [entry["event"] for entry in entries] == [
        "events.accepted",
        "events.fanned_out",
        "deliveries.arrived",
    ]
    for entry in entries:
        logging.add(NOW, **entry)
    at = [moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z" for moment in moments]
    assert traced("e-2").out.splitlines() == [
        f"{at[1]}  {UPDATED} of {PRODUCT}, id e-2",
        f"    accepted from {PIM} by cloudevents",
        f"    {at[3]}  matched by sub-a",
        f"      {at[5]}  delivered: 200 after 12 ms",
    ]
    assert traced("--entity", PRODUCT).out.count("delivered: 200") == 2


def test_the_events_of_an_entity_are_found_the_oldest_first(logging: CloudLogging) -> None:
    logging.page = 1  # so that there are many
    for number in range(3):
        fanned_out(logging, (f"e-{number}", []), at=AT + number * SECOND)
    ended = traced("--entity", PRODUCT)
    assert [line.rpartition(" ")[2] for line in ended.out.splitlines() if ", id" in line] == [
        "e-0",
        "e-1",
        "e-2",
    ]
    assert ended.out.count("no subscription matched") == 3
    assert traced("--entity", "family:shoes").status == 1


def test_what_is_older_than_since_is_not_looked_for(logging: CloudLogging) -> None:
    fanned_out(logging, ("e-1", []), at=NOW - timedelta(hours=3))
    assert traced("e-1").status == 0
    ended = traced("e-1", "--since", "2h")
    assert ended.status == 1
    assert "no line of p names such an event since" in ended.err


def test_an_id_of_any_characters_is_text_of_the_filter(logging: CloudLogging) -> None:
    strange = 'a" OR severity>=DEFAULT OR "\\ é\n'
    fanned_out(logging, (strange, []), ("e-2", []))
    assert traced(strange).out.count(", id ") == 1


@pytest.mark.parametrize(
    ("status", "answer", "message"),
    [
        (403, b'{"error": {"code": 403, "message": "no access"}}', "roles/logging.viewer"),
        (429, b'{"error": {"code": 429, "message": "quota"}}', "try again in a minute"),
        (200, b"<html>", "with no JSON object"),
        (302, b"{}", "answered 302"),
    ],
)
def test_what_google_answers_otherwise_is_one_line(
    logging: CloudLogging, status: int, answer: bytes, message: str
) -> None:
    logging.status, logging.answer = status, answer
    ended = traced("e-1")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert message in ended.err


def test_what_is_read_is_bounded(logging: CloudLogging, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        fanned_out(logging, ("e-1", [f"sub-{number}"]))
    logging.page = 1
    monkeypatch.setattr(cloud_log, "LINES_AT_MOST", 2)
    assert "more than 2 lines" in traced("e-1").err
    monkeypatch.undo()


def test_a_page_is_bounded(logging: CloudLogging, monkeypatch: pytest.MonkeyPatch) -> None:
    fanned_out(logging, ("e-1", []))
    monkeypatch.setattr(cloud_log, "BYTES_A_PAGE", 100)
    assert "more than 100 bytes a page" in traced("e-1").err


def test_pages_take_no_longer_than_a_minute() -> None:
    with cloud_logging() as served, requests.Session() as session:
        fanned_out(served, ("e-1", []))
        times = iter([0.0, 0.0, 61.0])
        log = cloud_log.CloudLog("p", session, endpoint=served.url, monotonic=lambda: next(times))
        with pytest.raises(GoogleFailed, match="more than 60 s"):
            list(log.read('jsonPayload.event=("events.fanned_out")\njsonPayload.event_ids="e-1"'))


def test_ids_that_no_filter_holds_are_asked_for_in_parts(logging: CloudLogging) -> None:
    events = [(f"{number:03}" + "é" * 250, [f"sub-{number}"]) for number in range(100)]
    fanned_out(logging, *events)
    assert traced("--entity", PRODUCT).out.count("matched by") == 100
    assert max(len(asked["filter"]) for asked in logging.requests) <= 20_000
