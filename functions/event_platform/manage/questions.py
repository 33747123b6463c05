"""Queues for questions to PIMs from addresses whose allowance for wrong credentials is used up."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..domain.errors import TooManyRequests

AT_ONCE = 4
"""Questions of one address to one PIM at a time. Akeneo allows for as many calls of a connection."""
WAITING = 500
WAIT_SECONDS = 10.0
RETRY_SECONDS = 2


@dataclass(slots=True)
class _Queue:
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    users: int = 0


class Questions:
    """Lets few questions of each key be asked at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}

    @asynccontextmanager
    async def place(self, key: Hashable) -> AsyncIterator[None]:
        """Waits for a place, and has it for the block.

        Raises TooManyRequests when too many wait already, or after 10 s.
        """
        queue = self._queues.setdefault(key, _Queue())
        if queue.users >= AT_ONCE + WAITING:
            raise _too_many()
        queue.users += 1
        try:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await queue.places.acquire()
            except TimeoutError:
                raise _too_many() from None
            try:
                yield
            finally:
                queue.places.release()
        finally:
            queue.users -= 1
            if queue.users == 0:
                del self._queues[key]


def _too_many() -> TooManyRequests:
    return TooManyRequests("too many unknown or wrong credentials from this address", RETRY_SECONDS)
