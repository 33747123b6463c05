"""Limits what may be held at the same time, such as bytes in memory: in all, and for each owner.

An owner may hold a third of what is free, so one alone gets a quarter of all, and a few who want everything
always leave room for others. Nobody waits for what another owner holds while he has little himself.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

MIB = 1024 * 1024
HELD_OF_FREE = 3
"""An owner may hold this part of what is free (a third)."""
KEPT_OF_FREE = 4
"""An owner may keep this part of what is free for later (a quarter), so that others find room."""
AT_ONCE_OF_ROOM = 8
"""One reservation takes at most this part of what may still be kept (an eighth)."""


class Budget:
    """A budget of bytes, used in one event loop only. Owners who wait are served round robin, each in order.

    `reserve` is there beyond the `shared` amount for owners who hold no more than the `minimum`. One of those
    who wait goes beyond the bounds at a time: that of the owner whose turn it is. So each gets through,
    however large it is and however much others hold.
    """

    def __init__(
        self,
        shared: int,
        reserve: int,
        minimum: int,
    ) -> None:
        self._shared = shared
        self._all = shared + reserve
        self._minimum = minimum
        self._of: dict[Hashable, int] = {}
        self._waiting: OrderedDict[Hashable, deque[tuple[asyncio.Future[bool], int]]] = OrderedDict()
        self._beyond = False
        self.in_use = 0
        """The amount that is held or kept, without what goes beyond the bounds."""

    def take(self, owner: Hashable, size: int) -> bool:
        """Does what `hold` does, but returns False if that would wait. `release` ends it."""
        return owner not in self._waiting and self._take(owner, size, HELD_OF_FREE)

    def has_room(self, owner: Hashable, size: int) -> bool:
        """True if `take` would take so much."""
        if owner in self._waiting:
            return False
        return self._fits(self._of.get(owner, 0) + size, size, HELD_OF_FREE)

    def take_anyway(self, owner: Hashable, size: int) -> None:
        """Takes what is held already, whether there is room or not. `release` ends it."""
        self._of[owner] = self._of.get(owner, 0) + size
        self.in_use += size

    def keep(self, owner: Hashable, size: int) -> bool:
        """Takes bytes for something that may be needed later; False if the owner has to do without."""
        return owner not in self._waiting and self._take(owner, size, KEPT_OF_FREE)

    def reserve(self, owner: Hashable, most: int) -> int:
        """Takes up to `most` bytes that the owner may keep; returns how many."""
        if owner in self._waiting:
            return 0
        used = self._of.get(owner, 0)
        room = max((self._shared - self.in_use) // KEPT_OF_FREE, self._minimum) - used
        size = min(most, max(0, room) // AT_ONCE_OF_ROOM, self._all - self.in_use)
        if size <= 0:
            return 0
        self.take_anyway(owner, size)
        return size

    def release(self, owner: Hashable, size: int) -> None:
        """Gives bytes back that were kept or reserved."""
        left = self._of[owner] - size
        if left:
            self._of[owner] = left
        else:
            del self._of[owner]
        self.in_use -= size
        if self._waiting:
            self._serve()

    @asynccontextmanager
    async def hold(self, owner: Hashable, size: int) -> AsyncIterator[None]:
        """Waits until the owner may hold so many bytes, and holds them during the block."""
        is_beyond = not self.take(owner, size) and await self.wait(owner, size)
        try:
            yield
        finally:
            self.end(owner, size, is_beyond=is_beyond)

    async def wait(self, owner: Hashable, size: int) -> bool:
        """Waits until the owner may hold so much, where `take` does not take it; `end` gives it back.

        True if it goes beyond the bounds.
        """
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((granted, size))
        self._serve()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.end(owner, size, is_beyond=granted.result())
            else:
                granted.cancel()
                self._serve()
            raise

    def end(self, owner: Hashable, size: int, *, is_beyond: bool) -> None:
        """Gives back what `wait` has returned for, or with `is_beyond=False` what was taken."""
        if is_beyond:
            self._beyond = False
            self._serve()
        else:
            self.release(owner, size)

    def _take(self, owner: Hashable, size: int, of_free: int) -> bool:
        used = self._of.get(owner, 0) + size
        # what `_fits` says, without a call: this is asked twice for each delivery
        if used * of_free > self._shared - self.in_use and not self._fits(used, size, of_free):
            return False
        self._of[owner] = used
        self.in_use += size
        return True

    def _fits(self, used: int, size: int, of_free: int) -> bool:
        """True if an owner who takes `size` may hold `used` then."""
        return used * of_free <= self._shared - self.in_use or (
            used <= self._minimum and self.in_use + size <= self._all
        )

    def _serve(self) -> None:
        """Grants what fits: one of each owner, as often as something fits; then one beyond the bounds."""
        while True:
            while sum(map(self._serve_next_of, tuple(self._waiting))):
                pass
            if self._beyond or not self._waiting:
                return
            self._beyond = True
            self._grant(next(iter(self._waiting)), is_beyond=True)

    def _serve_next_of(self, owner: Hashable) -> bool:
        waiting = self._waiting[owner]
        while waiting and waiting[0][0].cancelled():
            waiting.popleft()
        if not waiting:
            del self._waiting[owner]
            return False
        size = waiting[0][1]
        if not self._take(owner, size, HELD_OF_FREE):
            return False
        self._grant(owner, is_beyond=False)
        return True

    def _grant(self, owner: Hashable, *, is_beyond: bool) -> None:
        """Grants the owner's first that has not given up. The owner is served again after the others."""
        waiting = self._waiting[owner]
        waiting.popleft()[0].set_result(is_beyond)
        if waiting:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
