"""Connections that are kept for the next request to their origin."""

import asyncio

from .connection import Connection

KEPT_SECONDS = 15.0
"""Below the idle timeouts of the usual servers, so that few of them are dead when they are used."""
MAX_KEPT = 512
"""Of all origins together: each one is a descriptor of this process."""


class Pool:
    """Bounded by time and number. What a receiver says in `Keep-Alive` is its own business."""

    def __init__(self) -> None:
        self._since: dict[Connection, float] = {}  # the longest idle first
        self._of_origin: dict[str, list[Connection]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def take(self, origin: str) -> Connection | None:
        """The one that was used last, so that those which are not needed get old."""
        kept = self._of_origin.get(origin)
        if kept is None:
            return None
        connection = kept.pop()
        del self._since[connection]
        if not kept:
            del self._of_origin[origin]
        return connection

    def keep(self, connection: Connection) -> None:
        """Until it is taken, or lost, or dropped for its age or for more recent ones."""
        loop = asyncio.get_running_loop()
        self._since[connection] = loop.time()
        self._of_origin.setdefault(connection.origin, []).append(connection)
        if len(self._since) > MAX_KEPT:
            self._drop(next(iter(self._since)))
        if self._sweeper is None:
            self._sweeper = loop.call_later(KEPT_SECONDS, self._sweep, loop)

    def forget(self, connection: Connection) -> None:
        """It is no use any more, or in use; no harm when it is not here."""
        if self._since.pop(connection, None) is not None:
            kept = self._of_origin[connection.origin]
            kept.remove(connection)
            if not kept:
                del self._of_origin[connection.origin]

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
        if self._since:
            oldest = next(iter(self._since.values()))
            self._sweeper = loop.call_at(oldest + KEPT_SECONDS, self._sweep, loop)

    def _drop(self, connection: Connection) -> None:
        self.forget(connection)
        connection.drop()
