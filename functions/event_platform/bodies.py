"""Limits how many bytes of request bodies may be in memory, and whose.

A sender that was proved has the share of its PIM. Of the others, those at an address that was right before
share one budget for each PIM, and all strangers share another one. When such a budget is used up, the PIM
that a body is addressed to has a reserve that no body for another PIM can take.
"""

from collections.abc import Awaitable, Callable, Hashable

import structlog

from .budget import MIB
from .domain.errors import Overloaded
from .domain.line_limit import LineLimit

log = structlog.get_logger()

PROVED_BYTES = 40 * MIB
"""The share of one PIM: two of the largest bodies."""
UNPROVED_BYTES = 40 * MIB
RESERVE_BYTES = 20 * MIB
"""The reserve of one PIM and way in: the largest body."""
SLOW_SECONDS = 1.0
"""A body in a reserve that takes longer gives way to a newer one: a PIM sends a whole one in 0.5 s."""
RETRY_SECONDS = 5

_UNPROVED = "unproved"

Monotonic = Callable[[], float]
HasReserve = Callable[[], Awaitable[bool]]
"""Returns whether the PIM that a body is addressed to exists and takes such bodies."""


class Share:
    """The bytes of one body. It begins in the account of its sender, or in that of all who are not proved."""

    __slots__ = ("_bodies", "_has_reserve", "account", "is_over", "reserve", "size", "started")

    def __init__(
        self, bodies: "Bodies", account: Hashable, reserve: Hashable, has_reserve: HasReserve | None
    ) -> None:
        self._bodies = bodies
        self._has_reserve = has_reserve
        self.account = account
        self.reserve = reserve
        self.size = 0
        self.started = bodies.now()
        self.is_over = False
        """True when another body got this one's room."""

    def __enter__(self) -> "Share":
        return self

    def __exit__(self, *ended: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives back all that it holds."""
        self._bodies.release(self)

    def take(self, size: int) -> bool:
        """Takes room for more bytes where there is some; False if it is to be made by `grow`."""
        return not self.is_over and self._bodies.take(self, size)

    async def grow(self, size: int) -> None:
        """Takes room for more bytes. Raises Overloaded if there is none, or another body got this one's."""
        if self.is_over:
            raise self._bodies.overloaded()
        if self._bodies.take(self, size):
            return
        if self._has_reserve is None or self.account == self.reserve or not await self._has_reserve():
            raise self._bodies.overloaded()
        self._bodies.move_to_reserve(self, size)

    def prove(self, account: Hashable) -> None:
        """Moves the body to the account of the PIM that sent it. Raises Overloaded if that one is full."""
        self._bodies.move(self, account)


class Bodies:
    """The accounts of all bodies that an instance holds."""

    def __init__(self, monotonic: Monotonic) -> None:
        self.now = monotonic
        self._used: dict[Hashable, int] = {}
        self._in_reserves: dict[Hashable, dict[Share, None]] = {}
        self._lines = LineLimit(monotonic)

    @property
    def size(self) -> int:
        """The bytes that are held in all."""
        return sum(self._used.values())

    def of(self, pim: str) -> Share:
        """The share of a body whose sender was proved; a block releases it at its end."""
        return Share(self, pim, None, None)

    def unproved(self, reserve: Hashable, has_reserve: HasReserve, *, is_known: bool = False) -> Share:
        """The share of a body that anybody may have sent. `reserve` is for whom it is, and how.

        `is_known` says that its address was right before. It does not share the budget of strangers then.
        """
        account = ("known", reserve) if is_known else _UNPROVED
        return Share(self, account, ("reserve", reserve), has_reserve)

    def take(self, share: Share, size: int) -> bool:
        """Takes room in the account of a share. False if there is not enough."""
        used = self._used.get(share.account, 0) + size
        if used > self._limit_of(share):
            return share.account == share.reserve and self._evict_slow(share, size) and self.take(share, size)
        self._used[share.account] = used
        share.size += size
        return True

    def move_to_reserve(self, share: Share, size: int) -> None:
        """Moves a share to its reserve, with more bytes. Raises Overloaded."""
        held = share.size
        self.release(share)
        share.account = share.reserve
        self._in_reserves.setdefault(share.reserve, {})[share] = None
        if not self.take(share, held + size):
            raise self.overloaded()

    def move(self, share: Share, account: Hashable) -> None:
        """Moves a share to another account. Raises Overloaded."""
        held = share.size
        self.release(share)
        share.account = account
        if not share.is_over and not self.take(share, held):
            raise self.overloaded()

    def release(self, share: Share) -> None:
        """Gives back all that a share holds."""
        left = self._used.get(share.account, 0) - share.size
        if left > 0:
            self._used[share.account] = left
        else:
            self._used.pop(share.account, None)
        share.size = 0
        if share.account == share.reserve and (others := self._in_reserves.get(share.reserve)):
            others.pop(share, None)
            if not others:
                del self._in_reserves[share.reserve]

    def overloaded(self) -> Overloaded:
        """The error for a body that does not fit; logged once a minute."""
        if refused := self._lines.count("bodies.refused"):
            log.warning("bodies.refused", refused=refused, held_bytes=self.size)
        return Overloaded("too many request bodies are being read; send it again later", RETRY_SECONDS)

    def _limit_of(self, share: Share) -> int:
        if share.account == _UNPROVED:
            return UNPROVED_BYTES
        return RESERVE_BYTES if share.account == share.reserve else PROVED_BYTES

    def _evict_slow(self, newer: Share, size: int) -> bool:
        """Takes the room of bodies that were too slow, oldest first. True if there is enough then."""
        for share in list(self._in_reserves.get(newer.reserve, ())):
            if self._used.get(newer.account, 0) + size <= RESERVE_BYTES:
                return True
            if share is not newer and self.now() - share.started > SLOW_SECONDS:
                self.release(share)
                share.is_over = True
        return self._used.get(newer.account, 0) + size <= RESERVE_BYTES
