"""What a client with good credentials is refused when it asks for too much."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from event_platform.domain.call_limits import LIMITS, CallType, Limit
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.record.logs import MORE_REFUSED
from support.management import Answer, Client, subscription_body

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEPT = LIMITS[CallType.REFUSED].burst
SMALL = {
    CallType.CHANGE: Limit(130, 0.5),
    CallType.READ: Limit(20, 0.5),
    CallType.TRIAL: Limit(5, 0.5),
    CallType.BENCHMARK: Limit(200, 0.5),
}


@pytest.fixture(autouse=True, scope="module")
def small_limits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for call_type, limit in SMALL.items():
            patch.setitem(LIMITS, call_type, limit)
        yield


async def until_limited(client: Client, *call: Any) -> tuple[list[int], Answer]:
    """The statuses of the same call again and again, and the first 429."""
    statuses: list[int] = []
    while (answer := await client.call(*call)).status != 429:
        statuses.append(answer.status)
    return statuses, answer


@pytest.mark.parametrize(
    ("call", "limit"),
    [
        (("DELETE", "/subscribers/unknown"), CallType.CHANGE),
        (("POST", "/subscribers/a/subscriptions/b/suspend"), CallType.CHANGE),
        (("GET", "/subscribers"), CallType.READ),
        (("GET", "/logs"), CallType.READ),
        (("POST", "/subscribers/a/subscriptions/b/test"), CallType.TRIAL),
        (("POST", "/subscribers/a/subscriptions/b/explain", {"type": BENCHMARK}), CallType.TRIAL),
    ],
)
@pytest.mark.provokes("calls.limited")
async def test_too_many_calls_are_429_and_hold_up_no_other_client(
    client: Client, other: Client, call: Any, limit: CallType
) -> None:
    with capture_logs() as lines:
        statuses, refused = await until_limited(client, *call)
        assert len(statuses) == SMALL[limit].burst
        assert refused.headers["Retry-After"] == "2"
        assert refused.message() == f"too many {limit} by this client; try again in 2 s"
        await client.call(*call)
        assert (await other.call(*call)).status == statuses[0]
        await client.world.clock.advance(60)
        while (await client.call(*call)).status != 429:
            pass
    limited = [line for line in lines if line["event"] == "calls.limited"]
    assert [(line["client_id"], line["limit"], line["times"]) for line in limited] == [
        ("erp", limit, 1),
        ("erp", limit, 2),
    ]


async def test_one_type_of_call_leaves_the_others_alone(client: Client) -> None:
    await until_limited(client, "GET", "/subscribers")
    await client.subscriber()


async def test_benchmarks_are_limited_by_their_deliveries(client: Client) -> None:
    subscriber = await client.subscriber()
    for _ in range(2):
        await client.subscription(subscriber, source="benchmark")
    body = {"type": BENCHMARK, "count": 60}
    assert (await client.call("POST", "/benchmark", body)).status == 202
    await client.world.clock.advance(1)
    refused = await client.call("POST", "/benchmark", body)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "79")
    assert "deliveries of benchmarks" in refused.message()
    await client.world.clock.advance(79)
    assert (await client.call("POST", "/benchmark", body)).status == 202


@pytest.mark.provokes("refusals.counted")
async def test_refusals_beyond_so_many_are_answered_400_and_counted_in_one_entry(client: Client) -> None:
    async def refuse(event_type: str) -> None:
        body = subscription_body(events=[event_type])
        assert (await client.call("POST", "/subscribers/a/subscriptions", body)).status == 400

    with capture_logs() as lines:
        for number in range(KEPT + 20):
            await refuse(f"unknown-{number}")
        await refuse("unknown-1")
    entries = (await client.get("/logs?limit=100"))["items"]
    cursor = (await client.get("/logs?limit=100"))["next_cursor"]
    entries += (await client.get(f"/logs?limit=100&cursor={cursor}"))["items"]
    counted = {entry["error_message"]: entry["occurrences"] for entry in entries}
    assert (len(entries), counted.pop(MORE_REFUSED)) == (KEPT + 1, 20)
    assert [message for message, times in counted.items() if times == 2] == [
        message for message in counted if '"unknown-1"' in message or "'unknown-1'" in message
    ]
    (more,) = (entry for entry in entries if entry["error_message"] == MORE_REFUSED)
    assert (more["operation"], more["request"], more["response"]) == ("request_refused", {}, {})
    assert [line["times"] for line in lines if line["event"] == "refusals.counted"] == [1]
