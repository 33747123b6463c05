"""Points in time: aware UTC datetimes inside, RFC 3339 with `Z` on the wire."""

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt](?P<time>\d\d:\d\d:\d\d)(?P<fraction>\.\d{1,30})?(?P<offset>[Zz]|[+-]\d\d:[0-5]\d)",
    re.ASCII,
)
_NORMAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,30})?Z", re.ASCII)
_NO_SUCH_TIME = "not a date and time that exists: check the day and the hour"
_SECONDS_END = len("2026-01-31T12:00:00")

AHEAD_AT_MOST = timedelta(minutes=1)
"""The largest difference between the clocks of several machines."""


def is_ahead(moment: datetime, now: datetime) -> bool:
    """True if a moment that had come when it was written lies ahead: a clock has gone back since."""
    return moment > now and moment - now > AHEAD_AT_MOST


def to_rfc3339(moment: datetime) -> str:
    """UTC with milliseconds: `2026-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def normalise_rfc3339(text: str) -> str:
    """Returns the same moment in UTC with `Z`, its fraction kept digit by digit (contract/ingest.md 2).

    Raises ValueError when `text` is no RFC 3339 date-time (RFC 3339 section 5.6). A leap second
    (`:60`) and more than 30 digits of a fraction are refused, since no receiver could hold them.
    """
    if _NORMAL.fullmatch(text) is not None:
        _existing(text[:_SECONDS_END])
        return text
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 date-time such as 2026-01-31T12:00:00Z")
    in_utc, offset = f"{match['date']}T{match['time']}", match["offset"].upper()
    moment = _existing(in_utc + offset.replace("Z", "+00:00"))
    if offset != "Z":
        try:
            in_utc = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        except OverflowError as error:
            raise ValueError(_NO_SUCH_TIME) from error
    return in_utc + (match["fraction"] or "") + "Z"


def _existing(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(_NO_SUCH_TIME) from error
