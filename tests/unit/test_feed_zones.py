"""The filter of products: whatever the zone of the PIM's server is, nothing after the cursor is missed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from event_platform.feed.zones import iso_value, local_value

ZONES = (
    "UTC",
    "Europe/Paris",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
)
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),  # Paris, forward
    datetime(2026, 10, 25, 1, tzinfo=UTC),  # Paris, back
    datetime(2026, 3, 8, 5, 30, tzinfo=UTC),  # St. John's, forward
    datetime(2026, 11, 1, 4, 30, tzinfo=UTC),  # St. John's, back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe, back by half an hour
    datetime(2026, 7, 1, tzinfo=UTC),
)
MOMENTS = [change + timedelta(minutes=minutes) for change in CHANGES for minutes in range(-181, 182, 7)]


def readings(value: str, zone: ZoneInfo) -> list[datetime]:
    """The moments that a PIM in that zone may take a value for: two, where the local time comes twice."""
    wall = datetime.fromisoformat(value)
    return [wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]


@pytest.mark.parametrize("name", ZONES)
def test_a_named_zone_asks_from_the_cursor_on_and_hardly_further_back(name: str) -> None:
    zone = ZoneInfo(name)
    for lower in MOMENTS:
        read = readings(local_value(lower, zone, None), zone)
        assert max(read) <= lower
        assert lower - min(read) <= timedelta(hours=2, minutes=1)


def test_outside_of_the_hour_that_comes_twice_it_asks_from_the_cursor_itself() -> None:
    zone = ZoneInfo("Europe/Paris")
    lower = datetime(2026, 7, 1, 12, 30, 15, tzinfo=UTC)
    assert local_value(lower, zone, None) == "2026-07-01 14:30:15"


def test_an_hour_that_comes_twice_is_asked_from_its_first() -> None:
    zone = ZoneInfo("Europe/Paris")
    for lower in (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)):
        assert local_value(lower, zone, None) == "2026-10-25 01:59:59"


@pytest.mark.parametrize("name", ZONES)
def test_a_zone_that_is_not_named_is_learnt_from_an_item_of_either_half_of_the_year(name: str) -> None:
    zone = ZoneInfo(name)
    for shown in (datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 7, 15, tzinfo=UTC)):
        offset = shown.astimezone(zone).utcoffset()
        for lower in MOMENTS:
            read = readings(local_value(lower, None, offset), zone)
            assert max(read) <= lower
            assert lower - min(read) <= timedelta(hours=3)


@pytest.mark.parametrize("name", ZONES)
def test_before_any_item_is_known_nothing_is_missed_in_any_zone(name: str) -> None:
    zone = ZoneInfo(name)
    for lower in MOMENTS:
        assert max(readings(local_value(lower, None, None), zone)) <= lower


def test_other_resources_are_asked_with_an_offset() -> None:
    lower = datetime(2026, 7, 1, 14, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert iso_value(lower) == "2026-07-01T12:30:00+00:00"
