"""The overview and the table of subscriptions, as a reader sees them."""

import re
from datetime import UTC, datetime
from html import unescape

import pytest

from aep.store.listing import Sort
from event_platform.domain.subscriptions import Owner
from support.console import ConsoleHere
from support.records import PIM, UPDATED

OPPOSITE = {"ascending": "descending", "descending": "ascending"}
HOSTILE = "<script>alert(1)</script>\"'\u202e{{ 7*7 }}"


async def fail(here: ConsoleHere, number: int) -> None:
    """Notes a failed attempt of the subscription of that number."""
    now = datetime.now(UTC).timestamp()
    await here.platform.parts.database.write(
        lambda connection: connection.execute(
            "INSERT INTO last_failures VALUES (?, ?, 'retryable', 'destination_failure', 503)", (number, now)
        )
    )


async def test_an_empty_platform_says_what_to_do(here: ConsoleHere) -> None:
    async with here.reader() as reader:
        overview, table = await reader.get("/console"), await reader.get("/console/subscriptions")

    assert "add a PIM to begin" in overview.words
    assert "No app has subscribed yet" in table.words


async def test_the_overview_names_what_failed(here: ConsoleHere) -> None:
    good, bad = await here.subscribe(2)
    await fail(here, 2)
    async with here.reader() as reader:
        page = await reader.get("/console")

    assert "Nothing but the attempts that failed" in page.words
    assert f"/console/subscriptions/{bad.id}" in page.text
    assert f"/console/subscriptions/{good.id}" not in page.text
    assert "retryable: 503 destination_failure" in page.words


async def test_the_table_is_filtered_and_paged(here: ConsoleHere) -> None:
    for client in ("erp", "shop", "search"):
        for _ in range(3):
            await here.subscribe(20, Owner(PIM, client), url=f"https://{client}.example.com/hook")
    async with here.reader() as reader:
        first, last = (
            await reader.get("/console/subscriptions"),
            await reader.get("/console/subscriptions?page=3"),
        )
        found = await reader.get("/console/subscriptions?q=shop.example&sort=pim")
        none = await reader.get("/console/subscriptions?q=nothing%25like_that")
        part = await reader.get("/console/subscriptions?q=shop", headers={"HX-Request": "true"})
        back = {"HX-Request": "true", "HX-History-Restore-Request": "true"}
        whole = await reader.get("/console/subscriptions?q=shop", headers=back)

    assert "1–50 of 180 Next" in first.words
    assert "151–180 of 180 Previous" in last.words
    assert "Previous" not in first.words
    assert found.text.count("https://shop.example.com/hook") == 50
    assert "page=1" in found.text
    assert "q=shop.example" in found.text
    assert "None of 180 subscriptions is like that" in none.words
    assert "<html" not in part.text
    assert "<html" in whole.text


async def test_each_column_sorts_and_turns_round(here: ConsoleHere) -> None:
    made = await here.subscribe(3)
    await fail(here, 2)
    async with here.reader() as reader:
        for sort in Sort:
            page = await reader.get(f"/console/subscriptions?q=erp&sort={sort}")
            assert all(each.id in page.text for each in made)
            link = re.search(rf'aria-sort="(\w+)"><a href="([^"]*sort={sort}[^"]*)"', page.text)
            assert link is not None, sort
            turned = await reader.get(unescape(link[2]))
            assert f'aria-sort="{OPPOSITE[link[1]]}"' in turned.text
            assert "q=erp" in link[2]
        worst = await reader.get("/console/subscriptions?sort=failure")
        narrowed = await reader.get("/console/subscriptions?sort=failure&turned=yes&status=active")

    assert worst.text.index(made[1].id) < worst.text.index(made[2].id)
    assert "sorted by figures of" in worst.words
    assert 'name="sort" value="failure"' in narrowed.text
    assert 'name="turned" value="yes"' in narrowed.text


@pytest.mark.parametrize(
    "query",
    [
        "status=suspended",
        "page=99999999999",
        "page=-1&sort=x&turned=yes&status=x",
        "pim=https://other.example.com",
    ],
)
async def test_strange_queries_are_answered(here: ConsoleHere, query: str) -> None:
    await here.subscribe()
    async with here.reader() as reader:
        page = await reader.get(f"/console/subscriptions?{query}")

    assert page.status == 200


async def test_names_of_strangers_are_text(here: ConsoleHere) -> None:
    url = "https://example.com/" + HOSTILE
    await here.subscribe(1, Owner(PIM, HOSTILE), url=url, events=[UPDATED])
    await fail(here, 1)
    async with here.reader() as reader:
        pages = [
            await reader.get("/console"),
            await reader.get("/console/subscriptions"),
            await reader.get("/console/subscriptions", params={"q": HOSTILE}),
            await reader.get("/console/subscriptions", params={"pim": HOSTILE}),
            await reader.get("/console/enter", params={"token": HOSTILE}),
            await reader.get(f"/console/{HOSTILE}"),
        ]

    assert [page.status for page in pages] == [200, 200, 200, 200, 200, 404]
    for page in pages:
        assert "<script>alert" not in page.text
        assert "alert(1)</script>" not in page.text
    assert "&lt;script&gt;" in pages[1].text
