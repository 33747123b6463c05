"""Lists, deletion, revocation, suspension and lost permissions (contract/wire.md 2 and 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from event_platform.domain.subscriptions import Owner, Status, Subscriber, Subscription
from support.management import (
    CREATED,
    DAY,
    ERP,
    SUBSCRIBER_KEYS,
    SUBSCRIPTION_KEYS,
    Client,
    client_of,
    path_of,
    subscription_body,
    without_permission,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_lists_hold_what_is_not_deleted_oldest_first(client: Client) -> None:
    assert await client.get("/subscribers") == []
    rows = [await client.subscriber() for _ in range(3)]
    assert await client.get("/subscribers") == rows
    subscriptions = f"{path_of(rows[0])}/subscriptions"
    assert await client.get(subscriptions) == []
    listed = [await client.subscription(rows[0]) for _ in range(4)]
    suspended = (await client.call("POST", f"{path_of(listed[1])}/suspend")).body
    await client.call("DELETE", path_of(listed[2]))
    await set_status(client, listed[3], Status.REVOKED)
    assert await client.get(subscriptions) == [listed[0], suspended, listed[3] | {"status": "revoked"}]
    await client.call("DELETE", path_of(rows[1]))
    await set_status(client, rows[2], Status.REVOKED)
    assert await client.get("/subscribers") == [rows[0], rows[2] | {"status": "revoked"}]


async def set_status(client: Client, row: Mapping[str, Any], status: Status) -> None:
    """As the platform does it by itself: no call of the API revokes anything."""
    store = client.world.store
    if "subscriber_id" not in row:
        await store.change_subscriber(client.owner, row["id"], lambda before: replace(before, status=status))
        return

    def change(before: Subscription) -> Subscription:
        return replace(before, status=status)

    await store.change_subscription(client.owner, row["subscriber_id"], row["id"], change)


async def test_a_deleted_subscriber_takes_its_subscriptions_with_it(client: Client) -> None:
    subscriber = await client.subscriber()
    active, suspended = [await client.subscription(subscriber) for _ in range(2)]
    await client.call("POST", f"{path_of(suspended)}/suspend")
    await client.world.clock.advance(1)
    answer = await client.call("DELETE", path_of(subscriber))
    assert answer.status == 200
    assert list(answer.body) == SUBSCRIBER_KEYS
    assert answer.body == subscriber | {"status": "deleted", "updated_at": answer.body["updated_at"]}
    assert answer.body["updated_at"] > subscriber["updated_at"]
    for row in (active, suspended):
        assert (await client.get(path_of(row)))["status"] == "deleted"
    assert await client.get(f"{path_of(subscriber)}/subscriptions") == []


async def test_deleting_a_subscription_leaves_the_others(client: Client) -> None:
    subscriber = await client.subscriber()
    deleted, kept = [await client.subscription(subscriber) for _ in range(2)]
    answer = await client.call("DELETE", path_of(deleted))
    assert (answer.status, answer.body["status"]) == (200, "deleted")
    assert list(answer.body) == SUBSCRIPTION_KEYS
    assert await client.get(f"{path_of(subscriber)}/subscriptions") == [kept]
    assert await client.get(path_of(subscriber)) == subscriber


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"events": [CREATED]}),
    ("PATCH", "", {}),
    ("POST", "/suspend", None),
    ("POST", "/resume", None),
]


async def test_what_is_deleted_is_shown_for_30_days_and_refuses_every_change(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    await client.call("DELETE", path_of(subscriber))

    async def statuses(calls: list[tuple[str, str, Any]]) -> set[int]:
        return {(await fresh.call(method, path, body)).status for method, path, body in calls}

    reads = [("GET", path_of(subscriber), None), ("GET", path_of(row), None)]
    changes = [
        ("DELETE", path_of(subscriber), None),
        ("PATCH", path_of(subscriber), {"name": "Renamed"}),
        ("POST", f"{path_of(subscriber)}/subscriptions", subscription_body()),
        ("DELETE", path_of(row), None),
        *((method, path_of(row) + path, body) for method, path, body in CHANGES),
    ]
    fresh = client
    assert await statuses(reads) == {200}
    assert await statuses(changes) == {409}
    await client.world.clock.advance(30 * DAY)
    fresh = client_of(client.world, client.pim, ERP)  # the token of then has ended
    assert await statuses(reads) == {200}
    assert await statuses(changes) == {409}
    await client.world.clock.advance(1)
    assert await statuses(reads) == {404}
    assert await statuses(changes) == {404}


async def test_what_is_revoked_can_be_deleted_and_nothing_else(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    for record in (row, subscriber):
        await set_status(client, record, Status.REVOKED)
    for method, path, body in CHANGES:
        assert (await client.call(method, path_of(row) + path, body)).status == 409
    assert (await client.call("PATCH", path_of(subscriber), {"name": "Renamed"})).status == 409
    subscriptions = f"{path_of(subscriber)}/subscriptions"
    assert (await client.call("POST", subscriptions, subscription_body())).status == 409
    for record in (row, subscriber):
        assert (await client.get(path_of(record)))["status"] == "revoked"
        answer = await client.call("DELETE", path_of(record))
        assert (answer.status, answer.body["status"]) == (200, "deleted")


async def test_another_client_of_the_pim_sees_nothing_of_it(client: Client, other: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    assert await other.get("/subscribers") == []
    own = await other.subscriber()
    crossed = f"{path_of(own)}/subscriptions/{row['id']}"
    for method, path, body in [
        ("GET", path_of(subscriber), None),
        ("PATCH", path_of(subscriber), {"name": "Mine"}),
        ("DELETE", path_of(subscriber), None),
        ("GET", f"{path_of(subscriber)}/subscriptions", None),
        ("POST", f"{path_of(subscriber)}/subscriptions", subscription_body()),
        ("GET", path_of(row), None),
        ("DELETE", path_of(row), None),
        ("GET", crossed, None),
        ("DELETE", crossed, None),
        *((method, path_of(row) + path, body) for method, path, body in CHANGES),
    ]:
        assert (await other.call(method, path, body)).status == 404, (method, path)
    assert await client.get(path_of(row)) == row
    assert await client.get(path_of(subscriber)) == subscriber


async def test_a_subscription_is_known_under_its_own_subscriber_only(client: Client) -> None:
    first, second = [await client.subscriber() for _ in range(2)]
    row = await client.subscription(first)
    for method, path, body in [("GET", "", None), ("DELETE", "", None), *CHANGES]:
        wrong = f"{path_of(second)}/subscriptions/{row['id']}{path}"
        assert (await client.call(method, wrong, body)).status == 404


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (None, {}),
        (b"", {"content_type": "application/json"}),
        (b"", {"content_type": "text/plain"}),
        (b"{}", {"content_type": "application/json"}),
        (b"{}", {}),
        (b"<x/>", {"content_type": "application/xml"}),
    ],
    ids=["nothing", "json type", "text type", "{}", "{} without a type", "xml"],
)
async def test_suspend_and_resume_need_no_body_and_no_media_type(
    client: Client, body: bytes | None, headers: dict[str, str]
) -> None:
    row = await client.subscription(await client.subscriber())
    for action, status in [("suspend", "suspended"), ("resume", "active")]:
        answer = await client.send("POST", f"{path_of(row)}/{action}", body, **headers)
        assert (answer.status, answer.body["status"]) == (202, status)
        assert list(answer.body) == SUBSCRIPTION_KEYS
        assert (await client.get(path_of(row)))["status"] == status
    assert (await client.send("GET", path_of(row), body, **headers)).status == 200
    assert (await client.send("DELETE", path_of(row), body, **headers)).status == 200


@pytest.mark.parametrize("actions", [("suspend", "suspend"), ("resume", "resume")], ids=str)
async def test_suspending_or_resuming_twice_is_harmless(client: Client, actions: tuple[str, str]) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/{actions[0]}")
    first = await client.get(path_of(row))
    epoch = await epoch_of(client, row)
    await client.world.clock.advance(1)
    answer = await client.call("POST", f"{path_of(row)}/{actions[1]}")
    assert (answer.status, answer.body) == (202, first)
    assert await epoch_of(client, row) == epoch


async def epoch_of(client: Client, row: Mapping[str, Any]) -> int:
    return (await client.world.store.subscription(client.owner, row["subscriber_id"], row["id"])).epoch


async def test_a_suspended_subscription_can_be_changed_and_stays_suspended(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/suspend")
    changed = await client.changed(path_of(row), {"events": [CREATED], "status": "active"})
    assert (changed["status"], changed["events"]) == ("suspended", [CREATED])


async def test_without_the_permission_one_may_read_suspend_and_delete(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    with without_permission(client) as restricted:
        for path in (
            "/subscribers",
            path_of(subscriber),
            f"{path_of(subscriber)}/subscriptions",
            path_of(row),
        ):
            assert (await restricted.call("GET", path)).status == 200
        assert (await restricted.call("POST", f"{path_of(row)}/suspend")).status == 202
        assert (await restricted.call("POST", f"{path_of(row)}/resume")).status == 403
        assert (await restricted.call("DELETE", path_of(row))).status == 200
        assert (await restricted.call("DELETE", path_of(subscriber))).status == 200


async def test_when_the_permission_is_gone_the_clients_subscriptions_are_suspended(
    client: Client, other: Client
) -> None:
    subscriber, second, others = (
        await client.subscriber(),
        await client.subscriber(),
        await other.subscriber(),
    )
    rows = [await client.subscription(subscriber), await client.subscription(second)]
    by_hand = await client.subscription(second)
    await client.call("POST", f"{path_of(by_hand)}/suspend")
    of_another = await other.subscription(others)
    with without_permission(client) as restricted:
        for _ in range(2):
            listed = (await restricted.call("GET", f"{path_of(subscriber)}/subscriptions")).body
            assert [row["status"] for row in listed] == ["suspended"]
    assert (await other.call("GET", path_of(of_another))).body["status"] == "active"
    log = (await client.call("GET", "/logs?operation=subscription_suspended_by_the_platform")).body["items"]
    assert {entry["subscription_id"] for entry in log} == {row["id"] for row in rows}
    assert {entry["error_message"] for entry in log} == {
        "the connection has no Event Platform permission in the PIM any more"
    }
    assert len(log) == 2


async def test_a_permission_that_is_taken_away_a_second_time_suspends_again(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    for _ in range(2):
        with without_permission(client) as restricted:
            assert (await restricted.call("GET", path_of(row))).body["status"] == "suspended"
        fresh = client_of(client.world, client.pim, ERP)
        assert (await fresh.call("POST", f"{path_of(row)}/resume")).status == 202


async def test_a_client_that_never_had_the_permission_is_looked_up_once_in_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Owner] = []
    subscribers = client.world.store.subscribers

    async def counting(owner: Owner) -> Sequence[Subscriber]:
        asked.append(owner)
        return await subscribers(owner)

    with without_permission(client) as restricted:
        monkeypatch.setattr(client.world.store, "subscribers", counting)
        for _ in range(3):
            assert (await restricted.call("GET", "/logs")).status == 200
        assert len(asked) == 1
        await client.world.clock.advance(61)
        assert (await restricted.call("GET", "/logs")).status == 200
        assert len(asked) == 2
