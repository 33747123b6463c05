"""Limits the bytes of deliveries that a process holds in memory, and the attempts that it makes at once.

Each limit holds in all and for each owner.

An owner may hold a third of what is free, so one alone gets a quarter of all, and a few who want everything
always leave room for others. Nobody waits for bytes that another owner holds while he has little himself.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MIB = 1024 * 1024
SHARED_BYTES = 64 * MIB
RESERVE_BYTES = 16 * MIB
"""The bytes beyond the shared ones, for owners who hold less than MINIMUM_BYTES."""
MINIMUM_BYTES = 256 * 1024
HELD_OF_FREE = 3
"""An owner may hold this part of the free bytes (a third) for attempts."""
KEPT_OF_FREE = 4
"""An owner may keep this part of the free bytes (a quarter) for later, so that attempts find room."""
AT_ONCE_OF_ROOM = 8
"""One reservation takes at most this part of what may still be kept (an eighth)."""

OwnerKey = tuple[str, str]
"""The tenant and the client id."""


ATTEMPTS_AT_ONCE = 2048
"""Those that hold a connection or open one, in a process. Each may try four addresses at once."""
FILES_OF_ATTEMPT = 8
"""Files for an attempt, of those this process may open: four for its sockets, and as many for all else."""


def attempts_at_once(open_files: int) -> "Budget":
    """The budget of attempts for a process that may have so many files open (-1: any number)."""
    most = (
        ATTEMPTS_AT_ONCE if open_files < 0 else min(ATTEMPTS_AT_ONCE, max(16, open_files // FILES_OF_ATTEMPT))
    )
    return Budget(most - most // 8, reserve=most // 8, minimum=max(1, most // 256))


class Budget:
    """Used in one event loop only. Those who wait are served in turn by owner, and in order within one.

    One delivery at a time goes beyond the bounds: that of the owner whose turn it is. So each gets through,
    however large it is and however much others hold.
    """

    def __init__(
        self,
        shared: int = SHARED_BYTES,
        reserve: int = RESERVE_BYTES,
        minimum: int = MINIMUM_BYTES,
    ) -> None:
        self._shared = shared
        self._all = shared + reserve
        self._minimum = minimum
        self._of: dict[OwnerKey, int] = {}
        self._waiting: OrderedDict[OwnerKey, deque[tuple[asyncio.Future[bool], int]]] = OrderedDict()
        self._beyond = False
        self.in_use = 0
        """Bytes that are held or kept, without those of a delivery beyond the bounds."""

    def take(self, owner: OwnerKey, size: int) -> bool:
        """Does what `hold` does, but returns False where that would wait. `release` gives it back."""
        if owner in self._waiting or not self._fits(owner, size, HELD_OF_FREE):
            return False
        self._take(owner, size)
        return True

    def keep(self, owner: OwnerKey, size: int) -> bool:
        """Takes bytes for something that may be needed later; False if the owner has to do without."""
        if owner in self._waiting or not self._fits(owner, size, KEPT_OF_FREE):
            return False
        self._take(owner, size)
        return True

    def reserve(self, owner: OwnerKey, most: int) -> int:
        """Takes up to `most` bytes that the owner may keep; returns how many."""
        if owner in self._waiting:
            return 0
        used = self._of.get(owner, 0)
        room = max((self._shared - self.in_use) // KEPT_OF_FREE, self._minimum) - used
        size = min(most, max(0, room) // AT_ONCE_OF_ROOM, self._all - self.in_use)
        if size <= 0:
            return 0
        self._take(owner, size)
        return size

    def release(self, owner: OwnerKey, size: int) -> None:
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
    async def hold(self, owner: OwnerKey, size: int) -> AsyncIterator[None]:
        """Waits until the owner may hold so many bytes, and holds them during the block."""
        is_beyond = not self.take(owner, size) and await self._turn(owner, size)
        try:
            yield
        finally:
            self._end(owner, size, is_beyond=is_beyond)

    def _fits(self, owner: OwnerKey, size: int, of_free: int) -> bool:
        used = self._of.get(owner, 0) + size
        return used * of_free <= self._shared - self.in_use or (
            used <= self._minimum and self.in_use + size <= self._all
        )

    def _take(self, owner: OwnerKey, size: int) -> None:
        self._of[owner] = self._of.get(owner, 0) + size
        self.in_use += size

    def _end(self, owner: OwnerKey, size: int, *, is_beyond: bool) -> None:
        if is_beyond:
            self._beyond = False
            self._serve()
        else:
            self.release(owner, size)

    async def _turn(self, owner: OwnerKey, size: int) -> bool:
        """Waits for the owner's turn; True if the bytes go beyond the bounds."""
        granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append((granted, size))
        self._serve()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._end(owner, size, is_beyond=granted.result())
            else:
                granted.cancel()
                self._serve()
            raise

    def _serve(self) -> None:
        """Grants what fits: one of each owner, as often as something fits; then one beyond the bounds."""
        while True:
            while sum(map(self._serve_next_of, tuple(self._waiting))):
                pass
            if self._beyond or not self._waiting:
                return
            self._beyond = True
            self._grant(next(iter(self._waiting)), is_beyond=True)

    def _serve_next_of(self, owner: OwnerKey) -> bool:
        waiting = self._waiting[owner]
        while waiting and waiting[0][0].cancelled():
            waiting.popleft()
        if not waiting:
            del self._waiting[owner]
            return False
        size = waiting[0][1]
        if not self._fits(owner, size, HELD_OF_FREE):
            return False
        self._take(owner, size)
        self._grant(owner, is_beyond=False)
        return True

    def _grant(self, owner: OwnerKey, *, is_beyond: bool) -> None:
        """Grants the owner's first, who has not given up; the owner's next turn comes after the others'."""
        waiting = self._waiting[owner]
        waiting.popleft()[0].set_result(is_beyond)
        if waiting:
            self._waiting.move_to_end(owner)
        else:
            del self._waiting[owner]
