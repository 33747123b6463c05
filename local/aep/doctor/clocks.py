"""Checks of the machine's clock and time zone."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from event_platform.domain.timestamps import is_ahead

from ..store.steady_clock import describe_lead
from .findings import Check, broken, ok, problem


def clock(now: datetime, last: datetime | None, lead: float, zone: str) -> Check:
    """Checks the machine's clock: ages and retries begin at it, and continue from the last time in the file.

    `lead` is what the platform noted last: by how many seconds its time is ahead of the clock.
    """
    shown = now.isoformat(timespec="seconds")
    if lead:
        return problem("clock", f"{shown}; {describe_lead(lead)}")
    if last is not None and is_ahead(last, now):
        return problem("clock", f"{shown}; {describe_lead((last - now).total_seconds())}")
    if now.year < 2026:
        return broken("clock", f"{shown} is in the past: set the clock (NTP)")
    if zone and not _is_zone(zone):
        return problem("clock", f"TZ={zone} is no time zone that this machine knows; logs are in UTC anyway")
    return ok("clock", f"{shown}, local time {now.astimezone().strftime('%z')}; logs are in UTC")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name.removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return re.fullmatch(r"<?[A-Za-z0-9+-]{3,}>?[+-]?[0-9].*", name) is not None  # POSIX: CET-1CEST
    return True
