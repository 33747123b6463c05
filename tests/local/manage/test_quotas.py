"""How many subscribers and subscriptions there may be, also of many made at once (contract/wire.md 6)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.management import Answer, Client, path_of, subscriber_body, subscription_body

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def statuses_of(count: int, create: Callable[[], Any]) -> list[int]:
    answers: list[Answer] = await asyncio.gather(*(create() for _ in range(count)))
    return sorted(answer.status for answer in answers)


async def test_a_pim_has_at_most_20_subscribers_of_all_its_clients(client: Client, other: Client) -> None:
    rows = [await client.subscriber() for _ in range(10)] + [await other.subscriber() for _ in range(10)]
    for caller in (client, other):
        assert (await caller.call("POST", "/subscribers", subscriber_body())).status == 409
    await client.call("DELETE", path_of(rows[0]))
    assert (await other.call("POST", "/subscribers", subscriber_body())).status == 201
    assert (await client.call("POST", "/subscribers", subscriber_body())).status == 409


async def test_a_subscriber_has_at_most_20_subscriptions(client: Client) -> None:
    subscriber, second = [await client.subscriber() for _ in range(2)]
    rows = [await client.subscription(subscriber) for _ in range(20)]
    path = f"{path_of(subscriber)}/subscriptions"
    assert (await client.call("POST", path, subscription_body())).status == 409
    await client.call("POST", f"{path_of(rows[0])}/suspend")
    assert (await client.call("POST", path, subscription_body())).status == 409
    await client.subscription(second)
    await client.call("DELETE", path_of(rows[0]))
    await client.subscription(subscriber)
    assert len(await client.get(path)) == 20


async def test_the_limit_of_subscribers_holds_under_50_creations_at_once(client: Client) -> None:
    found = await statuses_of(50, lambda: client.call("POST", "/subscribers", subscriber_body()))
    assert found == [201] * 20 + [409] * 30
    assert len(await client.get("/subscribers")) == 20


async def test_the_limit_of_subscriptions_holds_under_50_creations_at_once(client: Client) -> None:
    path = f"{path_of(await client.subscriber())}/subscriptions"
    found = await statuses_of(50, lambda: client.call("POST", path, subscription_body()))
    assert found == [201] * 20 + [409] * 30
    assert len(await client.get(path)) == 20


async def test_the_limit_of_one_pim_is_not_anothers(client: Client, strict: Client) -> None:
    for _ in range(20):
        await client.subscriber()
    await strict.subscriber()
