"""The feed of a PIM whose server is in another zone, over both changes of the clock."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support.feeding import feeding

CHANGES = {
    "UTC": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "Europe/Paris": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "America/St_Johns": datetime(2026, 3, 8, 5, 30, tzinfo=UTC),
}
BACK = {
    "UTC": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "Europe/Paris": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "America/St_Johns": datetime(2026, 11, 1, 4, 30, tzinfo=UTC),
}


@pytest.mark.parametrize("is_named", [True, False], ids=["named", "not named"])
@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("changes", [CHANGES, BACK], ids=["forward", "back"])
async def test_each_change_is_told_once_over_a_change_of_the_clock(
    changes: dict[str, datetime], zone: str, is_named: bool, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"timezone": zone} if is_named else {}
    async with feeding(tmp_path, pim={"zone": zone}, resources=["products"], **settings) as feed:
        feed.clock.pass_by((changes[zone] - timedelta(hours=2) - feed.clock.now()).total_seconds())
        for number in range(48):
            feed.pim.add("products", f"p{number}", at=datetime(2025, 12, 1, 12, tzinfo=UTC))
        await feed.round()
        for number in range(48):
            feed.clock.pass_by(150)
            feed.pim.change("products", f"p{number}")
            feed.clock.pass_by(150)
            await feed.round()
        told = await feed.told()
        assert told == [("product.updated", f"p{number}") for number in range(48)]
        for each, number in zip(await feed.events(), range(48), strict=True):
            held = feed.pim.lists["products"][f"p{number}"]
            assert datetime.fromisoformat(each.time) == held.updated
