"""RFC 3339 in and out."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from event_platform.domain.timestamps import is_ahead, normalise_rfc3339, to_rfc3339


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00.000Z"),
        (datetime(2026, 1, 31, 12, 0, 0, 999_999, tzinfo=UTC), "2026-01-31T12:00:00.999Z"),
        (datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))), "2025-12-31T22:30:00.000Z"),
        (datetime(26, 1, 1, tzinfo=UTC), "0026-01-01T00:00:00.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert to_rfc3339(moment) == text


@pytest.mark.parametrize(
    ("text", "in_utc"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31t12:00:00z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00Z"),
        ("2026-01-31T12:00:00+05:45", "2026-01-31T06:15:00Z"),
        ("2026-01-01T00:30:00+02:00", "2025-12-31T22:30:00Z"),
        ("2024-02-28T23:30:00-01:00", "2024-02-29T00:30:00Z"),
        ("2026-01-31T12:00:00+23:59", "2026-01-30T12:01:00Z"),
        ("0099-01-01T00:00:00Z", "0099-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_turned_to_utc(text: str, in_utc: str) -> None:
    assert normalise_rfc3339(text) == in_utc


@pytest.mark.parametrize("fraction", [".0", ".5", ".500", ".123456789", "." + "0" * 29 + "1"])
def test_a_fraction_stays_digit_by_digit(fraction: str) -> None:
    assert normalise_rfc3339(f"2026-01-31T14:00:00{fraction}+02:00") == f"2026-01-31T12:00:00{fraction}Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"2026-01-31T12:00:00.{'0' * 31}Z",
        "now",
        "1769860800",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00+0200",
        "2026-01-31T12:00:00+02",
        "2026-01-31T12:00:00+02:60",
        "2026-01-31T12:00:00+02:99",
        "2026-1-31T12:00:00Z",
        "20260131T120000Z",
        "+2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z",
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
    ],
)
def test_what_is_no_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an RFC 3339 date-time"):
        normalise_rfc3339(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-01T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "2026-01-31T12:00:00+24:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_a_time_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a date and time that exists"):
        normalise_rfc3339(text)


@pytest.mark.parametrize(("seconds", "ahead"), [(-3600, False), (0, False), (60, False), (60.001, True)])
def test_a_moment_lies_ahead_from_a_minute_on(seconds: float, ahead: bool) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert is_ahead(now + timedelta(seconds=seconds), now) is ahead
