"""The rate of an https subscription as a function of time, and how many lanes it needs.

Every instance computes the same rate from what is stored, so growth writes nothing; only a receiver that is
overrun makes a write. After a 429 the rate follows TCP CUBIC (RFC 9438, 4.2): fast towards the rate that was
too much, slowly around it, fast beyond.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from ..timestamps import is_ahead
from ..values import value_object

RATE_AT_START = 10.0
"""Events a second of a subscription that was never throttled, when it begins."""
CEILING_AT_LEAST = 2.0
CEILING_SHARE, BASE_SHARE = 0.9, 0.5
PLATEAU_SECONDS = 15.0
"""The time after a 429 until the rate is back at its ceiling."""
HELD_AT_MOST = timedelta(hours=1)
_DIGITS_AT_MOST = 9
_SLOT_PRECISION = 0.001

LANES_AT_MOST = 64
HEADROOM = 1.5
RAISED_AFTER = timedelta(seconds=30)
HALVED_AFTER = timedelta(minutes=10)
HYSTERESIS = 1.25


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a subscription's rate, in events a second; the maximum counts if it is the lower one.

    `spread` is the seconds after a change in which 429s are still about the rate before it: what was on its
    way drains the receiver's allowance. It is longer where instances keep copies of the rate.
    """

    minimum: float = 1.0
    maximum: float = 100.0
    spread: float = 1.0

    def within(self, rate: float) -> float:
        return min(self.maximum, max(self.minimum, rate))


@dataclass(frozen=True, slots=True)
class Rate:
    """The stored rate. `ceiling` is None until the first 429; nothing is sent before `held_until`."""

    since: datetime
    base: float = RATE_AT_START
    ceiling: float | None = None
    held_until: datetime | None = None

    def grows_from(self) -> datetime:
        """The moment that growth counts from: a receiver that asked for a pause starts at the base."""
        return self.since if self.held_until is None else max(self.since, self.held_until)

    def grown_for(self, now: datetime) -> float:
        """Seconds of growth; negative while a pause lasts, and 0 if a clock has gone back since."""
        if self.since > now and is_ahead(self.since, now):
            return 0.0
        return (now - self.grows_from()).total_seconds()

    def at(self, now: datetime, limits: Limits) -> float:
        """Events a second."""
        return self._after(max(0.0, self.grown_for(now)), limits)

    def _after(self, seconds: float, limits: Limits) -> float:
        if self.ceiling is None:
            return limits.within(self.base + seconds)
        steps = (seconds - PLATEAU_SECONDS) / PLATEAU_SECONDS
        return limits.within(self.ceiling + (self.ceiling - self.base) * steps**3)

    def held_for(self, now: datetime) -> float:
        """Seconds until anything may be sent; never more than an hour, whatever the clock did."""
        if self.held_until is None or self.held_until - now > HELD_AT_MOST:
            return 0.0
        return max(0.0, (self.held_until - now).total_seconds())

    def sent(self, seconds: float, limits: Limits) -> float:
        """Returns the deliveries from the start of the growth until `seconds` later: the integral."""
        low, high = limits.within(0.0), limits.maximum
        below = min(seconds, max(0.0, self._reaches(low)))
        above = min(seconds, max(below, self._reaches(high)))
        return low * below + self._area(above) - self._area(below) + high * (seconds - above)

    def slot(self, lane: int, lanes: int, now: datetime, limits: Limits) -> float:
        """Returns the seconds until the lane's next turn, for instances that share no counter.

        The turns of all lanes are as far apart as the rate demands, as everybody counts by the same integral.
        """
        began = self.grown_for(now)
        if began < 0:
            return -began + self.slot(lane, lanes, self.grows_from(), limits)
        passed = self.sent(began, limits)
        turn = passed + (lane - passed) % lanes
        sooner, later = began, began + (turn - passed) / limits.within(0.0)
        guess = sooner + (turn - passed) / self._after(sooner, limits)
        while later - sooner > _SLOT_PRECISION:  # Newton's steps, inside a bracket that closes
            if not sooner < guess < later:
                guess = (sooner + later) / 2
            missing = turn - self.sent(guess, limits)
            sooner, later = (guess, later) if missing > 0 else (sooner, guess)
            step = missing / self._after(guess, limits)
            if abs(step) < _SLOT_PRECISION:
                return guess + step - began
            guess += step
        return later - began

    def _reaches(self, rate: float) -> float:
        """Returns the seconds until the growth without limits is at `rate`."""
        if self.ceiling is None:
            return rate - self.base
        if self.ceiling == self.base:
            return 0.0 if rate <= self.base else math.inf
        return PLATEAU_SECONDS * (1 + math.cbrt((rate - self.ceiling) / (self.ceiling - self.base)))

    def _area(self, seconds: float) -> float:
        """The antiderivative of the growth without limits."""
        if self.ceiling is None:
            return self.base * seconds + seconds**2 / 2
        steps = (seconds - PLATEAU_SECONDS) / PLATEAU_SECONDS
        return self.ceiling * seconds + (self.ceiling - self.base) * PLATEAU_SECONDS / 4 * steps**4


@value_object
class Observation:
    """The facts of an attempt that change the pace.

    `sent_under` is the rate that was known when it began, `latency` the seconds of the exchange; `throttled`
    means a 429 or a timeout. `retry_after` is the moment that a 429 asked to wait for.
    """

    began_at: datetime
    sent_under: Rate
    latency: float
    throttled: bool = False
    retry_after: datetime | None = None


def after_throttling(
    rate: Rate, attempt_began_at: datetime, now: datetime, limits: Limits, *, hold: datetime | None = None
) -> Rate:
    """The rate after a 429 or a timeout; the same object when the attempt was sent before the last one.

    Requests that were sent before the rate was lowered say nothing about the lower rate, nor do those that
    other instances sent before they knew it. `hold` only ever slows down (RFC 9110, 10.2.3).
    """
    began_after = (attempt_began_at - rate.grows_from()).total_seconds()
    if began_after <= (limits.spread if rate.ceiling is not None else 0):
        return rate
    sent_at = rate.at(attempt_began_at, limits)
    ceiling = limits.within(max(CEILING_AT_LEAST, CEILING_SHARE * sent_at))
    held_until = min(hold, now + HELD_AT_MOST) if hold is not None and hold > now else None
    return Rate(now, min(ceiling, limits.within(BASE_SHARE * sent_at)), ceiling, held_until)


def after(rate: Rate, seen: Observation, now: datetime, limits: Limits) -> Rate:
    """The rate after an attempt; the same object when nothing is to be written.

    An attempt that was sent under another rate lost the race of those that saw the same 429s. If a clock has
    gone back since the rate was written, it begins anew at its base, to grow and to be lowered again.
    """
    if rate.since > now and is_ahead(rate.since, now):
        return Rate(now, rate.base, rate.ceiling)
    if not seen.throttled or seen.sent_under != rate:
        return rate
    return after_throttling(rate, seen.began_at, now, limits, hold=seen.retry_after)


def retry_after(value: str | None, now: datetime) -> datetime | None:
    """The moment that a `Retry-After` names, in seconds or as an HTTP-date (RFC 9110, 10.2.3).

    None for the past and for what is neither; at most an hour from now. Never raises.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        seconds = int(text) if len(text) <= _DIGITS_AT_MOST else math.inf
        return now + timedelta(seconds=min(seconds, HELD_AT_MOST.total_seconds())) if seconds else None
    try:
        moment = parsedate_to_datetime(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(moment, now + HELD_AT_MOST) if moment > now else None


def lanes_needed(rate: float, latency: float) -> int:
    """Returns the power of two, 1 to 64, of lanes that `rate` events a second of `latency` seconds need."""
    wanted = math.ceil(min(float(LANES_AT_MOST), HEADROOM * rate * latency))
    return 1 << (wanted - 1).bit_length() if wanted > 1 else 1


def lanes_after(lanes: int, changed_at: datetime, rate: float, latency: float, now: datetime) -> int:
    """Returns the number of lanes from now on. A change can reorder, so it is rare, and rarer downwards."""
    unchanged_for = HALVED_AFTER if is_ahead(changed_at, now) else now - changed_at
    if unchanged_for < RAISED_AFTER:
        return lanes
    needed = lanes_needed(rate, latency)
    if needed > lanes:
        return needed
    if lanes_needed(rate * HYSTERESIS, latency) <= lanes // 2 and unchanged_for >= HALVED_AFTER:
        return lanes // 2
    return lanes


def with_latency(average: float | None, latency: float) -> float:
    """The moving average after one more exchange."""
    return latency if average is None else average + (latency - average) / 8
