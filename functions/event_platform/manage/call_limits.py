"""The limits of callers with good credentials: a 429 with Retry-After, and one line of the log a minute."""

import math

import structlog

from ..domain.call_limits import LIMITS, CallType, OwnerAllowances
from ..domain.errors import TooManyRequests
from ..domain.line_limit import LineLimit
from ..domain.subscriptions import Owner
from ..ports import Clock

log = structlog.get_logger()


class CallerLimits:
    """Counts the calls of each owner and of each PIM."""

    def __init__(self, clock: Clock) -> None:
        self._allowances = {
            call_type: OwnerAllowances(limit, clock.monotonic) for call_type, limit in LIMITS.items()
        }
        self._lines = LineLimit(clock.monotonic)

    def take(self, owner: Owner, call_type: CallType, count: int = 1) -> None:
        """Counts a call, or `count` of what it asks for. Raises TooManyRequests."""
        shortage = self._allowances[call_type].take(owner, count)
        if shortage is None:
            return
        if times := self._lines.count((owner, call_type)):
            log.warning(
                "calls.limited",
                tenant=owner.tenant,
                client_id=owner.client_id,
                limit=call_type,
                by=shortage.who,
                times=times,
            )
        wait = math.ceil(shortage.seconds)
        raise TooManyRequests(f"too many {call_type} by {shortage.who}; try again in {wait} s", wait)
