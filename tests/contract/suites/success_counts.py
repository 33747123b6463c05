"""What every implementation of the port `SuccessCounts` does. A subclass gives the fixture `counts`."""

import asyncio

import pytest

from event_platform.domain.suspension import Count, Series
from event_platform.ports import SuccessCounts

SERIES = Series("5c0ffee0-0000-7000-8000-000000000001", 0, "https://erp.example.com/events")
RESUMED = SERIES._replace(epoch=2)
MINUTE = 29_500_030
"""In the middle of an hour, so that the 60 minutes from here on lie in two."""


class SuccessCountsContract:
    """The suite; see the module."""

    @pytest.fixture
    def counts(self) -> SuccessCounts:
        raise AssertionError("a subclass gives the counts")

    async def test_what_is_added_to_a_minute_adds_up(self, counts: SuccessCounts) -> None:
        await counts.add({SERIES: {MINUTE: Count(9, 1, 1000.5)}})
        await counts.add({SERIES: {MINUTE: Count(succeeded=5), MINUTE + 1: Count(0, 2, 1060.0)}})
        assert await counts.since(SERIES, MINUTE) == {
            MINUTE: Count(14, 1, 1000.5),
            MINUTE + 1: Count(0, 2, 1060.0),
        }

    async def test_the_first_failure_stays_the_first(self, counts: SuccessCounts) -> None:
        for at in (1010.0, None, 1005.0, 1020.0):
            await counts.add({SERIES: {MINUTE: Count(failed=0 if at is None else 1, first_failed_at=at)}})
        assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(0, 3, 1005.0)}

    async def test_what_was_counted_can_be_taken_back(self, counts: SuccessCounts) -> None:
        await counts.add({SERIES: {MINUTE: Count(3, 2, 1000.0)}})
        await counts.add({SERIES: {MINUTE: Count(failed=-2)}})
        assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(3, 0, 1000.0)}

    async def test_series_are_apart(self, counts: SuccessCounts) -> None:
        await counts.add({SERIES: {MINUTE: Count(1)}, RESUMED: {MINUTE: Count(2)}})
        assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(1)}
        assert await counts.since(RESUMED, MINUTE) == {MINUTE: Count(2)}

    async def test_60_minutes_are_read(self, counts: SuccessCounts) -> None:
        minutes = range(MINUTE - 2, MINUTE + 62)
        await counts.add({SERIES: {minute: Count(1) for minute in minutes}})
        found = await counts.since(SERIES, MINUTE)
        assert sorted(found) == list(range(MINUTE, MINUTE + 60))

    async def test_nothing_is_lost_when_many_add_at_once(self, counts: SuccessCounts) -> None:
        await asyncio.gather(*(counts.add({SERIES: {MINUTE: Count(1, 1, 1000.0 + n)}}) for n in range(20)))
        assert await counts.since(SERIES, MINUTE) == {MINUTE: Count(20, 20, 1000.0)}

    async def test_nothing_to_add_is_no_error(self, counts: SuccessCounts) -> None:
        await counts.add({})
        assert await counts.since(SERIES, MINUTE) == {}
