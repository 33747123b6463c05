"""The list of all subscriptions: what is on a page, its numbers, and what it costs."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from aep.store.listing import ON_A_PAGE, ListQuery, count_by_status, ids_of, one, page_of, worst
from aep.store.subscriptions import put_subscriber, put_subscription
from event_platform.domain.pace.rates import Limits
from event_platform.domain.subscriptions import Owner, Status
from event_platform.domain.suspension import Count, minute_of, series_of
from support.embedded import SEAL, Embedded
from support.records import KAFKA_CONFIG, PIM, a_subscriber, a_subscription
from support.sqlite_steps import counted_steps

LIMITS = Limits()


async def ids(embedded: Embedded, query: ListQuery) -> list[str]:
    found = await embedded.database.read(
        lambda connection: page_of(connection, query, embedded.clock.now(), LIMITS)
    )
    return [row.id for row in found.rows]


async def test_each_filter(embedded: Embedded) -> None:
    (first,) = await embedded.subscribe(1, Owner("https://b.example.com", "shop"))
    (second,) = await embedded.subscribe(
        1, Owner("https://a.example.com", "erp"), url="https://other.example.com/x"
    )
    (third,) = await embedded.subscribe(1, Owner("https://b.example.com", "erp"), config=KAFKA_CONFIG)
    now = embedded.clock.now()
    await embedded.subscriptions.change_subscription(
        second.owner,
        second.subscriber_id,
        second.id,
        lambda before: replace(before, status=Status.SUSPENDED, updated_at=now),
    )

    assert await ids(embedded, ListQuery()) == [third.id, second.id, first.id]
    assert await ids(embedded, ListQuery(status=Status.SUSPENDED)) == [second.id]
    assert await ids(embedded, ListQuery(tenant="https://b.example.com")) == [third.id, first.id]
    for text, found in {
        "OTHER.example": [second.id],
        "pim.events": [third.id],
        "shop": [first.id],
        first.id[-12:]: [first.id],
        "product.updated": [third.id, second.id, first.id],
        "ERP": [third.id, second.id, first.id],  # the subscribers' name
        "secret": [],
        "%": [],
    }.items():
        assert await ids(embedded, ListQuery(text=text)) == found, text
    by_status = await embedded.database.read(count_by_status)
    assert by_status == {Status.ACTIVE: 2, Status.SUSPENDED: 1}
    newest = await embedded.database.read(lambda connection: ids_of(connection, "https://b.example.com", 1))
    assert newest == [third.id]


async def test_the_last_hour_counts_over_a_suspension(embedded: Embedded) -> None:
    (subscription,) = await embedded.subscribe()
    now = embedded.clock.now()
    later = replace(subscription, epoch=2)
    minute, old = minute_of(now), minute_of(now - timedelta(hours=2))
    await embedded.counts.add({series_of(subscription): {minute - 5: Count(3, 1), old: Count(100, 100)}})
    await embedded.counts.add({series_of(later): {minute: Count(5, 1)}})
    await embedded.database.write(lambda connection: put_subscription(connection, SEAL, later))
    row = await embedded.database.read(lambda connection: one(connection, later.id, now, LIMITS))

    assert row is not None
    assert (row.delivered, row.failed, row.success_rate) == (8, 2, 0.8)
    assert await embedded.database.read(lambda connection: one(connection, "none", now, LIMITS)) is None


async def test_the_worst_failed_in_the_last_hour(embedded: Embedded) -> None:
    made = await embedded.subscribe(4)
    now = embedded.clock.now()
    for each, count in zip(made, (Count(9, 1), Count(0, 5), Count(0, 9), Count(0, 99)), strict=True):
        await embedded.counts.add({series_of(each): {minute_of(now): count}})
    rows = [(1, now), (2, now), (3, now), (4, now - timedelta(hours=2))]
    await embedded.database.write(
        lambda connection: connection.executemany(
            "INSERT INTO last_failures VALUES (?, ?, 'retryable', 'destination_failure', 503)",
            [(number, at.timestamp()) for number, at in rows],
        )
    )
    found = await embedded.database.read(lambda connection: worst(connection, now, LIMITS, 2))

    assert [row.id for row in found] == [made[2].id, made[1].id]


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        (ListQuery(), 12),
        (ListQuery(text="none"), 80),
    ],
)
async def test_one_more_subscription_costs_a_page_few_steps(
    tmp_path: Path, query: ListQuery, steps: int
) -> None:
    """So many steps of SQLite: a page of 100,000 subscriptions takes 4 to 160 ms."""
    costs: list[int] = []
    async with Embedded(tmp_path) as embedded:
        now = embedded.clock.now()
        for number in (4, 40):
            subscribers = [a_subscriber(Owner(PIM, f"{number}-{each}")) for each in range(number)]

            def fill(connection, subscribers=subscribers):  # type: ignore[no-untyped-def]
                for subscriber in subscribers:
                    put_subscriber(connection, SEAL, subscriber)
                    for _ in range(20):
                        put_subscription(connection, SEAL, a_subscription(subscriber))

            await embedded.database.write(fill)
            _, cost = await embedded.database.read(
                lambda connection: counted_steps(connection, lambda: page_of(connection, query, now, LIMITS))
            )
            costs.append(cost)

    few, many = costs
    assert (many - few) / (40 * 20) <= steps, costs


async def test_pages_follow_each_other(embedded: Embedded) -> None:
    made = [each for _ in range(3) for each in await embedded.subscribe(20)]
    first, second = await ids(embedded, ListQuery()), await ids(embedded, ListQuery(page=1))

    assert len(first) == ON_A_PAGE
    assert first + second == [each.id for each in reversed(made)]
    assert await ids(embedded, ListQuery(page=2)) == []
