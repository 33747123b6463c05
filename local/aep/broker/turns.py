"""Decides who begins work in which round of the event loop, so that one owner's crowd holds up no other."""

import asyncio
from collections import OrderedDict, deque

from .budget import OwnerKey

BEGIN_IN_A_ROUND = 16
EACH_IN_A_ROUND = 2
"""The number of one owner's attempts that may begin in a round whatever others do."""
SHARED_SECONDS = 1.0
"""The time for which the loop is shared after an attempt of an owner for whom nothing waits."""
REST_FROM = 0.002
"""Seconds of work that a rest follows: timers are not more exact."""
REST_AT_MOST = 0.05


class Turns:
    """Lets a few attempts begin in each round of the event loop. Used in one event loop only.

    Who comes when the round is full waits for a later one: there owners take turns, and of one owner the
    first comes first. So a round stays short however many deliveries are ready at the same time. While
    another owner delivers for whom nothing has to wait, those who wait rest for as long as the loop worked:
    half of its time is free for the one who has little to do.
    """

    def __init__(self) -> None:
        self._left = BEGIN_IN_A_ROUND
        self._begun: dict[OwnerKey, int] = {}  # in this round
        self._is_scheduled = False
        self._round_began_at: float | None = None  # None after a rest, or when nobody waited
        self._worked = 0.0
        self._shared_until = 0.0
        self._waiting: OrderedDict[OwnerKey, deque[asyncio.Future[None]]] = OrderedDict()

    def take(self, owner: OwnerKey) -> bool:
        """True if the owner may begin now; False if there is a turn to `wait` for."""
        begun = self._begun.get(owner, 0)
        if (self._left <= 0 and begun >= EACH_IN_A_ROUND) or owner in self._waiting:
            return False
        if self._waiting:
            self._shared_until = asyncio.get_running_loop().time() + SHARED_SECONDS
        self._begun[owner] = begun + 1
        self._left -= 1
        self._schedule(0.0)
        return True

    async def wait(self, owner: OwnerKey) -> None:
        """Returns when it is the owner's turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._schedule(0.0)
        await turn

    def _schedule(self, rest: float) -> None:
        if self._is_scheduled:
            return
        self._is_scheduled = True
        loop = asyncio.get_running_loop()
        if rest:
            loop.call_later(rest, self._begin_round)
        else:
            loop.call_soon(self._begin_round)

    def _begin_round(self) -> None:
        self._is_scheduled = False
        self._begun.clear()
        rest = self._rest_after_round()
        if rest:
            self._left = 0
            self._schedule(rest)
            return
        self._left = BEGIN_IN_A_ROUND
        while self._left > 0 and self._waiting:
            owner, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting:
            self._schedule(0.0)

    def _rest_after_round(self) -> float:
        """Returns how many seconds those who wait rest now, since the loop has worked for so long."""
        now = asyncio.get_running_loop().time()
        began_at, self._round_began_at = self._round_began_at, now if self._waiting else None
        if began_at is None or now >= self._shared_until:
            self._worked = 0.0
            return 0.0
        self._worked += now - began_at
        if self._worked < REST_FROM:
            return 0.0
        rest, self._worked = min(REST_AT_MOST, self._worked), 0.0
        self._round_began_at = None
        return rest
