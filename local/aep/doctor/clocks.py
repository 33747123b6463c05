"""Checks of the machine's clock and time zone: by what the kernel knows, and by the clocks of PIMs."""

import asyncio
import ctypes
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from event_platform.adapters.pim_rest import HttpsPimRest
from event_platform.domain.errors import PimUnavailable
from event_platform.domain.timestamps import is_ahead
from event_platform.ports import PimRest

from ..store.steady_clock import describe_lead
from .findings import Check, broken, missing, ok, problem

ASKED = 20
"""The largest number of PIMs that are asked for the time."""
PIM_SECONDS = 3.0
QUESTION = "/api/rest/v1/token-info"
"""A route of every PIM that answers at once; without a token by 401."""
DIFFERENT = 2.0
"""The seconds from which on two clocks differ: a Date header has whole ones."""
EFFECT = (
    "times in logs and records, the end of old keys and --from of a replay are wrong by that, and from some"
    " minutes on certificates and Google's tokens are refused"
)
_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""


@dataclass(frozen=True, slots=True)
class KernelClock:
    """The kernel's word on its clock: whether something sets it by NTP, and the error that is possible."""

    is_synchronised: bool
    error: float


class _Timex(ctypes.Structure):
    """The beginning of `struct timex`, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_clock() -> KernelClock | None:
    """Asks the kernel, which needs no rights; None where that cannot be done."""
    found = _Timex()
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(found)) < 0:
            return None
    except (AttributeError, OSError):  # no Linux
        return None
    return KernelClock(not found.status & _UNSYNCHRONISED, found.maxerror / 1e6)


@dataclass(frozen=True, slots=True)
class Compared:
    """The seconds by which this machine's clock is ahead of a PIM's; below 0 it is behind.

    It is 0 for less than what a Date header and the time of the call leave open.
    """

    url: str
    ahead: float


async def compared(
    urls: Sequence[str],
    rest: PimRest | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Sequence[Compared]:
    """Compares the clock with those of the PIMs that answer."""
    opened = HttpsPimRest(seconds=PIM_SECONDS) if rest is None else None
    asked = rest or opened
    assert asked is not None  # noqa: S101 - one of the two is there
    try:
        found = await asyncio.gather(*(_compared(url, asked, now) for url in urls[:ASKED]))
    finally:
        if opened is not None:
            await opened.close()
    return [each for each in found if each is not None]


async def _compared(url: str, rest: PimRest, now: Callable[[], datetime]) -> Compared | None:
    before = now()
    try:
        answer = await rest.call("GET", url + QUESTION, {}, b"", None)
    except PimUnavailable:
        return None
    if answer.date is None:
        return None
    first, last = answer.date, answer.date + timedelta(seconds=1)
    ahead = max(before - last, timedelta()) - max(first - now(), timedelta())
    return Compared(url, ahead.total_seconds())


def clock(
    now: datetime,
    last: datetime | None,
    lead: float,
    zone: str,
    *,
    kernel: KernelClock | None = None,
    pims: Sequence[Compared] = (),
) -> Check:
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
    if different := [each for each in pims if abs(each.ahead) >= DIFFERENT]:
        is_ours = len(different) == len(pims)
        return problem("clock", f"{shown}; {_difference(different[0], kernel, is_ours=is_ours)}")
    if zone and not _is_zone(zone):
        return problem("clock", f"TZ={zone} is no time zone that this machine knows; logs are in UTC anyway")
    where = f"{shown}, local time {now.astimezone().strftime('%z')}; logs are in UTC"
    if kernel is not None and kernel.is_synchronised:
        return ok("clock", f"{where}; set by NTP, right to {max(kernel.error, 0.001):.3f} s")
    if pims:
        return ok("clock", f"{where}; the same as that of {pims[0].url}")
    if kernel is None:
        return ok("clock", where)
    return missing(
        "clock", f"{where}; the kernel knows of no NTP that sets it: have chrony or systemd-timesyncd run"
    )


def _difference(found: Compared, kernel: KernelClock | None, *, is_ours: bool) -> str:
    seconds, side = abs(found.ahead), "ahead of" if found.ahead > 0 else "behind"
    shown = f"{seconds:,.0f} s {side} that of {found.url} (by its Date header)"
    if not is_ours:
        return f"{shown}, and no other PIM's: look at the clock of that PIM, by which its feed goes"
    if kernel is not None and kernel.is_synchronised:
        return f"{shown}, though NTP sets this one: look at the clock of the PIM, by which its feed goes"
    return f"{shown}: set it (NTP), or the PIM's; {EFFECT}"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name.removeprefix(":"))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return re.fullmatch(r"<?[A-Za-z0-9+-]{3,}>?[+-]?[0-9].*", name) is not None  # POSIX: CET-1CEST
    return True
