"""A request of many events: each is validated once, and all of them are one commit."""

from collections import Counter
from typing import Any

import orjson
import pytest

from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import EventType
from event_platform.domain.ingest_formats.cloudevents import BATCH, MAX_EVENTS, Context, read
from support.clock import ManualClock
from support.embedded import Embedded
from support.records import PIM, an_event, data_of


def a_request() -> bytes:
    events = [an_event(number) for number in range(MAX_EVENTS)]
    return orjson.dumps(
        [{"specversion": "1.0", "id": each.id, "type": each.type, "data": data_of(each)} for each in events]
    )


def test_each_event_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    validated: Counter[str] = Counter()
    original = EventType.problems_of

    def counted(self: EventType, data: Any, **options: Any) -> list[tuple[str, str]]:
        validated[data["product"]["uuid"]] += 1
        return original(self, data, **options)

    monkeypatch.setattr(EventType, "problems_of", counted)
    events = read(BATCH, {}, a_request(), Context(PIM, catalog.load(), ManualClock().now()))
    assert len(events) == len(validated) == MAX_EVENTS
    assert set(validated.values()) == {1}


async def test_all_events_of_a_request_are_one_commit(embedded: Embedded) -> None:
    await embedded.subscribe(filter=None)  # compiling one would be more than a commit takes
    commit_jobs = embedded.meters.commit_jobs
    before = sum(commit_jobs.counts)
    events = read(BATCH, {}, a_request(), Context(PIM, catalog.load(), embedded.clock.now()))
    await embedded.queue.accept(PIM, events)
    assert sum(commit_jobs.counts) - before == 1
    assert await embedded.count("deliveries") == 1000
