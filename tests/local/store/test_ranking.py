"""The list of subscriptions in the order of its columns."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aep.store import ranking
from aep.store.listing import ON_A_PAGE, ListQuery, Sort, page_with
from aep.store.ranking import FRESH_SECONDS, STALE_SECONDS, Rankings
from aep.store.subscriptions import put_subscriber, put_subscription
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.pace.rates import Limits
from event_platform.domain.subscriptions import Owner, Status, Subscription
from event_platform.domain.suspension import Count, minute_of, series_of
from support.embedded import SEAL, Embedded
from support.eventually import eventually
from support.records import KAFKA_CONFIG, PUBSUB_CONFIG, UPDATED, a_subscriber, a_subscription
from support.sqlite_steps import counted_steps

LIMITS = Limits()
INTO_LANE = (
    "INSERT INTO deliveries (subscription_no, position, lane, event_no, lanes, epoch, attempts, failures)"
    " VALUES (?, ?, 0, 0, 1, 0, 0, 0)"
)
INTO_RETRIES = (
    "INSERT INTO retries (subscription_no, due_at, position, lane, event_no, lanes, epoch, attempts,"
    " failures)"
    " VALUES (?, 0, 9, 0, 0, 1, 0, 0, 0)"
)
CREATED = "com.akeneo.pim.v1.product.created"


@pytest.fixture
async def rankings(embedded: Embedded) -> AsyncIterator[Rankings]:
    made = Rankings(embedded.database, embedded.clock, LIMITS)
    yield made
    await made.close()


async def add(embedded: Embedded, owner: Owner, name: str, **more: Any) -> Subscription:
    """Adds a subscription of a new subscriber of that name."""
    subscriber = a_subscriber(owner, name=name)
    made = a_subscription(subscriber, now=embedded.clock.now(), **more)
    await embedded.database.write(lambda connection: put_subscriber(connection, SEAL, subscriber))
    await embedded.database.write(lambda connection: put_subscription(connection, SEAL, made))
    return made


async def ids(embedded: Embedded, rankings: Rankings, sort: Sort, **more: object) -> list[str]:
    query = ListQuery(**{"sort": sort, **more})  # type: ignore[arg-type]
    ranked = await rankings.page(query, sort)
    now = embedded.clock.now()
    page = await embedded.database.read(lambda connection: page_with(connection, ranked.numbers, now, LIMITS))
    return [row.id for row in page.rows]


async def test_each_column_sorts_in_both_directions(embedded: Embedded, rankings: Rankings) -> None:
    """The subscriptions a, b and c, made in this order: of equal ones the newest is first."""
    a = await add(embedded, Owner("https://b.example.com", "shop"), "Web shop", url="https://x.example.com")
    b = await add(
        embedded,
        Owner("https://a.example.com", "erp"),
        "erp",
        config=PUBSUB_CONFIG,
        events=[UPDATED, CREATED],
    )
    c = await add(embedded, Owner("https://b.example.com", "dam"), "Dam", config=KAFKA_CONFIG)
    now = embedded.clock.now()
    minute = minute_of(now)
    older = replace(a, lanes=64, created_at=now - timedelta(seconds=50))
    again = replace(c, epoch=c.epoch + 1, updated_at=now)
    suspended = replace(b, status=Status.SUSPENDED)
    for changed in (older, again, suspended):
        await embedded.database.write(
            lambda connection, changed=changed: put_subscription(connection, SEAL, changed)
        )
    await embedded.counts.add(
        {
            series_of(a): {minute: Count(5, 1), minute - 90: Count(100, 100)},
            series_of(b): {minute: Count(9, 2), minute - 59: Count(1, 1)},
            series_of(c): {minute - 1: Count(4, 0)},
            series_of(again): {minute: Count(4, 0)},
        }
    )
    await embedded.database.write(
        lambda connection: connection.execute(
            "INSERT INTO last_failures VALUES (3, ?, 'retryable', 'x', 503), (1, ?, 'retryable', 'x', 503)",
            (now.timestamp(), now.timestamp() - 5),
        )
    )
    rows = [(1, 1), (3, 2), (3, 3)]
    await embedded.database.write(lambda connection: connection.executemany(INTO_LANE, rows))
    await embedded.database.write(lambda connection: connection.execute(INTO_RETRIES, (2,)))
    expected = {
        Sort.DESTINATION: ([a, c, b], [b, c, a]),
        Sort.PIM: ([b, c, a], [a, c, b]),
        Sort.SUBSCRIBER: ([c, b, a], [a, b, c]),
        Sort.TYPES: ([c, a, b], [b, c, a]),
        Sort.STATUS: ([b, c, a], [c, a, b]),
        Sort.RATE: ([c, b, a], [a, c, b]),
        Sort.LANES: ([c, b, a], [a, c, b]),
        Sort.DELIVERED: ([a, c, b], [b, c, a]),
        Sort.FAILED: ([c, a, b], [b, a, c]),
        Sort.WAITING: ([b, a, c], [c, b, a]),
        Sort.FAILURE: ([a, c, b], [c, a, b]),
    }
    for sort, orders in expected.items():
        for ascending, order in zip((True, False), orders, strict=True):
            found = await ids(embedded, rankings, sort, ascending=ascending)
            assert found == [each.id for each in order], (sort, ascending)


async def test_a_sorted_list_is_filtered_as_it_is_now(embedded: Embedded, rankings: Rankings) -> None:
    first, second = await embedded.subscribe(2, Owner("https://pim.example.com", "erp"))
    (other,) = await embedded.subscribe(1, Owner("https://pim.example.com", "shop"))
    assert await ids(embedded, rankings, Sort.RATE) == [other.id, second.id, first.id]
    await embedded.database.write(
        lambda connection: put_subscription(connection, SEAL, replace(first, status=Status.SUSPENDED))
    )

    assert await ids(embedded, rankings, Sort.RATE, status=Status.SUSPENDED) == [first.id]
    assert await ids(embedded, rankings, Sort.RATE, text="shop") == [other.id]
    assert await ids(embedded, rankings, Sort.RATE, tenant="https://none.example.com") == []


async def test_figures_are_read_again_after_a_while_and_freed_when_nobody_looks(
    embedded: Embedded, rankings: Rankings
) -> None:
    (first,) = await embedded.subscribe(1)
    assert await ids(embedded, rankings, Sort.RATE) == [first.id]
    (second,) = await embedded.subscribe(1)
    await embedded.clock.advance(FRESH_SECONDS)
    assert await ids(embedded, rankings, Sort.RATE) == [first.id], "from the same figures"
    await embedded.clock.advance(1)
    ranked = await rankings.page(ListQuery(sort=Sort.RATE), Sort.RATE)
    assert (len(ranked.numbers), ranked.age) == (1, FRESH_SECONDS + 1), "nobody waits for others"
    await eventually(lambda: rankings._age() < 1)
    assert await ids(embedded, rankings, Sort.RATE) == [second.id, first.id]
    (third,) = await embedded.subscribe(1)
    await embedded.clock.advance(STALE_SECONDS + 1)
    assert await ids(embedded, rankings, Sort.RATE) == [third.id, second.id, first.id]
    rankings._free()
    assert await ids(embedded, rankings, Sort.RATE) == [third.id, second.id, first.id]


async def test_figures_are_copied_before_somebody_sorts(embedded: Embedded, rankings: Rankings) -> None:
    (first,) = await embedded.subscribe(1)
    rankings.prepare()
    await eventually(lambda: rankings._copy is not None)
    await embedded.subscribe(1)
    rankings.prepare()

    assert await ids(embedded, rankings, Sort.RATE) == [first.id], "once is enough"


async def test_a_copy_that_is_being_made_ends_with_the_console(embedded: Embedded) -> None:
    rankings = Rankings(embedded.database, embedded.clock, LIMITS)
    rankings.prepare()
    await rankings.close()

    assert rankings._copy is None
    with pytest.raises(StoreUnavailable):
        await rankings.page(ListQuery(sort=Sort.RATE), Sort.RATE)


async def test_sorted_pages_follow_each_other(tmp_path: Path) -> None:
    async with Embedded(tmp_path) as embedded:
        rankings = Rankings(embedded.database, embedded.clock, LIMITS)
        made = [each for _ in range(3) for each in await embedded.subscribe(20)]
        pages = [await ids(embedded, rankings, Sort.WAITING, page=page) for page in range(3)]
        await rankings.close()

    assert [len(page) for page in pages] == [ON_A_PAGE, 10, 0]
    assert [each for page in pages for each in page] == [each.id for each in reversed(made)]


def test_one_more_subscription_costs_a_sorted_page_few_steps() -> None:
    """So many steps of SQLite: a page of 100,000 subscriptions takes 5 to 20 ms, the last one 40 ms."""
    costs: list[int] = []
    query = ListQuery(sort=Sort.FAILED, page=1)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        copy.execute(ranking._TABLE)
        for begin, end in ((0, 200), (200, 2_000)):
            rows = [(number, number % 7) for number in range(begin, end)]
            copy.executemany("INSERT INTO ranked (no, failed) VALUES (?, ?)", rows)
            _, cost = counted_steps(copy, lambda: ranking._page(copy, query, Sort.FAILED, None))
            costs.append(cost)

    few, many = costs
    assert (many - few) / 1_800 <= 15, costs
