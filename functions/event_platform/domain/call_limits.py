"""Limits how many calls a client with good credentials may make: what is answered 429 (contract/wire.md 2).

Each owner has an allowance for each type of call, and the clients of one PIM share a larger one. Each
instance of a function counts for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .front_door import Allowances
from .subscriptions import Owner

PIM_FACTOR = 4
"""The allowance that all clients of a PIM have together, in allowances of one owner."""

Monotonic = Callable[[], float]


class CallType(StrEnum):
    """The calls that are counted together, in the words of a refusal."""

    CHANGE = "changes"
    READ = "reads"
    TRIAL = "tests and explanations"
    BENCHMARK = "deliveries of benchmarks"
    REFUSED = "refused calls kept in the log"


@dataclass(frozen=True, slots=True)
class Limit:
    """Allows `burst` calls at once, and so many a second from then on."""

    burst: int
    per_second: float


LIMITS = {
    CallType.CHANGE: Limit(5_000, 1),
    CallType.READ: Limit(5_000, 20),
    CallType.TRIAL: Limit(1_000, 2),
    CallType.BENCHMARK: Limit(500_000, 100),
    CallType.REFUSED: Limit(100, 100 / 3600),
}
"""One owner's limits. 20 subscribers made, changed and deleted with 20 subscriptions each: 1,260 changes."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """Names who has used up an allowance, and for how many seconds."""

    who: str
    seconds: float


class OwnerAllowances:
    """The allowances of all owners and PIMs for one type of call."""

    def __init__(self, limit: Limit, monotonic: Monotonic) -> None:
        self._owners = Allowances(limit.burst, limit.per_second, monotonic)
        self._pims = Allowances(PIM_FACTOR * limit.burst, PIM_FACTOR * limit.per_second, monotonic)

    def take(self, owner: Owner, count: int = 1) -> Shortage | None:
        """Takes `count`, at most the limit's burst. Takes nothing, and says why, when they are not there."""
        if (seconds := self._owners.wait(owner, count)) > 0:
            return Shortage("this client", seconds)
        if (seconds := self._pims.wait(owner.tenant, count)) > 0:
            return Shortage("the clients of this PIM", seconds)
        self._owners.take(owner, count)
        self._pims.take(owner.tenant, count)
        return None
