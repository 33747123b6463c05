"""`X-PIM-URL` and `subject`: which URLs name the same PIM (contract/wire.md 2)."""

from dataclasses import replace

import pytest

from support.management import PUBLIC, Client, path_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_pim_url_is_compared_without_slash_default_port_and_case(strict: Client) -> None:
    host = strict.pim.removeprefix("https://")
    spellings = [
        f"https://{host.upper()}",
        f"https://{host}/",
        f"https://{host}:443",
        f"HTTPS://{host}:443//",
    ]
    created = [await replace(strict, pim=spelling).subscriber() for spelling in spellings]
    assert [row["subject"] for row in created] == spellings
    assert await strict.get("/subscribers") == created
    for spelling in spellings:
        assert await replace(strict, pim=spelling).get(path_of(created[0])) == created[0]
        row = await strict.subscription(created[0], subject=spelling, config=PUBLIC)
        assert row["subject"] == spelling


async def test_a_subscription_without_a_subject_bears_the_url_of_its_creation(strict: Client) -> None:
    row = await replace(strict, pim=f"{strict.pim}/").subscription(await strict.subscriber(), config=PUBLIC)
    assert row["subject"] == f"{strict.pim}/"


@pytest.mark.parametrize("suffix", [":8443", "/path", "?query", "#part", ".example"])
async def test_a_pim_url_that_differs_otherwise_is_another_pim(strict: Client, suffix: str) -> None:
    assert (await replace(strict, pim=strict.pim + suffix).call("GET", "/subscribers")).status == 401


async def test_a_pim_url_of_http_is_another_pim(strict: Client) -> None:
    changed = replace(strict, pim=strict.pim.replace("https:", "http:"))
    assert (await changed.call("GET", "/subscribers")).status == 401
