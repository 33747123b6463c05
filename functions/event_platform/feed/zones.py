"""Values of the filter `updated >`, where the PIM reads times in the time zone of its server."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

LOCAL_FORMAT = "%Y-%m-%d %H:%M:%S"
BEFORE_ANY_ITEM = timedelta(hours=14)
"""The time that the filter goes back while the zone is unknown. Zones reach from UTC−12 to UTC+14."""
BESIDE_AN_ITEM = timedelta(hours=1)
"""The same where an item has shown an offset, which may be that of the other half of the year."""
_MINUTE = timedelta(minutes=1)


def local_value(lower: datetime, zone: ZoneInfo | None, offset: timedelta | None) -> str:
    """The value with which everything after `lower` is found, whatever the PIM makes of it.

    `zone` is that of the PIM's server, if the operator has named it. Otherwise `offset` is that of the newest
    date that an item has shown.
    """
    if zone is not None:
        return _unambiguous(lower, zone).strftime(LOCAL_FORMAT)
    if offset is None:
        return (lower.astimezone(UTC) - BEFORE_ANY_ITEM).strftime(LOCAL_FORMAT)
    return (lower.astimezone(UTC) + offset - BESIDE_AN_ITEM).strftime(LOCAL_FORMAT)


def iso_value(lower: datetime) -> str:
    """The value for a resource whose filter takes an offset."""
    return lower.astimezone(UTC).isoformat(timespec="seconds")


def _unambiguous(lower: datetime, zone: ZoneInfo) -> datetime:
    """Returns the local time of a moment, or the last one before it that exists once.

    In autumn an hour comes twice, and nothing says which one the PIM takes a time of it for.
    """
    wall = lower.astimezone(zone).replace(tzinfo=None)
    while _comes_twice(wall, zone):
        wall = wall.replace(second=59, microsecond=0) - _MINUTE
    return wall


def _comes_twice(wall: datetime, zone: ZoneInfo) -> bool:
    first, second = wall.replace(tzinfo=zone, fold=0), wall.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    return before is not None and after is not None and before > after
