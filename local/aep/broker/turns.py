"""Decides who begins work in which round of the event loop, so that one owner's crowd holds up no other."""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Set

from .budget import OwnerKey

BEGIN_IN_A_ROUND, BEGIN_ALONE_IN_A_ROUND = 16, 64
"""The number of attempts that may begin in a round: while several owners deliver, and while one does.

More in a round cost less each, but hold up everything else in the event loop for longer.
"""
EACH_IN_A_ROUND = 4
"""The number of one owner's attempts that may begin in a round or a rest whatever others do; it is
BEGIN_IN_A_ROUND for an owner who has little to do."""
FEW = 200
"""The attempts in COUNTED_SECONDS up to which an owner has little to do."""
COUNTED_SECONDS = 1.0
SHARE = 0.25
"""The part of one core that this event loop takes at most while somebody delivers who has little to do."""
CREDIT_SECONDS = 0.002
"""The CPU time that may be used before a rest follows: timers are not more exact."""
REST_AT_MOST = 0.05


class Turns:
    """Lets a few attempts begin in each round of the event loop. Used in one event loop only.

    If a round is full, the next ones wait for a later round: there owners take turns, and the attempts of one
    owner keep their order. So a round stays short however many deliveries are ready at the same time. While
    another owner delivers who has little to do, rounds rest so that the loop uses only its SHARE of a core.
    """

    def __init__(
        self, monotonic: Callable[[], float], cpu_time: Callable[[], float] = time.thread_time
    ) -> None:
        self._monotonic = monotonic
        self._cpu_time = cpu_time
        self._loop: asyncio.AbstractEventLoop | None = None
        self._most = self._left = BEGIN_ALONE_IN_A_ROUND
        self._begun: dict[OwnerKey, int] = {}  # in this round
        self._is_scheduled = False
        self._waiting: OrderedDict[OwnerKey, deque[asyncio.Future[None]]] = OrderedDict()
        self._counted: dict[OwnerKey, int] = {}
        """The attempts of each owner since `_counted_from`."""
        self._counted_from = self._looked_at = -math.inf
        self._crowds: Set[OwnerKey] = frozenset()
        """The owners that had more than a little to do in the last second that was counted."""
        self._is_shared = False
        """True if another owner delivered then, who had little to do."""
        self._used = 0.0
        self._credit = 0.0
        """The CPU time in seconds that may be used now; below zero when more was used."""
        self._has_rested = False

    def take(self, owner: OwnerKey) -> bool:
        """True if the owner may begin now; False if there is a turn to `wait` for."""
        begun = self._begun.get(owner, 0)
        most = EACH_IN_A_ROUND if owner in self._crowds else BEGIN_IN_A_ROUND
        if (self._left <= 0 and begun >= most) or owner in self._waiting:
            return False
        self._begun[owner] = begun + 1
        self._counted[owner] = self._counted.get(owner, 0) + 1
        self._left -= 1
        self._schedule(0.0)
        return True

    async def wait(self, owner: OwnerKey) -> None:
        """Returns when it is the owner's turn."""
        turn: asyncio.Future[None] = self._running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._schedule(0.0)
        await turn

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:  # to ask for it is a call to the system
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _schedule(self, rest: float) -> None:
        if self._is_scheduled:
            return
        self._is_scheduled = True
        loop = self._running_loop()
        if rest:
            loop.call_later(rest, self._begin_round)
        else:
            loop.call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_scheduled = False
        self._begun.clear()
        rest = self._rest()
        if rest and not self._has_rested:
            self._has_rested = True
            self._left = 0
            self._schedule(rest)
            return
        self._has_rested = False
        self._left = self._most
        while self._left > 0 and self._waiting:
            owner, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._counted[owner] = self._counted.get(owner, 0) + 1
                self._left -= 1
        if self._waiting:
            self._schedule(0.0)

    def _rest(self) -> float:
        """Returns the seconds for which those who wait rest now."""
        now = self._monotonic()
        if now - self._counted_from >= COUNTED_SECONDS:
            self._count_anew(now)
        if not self._is_shared:
            return 0.0
        used = self._cpu_time()
        earned = SHARE * (now - self._looked_at)
        self._credit = min(CREDIT_SECONDS, self._credit + earned - (used - self._used))
        self._looked_at, self._used = now, used
        return min(REST_AT_MOST, max(0.0, -self._credit) / SHARE)

    def _count_anew(self, now: float) -> None:
        """Finds the crowds of the time that was counted: who began many attempts, or waits to begin more."""
        few = FEW * (now - self._counted_from) / COUNTED_SECONDS  # infinite for the first round
        waiting = self._waiting.keys()
        self._crowds = {key for key, number in self._counted.items() if number > few or key in waiting}
        was_shared, self._is_shared = self._is_shared, 0 < len(self._crowds) < len(self._counted)
        if not was_shared:
            self._credit, self._looked_at, self._used = 0.0, now, self._cpu_time()
        self._most = BEGIN_IN_A_ROUND if len(self._counted) > 1 else BEGIN_ALONE_IN_A_ROUND
        self._counted.clear()
        self._counted_from = now


class Senders:
    """Knows whether several tenants send events, from the last two that did by turns."""

    def __init__(self) -> None:
        self._latest: str | None = None
        self._latest_at = self._before_at = -math.inf

    def note(self, tenant: str, now: float) -> None:
        """Notes that the tenant sends events; `now` is monotonic, in seconds."""
        if tenant != self._latest:
            self._latest, self._before_at = tenant, self._latest_at
        self._latest_at = now

    def others_than(self, tenant: str, now: float) -> bool:
        """True if another tenant has sent some in the last second."""
        at = self._before_at if tenant == self._latest else self._latest_at
        return now - at < COUNTED_SECONDS
