"""Connections that are kept for the next request of their owner to their origin."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice

from .. import descriptors
from .connection import Connection, Key

KEPT_SECONDS = 15.0
"""Below the idle timeouts of the usual servers, so that few of them are dead when they are used."""
MAX_KEPT = 2048
"""The connections kept for all owners together: each one is a descriptor of this process. Fewer where those
are few, so that half of what receivers may have is for attempts."""
MAX_KEPT_OF_OWNER = 256
GIVEN_WAY = 64
"""The number of connections that make way at once when this process is out of sockets."""


@dataclass(slots=True)
class _Kept:
    """The connections kept of one owner. The record stays while it is empty, until the pool is swept."""

    number: int = 0
    by_origin: dict[str, list[Connection]] = field(default_factory=dict[str, list[Connection]])


class Pool:
    """Bounded by time and number. What a receiver says in `Keep-Alive` is its own business."""

    def __init__(self) -> None:
        self._since: dict[Connection, float] = {}  # the longest idle first
        self._of_owner: dict[Hashable, _Kept] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._room = descriptors.below_for_receivers(descriptors.limit()) // 2

    def __len__(self) -> int:
        return len(self._since)

    def take(self, key: Key) -> Connection | None:
        """The one that was used last, so that those which are not needed get old."""
        owner, origin = key
        of_owner = self._of_owner.get(owner)
        if of_owner is None or not (kept := of_owner.by_origin.get(origin)):
            return None
        connection = kept.pop()
        of_owner.number -= 1
        del self._since[connection]
        return connection

    def keep(self, connection: Connection) -> None:
        """Keeps it until it is taken, or lost, or dropped: for more recent ones, or after too long a rest.

        One that is too old is dropped at once, and so is one of an owner who has his number already.
        """
        owner, origin = connection.key
        of_owner = self._of_owner.get(owner)
        if of_owner is None:
            of_owner = self._of_owner[owner] = _Kept()
        loop = connection.loop
        now = loop.time()
        if of_owner.number >= MAX_KEPT_OF_OWNER or now >= connection.expires_at:
            connection.drop()
            return
        self._since[connection] = now
        of_owner.by_origin.setdefault(origin, []).append(connection)
        of_owner.number += 1
        if len(self._since) > min(MAX_KEPT, self._room):
            self._drop(next(iter(self._since)))
        if self._sweeper is None:
            self._sweeper = loop.call_later(KEPT_SECONDS, self._sweep, loop)

    def forget(self, connection: Connection) -> None:
        """Removes it, because it is in use or of no use any more; no harm if it is not here."""
        if self._since.pop(connection, None) is not None:
            owner, origin = connection.key
            of_owner = self._of_owner[owner]
            of_owner.by_origin[origin].remove(connection)
            of_owner.number -= 1

    def give_way(self) -> None:
        """Drops the longest idle, so that there are sockets for others."""
        for connection in tuple(islice(self._since, GIVEN_WAY)):
            self._drop(connection)

    def close(self) -> None:
        """Keeps no timer; what is kept is closed by who opened it."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        old = loop.time() - KEPT_SECONDS
        for connection in [each for each, since in self._since.items() if since <= old]:
            self._drop(connection)
        for owner, of_owner in tuple(self._of_owner.items()):
            of_owner.by_origin = {origin: kept for origin, kept in of_owner.by_origin.items() if kept}
            if not of_owner.by_origin:
                del self._of_owner[owner]
        if self._since:
            oldest = next(iter(self._since.values()))
            self._sweeper = loop.call_at(oldest + KEPT_SECONDS, self._sweep, loop)

    def _drop(self, connection: Connection) -> None:
        self.forget(connection)
        connection.drop()
