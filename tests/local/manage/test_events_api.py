"""`GET /api/v1/events`: what is kept of a PIM's events, for its clients (contract/wire.md 16)."""

import itertools
import sqlite3
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from aep.store import courses, kept
from event_platform.domain.events.event import Event
from event_platform.domain.tenants import Way
from event_platform.domain.timestamps import to_rfc3339
from support.management import Client, ManageApi, without_permission
from support.records import CATEGORY, UPDATED, an_event, data_of, with_data

_numbers = itertools.count(2, 2)
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def keep(
    client: Client, event: Event, *subscriptions: dict[str, Any], outcome: str | None = None
) -> None:
    """Keeps an event of the client's PIM, accepted now, with a course for each subscription."""
    database = client.world.store._database
    number, now = next(_numbers), client.world.clock.now().timestamp()

    def job(connection: sqlite3.Connection) -> None:
        kept.put(connection, [kept.row_of(number, client.owner.tenant, now, Way.CLOUDEVENTS, event)])
        for each in subscriptions:
            query = "SELECT no FROM subscriptions WHERE id = ?"
            (subscription_no,) = connection.execute(query, (each["id"],)).fetchone()
            courses.begin(connection, [(number, subscription_no, 0, None, 0)])
            if outcome is not None:
                end = (number, subscription_no, 0, outcome, 503, "destination_failure", "told", 31, now + 1)
                courses.end(connection, [end])

    await database.write(job)


async def listed(client: Client, query: str = "") -> list[str]:
    answer = await client.get(f"/events?{query}")
    return [item["id"] for item in answer["items"]]


async def test_events_are_listed_newest_first_with_the_callers_deliveries(
    client: Client, other: Client
) -> None:
    mine = await client.subscription(await client.subscriber())
    theirs = await other.subscription(await other.subscriber())
    await keep(client, an_event(1), mine, theirs, outcome="delivered")
    await client.world.clock.advance(1)
    await keep(client, an_event(2, event_type=CATEGORY), theirs)
    answer = await client.get("/events")
    assert [item["id"] for item in answer["items"]] == ["event-2", "event-1"]
    assert answer["items"][1] == {
        "id": "event-1",
        "type": UPDATED,
        "time": an_event(1).time,
        "accepted_at": to_rfc3339(client.world.clock.now() - timedelta(seconds=1)),
        "entity": f"product:{an_event(1).identity[0]}",
        "deliveries": {"delivered": 1, "waiting": 0, "ended": 0},
    }
    assert answer["items"][0]["deliveries"] == {"delivered": 0, "waiting": 0, "ended": 0}
    assert answer["next_cursor"] is None


async def test_each_filter_narrows(client: Client) -> None:
    subscription = await client.subscription(await client.subscriber())
    start = client.world.clock.now()
    product = an_event(1)
    product = with_data(
        product, {**data_of(product), "product": {"uuid": product.identity[0], "identifier": "SKU/1"}}
    )
    await keep(client, product, subscription, outcome="ended")
    await client.world.clock.advance(10)
    await keep(client, an_event(2, event_type=CATEGORY), subscription)
    await keep(client, an_event(3, event_type=CATEGORY))
    moment = quote(to_rfc3339(start + timedelta(seconds=5)))
    category = an_event(2, event_type=CATEGORY).identity[0]
    assert await listed(client, f"from={moment}") == ["event-3", "event-2"]
    assert await listed(client, f"to={moment}") == ["event-1"]
    assert await listed(client, f"type={CATEGORY}") == ["event-3", "event-2"]
    assert await listed(client, f"entity=product:{product.identity[0].upper()}") == ["event-1"]
    assert await listed(client, f"entity={quote('product:SKU/1')}") == ["event-1"]
    assert "event-2" in await listed(client, f"entity=category:{category}")
    assert await listed(client, f"entity=family:{category}") == []
    assert await listed(client, f"subscription_id={subscription['id']}") == ["event-2", "event-1"]
    assert await listed(client, "outcome=ended") == ["event-1"]
    assert await listed(client, "outcome=waiting") == ["event-2"]
    assert await listed(client, "outcome=unmatched") == ["event-3"]
    assert await listed(client, "outcome=delivered") == []


async def test_pages_follow_each_other_with_the_same_filters_only(client: Client) -> None:
    for number in range(5):
        await keep(client, an_event(number))
    pages, query, cursor = [], "limit=2", ""
    while True:
        answer = await client.get(f"/events?{query}")
        pages.append([item["id"] for item in answer["items"]])
        if answer["next_cursor"] is None:
            break
        cursor = answer["next_cursor"]
        query = f"limit=2&cursor={cursor}"
    assert pages == [["event-4", "event-3"], ["event-2", "event-1"], ["event-0"]]
    refused = await client.call("GET", f"/events?type={UPDATED}&cursor={cursor}")
    assert refused.status == 400
    assert "other filters" in refused.message()


@pytest.mark.parametrize(
    "query", ["limit=0", "outcome=lost", "entity=shoes", "from=yesterday", "cursor=x", "page=2", "cursor=W10"]
)
async def test_a_wrong_parameter_is_named(client: Client, query: str) -> None:
    refused = await client.call("GET", f"/events?{query}")
    assert refused.status == 400
    assert refused.fields() == {query.partition("=")[0]}


async def test_an_event_says_what_became_of_it_for_each_subscription(client: Client) -> None:
    subscriber = await client.subscriber()
    got = await client.subscription(subscriber)
    await client.world.clock.advance(5)
    await keep(client, an_event(7), got, outcome="ended")
    await client.world.clock.advance(5)
    later = await client.subscription(subscriber)
    (item,) = (await client.get("/events/event-7"))["items"]
    assert item["way"] == "cloudevents"
    assert item["subscriptions"] == [
        {
            "subscription_id": got["id"],
            "result": "matched",
            "matched_at": item["accepted_at"],
            "outcome": "ended",
            "status": 503,
            "reason": "destination_failure",
            "message": "told",
            "milliseconds": 31,
            "ended_at": to_rfc3339(client.world.clock.now() - timedelta(seconds=4)),
        },
        {
            "subscription_id": later["id"],
            "result": "not_matched",
            "reasons": ["the subscription was created after the event was accepted"],
            "judged_by": "subscription_now",
        },
    ]


async def test_why_an_event_did_not_match_is_judged_by_what_is_known(client: Client) -> None:
    subscriber = await client.subscriber()
    subscription = await client.subscription(subscriber, events=[CATEGORY])
    await client.world.clock.advance(5)
    await keep(client, an_event(8))
    (item,) = (await client.get("/events/event-8"))["items"]
    (found,) = item["subscriptions"]
    assert (found["result"], found["judged_by"]) == ("not_matched", "subscription_then")
    assert found["reasons"] == [f"events does not list {UPDATED}"]
    await client.world.clock.advance(5)
    path = f"/subscribers/{subscriber['id']}/subscriptions/{subscription['id']}"
    await client.call("PATCH", path, {"events": [UPDATED]})
    (item,) = (await client.get("/events/event-8"))["items"]
    assert item["subscriptions"][0]["judged_by"] == "subscription_now"


async def test_every_acceptance_of_an_id_is_shown_whatever_its_characters(client: Client) -> None:
    event_id = "a/b?c=ü %20"
    for _ in range(2):
        event = an_event(9)
        await keep(client, Event(event_id, *_rest(event)))
    found = await client.get(f"/events/{quote(event_id, safe='')}")
    assert [item["id"] for item in found["items"]] == [event_id] * 2


def _rest(event: Event) -> tuple[Any, ...]:
    return event.type, event.time, event.facts, event.data_json, event.identity


async def test_another_pims_events_are_not_shown(client: Client, world: ManageApi) -> None:
    await keep(client, an_event(20))
    database = world.store._database
    await database.write(lambda connection: connection.execute("UPDATE kept SET tenant = 'https://other'"))
    assert await listed(client) == []
    assert (await client.call("GET", "/events/event-20")).status == 404


async def test_who_may_not_subscribe_sees_no_events(client: Client) -> None:
    with without_permission(client) as restricted:
        answers = [await restricted.call("GET", path) for path in ("/events", "/events/event-1")]
    assert [answer.status for answer in answers] == [403, 403]
