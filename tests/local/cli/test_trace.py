"""`aep trace` shows what became of kept events."""

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from event_platform.domain.attempts.outcomes import Kind, Outcome, Reason
from event_platform.domain.deliveries import Settlement
from event_platform.domain.events.event import Event
from support.aep_here import run
from support.embedded import Embedded
from support.records import CATEGORY, PIM, an_event, data_of, with_data

SKU = "SKU-1"


def a_product() -> Event:
    event = an_event(1)
    return with_data(event, {**data_of(event), "product": {"uuid": event.identity[0], "identifier": SKU}})


@pytest.fixture
async def subscription_id(tmp_path: Path) -> str:
    """A store in which an event failed once and was delivered, and another matched nothing."""
    async with Embedded(tmp_path) as store:
        await store.open()
        (subscription,) = await store.subscribe()
        await store.queue.accept(PIM, [a_product(), an_event(2, event_type=CATEGORY)])
        failed = Outcome(Kind.RETRYABLE, Reason.DESTINATION_FAILURE, 503)
        tried = store.put[-1].delivery().after_attempt(store.clock.now(), used_a_retry=True)
        due = store.clock.now() + timedelta(seconds=1)
        await store.queue.settle(Settlement(tried, failed, retry_at=due, milliseconds=31))
        await store.clock.advance(2)
        await store.queue.requeue_due(10)
        taken = Outcome(Kind.DELIVERED, None, 204)
        await store.queue.settle(Settlement(store.put[-1].delivery(), taken, milliseconds=7))
        return subscription.id


@pytest.mark.parametrize("arguments", [["event-1"], ["--entity", f"product:{SKU}"]])
def test_the_timeline_of_an_event(tmp_path: Path, subscription_id: str, arguments: list[str]) -> None:
    shown = run("trace", *arguments, "--data", str(tmp_path))
    assert shown.status == 0, shown.err
    (event, accepted, matched, attempt, end) = shown.out.splitlines()
    assert event.endswith("id event-1")
    assert accepted.strip() == f"accepted from {PIM} by cloudevents"
    assert matched.endswith(f"matched by {subscription_id}")
    assert attempt.endswith("retryable: 503 destination_failure after 31 ms")
    assert end.endswith("delivered: 204 after 7 ms")


def test_an_event_that_matched_nothing_says_so(tmp_path: Path, subscription_id: str) -> None:
    assert "no subscription matched" in run("trace", "event-2", "--data", str(tmp_path)).out
    (line,) = run("trace", "event-2", "--json", "--data", str(tmp_path)).out.splitlines()
    assert orjson.loads(line)["courses"] == []


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["unknown"], 1, "no such event is kept"),
        ([], 2, "name an event's id or an --entity"),
        (["event-1", "--entity", "family:shoes"], 2, "one of them"),
        (["--entity", "shoes"], 2, "--entity must be an entity as in"),
        (["event-1", "--since", "yesterday"], 2, "--since must be a number with s, m, h or d"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    tmp_path: Path, subscription_id: str, arguments: list[str], status: int, told: str
) -> None:
    shown = run("trace", *arguments, "--data", str(tmp_path))
    assert shown.status == status
    assert told in shown.err
    assert len(shown.err.splitlines()) == 1
