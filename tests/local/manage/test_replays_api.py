"""Replays, retries and catching up in the management API (contract/wire.md 15)."""

import sqlite3

import pytest

from aep.store.retries import subscription_no
from support.clock import START
from support.management import Client, config, path_of, without_permission

pytestmark = pytest.mark.asyncio(loop_scope="module")

FROM = {"from": "2026-01-31T12:00:00Z"}
REPLAY_KEYS = ["id", "status", "from", "to", "which", "events", "delivered", "ended", "created_at"]
UNKNOWN = "0199c1a2-3c4d-7e5f-8a9b-0c1d2e3f4a5b"


async def test_a_replay_is_started_shown_listed_and_cancelled(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    replays = f"{path_of(row)}/replays"
    assert await client.get(replays) == []
    await client.world.clock.advance(1)
    started = await client.call("POST", replays, FROM | {"which": "all"})
    assert (started.status, list(started.body)) == (201, REPLAY_KEYS)
    assert (started.body["status"], started.body["which"], started.body["events"]) == ("running", "all", None)
    one = f"{replays}/{started.body['id']}"
    assert (await client.get(one))["status"] == "running"
    second = await client.call("POST", replays, FROM)
    assert (second.status, "running" in second.message()) == (409, True)
    cancelled = await client.call("DELETE", one)
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert (await client.call("DELETE", one)).status == 200
    assert [each["status"] for each in await client.get(replays)] == ["cancelled"]
    log = await client.get(f"/logs?subscription_id={row['id']}&order=asc")
    assert [entry["operation"] for entry in log["items"]][1:] == [
        "replay_started_by_the_user",
        "replay_cancelled_by_the_user",
    ]


async def test_what_is_wrong_is_refused(client: Client, other: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    replays = f"{path_of(row)}/replays"
    await client.world.clock.advance(1)
    assert (await client.call("POST", replays, {})).fields() == {"from"}
    assert (await client.call("POST", replays, {"from": "2026-01-31T11:00:00Z"})).fields() == {"from"}
    assert (await client.call("POST", replays, FROM | {"events": ["unknown"]})).fields() == {"events.0"}
    benchmark = await client.subscription(subscriber, source="benchmark")
    assert (await client.call("POST", f"{path_of(benchmark)}/replays", FROM)).status == 400
    assert (await client.call("GET", f"{replays}/{UNKNOWN}")).status == 404
    assert (await other.call("POST", replays, FROM)).status == 404
    await client.call("POST", f"{path_of(row)}/suspend")
    for path in (replays, f"{path_of(row)}/retries"):
        assert (await client.call("POST", path, FROM)).status == 409
    with without_permission(client) as lost:
        for path in (replays, f"{path_of(row)}/retries"):
            assert (await lost.call("POST", path, FROM)).status == 403


async def test_retries_are_counted(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    answer = await client.call("POST", f"{path_of(row)}/retries")

    assert (answer.status, answer.body) == (202, {"retries": 0})


async def test_catch_up_is_shown_where_it_is_true(client: Client) -> None:
    row = await client.subscription(await client.subscriber(), catch_up=True)
    assert row["catch_up"] is True
    for change in ({"catch_up": False}, {"catch_up": None}):
        assert "catch_up" not in await client.changed(path_of(row), change)
        assert (await client.changed(path_of(row), {"catch_up": True}))["catch_up"] is True
    wrong = await client.call("PATCH", path_of(row), {"catch_up": "yes"})
    assert wrong.fields() == {"catch_up"}


async def test_the_last_failed_attempt_is_shown_where_there_is_one(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    assert await client.get(path_of(row)) == row

    def fail(connection: sqlite3.Connection) -> None:
        number = subscription_no(connection, row["id"])
        assert number is not None
        connection.execute(
            "INSERT INTO last_failures VALUES (?, ?, 'retryable', 'destination_failure', 503)",
            (number, START.timestamp()),
        )

    await client.world.database.write(fail)
    failure = {"at": "2026-01-31T12:00:00.000Z", "reason": "destination_failure", "status": 503}
    assert await client.get(path_of(row)) == row | {"last_failure": failure}
    assert await client.changed(path_of(row), row | {"last_failure": failure}) == row


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 202),
        (b'{"catch_up": true}', 202),
        (b'{"catch_up": false}', 202),
        (b'{"catch_up": null}', 202),
        (b"[]", 202),
        (b"no JSON", 202),
        (b'{"catch_up": "yes"}', 400),
    ],
)
async def test_a_resume_takes_catch_up_whatever_the_media_type(
    client: Client, body: bytes, status: int
) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/suspend")

    assert (await client.send("POST", f"{path_of(row)}/resume", body)).status == status


async def test_the_header_of_a_replay_is_no_custom_header(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    changed = {"config": config(headers={"x-event-platform-REPLAY": "mine"})}
    answer = await client.call("PATCH", path_of(row), changed)

    assert answer.fields() == {"config.headers.x-event-platform-REPLAY"}
