"""A request of many events: each is validated once, and all of them are one commit."""

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.broker.queue import DurableQueue
from aep.runtime.meters import Meters
from aep.store.database import Database
from aep.store.subscriptions import SqliteSubscriptions
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import EventType
from event_platform.domain.ingest_formats.cloudevents import BATCH, MAX_EVENTS, Context, read
from support.clock import ManualClock
from support.records import PIM, a_subscriber, a_subscription, an_event, data_of


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


async def test_all_events_of_a_request_are_one_commit(tmp_path: Path) -> None:
    clock, meters = ManualClock(), Meters()
    database = Database(tmp_path, meters)
    database.open()
    subscriptions = SqliteSubscriptions(database, AesGcmSeal(b"k" * 32))
    queue = DurableQueue(database, subscriptions, clock, schema_base="https://x/spec", meters=meters)
    subscriber = a_subscriber()
    await subscriptions.add_subscriber(subscriber, limit=20)
    made = a_subscription(subscriber, filter=None)  # compiling one would be more than a commit takes
    await subscriptions.add_subscription(made, lambda found: None, limit=20)
    before = sum(meters.commit_jobs.counts)
    events = read(BATCH, {}, a_request(), Context(PIM, catalog.load(), clock.now()))
    await queue.accept(PIM, events)
    assert sum(meters.commit_jobs.counts) - before == 1
    (count,) = await database.read(
        lambda opened: opened.execute("SELECT count(*) FROM deliveries").fetchone()
    )
    assert count == 1000
    await database.close()
